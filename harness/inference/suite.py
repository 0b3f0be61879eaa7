"""The inference suite: every runner's tests, one after the other, told as the ioctl suite's events.

``run`` works over any lab.machine.Shell, so on a laptop by SSH as on the virtual machine. The events have the
shapes of ``harness.suite.contract`` (begin, environment, collected, start, result, end), so the runner takes
``InferenceSuite`` as it takes the ioctl suite: one journal, one store, the same rows.
"""

from __future__ import annotations

import importlib.resources
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.inference import flm, lemonade, onnx_runtime, pyxrt, xrt_runner, xrt_smi, xrt_validate
from harness.inference.bench import SUITE, Bench, Case, Detected, InferenceOptions, InferenceTimeouts
from harness.inference.commands import Commands, InferenceError
from harness.inference.driver_state import DriverState
from harness.inference.metrics import Installed, Missing, Report, failed, unreadable
from harness.suite import contract
from harness.suite_stream import Sitting, digest_of
from harness.untrusted import clean, clean_values
from lab.machine import Shell, ShellLostError, ShellTimeoutError

Event = dict[str, Any]
#: runner's name -> how it is found on the machine
DETECTORS: Mapping[str, Callable[[Bench], Detected]] = {
    "xrt-smi": xrt_smi.detect,
    "xrt-runner": xrt_runner.detect,
    "pyxrt": pyxrt.detect,
    "onnxruntime-vitisai": onnx_runtime.detect,
    "flm": flm.detect,
    "lemonade": lemonade.detect,
}


def run(
    shell: Shell,
    *,
    options: InferenceOptions | None = None,
    timeouts: InferenceTimeouts | None = None,
    on_event: Callable[[Event], None] = lambda _event: None,
    tests: Sequence[str] = (),
    nonce: str = "",
    python: str = "python3",
) -> int:
    """Run the suite; 0 when every test passed or was skipped, 1 otherwise.

    ``tests`` are ids, none means all. Raises ShellLostError when the machine is gone, ShellTimeoutError when
    it did not answer twice in a row, LabError when nothing can be written there: the test in flight then has
    a ``start`` and no ``result``.
    """
    told = _Events(on_event)
    commands = Commands(shell, f"/tmp/xdnawatch-inference-{secrets.token_hex(8)}", python)  # noqa: S108 - random
    commands.install()
    try:
        bench = Bench(commands, options or InferenceOptions(), timeouts or InferenceTimeouts())
        _look(bench)
        found = detect(bench)
        told.begin(bench.state, nonce)
        told.environment(bench.state, found)
        chosen = [case for case in collect(bench, found) if not tests or case.id in tests]
        told.collected(chosen)
        worst = 0
        silent = 0
        for case in chosen:
            told.start(case)
            begin = time.monotonic()
            try:
                report = case.run()
                silent = 0
            except ShellLostError:
                raise
            except ShellTimeoutError as error:
                silent += 1
                if silent > 1:
                    raise
                report = failed(f"the machine did not answer in time: {error}")
            except InferenceError as error:
                report = unreadable(str(error))
            told.result(case, report, time.monotonic() - begin)
            worst |= report.outcome in ("failed", "error")
        told.end(int(worst))
        return int(worst)
    finally:
        _tidy(commands)


def _look(bench: Bench) -> None:
    try:
        bench.state = bench.look()
    except InferenceError as error:
        bench.state = DriverState(missing=(str(error),))


def _tidy(commands: Commands) -> None:
    try:
        commands.remove()
    except (ShellLostError, ShellTimeoutError):
        return  # the machine is gone, and the folder with it: its name is random and harms nobody


def detect(bench: Bench) -> dict[str, Detected]:
    """What of the runners is installed, with its version, or the exact missing piece."""
    found: dict[str, Detected] = {}
    for name, detector in DETECTORS.items():
        try:
            found[name] = detector(bench)
        except InferenceError as error:
            found[name] = Missing(f"{name} could not be looked for: {error}", "mend Python on the machine")
    return found


def collect(bench: Bench, found: Mapping[str, Detected]) -> list[Case]:
    """Every test, always in the same order: what looks, what changes the device, what loads it."""
    return [
        *xrt_smi.cases(bench, found["xrt-smi"]),
        *pyxrt.cases(bench, found["pyxrt"]),
        *xrt_validate.cases(bench, found["xrt-smi"]),
        *xrt_runner.cases(bench, found["xrt-runner"]),
        *onnx_runtime.cases(bench, found["onnxruntime-vitisai"]),
        *flm.cases(bench, found["flm"]),
        *lemonade.cases(bench, found["lemonade"]),
    ]


def digest() -> str:
    """A digest of the suite's own files: equal digest, comparable runs."""
    package = importlib.resources.files("harness.inference")
    files = {
        f"{folder.name}/{file.name}": file.read_bytes()
        for folder in (package, package.joinpath("programs"))
        for file in folder.iterdir()
        if file.name.endswith(".py")
    }
    return digest_of(files)


@dataclass(frozen=True)
class InferenceSuite:
    """The suite as the runner takes it (harness.suite_stream.Suite). ``chosen``: ids, none means all."""

    options: InferenceOptions = field(default_factory=InferenceOptions)
    timeouts: InferenceTimeouts = field(default_factory=InferenceTimeouts)
    chosen: tuple[str, ...] = ()
    unneeded: frozenset[str] = frozenset({"no-pytest"})  # nothing here is a pytest test

    @property
    def name(self) -> str:
        """A part of the suite says so: its verdict says nothing about the whole."""
        return SUITE + (f"[{clean(', '.join(self.chosen), 100)}]" if self.chosen else "")

    @property
    def digest(self) -> str:
        """See ``digest``."""
        return digest()

    def run(
        self, sitting: Sitting, tests: Sequence[str], on_line: Callable[[bytes], None]
    ) -> tuple[int, str]:
        """See Suite. Each program has its own time; the whole's is looked at between two tests."""
        deadline = time.monotonic() + sitting.timeout

        def on_event(event: Event) -> None:
            if event["event"] == "start" and time.monotonic() > deadline:
                raise ShellTimeoutError(f"the suite did not end within {sitting.timeout:g} s")
            on_line(json.dumps(event).encode())

        status = run(
            sitting.shell,
            options=self.options,
            timeouts=self.timeouts,
            on_event=on_event,
            tests=tests or self.chosen,
            nonce=sitting.nonce,
        )
        return status, ""


class _Events:
    """Numbers and times the events of one run."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self._began = time.monotonic()
        self._count = 0
        self._outcomes = dict.fromkeys(("passed", "failed", "skipped", "error"), 0)

    def _emit(self, name: str, **fields: Any) -> None:
        elapsed = round(time.monotonic() - self._began, 6)
        self._on_event({"event": name, "n": self._count, "t": elapsed, **fields})
        self._count += 1

    def begin(self, state: DriverState, nonce: str) -> None:
        self._emit(
            "begin",
            schema=contract.SCHEMA,
            time=state.time,
            nonce=nonce,
            kernel=state.kernel,
            machine=state.machine,
            boot_id=state.boot_id,
            python=state.python,
            pytest="",  # it is not used
            uid=state.uid,
        )

    def environment(self, state: DriverState, found: Mapping[str, Detected]) -> None:
        device = None
        if state.bdf:
            device = {
                "node": state.node,
                "pci": state.bdf,
                "vendor": 0x1022,
                "device": state.device,
                "revision": state.revision,
                "generation": state.generation,
                "driver_version": list(state.driver_version),
                "vbnv": state.vbnv,
                "fw_version": state.fw_version,
            }
        obstacle = state.obstacle
        installed = {name: f for name, f in found.items() if isinstance(f, Installed)}
        absent = {name: f.sentence for name, f in found.items() if isinstance(f, Missing)}
        facts = {"installed": {name: asdict(f) for name, f in installed.items()}, "absent": absent}
        depends = {"programs": {name: f.version for name, f in installed.items()}, "absent": absent}
        self._emit(
            "environment",
            device=device,
            missing=[{"kind": "npu", "message": obstacle.piece}] if obstacle else [],
            facts=clean_values(facts),
            depends=clean_values(depends),
        )

    def collected(self, cases: Sequence[Case]) -> None:
        rows: list[Event] = [
            {"id": case.id, "title": case.title, "markers": [], "suspect": None} for case in cases
        ]
        self._emit("collected", tests=rows, deselected=0, more=False)

    def start(self, case: Case) -> None:
        self._emit("start", id=case.id)

    def result(self, case: Case, report: Report, seconds: float) -> None:
        self._outcomes[report.outcome] += 1
        message = clean(report.message, contract.TEXT_LIMIT) or None
        self._emit(
            "result",
            id=case.id,
            outcome=report.outcome,
            when="call",
            duration=round(seconds, 6),
            message=message if report.outcome in ("failed", "error") else None,
            reason=message if report.outcome == "skipped" else None,
            suspect=None,
            values=clean_values(report.values),
            expectations=[dict(row) for row in report.expectations],
        )

    def end(self, status: int) -> None:
        self._emit("end", status=status, duration=round(time.monotonic() - self._began, 6), **self._outcomes)
