"""Fixtures of the device tests: the guard before, the device in between, the invariants after."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import signal
from collections.abc import Callable, Generator, Iterator, Sequence, Set
from dataclasses import dataclass
from types import FrameType
from typing import ClassVar, Literal

import pytest

from harness.suite import contract, guard, kmsg, releases, uapi
from harness.suite.child import outcome
from harness.suite.device import Buffer, Context, Device, error_name
from harness.suite.reporter import EVENTS, EXPECTATION, markers, plain
from harness.suite.witness import Witness

TEST_TIMEOUT = 20.0  # seconds of one phase of one test; the driver's longest wait is 5
TAINTED_TIMEOUT = 10.0  # the same in a kernel that reported a warning or an oops
FOUND = pytest.StashKey[guard.Found]()
LIMIT = pytest.StashKey[float]()  # of an item: seconds of each of its phases
LOST = pytest.StashKey[bool]()  # the device answers nobody: even closing it would never end
KERNEL_LOG = pytest.StashKey[kmsg.KernelLog | None]()
MARKERS = (
    "bare: runs also where the device cannot be tested",
    "root: needs root",
    "host_queue: for AIE4 virtual functions, which take nothing else",
    "first: runs before the others, while the device is as its probe left it",
    "pm: waits for the device to sleep; only with --pm",
    "slow: takes seconds",
    "last: runs after the others",
    "crash: known to kill some kernels; only with --crash, and last",
    "stress: races, unbinding, resets; only with --stress, after all others",
    "fuzz: random programs; only with --fuzz",
    "negative: a call that must be refused",
    "logs(pattern): may leave kernel log lines that match and would else count as damage",
    "limit(seconds): this test's own time limit",
)


class Running:
    """The session and the test that it is at, for fixtures.

    Whatever asks pytest for its ``request`` is given a new object with each test that uses it, even where the
    fixture itself lives as long as the session: on a simulated machine a tenth of a test's time.
    """

    config: ClassVar[pytest.Config]
    item: ClassVar[pytest.Item]

    @classmethod
    def found(cls) -> guard.Found:
        """The machine."""
        return cls.config.stash[FOUND]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("xdnawatch")
    group.addoption("--pm", action="store_true", help="also run the tests that put the device to sleep")
    group.addoption("--crash", action="store_true", help="also run the tests known to kill some kernels")
    group.addoption("--stress", action="store_true", help="also race, unbind, reload and reset the driver")
    group.addoption("--fuzz", type=float, default=0.0, metavar="SECONDS", help="run random programs as well")
    group.addoption("--seed", type=int, default=1, help="what --fuzz and --stress begin with")
    group.addoption("--rebind", action="store_true", help="let the driver be unbound and bound (VMs: always)")
    group.addoption("--simulated", action="store_true", help="the NPU takes any program (QEMU: always)")
    group.addoption("--npu-node", default=None, help="the node to test (default: the one of the first NPU)")


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Look at the machine once, before anything is collected, and say what was found."""
    config = Running.config = session.config
    signal.signal(signal.SIGALRM, ALARM.ring)
    found = guard.look(node=config.getoption("--npu-node"))
    config.stash[FOUND] = found
    try:
        config.stash[KERNEL_LOG] = kmsg.KernelLog()
    except OSError:
        config.stash[KERNEL_LOG] = None
    huge = guard.virtual() and guard.huge_heaps()
    events = config.stash.get(EVENTS, None)
    if events:
        device = found.pci and {
            "node": found.node,
            "pci": found.pci.address,
            "vendor": guard.VENDOR,
            "device": found.pci.device,
            "revision": found.pci.revision,
            "generation": found.pci.generation,
            "driver_version": list(found.driver[1:]) if found.driver else None,
            "vbnv": found.attributes.get("vbnv") or None,
            "fw_version": found.attributes.get("fw_version") or None,
        }
        facts = guard.facts() | {"kernel_log": config.stash[KERNEL_LOG] is not None, "huge_heaps": huge}
        events.emit(
            "environment",
            device=plain(device),
            missing=[{"kind": piece.kind, "message": piece.message} for piece in found.missing],
            facts=plain(facts),
        )


# What is left out unless asked for by an option of the same name
ASKED_FOR = {"pm": "--pm", "crash": "--crash", "stress": "--stress", "fuzz": "--fuzz SECONDS"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, each with its reason."""
    unasked = [name for name in ASKED_FOR if not config.getoption(f"--{name}")]
    ranks = {}
    for item in items:
        marked = markers(item)
        ranks[item] = _rank(marked.keys())
        if "limit" in marked:
            item.stash[LIMIT] = float(marked["limit"].args[0])
        reason = _obstacle(marked.keys(), config.stash[FOUND], unasked)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
    items.sort(key=ranks.__getitem__)


def _obstacle(marked: Set[str], found: guard.Found, unasked: Sequence[str]) -> str:
    """Why a test with these markers is not run, "" when it is."""
    generation = found.pci.generation if found.pci else ""
    if "bare" not in marked:
        if found.missing:
            lacking = "; ".join(f"{piece.kind}: {piece.message}" for piece in found.missing)
            return contract.ENVIRONMENT_PREFIX + lacking
        if (generation in guard.AIE4_VF) != ("host_queue" in marked):
            return f"generation: not a test of {generation}"
    for name in unasked:
        if name in marked:
            return f"not asked for: {ASKED_FOR[name]}"
    return contract.ENVIRONMENT_PREFIX + "root: needs root" if "root" in marked and os.getuid() != 0 else ""


def _rank(marked: Set[str]) -> int:
    """What needs the device untouched goes first, what may end the kernel last."""
    if "first" in marked:
        return 0
    if marked >= {"last", "crash"}:
        return 5  # nobody is served after it, not even the session's end
    if marked & {"stress", "fuzz"}:
        return 4
    if "last" in marked:
        return 3
    return 2 if "crash" in marked else 1


class TestTimeoutError(Exception):
    """A phase of a test took longer than its limit and was interrupted."""

    __test__ = False


class Alarm:
    """Interrupts a phase that hangs in a call that can be interrupted; the runner bounds the others."""

    seconds = 0.0

    def ring(self, _number: int, _frame: FrameType | None) -> None:
        """Handle the timer's signal."""
        raise TestTimeoutError(f"no end within {self.seconds:g} s")

    def around(self, item: pytest.Item) -> Generator[None, None, None]:
        """A phase of a test: its hook's wrapper."""
        self.seconds = item.stash.get(LIMIT, 0.0) or guard.patience(TEST_TIMEOUT, TAINTED_TIMEOUT)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


ALARM = Alarm()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    Running.item = item
    return (yield from ALARM.around(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    return (yield from ALARM.around(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    return (yield from ALARM.around(item))


# -- what a test says ---------------------------------------------------------------------------------------

Record = Callable[[str, object], None]


@pytest.fixture
def record() -> Record:
    """Report a measured value: it goes into the result event and onto the compare page."""
    properties = Running.item.user_properties

    def store(name: str, value: object) -> None:
        properties.append((name, plain(value)))

    return store


@pytest.fixture(scope="session")
def level() -> releases.Level:
    """Kernel release, driver version and generation: what decides which behaviour is right."""
    found = Running.found()
    assert found.driver is not None
    assert found.pci is not None
    return releases.Level(releases.parse(platform.release()), found.driver[2], found.pci.generation)


Expect = Callable[[str], object]


@pytest.fixture
def expect(level: releases.Level) -> Expect:
    """The value that is right on this kernel by the table of releases; the row used is reported."""
    properties = Running.item.user_properties

    def look_up(key: str) -> object:
        expectation = releases.expect(key, level)
        properties.append((EXPECTATION, expectation.plain()))
        return expectation.row.value

    return look_up


Carries = Callable[[str], bool]


@pytest.fixture(scope="session")
def carries(level: releases.Level) -> Carries:
    """Whether this kernel is believed to behave as the newest row of a key, without asserting it."""
    return lambda key: releases.expect(key, level).carried


Attempt = Callable[..., str]


@pytest.fixture
def attempt(record: Record) -> Attempt:
    """Do something and report how it ended: "ok" or the errno's name."""

    def run(work: Callable[[], object], name: str = "result") -> str:
        def done() -> str:
            work()
            return "ok"

        result = str(outcome(done))
        record(name, result)
        return result

    return run


Refuse = Callable[..., None]


@pytest.fixture
def refuse(attempt: Attempt, device: Device) -> Refuse:
    """Assert that an ioctl ends with this errno and leaves its argument untouched."""

    def check(error: str, request: int, argument: ctypes.Structure, *, on: Device | None = None) -> None:
        before = bytes(argument)
        assert attempt(lambda: (on or device).ioctl(request, argument)) == error
        assert bytes(argument) == before, "a refused call changed its argument"

    return check


# -- the device ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def node() -> str:
    """The path of the node under test."""
    path = Running.found().node
    assert path is not None
    return path


@pytest.fixture(scope="session")
def pci() -> guard.PciDevice:
    """The device on the bus."""
    device = Running.found().pci
    assert device is not None
    return device


def shared(
    fixture_name: str,  # noqa: ARG001 - pytest asks so, once for each fixture
    config: pytest.Config,  # noqa: ARG001
) -> Literal["session", "module"]:
    """How long the client that tests share lives: as long as they do, where it survives a fork.

    Before 7.0 the end of any child of this process takes the contexts of every client that the child
    inherited and drops the client from the lists (amdxdna_flush): there each module has a client of its own,
    and a test that forks and uses it afterwards stands at the module's end.
    """
    try:
        release = releases.parse(platform.release())
    except releases.UnknownReleaseError:
        return "session"
    survives = releases.TABLE["contexts-survive-fork"][-1].since
    return "session" if releases.carries(release, survives) else "module"


@pytest.fixture(scope=shared)
def device(node: str, witness: Witness) -> Iterator[Device]:
    """One client for all tests that do not need their own; it gets its heap with ``heap``.

    Before 6.19 a client that is open keeps the device awake: that reference is no test's.
    """
    opened = Device(node)
    witness.accept()
    yield opened
    if not Running.config.stash.get(LOST, False):
        opened.close()


@pytest.fixture
def own(node: str) -> Iterator[Device]:
    """A client of this test alone, without a heap."""
    with Device(node) as opened:
        yield opened


@pytest.fixture(scope=shared)
def metadata(device: Device) -> uapi.QueryAieMetadata:
    """Rows, columns and tiles of the array."""
    return device.metadata()


@pytest.fixture(scope=shared)
def tiles(metadata: uapi.QueryAieMetadata) -> int:
    """Core tiles of one column: the smallest context."""
    return int(metadata.core.row_count)


@pytest.fixture(scope=shared)
def heap(device: Device, witness: Witness) -> Buffer:
    """The heap of ``device``: 64 MiB. Made once, as mapping it costs most on a simulated device."""
    made = device.heap()
    witness.accept()
    return made


@pytest.fixture(scope=shared)
def unit(device: Device, heap: Buffer, witness: Witness) -> Buffer:
    """32 KiB in the heap, used as the code of compute units and as instructions."""
    assert heap.size >= 32768
    made = device.buffer(uapi.Bo.DEV, 32768)
    witness.accept()
    return made


@pytest.fixture
def bare_context(device: Device, heap: Buffer, tiles: int) -> Iterator[Context]:
    """A context of one column without compute units; it can only be made beside a heap."""
    assert heap.memory.address
    context = device.create_context(tiles=tiles)
    yield context
    device.destroy_context(context)


@pytest.fixture(scope="session")
def program() -> None:
    """Taken by tests that hand the device a program: the suite ships none that silicon could run.

    A simulated device takes any bytes for a program; a real one would answer with errors or hang.
    """
    if not (Running.config.getoption("--simulated") or guard.virtual()):
        pytest.skip("silicon: the suite ships no program for the array")


@pytest.fixture
def context(program: None, device: Device, bare_context: Context, unit: Buffer) -> Context:
    """A context of one column with one compute unit, ready for commands."""
    assert program is None
    device.configure(bare_context, [unit.handle])
    return bare_context


@pytest.fixture
def power_kept(device: Device) -> Iterator[None]:
    """The power mode is put back after the test."""
    before = device.power_mode()
    yield
    with contextlib.suppress(OSError):  # of a device that the test lost, and says so
        if device.power_mode() != before:
            device.set_power_mode(before)


@pytest.fixture
def share(device: Device) -> Iterator[Buffer]:
    """64 KiB of ordinary memory."""
    buffer = device.buffer(uapi.Bo.SHARE, 65536)
    yield buffer
    device.free(buffer)


@pytest.fixture
def command(device: Device) -> Iterator[Buffer]:
    """A command buffer of one page."""
    buffer = device.buffer(uapi.Bo.CMD, uapi.PAGE)
    yield buffer
    device.free(buffer)


# -- after the test -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AfterProbe:
    """What the device said before anything else was asked of it, None with the reason why it is not known."""

    resources: uapi.GetResourceInfo | None
    again: bool
    reason: str = ""


@pytest.fixture(scope="session")
def after_probe() -> AfterProbe:
    """Ask a device not used since its probe; one that slept is bound to its driver again if it may be."""
    config, found = Running.config, Running.found()
    wanted = any(item.get_closest_marker("first") for item in Running.item.session.items)
    if not wanted or found.missing or found.node is None or found.pci is None:
        return AfterProbe(None, again=False, reason="not asked for")
    again = guard.slept(found.pci)
    if again:
        allowed = os.getuid() == 0 and (config.getoption("--rebind") or guard.virtual())
        if not allowed:
            reason = "the device slept since its probe; --rebind and root let it be probed again"
            return AfterProbe(None, again=False, reason=reason)
        guard.rebind(found.pci)
        found = config.stash[FOUND] = guard.look(node=config.getoption("--npu-node"))
    try:
        with Device(found.node or "") as fresh:
            resources = fresh.info(uapi.Info.RESOURCE_INFO, uapi.GetResourceInfo())
            return AfterProbe(resources, again=again)
    except OSError as error:
        return AfterProbe(None, again=again, reason=f"the device does not answer: {error_name(error)}")


@pytest.fixture(scope="session")
def witness(after_probe: AfterProbe) -> Iterator[Witness]:
    """Depends on ``after_probe``: a device is bound again only while nobody has it open."""
    assert after_probe is not None
    watching = Witness(Running.found(), Running.config.stash[KERNEL_LOG])
    yield watching
    if not Running.config.stash.get(LOST, False):
        watching.close()


@pytest.fixture(autouse=True)
def unchanged(witness: Witness) -> Iterator[None]:
    """A test that passed but left the device or the kernel changed has failed (harness.suite.witness)."""
    item = Running.item
    witness.forget()
    Device.scribbles.clear()
    yield
    if Running.config.stash.get(LOST, False):
        return
    changes = [f"a refused call changed its argument: {call}" for call in Device.scribbles]
    changes += witness.changes()
    marker = item.get_closest_marker("logs") if changes else None
    if marker:
        allowed = re.compile(str(marker.args[0]))
        rest = [text for text in changes if text.startswith("kernel log: ") and not allowed.search(text)]
        left = [text for text in changes if not text.startswith(("kernel log: ", "kernel taint"))]
        changes = left + rest  # the taint of an allowed warning is allowed with it
    if changes:
        item.user_properties.append(("device-changed", plain(changes)))
        pytest.fail("the test changed the device or the kernel: " + "; ".join(changes[:8]), pytrace=False)
