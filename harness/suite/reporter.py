"""pytest plugin: tells what happens as JSON lines, an event a line.

The command, the environment and the shape of each event are written in ``harness.suite.contract``. In short:

    env PYTHONPATH=ROOT PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 XDNAWATCH_NONCE=NONCE \\
        python3 -m pytest -c /dev/null --rootdir=ROOT/harness/suite/tests -p harness.suite.reporter \\
        -p no:cacheprovider --strict-markers --tb=short -q --event-fd=1 ROOT/harness/suite/tests

The event descriptor is duplicated before pytest captures output, and when it is standard output, standard
output itself is redirected to standard error: nothing that a test prints can break a line. Without
``--event-fd`` the plugin is silent. It knows nothing of devices: ``environment`` comes from the conftest.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

from harness.suite import contract
from harness.suite.explain import explain

GARBAGE = 20_000  # objects made before the collector looks again; a suite makes few cycles
EXPECTATION = "expectation"  # user property that carries one row of the release table
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
ROOT = Path(__file__).parent / "tests"


class Events:
    """Numbers, bounds and writes the events of one session."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._began = time.monotonic()
        self._count = 0
        self._held = b""

    def emit(self, event: str, **fields: Json) -> None:
        """Write one event. An event too long for a line loses its bulk, never its place in the sequence."""
        self.hold(event, **fields)
        data, self._held = memoryview(self._held), b""
        while data:
            data = data[os.write(self._descriptor, data) :]

    def hold(self, event: str, **fields: Json) -> None:
        """Write an event together with the next one, which follows at once."""
        head: dict[str, Json] = {
            "event": event,
            "n": self._count,
            "t": round(time.monotonic() - self._began, 6),
        }
        line = _encode(head | fields) + "\n"
        if len(line) > contract.LINE_LIMIT:
            short = {
                key: value for key, value in fields.items() if len(json.dumps(value)) <= contract.TEXT_LIMIT
            }
            line = json.dumps(head | short | {"cut": sorted(set(fields) - set(short))}) + "\n"
        self._held += line.encode("ascii")
        self._count += 1

    @property
    def elapsed(self) -> float:
        """Seconds since the session began."""
        return time.monotonic() - self._began


EVENTS = pytest.StashKey[Events]()
_encode = json.JSONEncoder(allow_nan=False).encode


def plain(value: object, depth: int = 4) -> Json:
    """A measured value as JSON: bounded, finite, never an error."""
    if value is None or isinstance(value, bool | str):
        return value[: contract.TEXT_LIMIT] if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else repr(value)
    if depth and isinstance(value, Mapping):
        return {str(key): plain(item, depth - 1) for key, item in list(value.items())[:256]}
    if depth and isinstance(value, list | tuple):
        return [plain(item, depth - 1) for item in value[:256]]
    return repr(value)[: contract.TEXT_LIMIT]


def test_id(item: pytest.Item) -> str:
    """The id under which a test is known for ever: its path below the suite's tests, then its name."""
    try:
        path = item.path.relative_to(ROOT).as_posix()
    except ValueError:
        return item.nodeid
    return "::".join([path, *item.nodeid.split("::")[1:]])


def markers(item: pytest.Item) -> dict[str, pytest.Mark]:
    """The markers of a test by name, farthest first; of several with one name the closest."""
    return {marker.name: marker for marker in reversed(list(item.iter_markers()))}


def title(item: pytest.Item) -> str:
    """The first line of a test's docstring, or its name."""
    text = getattr(getattr(item, "function", None), "__doc__", None) or item.name
    return str(text).strip().splitlines()[0]


class Reporter:
    """The hooks of one session that has an event descriptor."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.nonce = os.environ.get(contract.NONCE_VARIABLE, "")
        self.counts = dict.fromkeys(("passed", "failed", "skipped", "error"), 0)
        self.deselected = 0
        self.names: dict[str, tuple[str, str | None]] = {}  # of a node id: the test's id, what it suspects
        self.reports: dict[str, list[pytest.TestReport]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        self.events.emit(
            "begin",
            schema=contract.SCHEMA,
            time=time.time(),
            nonce=self.nonce,
            kernel=platform.release(),
            machine=platform.machine(),
            boot_id=_boot_id(),
            python=platform.python_version(),
            pytest=pytest.__version__,
            uid=os.getuid(),
        )

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.events.emit("collect-error", id=report.nodeid, message=_last(report.longreprtext))

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.deselected += len(items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        gc.freeze()  # what was imported stays: looking at it again and again costs a slow machine
        gc.set_threshold(GARBAGE)
        rows: list[Json] = []
        for item in session.items:
            marked = markers(item)
            suspect = str(marked["suspect"].args[0]) if "suspect" in marked else None
            name = test_id(item)
            self.names[item.nodeid] = name, suspect
            # What pytest finds out from the source for its own reports, which nobody reads here
            item.location = (name.partition("::")[0], None, name.partition("::")[2])
            rows.append(
                {
                    "id": name,
                    "title": title(item)[:200],
                    "markers": list(reversed(marked)),
                    "suspect": suspect,
                }
            )
        part = 64
        for start in range(0, max(len(rows), 1), part):
            self.events.emit(
                "collected",
                tests=rows[start : start + part],
                deselected=self.deselected,
                more=start + part < len(rows),
            )

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        words = explain(call.excinfo.value) if call.excinfo else ""
        if call.excinfo and words:
            call.excinfo.value.args = (words,)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        name, _suspect = self._named(nodeid)
        self.reports[nodeid] = []
        self._kernel_log(f"start {name}")
        self.events.emit("start", id=name)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.setdefault(report.nodeid, []).append(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        reports = self.reports.pop(nodeid, [])
        name, suspect = self._named(nodeid)
        if not reports:
            return
        decisive, outcome = _decide(reports)
        self.counts[outcome] += 1
        values: dict[str, Json] = {}
        expectations: list[Json] = []
        for key, value in reports[-1].user_properties:
            if key == EXPECTATION:
                expectations.append(plain(value))
            else:
                values[str(key)] = plain(value)
        self._kernel_log(f"finish {name} {outcome}")
        self.events.hold(
            "result",
            id=name,
            outcome=outcome,
            when=decisive.when,
            duration=round(sum(report.duration for report in reports), 6),
            message=_last(decisive.longreprtext) if outcome in ("failed", "error") else None,
            reason=_skip_reason(decisive) if outcome == "skipped" else None,
            suspect=suspect,
            values=values,
            expectations=expectations,
        )

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        counts: dict[str, Json] = dict(self.counts)
        self.events.emit("end", status=int(exitstatus), duration=round(self.events.elapsed, 6), **counts)

    def _named(self, nodeid: str) -> tuple[str, str | None]:
        return self.names.get(nodeid, (nodeid, None))

    def _kernel_log(self, text: str) -> None:
        """Bracket a test in the kernel log; opened afresh each time: the rate limit is per open."""
        if not self.nonce:
            return
        try:
            descriptor = os.open("/dev/kmsg", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return  # not root, or no such device: the events alone then tell the order
        try:
            # A line without its end is shown when the next one comes, which may be never.
            line = f"<6>xdnawatch: {self.nonce} {text}"[:900] + "\n"
            os.write(descriptor, line.encode("ascii", "replace"))
        except OSError:
            return
        finally:
            os.close(descriptor)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("xdnawatch")
    group.addoption(
        "--event-fd", type=int, default=None, help="write one JSON line per event to this descriptor"
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Take the descriptor before pytest's own capture replaces it."""
    wanted = early_config.known_args_namespace.event_fd
    if wanted is not None:
        own = os.dup(wanted)
        if wanted == 1:
            sys.stdout.flush()
            os.dup2(2, 1)
        events = Events(own)
        early_config.stash[EVENTS] = events
        early_config.pluginmanager.register(Reporter(events), "xdnawatch-events")
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin("terminal"):
        config.option.tbstyle = "native"  # pytest's own parse the sources to show them
    config.addinivalue_line(
        "markers", "suspect(reason): states right behaviour that known kernels are believed to miss"
    )


def _decide(reports: list[pytest.TestReport]) -> tuple[pytest.TestReport, str]:
    """The report that decides a test's outcome: the first failure, else a skip, else the call."""
    for report in reports:
        if report.failed:
            asserted = report.when == "call" or dict(report.user_properties).get("device-changed")
            return report, "failed" if asserted else "error"
    for report in reports:
        if report.skipped:
            return report, "skipped"
    return next((report for report in reports if report.when == "call"), reports[-1]), "passed"


def _skip_reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return text.removeprefix("Skipped: ")[: contract.TEXT_LIMIT]


def _last(text: str) -> str:
    """The end of a failure text, where the reason is."""
    return text if len(text) <= contract.TEXT_LIMIT else "[...]" + text[-contract.TEXT_LIMIT :]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
