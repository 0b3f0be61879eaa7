"""AIE4: contexts with a host queue and a doorbell, driven as the driver and its user space do."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.npu import host_queue
from tests.npu.fake_client import FakeDriver, GuestRam, Ring
from tests.npu.served import Lab, Serve

BASE, SIZE = 0x10_0000, 1 << 20
HEADER, PACKETS, CODE, ARGUMENTS, SIGNALS = BASE, BASE + 0x1000, BASE + 0x2000, BASE + 0x3000, BASE + 0x4000
INPUT, OUTPUT = BASE + 0x8000, BASE + 0xC000
COMPLETED, ERROR = 4, 5
CAPACITY = 32


class Queue:
    """User space's end of one context: the queue in guest memory and the doorbell page."""

    def __init__(self, lab: Lab, ram: GuestRam) -> None:
        self.lab, self.ram = lab, ram
        self.driver = FakeDriver(lab.client(), lab.generation)
        self.driver.client.map_file(ram.fd, BASE, SIZE)
        self.driver.client.wire(lab.generation.vectors)
        self.management = self.open_management()
        self.partition = self.create_partition()
        self.write_index = 0
        self.context, self.doorbell, self.vector = 0, 0, 0

    def open_management(self) -> Ring:
        words = struct.unpack("<12I", self.driver.sram(0, 48))
        assert words[0] == 1
        return self.driver._ring(words[3:7], words[7:11], words[11])

    def create_partition(self) -> int:
        status, partition = struct.unpack("<II", self.management.call(0x30001, "<II", 0, 3))
        assert status == 0
        return int(partition)

    def create(self, *, header: int = HEADER, pasid: int = 0xFFFFF, tiles: int = 4) -> int:
        """CREATE_HW_CONTEXT over an empty queue; its status."""
        self.put(HEADER, struct.pack("<QHHIQQ", 0, 1, 0, CAPACITY, 0, PACKETS))
        self.write_index = 0
        request = (self.partition, tiles, header >> 32, header & 0xFFFFFFFF, pasid | 1 << 31, 1)
        answer = self.management.call(0x30003, "<6I", *request)
        status, self.context, self.doorbell, self.vector = struct.unpack("<4I", answer)
        return int(status)

    def put(self, address: int, data: bytes) -> None:
        self.ram.bytes[address - BASE : address - BASE + len(data)] = data

    def get(self, address: int, count: int) -> bytes:
        return bytes(self.ram.bytes[address - BASE : address - BASE + count])

    def packet(self, data: bytes) -> None:
        self.put(PACKETS + self.write_index % CAPACITY * 64, data.ljust(64, b"\0"))
        self.write_index += 1
        self.put(HEADER + 16, struct.pack("<Q", self.write_index))

    def run(self, operation: int = 1, length: int = 64, value: int = 0, *, signal: int = SIGNALS) -> None:
        """Queue a test kernel over INPUT and OUTPUT, without ringing."""
        self.put(CODE, struct.pack("<4sHHII", b"XDNW", 1, operation, length, value))
        buffers = {1: (INPUT, OUTPUT), 2: (OUTPUT,)}[operation]
        words = b"".join(struct.pack("<Q", one) for one in buffers)
        self.put(ARGUMENTS, words)
        if signal:
            self.put(signal, struct.pack("<I", 0xABC0 | 1))
        body = struct.pack("<IIIHHII", 0, CODE, 0, len(words), 0, ARGUMENTS, 0)
        self.packet(struct.pack("<HBBHBBQ", 0, 1, 0, len(body), 0, 0, signal) + body)

    def ring(self) -> None:
        self.driver.client.write(2, self.doorbell, struct.pack("<I", 1))

    @property
    def read_index(self) -> int:
        return int(struct.unpack("<Q", self.get(HEADER, 8))[0])

    def state(self, signal: int = SIGNALS) -> int:
        word = struct.unpack("<I", self.get(signal, 4))[0]
        assert word & ~0xF == 0xABC0, "only the state may change"
        return int(word & 0xF)


@pytest.fixture
def queue(serve: Serve, request: pytest.FixtureRequest) -> Iterator[Queue]:
    ram = GuestRam(SIZE)
    lab = serve("npu3vf", *getattr(request, "param", ()))
    made = Queue(lab, ram)
    made.put(INPUT, bytes(range(256)) * 8)
    assert made.create() == 0
    yield made
    ram.close()


def test_a_command_of_the_queue_is_run_and_announced(queue: Queue) -> None:
    assert queue.doorbell % 4096 == 0
    queue.run()
    assert queue.read_index == 0, "nothing may happen before the doorbell"
    queue.ring()
    assert queue.get(OUTPUT, 64) == queue.get(INPUT, 64)
    assert (queue.read_index, queue.state()) == (1, COMPLETED)
    assert queue.driver.client.interrupts(queue.vector) == 1
    assert queue.lab.events("command")[-1]["work"] == ["copy"]


def test_one_doorbell_runs_everything_in_order_and_around_the_ring(queue: Queue) -> None:
    for turn in range(3):
        for index in range(CAPACITY if turn else 5):
            queue.run(2, 8, 0x1000 * turn + index, signal=0)
        queue.ring()
        # CODE is shared by all packets of a turn: every one filled the last value
        last = 0x1000 * turn + (CAPACITY if turn else 5) - 1
        assert queue.get(OUTPUT, 8) == struct.pack("<I", last) * 2
    assert queue.read_index == 5 + 2 * CAPACITY
    assert not queue.lab.events("ring-error")


def test_an_indirect_packet_runs_every_entry(queue: Queue) -> None:
    queue.put(CODE, struct.pack("<4sHHII", b"XDNW", 1, 1, 64, 0))
    queue.put(ARGUMENTS, struct.pack("<QQ", INPUT, OUTPUT))
    queue.put(ARGUMENTS + 64, struct.pack("<QQ", INPUT + 64, OUTPUT + 64))
    entries = b""
    for index in range(2):
        place = ARGUMENTS + 0x200 + index * 64
        body = struct.pack("<IIIHHII", 0, CODE, 0, 16, 0, ARGUMENTS + 64 * index, 0)
        queue.put(place, struct.pack("<HBBHBB", 0, 1, 0, len(body), 0, 0) + body)
        entries += struct.pack("<II", place, index << 25)
    queue.packet(struct.pack("<HBBHBBQ", 0, 1, 0, len(entries), 1, 1, 0) + entries)
    queue.ring()
    assert queue.get(OUTPUT, 128) == queue.get(INPUT, 128)
    assert queue.read_index == 1


def test_a_command_that_fails_says_so_and_the_next_one_runs(queue: Queue) -> None:
    queue.run(1, 1 << 20)  # more than the memory there is
    queue.run(1, 64, signal=SIGNALS + 8)
    queue.put(CODE, struct.pack("<4sHHII", b"XDNW", 9, 1, 64, 0))
    queue.ring()
    assert queue.state() == ERROR
    queue.run(1, 64, signal=SIGNALS + 16)
    queue.ring()
    assert queue.state(SIGNALS + 16) == COMPLETED
    assert queue.read_index == 3


def test_a_context_has_a_page_and_an_interrupt_of_its_own(queue: Queue) -> None:
    first = (queue.context, queue.doorbell, queue.vector)
    assert queue.create() == 0
    assert not set(first) & {queue.context, queue.doorbell}
    assert queue.vector != first[2]
    while queue.create() == 0:
        assert queue.context <= queue.lab.generation.context_limit
    assert queue.management.call(0x30004, "<II", first[0], 0) == bytes(4)
    assert queue.create() == 0, "a context that was destroyed makes room"
    assert queue.doorbell == first[1]


@pytest.mark.parametrize(
    "wrong", [{"tiles": 0}, {"tiles": 13}, {"pasid": 5}], ids=["no-tiles", "too-many", "process-addresses"]
)
def test_a_context_that_cannot_be_is_refused(queue: Queue, wrong: dict[str, int]) -> None:
    assert queue.create(**wrong) != 0
    assert bool(queue.lab.events("model-gap")) == ("pasid" in wrong)


def test_a_doorbell_of_nobody_and_a_destroyed_context_do_nothing(queue: Queue) -> None:
    queue.run()
    assert queue.management.call(0x30004, "<II", queue.context, 0) == bytes(4)
    queue.ring()
    assert queue.read_index == 0
    assert queue.lab.events("bad-request")


def test_destroying_the_partition_ends_its_contexts(queue: Queue) -> None:
    assert queue.management.call(0x30002, "<I", queue.partition) == bytes(4)
    queue.run()
    queue.ring()
    assert queue.read_index == 0


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<QHHIQQ", 0, 2, 0, 32, 1, PACKETS),
        struct.pack("<QHHIQQ", 0, 1, 0, 33, 1, PACKETS),
        struct.pack("<QHHIQQ", 0, 1, 0, 0, 1, PACKETS),
        struct.pack("<QHHIQQ", 5, 1, 0, 32, 1, PACKETS),
        struct.pack("<QHHIQQ", 0, 1, 0, 32, 33, PACKETS),
        struct.pack("<QHHIQQ", 0, 1, 0, 32, 1, PACKETS + 2),
        struct.pack("<QHHIQQ", 0, 1, 0, 32, 1, 0xDEAD_0000_0000),
    ],
    ids=["version", "capacity", "no-capacity", "read-ahead", "too-many", "unaligned", "out-of-reach"],
)
def test_a_queue_that_lies_stops_its_context_only(queue: Queue, header: bytes) -> None:
    queue.put(HEADER, header)
    queue.ring()
    assert queue.lab.events("ring-error") or queue.lab.events("dma-error")
    assert queue.lab.events("command")[-1]["result"] == "hung"
    assert len(queue.management.call(0x30006, "<I", 0)) == 48


def test_an_unknown_packet_is_a_gap_of_the_model(queue: Queue) -> None:
    queue.packet(struct.pack("<HBBHBBQ", 0, 7, 0, 0, 0, 0, 0))
    queue.ring()
    assert queue.lab.events("model-gap")[0]["reason"] == "queue-packet"
    assert queue.read_index == 0


def test_a_reset_forgets_contexts_and_the_channel_starts_again(queue: Queue) -> None:
    queue.run()
    queue.driver.client.request(13)
    queue.ring()
    assert queue.read_index == 0
    queue.management = queue.open_management()
    queue.partition = queue.create_partition()
    assert queue.create() == 0
    queue.run()
    queue.ring()
    assert queue.state() == COMPLETED


@pytest.mark.parametrize("queue", [("hung-command:nth=2",)], indirect=True)
def test_a_hung_command_holds_up_its_context(queue: Queue) -> None:
    for turn in range(3):
        queue.run(signal=SIGNALS + 8 * turn)
    queue.ring()
    queue.ring()
    assert queue.read_index == 1


@pytest.mark.parametrize("queue", [("skipped-work",)], indirect=True)
def test_skipped_work_completes_without_having_run(queue: Queue) -> None:
    queue.run()
    queue.ring()
    assert queue.state() == COMPLETED
    assert queue.get(OUTPUT, 64) == bytes(64)


@pytest.mark.parametrize("queue", [("wrong-result",)], indirect=True)
def test_a_wrong_result_is_inverted(queue: Queue) -> None:
    queue.run()
    queue.ring()
    assert queue.get(OUTPUT, 64) == bytes(byte ^ 0xFF for byte in queue.get(INPUT, 64))


@pytest.mark.parametrize("queue", [("lost-interrupt", "fail:message=EXEC_BUF,nth=2")], indirect=True)
def test_lost_interrupts_and_failures_strike_on_packets(queue: Queue) -> None:
    for turn in range(2):
        queue.run(signal=SIGNALS + 8 * turn)
    queue.ring()
    assert (queue.state(), queue.state(SIGNALS + 8)) == (COMPLETED, ERROR)
    assert queue.driver.client.interrupts(queue.vector) == 0


@pytest.mark.parametrize("queue", [("late:message=EXEC_BUF,ms=150,nth=1",)], indirect=True)
def test_a_late_command_holds_up_those_behind_it(queue: Queue) -> None:
    for turn in range(2):
        queue.run(signal=SIGNALS + 8 * turn)
    queue.ring()
    assert queue.read_index == 0
    end = time.monotonic() + 5.0
    while queue.read_index != 2 and time.monotonic() < end:
        queue.driver.client.wait_interrupt(queue.vector, 0.5)
    assert queue.read_index == 2
    assert queue.state(SIGNALS + 8) == COMPLETED


@pytest.mark.parametrize("queue", [("late:message=EXEC_BUF,ms=200,nth=1",)], indirect=True)
@pytest.mark.parametrize("how", ["reset", "unmapped", "gone"])
def test_unplugged_or_reset_while_a_command_runs(queue: Queue, how: str) -> None:
    """What was under way touches no memory any more, and whoever comes next finds a fresh device."""
    queue.run()
    queue.ring()
    match how:
        case "reset":
            queue.driver.client.request(13)
        case "unmapped":  # the driver's IOMMU mappings go before the device does
            queue.driver.client.unmap(BASE, SIZE)
        case _:
            queue.driver.client.close()
    time.sleep(0.4)
    assert queue.read_index == 0
    assert queue.get(OUTPUT, 64) == bytes(64)
    assert bool(queue.lab.events("dma-error")) == (how == "unmapped")
    if how != "gone":
        queue.driver.client.close()
    again = Queue(queue.lab, queue.ram)
    assert again.create() == 0
    again.run()
    again.ring()
    assert again.state() == COMPLETED


@given(st.binary(min_size=64, max_size=64))
def test_no_packet_breaks_the_parser(data: bytes) -> None:
    try:
        packet = host_queue.parse_packet(data)
    except host_queue.QueueError:
        return
    assert packet.opcode != host_queue.EXEC_BUF or packet.direct or 1 <= len(packet.entries) <= 6


@given(st.binary(min_size=32, max_size=32))
def test_no_header_breaks_the_parser(data: bytes) -> None:
    try:
        header = host_queue.parse_header(data)
    except host_queue.QueueError:
        return
    assert 0 <= header.write_index - header.read_index <= header.capacity <= host_queue.MAX_CAPACITY
