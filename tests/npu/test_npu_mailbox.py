"""Rings: nothing is lost, nothing is invented, and no content can break more than its channel."""

from __future__ import annotations

import random
import struct
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.npu.generations import GENERATIONS, Generation
from lab.npu.mailbox import I2X_HEAD, X2I_HEAD, X2I_TAIL, Channel, Message, RingError, encode
from lab.npu.registers import RegisterFile
from tests.npu.fake_client import FakeClient, FakeDriver, Ring

NPU1 = GENERATIONS["npu1"]


class Wires:
    """A channel and the driver's end of it, joined without a socket."""

    def __init__(self, generation: Generation = NPU1, slot: int = 2) -> None:
        layout = generation.mailbox
        self.registers = RegisterFile(generation.bars)
        self.interrupts: list[int] = []
        self.channel = Channel(slot, 5, layout, self.registers, self.interrupts.append)
        places = self.channel.addresses
        base, sram = layout.register_base, layout.sram_base
        self.ring = Ring(
            _Direct(self.registers, generation, self),
            (places.x2i_tail - base, places.x2i_head - base, places.x2i_ring - sram),
            (places.i2x_tail - base, places.i2x_head - base, places.i2x_ring - sram),
            places.ring_size,
            5,
        )
        self.x2i = places.x2i_ring - sram
        self.place = places.x2i_tail - base
        self.bar = layout.register_bar
        self.sram_bar = layout.sram_bar

    def register(self, offset: int, value: int) -> None:
        self.registers.set_word(self.bar, self.place + offset, value)


class _Direct(FakeDriver):
    """The driver's accesses, straight to the registers; its head reaches the channel as in the device."""

    def __init__(self, registers: RegisterFile, generation: Generation, wires: Wires) -> None:
        super().__init__(FakeClient.__new__(FakeClient), generation)
        self._registers = registers
        self._wires = wires

    def sram(self, offset: int, count: int) -> bytes:
        return self._registers.read(self.layout.sram_bar, offset, count)

    def sram_write(self, offset: int, data: bytes) -> None:
        self._registers.write(self.layout.sram_bar, offset, data)

    def mailbox(self, offset: int) -> int:
        return self._registers.get_word(self.layout.register_bar, offset)

    def mailbox_write(self, offset: int, value: int) -> None:
        self._registers.set_word(self.layout.register_bar, offset, value)
        if offset == self._wires.place + I2X_HEAD:
            self._wires.channel.host_read()


PAYLOADS = st.integers(1, 120).map(lambda words: words * 4)


@given(st.lists(PAYLOADS, max_size=120))
def test_requests_arrive_whole_and_in_order(sizes: list[int]) -> None:
    wires = Wires()
    for number, size in enumerate(sizes):
        payload = number.to_bytes(4, "little") * (size // 4)
        message_id = wires.ring.send(0x10A, payload)
        assert list(wires.channel.take()) == [Message(message_id, 0x10A, payload)]
    assert list(wires.channel.take()) == []


@given(st.lists(st.lists(PAYLOADS, max_size=6), max_size=40))
def test_several_requests_at_once_arrive_in_order(batches: list[list[int]]) -> None:
    wires = Wires()
    for sizes in batches:
        sent = []
        for number, size in enumerate(sizes):
            payload = bytes([number]) * size
            sent.append(Message(wires.ring.send(number, payload), number, payload))
        assert list(wires.channel.take()) == sent


@settings(max_examples=200)
@given(st.lists(st.one_of(PAYLOADS, st.integers(-6, -1)), max_size=200))
def test_answers_arrive_whole_and_in_order_however_slowly_the_host_reads(steps: list[int]) -> None:
    """Positive steps are answers of that size, negative ones let the host read that many."""
    wires = Wires()
    expected: deque[Message] = deque()
    for number, step in enumerate(steps):
        if step > 0:
            message = Message(0x1D000000 | number, 0x18, number.to_bytes(4, "little") * (step // 4))
            assert wires.channel.send(message)
            expected.append(message)
            continue
        for _ in range(-step):
            got = wires.ring.poll()
            if got is None:
                assert not expected, "an answer was lost or stuck"
                break
            wanted = expected.popleft()
            assert (got.id, got.opcode, got.payload) == (wanted.id, wanted.opcode, wanted.payload)
    while expected:
        got = wires.ring.poll()
        assert got is not None
        assert got.payload == expected.popleft().payload
    assert wires.ring.poll() is None


@pytest.mark.parametrize("seed", range(8))
def test_long_traffic_wraps_both_rings_without_loss(seed: int) -> None:
    """Long enough to meet every place of the ring: full, empty, exactly at the end, one word before it."""
    chance = random.Random(seed)
    wires = Wires()
    expected: deque[bytes] = deque()
    for number in range(4000):
        payload = number.to_bytes(4, "little") * chance.choice((1, 2, 3, 11, 15, 40, 100, 250, 252, 253, 500))
        if chance.random() < 0.5 + 0.3 * (number // 500 % 2):
            if wires.channel.send(Message(0x1D000001, 1, payload)):
                expected.append(payload)
        else:
            for _ in range(chance.randrange(4)):
                got = wires.ring.poll()
                assert (got.payload if got else None) == (expected.popleft() if expected else None)
        message_id = wires.ring.send(2, payload)
        assert list(wires.channel.take()) == [Message(message_id, 2, payload)]
    while expected:
        got = wires.ring.poll()
        assert got is not None
        assert got.payload == expected.popleft()


def test_an_answer_that_ends_at_the_rings_end_is_followed_by_one_at_its_start() -> None:
    wires = Wires()
    for _ in range(3):
        for size in (2032 - 16, 2032 - 16, 32 - 16):
            wires.channel.send(Message(0x1D000001, 1, bytes(size)))
            got = wires.ring.poll()
            assert got is not None
            assert len(got.payload) == size


def test_each_answer_raises_its_vector_unless_it_shall_not() -> None:
    wires = Wires()
    wires.channel.send(Message(1, 1, bytes(4)))
    wires.channel.send(Message(2, 1, bytes(4)), announce=False)
    assert wires.interrupts == [5]


def test_a_host_that_never_reads_is_not_waited_for_without_bound() -> None:
    wires = Wires()
    sent = 0
    while wires.channel.send(Message(1, 1, bytes(1024))):
        sent += 1
        assert sent < 1000
    assert sent > 200


@settings(max_examples=300)
@given(
    st.binary(max_size=200),
    st.integers(0, 0x1100) | st.integers(0, 2**32 - 1),
    st.integers(0, 0x1100) | st.integers(0, 2**32 - 1),
)
def test_garbage_in_the_ring_ends_the_channel_and_nothing_else(data: bytes, head: int, tail: int) -> None:
    wires = Wires()
    ring = (data * (0x1000 // max(len(data), 1) + 1))[:0x1000] if data else bytes(0x1000)
    wires.registers.write(wires.sram_bar, wires.x2i, ring)
    wires.register(X2I_HEAD, head)
    wires.register(X2I_TAIL, tail)
    try:
        taken = list(wires.channel.take())
    except RingError:
        assert wires.channel.dead
    else:
        assert len(taken) <= 512
        assert not wires.channel.dead


@pytest.mark.parametrize(
    "words",
    [
        (0x804, 0x804 | 1 << 16, 1, 1),  # larger than the size field can say
        (6, 6 | 1 << 16, 1, 1),  # not aligned
        (4, 8 | 1 << 16, 1, 1),  # two sizes
        (4, 4 | 2 << 16, 1, 1),  # another version
        (64, 64 | 1 << 16, 1, 1),  # behind the tail
    ],
)
def test_a_header_that_cannot_be_is_a_ring_error(words: tuple[int, ...]) -> None:
    wires = Wires()
    wires.registers.write(wires.sram_bar, wires.x2i, struct.pack("<4I", *words))
    wires.register(X2I_TAIL, 20)
    with pytest.raises(RingError):
        list(wires.channel.take())


def test_a_tombstone_at_the_start_after_a_tombstone_is_a_ring_error() -> None:
    wires = Wires()
    wires.registers.write(wires.sram_bar, wires.x2i, struct.pack("<I", 0xDEADFACE))
    wires.register(X2I_TAIL, 20)
    with pytest.raises(RingError, match="tombstones"):
        list(wires.channel.take())


def test_encoding_states_the_size_twice_and_the_version() -> None:
    assert encode(Message(7, 9, b"abcd")) == struct.pack("<IIII", 4, 4 | 1 << 16, 7, 9) + b"abcd"
