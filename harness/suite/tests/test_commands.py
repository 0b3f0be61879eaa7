"""Commands: submitted, completed, counted, chained, waited for; and what is refused.

A simulated device completes commands without computing; what is judged here is the driver's part: the state
in the header, the order on the time line, the counters, the errors.
"""

from __future__ import annotations

import os
import time

import pytest

from harness.suite import guard, packets, uapi
from harness.suite.device import Buffer, Context, Device
from harness.suite.tests.conftest import Attempt, Expect, Record, Refuse

NOWHERE = 0x10
UNKNOWN = 0x7FFF0000
DONE = uapi.Command.COMPLETED


def _npu(unit: Buffer) -> list[int]:
    return packets.start_npu(unit.address, 256)


def test_start_cu(device: Device, context: Context, command: Buffer, share: Buffer, record: Record) -> None:
    """START_CU completes."""
    began = time.monotonic()
    assert device.run(context, command, packets.start_cu(), [share.handle]) == DONE
    record("milliseconds", round((time.monotonic() - began) * 1000, 3))


def test_start_npu(device: Device, context: Context, command: Buffer, unit: Buffer, record: Record) -> None:
    """START_NPU with instructions in the heap completes."""
    began = time.monotonic()
    assert device.run(context, command, _npu(unit)) == DONE
    record("milliseconds", round((time.monotonic() - began) * 1000, 3))


def test_without_arguments(device: Device, context: Context, command: Buffer) -> None:
    """A command may have no argument buffers (6.16 and later)."""
    assert device.run(context, command, packets.start_cu()) == DONE


def test_sequence_numbers_grow(device: Device, context: Context, command: Buffer) -> None:
    """Each command has the next number on its context's time line."""
    command.memory.words(packets.start_cu())
    numbers = []
    for _turn in range(5):
        numbers.append(device.execute(context, command))
        device.wait(context, numbers[-1])
    assert numbers == list(range(numbers[0], numbers[0] + 5))


def test_twenty_commands(
    device: Device, context: Context, command: Buffer, unit: Buffer, share: Buffer, record: Record
) -> None:
    """Twenty commands of both kinds complete one after the other."""
    took = []
    for turn in range(20):
        words = _npu(unit) if turn % 2 else packets.start_cu()
        began = time.monotonic()
        assert device.run(context, command, words, [share.handle]) == DONE
        took.append(time.monotonic() - began)
    record("median_milliseconds", round(sorted(took)[10] * 1000, 3))
    record("slowest_milliseconds", round(max(took) * 1000, 3))


def test_several_in_flight(device: Device, context: Context) -> None:
    """Four commands are submitted before the first is waited for, and all complete."""
    commands = [device.buffer(uapi.Bo.CMD, uapi.PAGE) for _turn in range(4)]
    numbers = []
    for command in commands:
        command.memory.words(packets.start_cu())
        numbers.append(device.execute(context, command))
    for number in numbers:
        device.wait(context, number)
    states = [packets.state(command.memory.word()) for command in commands]
    for command in commands:
        device.free(command)
    assert states == [DONE] * 4


def test_more_than_the_ring_holds(device: Device, context: Context, command: Buffer) -> None:
    """Thirty-two submissions without waiting: the driver makes the caller wait, none is lost."""
    command.memory.words(packets.start_cu())
    numbers = [device.execute(context, command) for _turn in range(32)]
    for number in numbers:
        device.wait(context, number)
    assert len(set(numbers)) == 32


def test_two_contexts(device: Device, context: Context, unit: Buffer, tiles: int, command: Buffer) -> None:
    """Commands of two contexts complete side by side."""
    second = device.create_context(tiles=tiles)
    device.configure(second, [unit.handle])
    other = device.buffer(uapi.Bo.CMD, uapi.PAGE)
    try:
        for _turn in range(4):
            assert device.run(context, command, packets.start_cu()) == DONE
            assert device.run(second, other, packets.start_cu()) == DONE
    finally:
        device.destroy_context(second)
        device.free(other)


def test_counters(device: Device, context: Context, command: Buffer, expect: Expect, record: Record) -> None:
    """Submissions and completions of a context count its commands."""
    if expect("get-array") != "ok":
        pytest.skip("contexts cannot be listed on this kernel")
    for _turn in range(6):
        assert device.run(context, command, packets.start_cu()) == DONE

    def counters() -> tuple[int, int]:
        entry = next(entry for entry in device.contexts() if entry.context_id == context.handle)
        return int(entry.command_submissions), int(entry.command_completions)

    deadline = time.monotonic() + 1.0  # the count follows the fence by an instant
    while counters() != (6, 6) and time.monotonic() < deadline:
        time.sleep(0.01)
    record("counters", list(counters()))
    assert counters() == (6, 6)


@pytest.mark.parametrize("length", [1, 2, 8])
def test_chain(device: Device, context: Context, command: Buffer, length: int, record: Record) -> None:
    """A chain of commands completes as one."""
    links = [device.buffer(uapi.Bo.CMD, uapi.PAGE) for _turn in range(length)]
    for link in links:
        link.memory.words(packets.start_cu())
    state = device.run(context, command, packets.chain([link.handle for link in links]))
    record("link_states", [packets.state(link.memory.word()) for link in links])
    for link in links:
        device.free(link)
    assert state == DONE


def test_chain_of_npu_commands(device: Device, context: Context, command: Buffer, unit: Buffer) -> None:
    """A chain of START_NPU completes."""
    links = [device.buffer(uapi.Bo.CMD, uapi.PAGE) for _turn in range(3)]
    for link in links:
        link.memory.words(_npu(unit))
    state = device.run(context, command, packets.chain([link.handle for link in links]))
    for link in links:
        device.free(link)
    assert state == DONE


@pytest.mark.parametrize(
    "opcode", [uapi.Opcode.START_NPU_PREEMPT, uapi.Opcode.START_NPU_PREEMPT_ELF], ids=["preempt", "elf"]
)
def test_preemptible(
    device: Device,
    context: Context,
    command: Buffer,
    unit: Buffer,
    opcode: int,
    pci: guard.PciDevice,
    attempt: Attempt,
    expect: Expect,
    record: Record,
) -> None:
    """A command that may be preempted completes (6.19 and later, not NPU1); the next one works either way."""
    place = unit.address
    words = packets.start_npu_preempt(place, 256, (place + 4096, 64), (place + 8192, 64), opcode=opcode)
    states: list[int] = []
    got = attempt(lambda: states.append(device.run(context, command, words)))
    record("state", uapi.Command(states[0]).name if states else None)
    if expect("preempt") == "ok" and pci.generation != "npu1":
        assert (got, states) == ("ok", [DONE])
    assert device.run(context, command, packets.start_cu()) == DONE


REFUSED_WORDS = {
    "opcode-unknown": [packets.header(7, 4), 1, 0, 0, 0],
    "no-words": [packets.header(uapi.Opcode.START_CU, 0)],
    "no-unit": [packets.header(uapi.Opcode.START_CU, 3), 0, 1, 2],
    "npu-too-short": [packets.header(uapi.Opcode.START_NPU, 2), 1, 0],
}
# The driver sends these on, without arguments or with a unit only the firmware can judge.
DOUBTFUL_WORDS = {
    "only-the-mask": [packets.header(uapi.Opcode.START_CU, 1), 1],
    "count-beyond-the-buffer": [packets.header(uapi.Opcode.START_CU, packets.COUNT_LIMIT), 1, 0],
    "unit-not-configured": packets.start_cu(unit=9),
}


@pytest.mark.negative
@pytest.mark.parametrize("name", sorted(REFUSED_WORDS))
def test_refused_words(
    device: Device, context: Context, name: str, attempt: Attempt, expect: Expect, record: Record
) -> None:
    """A command whose words make no sense never completes, and the next one works."""
    if name == "npu-too-short":
        assert expect("short-npu-command") == "refused"
    small = device.buffer(uapi.Bo.CMD, uapi.PAGE)
    states: list[int] = []
    got = attempt(lambda: states.append(device.run(context, small, REFUSED_WORDS[name])))
    record("state", uapi.Command(states[0]).name if states else None)
    after = device.run(context, small, packets.start_cu())
    device.free(small)
    assert got != "ok" or states[0] != DONE
    assert after == DONE


@pytest.mark.negative
@pytest.mark.parametrize("name", sorted(DOUBTFUL_WORDS))
def test_doubtful_words(
    device: Device, context: Context, command: Buffer, name: str, attempt: Attempt, record: Record
) -> None:
    """A command that only the firmware can judge ends somehow, within its time, and the next one works."""
    states: list[int] = []
    got = attempt(lambda: states.append(device.run(context, command, DOUBTFUL_WORDS[name])))
    record("state", uapi.Command(states[0]).name if states else None)
    assert got in ("ok", "EINVAL")
    assert device.run(context, command, packets.start_cu()) == DONE


BAD_CHAINS: dict[str, tuple[list[int], int | None]] = {
    "unknown-link": ([UNKNOWN], None),
    "more-than-words": ([], 64),
    "count-overflow": ([], 0xFFFFFFFF),
}


@pytest.mark.negative
@pytest.mark.parametrize("name", sorted(BAD_CHAINS))
def test_bad_chain(
    device: Device, context: Context, command: Buffer, name: str, attempt: Attempt, record: Record
) -> None:
    """A chain that lies about its links is refused or ends in error, and the next command works."""
    handles, count = BAD_CHAINS[name]
    states: list[int] = []
    words = packets.chain(handles, count=count)
    got = attempt(lambda: states.append(device.run(context, command, words)))
    record("state", uapi.Command(states[0]).name if states else None)
    after = device.run(context, command, packets.start_cu())
    assert got != "ok" or states[0] != DONE
    assert after == DONE


@pytest.mark.negative
def test_empty_chain(
    device: Device, context: Context, command: Buffer, attempt: Attempt, expect: Expect, record: Record
) -> None:
    """A chain of no commands is refused since 7.3-rc2 and 7.2.7."""
    states: list[int] = []
    got = attempt(lambda: states.append(device.run(context, command, packets.chain([]))))
    record("state", uapi.Command(states[0]).name if states else None)
    refused = got != "ok" or states[0] != DONE
    assert ("refused" if refused else "accepted") == expect("empty-chain")


EXEC: dict[str, tuple[str, dict[str, int]]] = {
    "ext": ("EINVAL", {"ext": 1}),
    "ext-flags": ("EINVAL", {"ext_flags": 1}),
    "type-dependency": ("EINVAL", {"type": uapi.Submit.DEPENDENCY}),
    "type-signal": ("EINVAL", {"type": uapi.Submit.SIGNAL}),
    "type-unknown": ("EINVAL", {"type": 77}),
    "no-commands": ("EINVAL", {"cmd_count": 0}),
    "two-commands": ("EINVAL", {"cmd_count": 2}),
    "too-many-arguments": ("EINVAL", {"arg_count": uapi.MAX_ARGUMENTS + 1}),
    "arguments-unreadable": ("EFAULT", {"arg_count": 1, "args": NOWHERE}),
    "command-unknown": ("EINVAL", {"cmd_handles": UNKNOWN}),
    "context-unknown": ("EINVAL", {"hwctx": UNKNOWN}),
    "context-zero": ("EINVAL", {"hwctx": 0}),
}


@pytest.mark.negative
@pytest.mark.parametrize("name", sorted(EXEC))
def test_exec_refused(context: Context, command: Buffer, refuse: Refuse, name: str) -> None:
    """What EXEC_CMD refuses: reserved fields, types, counts, memory, handles."""
    error, change = EXEC[name]
    command.memory.words(packets.start_cu())
    wish = {
        "hwctx": context.handle,
        "type": uapi.Submit.EXEC_BUF,
        "cmd_handles": command.handle,
        "cmd_count": 1,
    } | change
    refuse(error, uapi.EXEC_CMD, uapi.ExecCmd(**wish))


@pytest.mark.negative
def test_exec_unknown_argument(device: Device, context: Context, command: Buffer, attempt: Attempt) -> None:
    """An argument buffer that does not exist is ENOENT."""
    command.memory.words(packets.start_cu())
    assert attempt(lambda: device.execute(context, command, [UNKNOWN])) == "ENOENT"


@pytest.mark.negative
def test_exec_dev_buffer_as_command(device: Device, context: Context, unit: Buffer, attempt: Attempt) -> None:
    """A command lies in ordinary memory: a DEV buffer is EINVAL."""
    assert attempt(lambda: device.execute(context, unit)) == "EINVAL"


@pytest.mark.negative
def test_exec_foreign_context(own: Device, context: Context, attempt: Attempt) -> None:
    """Another client's context takes no command."""
    command = own.buffer(uapi.Bo.CMD, uapi.PAGE)
    command.memory.words(packets.start_cu())
    assert attempt(lambda: own.execute(context, command)) == "EINVAL"


def test_many_arguments(device: Device, context: Context, command: Buffer) -> None:
    """A hundred argument buffers are taken."""
    handles = [device.create_bo(uapi.Bo.SHARE, uapi.PAGE) for _turn in range(100)]
    state = device.run(context, command, packets.start_cu(), handles)
    for handle in handles:
        device.free(handle)
    assert state == DONE


def test_argument_twice(
    device: Device, context: Context, command: Buffer, share: Buffer, attempt: Attempt
) -> None:
    """The same buffer twice is refused as already locked, or taken; the next command works."""
    words = packets.start_cu()
    assert attempt(lambda: device.run(context, command, words, [share.handle] * 2)) in ("ok", "EALREADY")
    assert device.run(context, command, words) == DONE


@pytest.mark.usefixtures("program")
def test_destroy_with_commands_in_flight(
    device: Device, heap: Buffer, unit: Buffer, tiles: int, command: Buffer
) -> None:
    """A context is destroyed while its commands run: they end, and nothing else does."""
    assert heap.size
    context = device.create_context(tiles=tiles)
    device.configure(context, [unit.handle])
    command.memory.words(packets.start_cu())
    for _turn in range(4):
        device.execute(context, command)
    device.destroy_context(context)


def test_closing_the_command_while_it_runs(device: Device, context: Context) -> None:
    """A command buffer whose handle is closed after submission still completes."""
    command = device.buffer(uapi.Bo.CMD, uapi.PAGE)
    command.memory.words(packets.start_cu())
    number = device.execute(context, command)
    device.free(command)
    device.wait(context, number)


def test_wait_again(device: Device, context: Context, command: Buffer) -> None:
    """A number that has passed is waited for without waiting."""
    command.memory.words(packets.start_cu())
    number = device.execute(context, command)
    device.wait(context, number)
    began = time.monotonic()
    device.wait(context, number)
    assert time.monotonic() - began < 1.0


@pytest.mark.negative
def test_wait_for_nothing(device: Device, context: Context, attempt: Attempt, record: Record) -> None:
    """A number that never comes is ETIME after the time asked for."""
    began = time.monotonic()
    assert attempt(lambda: device.wait(context, 1 << 40, timeout=0.2)) == "ETIME"
    waited = time.monotonic() - began
    record("seconds", round(waited, 3))
    assert 0.15 <= waited < 3.0


@pytest.mark.negative
def test_wait_ioctl(device: Device, context: Context, attempt: Attempt, expect: Expect) -> None:
    """WAIT_CMD is of AIE4: EOPNOTSUPP since 7.2, an unknown number before."""
    argument = uapi.WaitCmd(hwctx=context.handle, timeout=10, seq=0)
    assert attempt(lambda: device.ioctl(uapi.WAIT_CMD, argument)) == expect("wait-cmd")


def test_after_fork(device: Device, context: Context, command: Buffer, expect: Expect) -> None:
    """A process that forked can go on submitting; before 7.0 the child's end destroyed its contexts."""
    assert expect("contexts-survive-fork") == "kept"
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert device.run(context, command, packets.start_cu()) == DONE
