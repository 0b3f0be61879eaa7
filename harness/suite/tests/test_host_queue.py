"""AIE4: user space queues commands itself, rings a doorbell and waits with WAIT_CMD (7.2 and later)."""

from __future__ import annotations

import ctypes
import errno
import signal
import struct
import time
import zlib
from collections.abc import Iterator, Sequence

import pytest

from harness.suite import uapi
from harness.suite.child import answer_of
from harness.suite.device import Buffer, Device, Mapping
from harness.suite.tests.conftest import Attempt, Record

pytestmark = pytest.mark.host_queue
CAPACITY = 32
PACKETS = 0x100  # offset of the ring in the queue buffer
CODE, ARGUMENTS = 0x1000, 0x2000  # offsets in the work buffer, a slot of 64 bytes for each packet
SIGNALS, INPUT, OUTPUT = 0x3000, 0x4000, 0x8000
LENGTH = 8192
COPY, CHECKSUM = 1, 4
COMPLETED = 4
WAIT = 5000  # milliseconds


class HostQueue:
    """A context with its queue: what user space's driver does on AIE4."""

    def __init__(self, device: Device, tiles: int, *, umq: int | None = None) -> None:
        self.device = device
        self.queue = device.buffer(uapi.Bo.SHARE, 0x1000)
        self.work = device.buffer(uapi.Bo.SHARE, 0x10000)
        self.written = 0
        self.queue.memory.write(struct.pack("<QHHIQQ", 0, 1, 0, CAPACITY, 0, self.queue.address + PACKETS))
        wish = uapi.QosInfo(priority=uapi.Priority.NORMAL)
        argument = uapi.CreateHwctx(
            qos_p=ctypes.addressof(wish),
            umq_bo=self.queue.handle if umq is None else umq,
            max_opc=2048,
            num_tiles=tiles,
        )
        device.ioctl(uapi.CREATE_HWCTX, argument)
        self.handle, self.syncobj = int(argument.handle), int(argument.syncobj_handle)
        self.doorbell_offset = int(argument.umq_doorbell)
        self.doorbell: Mapping = device.map_at(self.doorbell_offset, uapi.PAGE)

    def submit_indirect(self, lengths: Sequence[int]) -> int:
        """Queue one packet that points to copies of these many bytes, one behind the other; its number."""
        memory, base, done = self.work.memory, self.work.address, 0
        entries = b""
        for index, length in enumerate(lengths):
            code, words, place = CODE + 64 * index, ARGUMENTS + 64 * index, ARGUMENTS + 0x800 + 64 * index
            memory.write(struct.pack("<4sHHII", b"XDNW", 1, COPY, length, 0), code)
            memory.write(struct.pack("<QQ", base + INPUT + done, base + OUTPUT + done), words)
            payload = struct.pack("<IQHHQ", 0, base + code, 16, 0, base + words)
            memory.write(struct.pack("<HBBHBB", 0, 1, 0, len(payload), 0, 0) + payload, place)
            entries += struct.pack("<II", (base + place) & 0xFFFFFFFF, (base + place) >> 32 | index << 25)
            done += length
        memory.write(struct.pack("<I", 1), SIGNALS + 8 * (self.written % CAPACITY))
        signal_at = base + SIGNALS + 8 * (self.written % CAPACITY)
        return self._queue(struct.pack("<HBBHBBQ", 0, 1, 0, len(entries), 1, 1, signal_at) + entries)

    def submit(self, operation: int = COPY, length: int = LENGTH) -> int:
        """Queue a test kernel from INPUT to OUTPUT; its number. Nothing runs before ``ring``."""
        memory, base, slot = self.work.memory, self.work.address, self.written % CAPACITY
        memory.write(struct.pack("<4sHHII", b"XDNW", 1, operation, length, 0), CODE + 64 * slot)
        words = struct.pack("<QQ", base + INPUT, base + OUTPUT)
        memory.write(words, ARGUMENTS + 64 * slot)
        memory.write(struct.pack("<I", 1), SIGNALS + 8 * slot)
        code, arguments = base + CODE + 64 * slot, base + ARGUMENTS + 64 * slot
        packet = struct.pack("<HBBHBBQ", 0, 1, 0, 24, 0, 0, base + SIGNALS + 8 * slot)
        packet += struct.pack(
            "<IIIHHII",
            0,
            code & 0xFFFFFFFF,
            code >> 32,
            len(words),
            0,
            arguments & 0xFFFFFFFF,
            arguments >> 32,
        )
        return self._queue(packet)

    def _queue(self, packet: bytes) -> int:
        self.queue.memory.write(packet.ljust(64, b"\0"), PACKETS + 64 * (self.written % CAPACITY))
        number = self.written
        self.written += 1
        self.queue.memory.write(struct.pack("<Q", self.written), 16)
        return number

    def ring(self) -> None:
        """Tell the device to look."""
        self.doorbell.write(struct.pack("<I", 1))

    def wait(self, number: int, milliseconds: int = WAIT) -> None:
        """WAIT_CMD; OSError(ETIME) when the command does not end in time."""
        self.device.ioctl(uapi.WAIT_CMD, uapi.WaitCmd(hwctx=self.handle, timeout=milliseconds, seq=number))

    def state(self, number: int) -> int:
        """The state the device gave a command that still has its slot."""
        return self.work.memory.word((SIGNALS + 8 * (number % CAPACITY)) // 4) & 0xF

    def close(self) -> None:
        """Destroy the context, then free its memory."""
        self.doorbell.close()
        self.device.ioctl(uapi.DESTROY_HWCTX, uapi.DestroyHwctx(handle=self.handle))
        for one in (self.queue, self.work):
            self.device.free(one)


@pytest.fixture
def queue(program: None, device: Device, tiles: int) -> Iterator[HostQueue]:
    """A context of one column with an empty queue and something to copy."""
    assert program is None
    made = HostQueue(device, tiles)
    made.work.memory.write(bytes(range(256)) * (LENGTH // 256), INPUT)
    yield made
    made.close()


def test_context_has_a_doorbell(queue: HostQueue, record: Record) -> None:
    """The context comes with a page of the device."""
    record("doorbell", queue.doorbell_offset)
    assert queue.doorbell_offset % uapi.PAGE == 0
    assert queue.doorbell_offset != 0xFFFFFFFF


def test_copy_through_the_queue(queue: HostQueue, record: Record) -> None:
    """A command is run, its state written, its output there when WAIT_CMD returns."""
    began = time.monotonic()
    number = queue.submit()
    queue.ring()
    queue.wait(number)
    record("milliseconds", round((time.monotonic() - began) * 1000, 3))
    assert queue.state(number) == COMPLETED
    memory = queue.work.memory
    assert memory.read(LENGTH, OUTPUT) == memory.read(LENGTH, INPUT)


def test_checksum_through_the_queue(queue: HostQueue) -> None:
    """The device saw the very bytes that were written."""
    number = queue.submit(CHECKSUM)
    queue.ring()
    queue.wait(number)
    memory = queue.work.memory
    assert memory.read(8, OUTPUT) == struct.pack("<II", zlib.crc32(memory.read(LENGTH, INPUT)), LENGTH)


def test_indirect_packet(queue: HostQueue) -> None:
    """One packet points to three commands: each is run, and the packet's state says so."""
    number = queue.submit_indirect([64, 128, 256])
    queue.ring()
    queue.wait(number)
    assert queue.state(number) == COMPLETED
    assert queue.work.memory.read(448, OUTPUT) == queue.work.memory.read(448, INPUT)


def test_more_than_the_ring_holds(queue: HostQueue) -> None:
    """A hundred commands go through a queue of thirty-two."""
    for _turn in range(100):
        number = queue.submit(length=64)
        queue.ring()
        queue.wait(number)
        assert queue.state(number) == COMPLETED


def test_one_doorbell_for_many(queue: HostQueue) -> None:
    """A full ring is run by one doorbell, and a number in the middle can be waited for afterwards."""
    numbers = [queue.submit(length=64) for _turn in range(CAPACITY)]
    queue.ring()
    queue.wait(numbers[-1])
    queue.wait(numbers[7])
    assert {queue.state(number) for number in numbers} == {COMPLETED}


@pytest.mark.negative
def test_wait_for_a_command_that_never_comes(queue: HostQueue, attempt: Attempt) -> None:
    """WAIT_CMD gives up after the time asked for; without a doorbell nothing runs."""
    number = queue.submit()
    began = time.monotonic()
    assert attempt(lambda: queue.wait(number, 200)) == "ETIME"
    assert 0.15 <= time.monotonic() - began < 3.0
    queue.ring()
    queue.wait(number)


@pytest.mark.negative
def test_wait_ends_with_a_signal(queue: HostQueue, record: Record) -> None:
    """WAIT_CMD without a limit of time is ended by a signal; the command can still be waited for."""
    number = queue.submit()
    argument = uapi.WaitCmd(hwctx=queue.handle, timeout=0, seq=number)

    def wait() -> object:
        # the suite's own ioctl would begin again: what counts here is how the call itself ends
        signal.signal(signal.SIGALRM, lambda *_signal: None)
        signal.siginterrupt(signal.SIGALRM, True)  # noqa: FBT003 - it takes no keyword
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        libc = ctypes.CDLL(None, use_errno=True)
        status = libc.ioctl(queue.device.fd, ctypes.c_ulong(uapi.WAIT_CMD), ctypes.byref(argument))
        return "ok" if status == 0 else errno.errorcode[ctypes.get_errno()]

    got = answer_of(wait, 5.0)
    record("result", got)
    assert got == "EINTR"
    queue.ring()
    queue.wait(number)


@pytest.mark.negative
def test_failed_command_says_so(queue: HostQueue) -> None:
    """A command out of its memory ends with an error state, and the next one works."""
    number = queue.submit(length=16 << 20)
    after = queue.submit()
    queue.ring()
    queue.wait(after)
    assert queue.state(number) == 5
    assert queue.state(after) == COMPLETED


def test_two_queues_side_by_side(queue: HostQueue, device: Device, tiles: int) -> None:
    """Contexts have doorbells of their own, and neither runs the other's commands."""
    other = HostQueue(device, tiles)
    try:
        assert other.doorbell_offset != queue.doorbell_offset
        mine, theirs = queue.submit(length=64), other.submit(length=64)
        other.ring()
        other.wait(theirs)
        assert queue.state(mine) != COMPLETED
        queue.ring()
        queue.wait(mine)
    finally:
        other.close()


@pytest.mark.negative
def test_wait_on_an_unknown_context(queue: HostQueue, device: Device, attempt: Attempt) -> None:
    """WAIT_CMD on a context that is not the client's is EINVAL."""
    argument = uapi.WaitCmd(hwctx=queue.handle + 77, timeout=10, seq=0)
    assert attempt(lambda: device.ioctl(uapi.WAIT_CMD, argument)) == "EINVAL"


@pytest.mark.negative
def test_unknown_queue_buffer(device: Device, tiles: int, attempt: Attempt) -> None:
    """A context over a buffer that does not exist is ENOENT."""
    assert attempt(lambda: HostQueue(device, tiles, umq=0x7FFF0000)) == "ENOENT"


@pytest.mark.negative
def test_units_are_refused(queue: HostQueue, device: Device, attempt: Attempt) -> None:
    """There are no compute units to configure: EOPNOTSUPP."""
    block = ctypes.create_string_buffer(bytes(uapi.ConfigCu(num_cus=1)) + bytes(uapi.CuConfig()))
    argument = uapi.ConfigHwctx(
        handle=queue.handle,
        param_type=uapi.Config.CU,
        param_val=ctypes.addressof(block),
        param_val_size=16,
    )
    assert attempt(lambda: device.ioctl(uapi.CONFIG_HWCTX, argument)) == "EOPNOTSUPP"


@pytest.mark.negative
@pytest.mark.parametrize("pages", [0, 2])
def test_doorbell_of_nobody(queue: HostQueue, device: Device, pages: int, attempt: Attempt) -> None:
    """A page that is no context's, or two of them, cannot be mapped."""
    if pages:
        assert attempt(lambda: device.map_at(queue.doorbell_offset, pages * uapi.PAGE)) == "EINVAL"
    else:
        assert attempt(lambda: device.map_at(queue.doorbell_offset + 64 * uapi.PAGE, uapi.PAGE)) == "EINVAL"


@pytest.mark.negative
def test_mailbox_submission_is_refused(queue: HostQueue, device: Device, attempt: Attempt) -> None:
    """EXEC_CMD is not for a queue of user space's own: EOPNOTSUPP or EINVAL, and the queue goes on."""
    command: Buffer = device.buffer(uapi.Bo.CMD, uapi.PAGE)
    argument = uapi.ExecCmd(hwctx=queue.handle, cmd_handles=command.handle, cmd_count=1)
    assert attempt(lambda: device.ioctl(uapi.EXEC_CMD, argument)) in ("EOPNOTSUPP", "EINVAL")
    device.free(command)
    number = queue.submit()
    queue.ring()
    queue.wait(number)


def test_client_closed_with_commands_queued(node: str, tiles: int) -> None:
    """A client is closed with commands in its queue; the next client works."""
    with Device(node) as client:
        left = HostQueue(client, tiles)
        left.submit()
    with Device(node) as client:
        fresh = HostQueue(client, tiles)
        number = fresh.submit()
        fresh.ring()
        fresh.wait(number)
        fresh.close()
