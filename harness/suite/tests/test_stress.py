"""Races and the device's life cycle, ``--stress [--seed N]``: repeated, seeded, bounded in time.

These take the device away from its clients or fight over it, so they run last, each in processes of its own.
Afterwards a new client must be served.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import random
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.suite import guard, packets, uapi
from harness.suite.child import answer_of, outcome
from harness.suite.device import Buffer, Context, Device, error_name
from harness.suite.tests.conftest import FOUND, Record
from harness.suite.tests.test_fuzz import healthy

PREPARE = 15.0  # seconds until a worker has its heap
ROUND = 3.0  # seconds of one race
ANSWER = 40.0  # seconds until everybody has ended
WORKERS = 4

pytestmark = [pytest.mark.stress, pytest.mark.limit(120), pytest.mark.usefixtures("program")]


@pytest.fixture
def choose(request: pytest.FixtureRequest) -> random.Random:
    """Chance that is the same for one seed and test."""
    return random.Random(f"{request.config.getoption('--seed')}/{request.node.name}")


@pytest.fixture
def served(node: str) -> Iterator[None]:
    """Whoever comes next is served."""
    yield
    assert answer_of(lambda: healthy(node), ANSWER) == "", "a new client is not served"


def work(node: str, seconds: float, chance: random.Random, ready: Callable[[], object]) -> dict[str, int]:
    """Contexts and commands for some seconds after the first heap; how they ended, counted by errno."""
    counted: dict[str, int] = {}
    until = time.monotonic() + PREPARE
    while time.monotonic() < until:
        with contextlib.suppress(OSError), Device(node) as device:
            heap = device.heap()
            unit = device.buffer(uapi.Bo.DEV, 4096)
            if not counted:
                counted["begun"] = 1
                until = time.monotonic() + seconds
                ready()
            while time.monotonic() < until and heap.size:
                name = one(device, unit.handle, chance)
                counted[name] = counted.get(name, 0) + 1
                if name == "ENODEV":
                    break
        time.sleep(0.01)
    return counted


def one(device: Device, unit: int, chance: random.Random) -> str:
    """One context with up to eight commands, left in one of several ways; "done" or the errno's name."""
    try:
        context = device.create_context(tiles=4)
        device.configure(context, [unit])
        command = device.buffer(uapi.Bo.CMD, uapi.PAGE)
        last = 0
        for _turn in range(chance.randrange(8)):
            command.memory.words(packets.start_cu())
            last = device.execute(context, command)
        if chance.random() < 0.5:
            device.wait(context, last, 3.0)
        if chance.random() < 0.3:
            device.free(command)
        device.destroy_context(context)
    except OSError as error:
        return os.strerror(error.errno or 0) if error.errno != 19 else "ENODEV"
    return "done"


def crowd(node: str, choose: random.Random, disturb: Callable[[], object]) -> list[object]:
    """Let WORKERS processes work, and ``disturb`` once all of them do; their counts."""
    seeds = [choose.random() for _turn in range(WORKERS)]
    answers: list[object] = []
    reading, writing = os.pipe()

    def follow(seed: float) -> None:
        chance = random.Random(seed)
        answers.append(answer_of(lambda: work(node, ROUND, chance, lambda: os.write(writing, b".")), ANSWER))

    threads = [threading.Thread(target=follow, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for _worker in range(WORKERS):
        if select.select([reading], [], [], PREPARE)[0]:
            os.read(reading, 1)
    disturb()
    for thread in threads:
        thread.join(ANSWER)
    os.close(reading)
    os.close(writing)
    return answers


def ended(answers: list[object]) -> bool:
    """Whether every process came back with its counts."""
    return len(answers) == WORKERS and all(isinstance(answer, dict) for answer in answers)


@pytest.mark.usefixtures("served")
def test_many_clients(node: str, choose: random.Random, record: Record) -> None:
    """Four processes make, use and destroy contexts at once: each of them finishes all it began."""
    answers = crowd(node, choose, lambda: None)
    record("counts", answers)
    assert ended(answers)
    assert sum(answer.get("done", 0) for answer in answers if isinstance(answer, dict)) > WORKERS


@pytest.mark.usefixtures("served")
def test_killed_in_the_middle(node: str, choose: random.Random) -> None:
    """Processes killed at any moment leave nothing behind."""
    for _turn in range(8):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                work(node, 10, random.Random(_turn), int)
            os._exit(0)
        time.sleep(choose.uniform(0.05, 0.6))
        os.kill(pid, 9)
        os.waitpid(pid, 0)


@pytest.mark.usefixtures("served")
def test_destroyed_while_waited_for(node: str, choose: random.Random, record: Record) -> None:
    """A context destroyed by one thread while others submit and wait: every call ends."""

    def fight() -> dict[str, int]:
        counted: dict[str, int] = {}
        with Device(node) as device:
            unit = device.buffer(uapi.Bo.DEV, 4096).handle if device.heap().size else 0
            for _turn in range(12):
                race(device, unit, counted, Device.destroy_context, choose)
        return counted

    counts = answer_of(fight, ANSWER)
    record("counts", counts)
    assert isinstance(counts, dict)


@pytest.mark.usefixtures("served")
def test_closed_while_executing(node: str, choose: random.Random, record: Record) -> None:
    """A client's descriptor closed by one thread while others submit and wait: every call ends."""

    def fight() -> dict[str, int]:
        counted: dict[str, int] = {}
        for _turn in range(12):
            client = Device(node)
            unit = client.buffer(uapi.Bo.DEV, 4096).handle if client.heap().size else 0
            race(client, unit, counted, lambda client, _context: client.close(), choose)
        return counted

    counts = answer_of(fight, ANSWER)
    record("counts", counts)
    assert isinstance(counts, dict)
    assert counts.get("EBADF", 0) > 0, "the descriptor was closed under no submission"


def race(
    client: Device,
    unit: int,
    counted: dict[str, int],
    disturb: Callable[[Device, Context], object],
    choose: random.Random,
) -> None:
    """Three threads submit to a new context and wait until they are refused; ``disturb`` makes that so."""
    context = client.create_context(tiles=4)
    client.configure(context, [unit])
    command = client.buffer(uapi.Bo.CMD, uapi.PAGE)
    command.memory.words(packets.start_cu())
    submit = functools.partial(until_refused, client, context, command, counted)
    threads = [threading.Thread(target=submit) for _number in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(choose.uniform(0.0, 0.1))
    disturb(client, context)
    for thread in threads:
        thread.join()


def until_refused(client: Device, context: Context, command: Buffer, counted: dict[str, int]) -> None:
    """Submit and wait until the kernel refuses; how it went is added to ``counted``."""
    while True:
        try:
            client.wait(context, client.execute(context, command), 2.0)
            counted["done"] = counted.get("done", 0) + 1
        except OSError as error:
            counted[error_name(error)] = counted.get(error_name(error), 0) + 1
            return


CALLS: dict[str, tuple[int, ctypes.Structure]] = {
    "create-context": (uapi.CREATE_HWCTX, uapi.CreateHwctx(num_tiles=4)),
    "destroy-context": (uapi.DESTROY_HWCTX, uapi.DestroyHwctx(handle=1)),
    "configure": (uapi.CONFIG_HWCTX, uapi.ConfigHwctx(handle=1)),
    "create-buffer": (uapi.CREATE_BO, uapi.CreateBo(type=uapi.Bo.SHARE, size=uapi.PAGE)),
    "info": (uapi.GET_INFO, uapi.GetInfo(param=uapi.Info.AIE_VERSION, buffer_size=8)),
    "execute": (uapi.EXEC_CMD, uapi.ExecCmd(hwctx=1, cmd_count=1)),
    "array": (uapi.GET_ARRAY, uapi.GetArray(element_size=144, num_element=1)),
}


@pytest.mark.root
@pytest.mark.usefixtures("served", "alone")
def test_calls_on_a_device_that_is_gone(node: str, pci: guard.PciDevice, record: Record) -> None:
    """After the driver was taken away every call of an old client is ENODEV, and closing it still works."""
    driver = Path("/sys/bus/pci/drivers/amdxdna")

    def ask() -> object:
        with Device(node) as client:
            (driver / "unbind").write_text(pci.address, "ascii")
            return {
                name: outcome(functools.partial(client.ioctl, request, argument)) or "ok"
                for name, (request, argument) in CALLS.items()
            }

    answers = answer_of(ask, ANSWER)
    (driver / "bind").write_text(pci.address, "ascii")
    record("answers", answers)
    assert answers == dict.fromkeys(CALLS, "ENODEV")


@pytest.mark.root
@pytest.mark.logs("amdxdna")
@pytest.mark.usefixtures("served", "alone")
def test_unbound_at_work(node: str, pci: guard.PciDevice, choose: random.Random, record: Record) -> None:
    """The driver is taken away from working processes: calls end, and it can be bound when they are gone."""
    driver = Path("/sys/bus/pci/drivers/amdxdna")

    def disturb() -> None:
        time.sleep(choose.uniform(0.3, 1.2))
        (driver / "unbind").write_text(pci.address, "ascii")

    answers = crowd(node, choose, disturb)
    record("counts", answers)
    (driver / "bind").write_text(pci.address, "ascii")
    assert ended(answers)


@pytest.mark.root
@pytest.mark.usefixtures("alone")
@pytest.mark.suspect(
    "with force_iova a driver unbound under an open client cannot be bound again, 7.1 to 7.3.4"
)
def test_bound_again_under_a_client(node: str, pci: guard.PciDevice) -> None:
    """A driver unbound under an open client can be bound at once: the old client is history."""
    driver = Path("/sys/bus/pci/drivers/amdxdna")
    error = ""
    with Device(node):
        (driver / "unbind").write_text(pci.address, "ascii")
        try:
            (driver / "bind").write_text(pci.address, "ascii")
        except OSError as refused:
            error = str(refused)
    if error:
        (driver / "bind").write_text(pci.address, "ascii")
    assert error == "", f"{error} (docs/defects/unbind-with-client.md)"


@pytest.mark.root
@pytest.mark.usefixtures("served", "alone")
def test_reloaded(pci: guard.PciDevice) -> None:
    """The module is removed and loaded three times."""
    for _turn in range(3):
        for words in (["modprobe", "-r", "amdxdna"], ["modprobe", "amdxdna"]):
            done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
            assert done.returncode == 0, done.stderr
        assert (Path("/sys/bus/pci/drivers/amdxdna") / pci.address).exists()


@pytest.mark.root
@pytest.mark.logs("amdxdna|TDR|timeout|Timeout")
@pytest.mark.usefixtures("alone")
def test_reset_at_work(node: str, pci: guard.PciDevice, choose: random.Random, record: Record) -> None:
    """A function-level reset behind the driver's back: every call ends, and binding anew heals the device."""

    def disturb() -> None:
        time.sleep(choose.uniform(0.3, 1.0))
        Path(f"/sys/bus/pci/devices/{pci.address}/reset").write_text("1", "ascii")

    answers = crowd(node, choose, disturb)
    record("counts", answers)
    guard.rebind(pci)
    assert ended(answers)
    assert answer_of(lambda: healthy(node), ANSWER) == ""


@pytest.mark.root
@pytest.mark.pm
@pytest.mark.usefixtures("served")
def test_frozen_at_work(node: str, choose: random.Random, record: Record) -> None:
    """Devices are suspended and resumed (pm_test) while processes work: their contexts go on."""
    Path("/sys/power/pm_test").write_text("devices", "ascii")
    try:

        def disturb() -> None:
            time.sleep(choose.uniform(0.3, 0.8))
            Path("/sys/power/state").write_text("freeze", "ascii")

        answers = crowd(node, choose, disturb)
    finally:
        Path("/sys/power/pm_test").write_text("none", "ascii")
    record("counts", answers)
    assert ended(answers)


@pytest.fixture
def alone(request: pytest.FixtureRequest, device: Device) -> Iterator[None]:
    """Nobody of this session has the device open while the driver goes; not on silicon unless allowed."""
    if not (request.config.getoption("--rebind") or guard.virtual()):
        pytest.skip("the driver is not taken away here: --rebind allows it")
    device.close()  # these tests are the session's last
    watching = request.getfixturevalue("witness")
    watching.close()
    yield
    request.config.stash[FOUND] = guard.look(node=request.config.getoption("--npu-node"))
