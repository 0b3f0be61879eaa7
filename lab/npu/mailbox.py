"""A mailbox channel: two rings in SRAM and five registers (facts section 5.5).

The host writes messages into the host-to-firmware ring ("x2i") and moves its tail; the firmware takes them,
moves the head, and answers through the other ring ("i2x"). A message never wraps: where it does not fit, a
tombstone word marks the rest of the ring as empty. Both sides keep one byte of distance: equal head and
tail mean "empty", so a ring is never filled completely.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lab.npu.generations import MailboxLayout
from lab.npu.registers import Memory, RegisterFile

TOMBSTONE = 0xDEADFACE
MESSAGE_HEADER = struct.Struct("<IIII")
PROTOCOL_VERSION = 1
MAX_PAYLOAD = 0x7FF  # the size field of the second header word has 11 bits
MAX_WAITING = 256  # answers kept while the host does not read

X2I_TAIL, X2I_HEAD, I2X_TAIL, I2X_HEAD, IRQ_STATUS = 0x0, 0x4, 0x8, 0xC, 0x10
REGISTER_STRIDE = 0x20


class RingError(Exception):
    """The host's ring holds something that cannot be a message; the channel is dead from then on."""


@dataclass(frozen=True)
class Message:
    """One message: an answer repeats the id and opcode of its request."""

    id: int
    opcode: int
    payload: bytes


def encode(message: Message) -> bytes:
    """Header and payload as they stand in a ring."""
    size = len(message.payload)
    head = MESSAGE_HEADER.pack(size, size & MAX_PAYLOAD | PROTOCOL_VERSION << 16, message.id, message.opcode)
    return head + message.payload


@dataclass(frozen=True)
class ChannelAddresses:
    """Where the host finds a channel, in device addresses."""

    x2i_tail: int
    x2i_head: int
    x2i_ring: int
    i2x_tail: int
    i2x_head: int
    i2x_ring: int
    ring_size: int


class Channel:
    """The firmware's end of one channel. ``vector`` is the interrupt that announces answers."""

    def __init__(
        self,
        slot: int,
        vector: int,
        layout: MailboxLayout,
        registers: RegisterFile,
        interrupt: Callable[[int], None],
    ) -> None:
        self.slot = slot
        self.vector = vector
        self.dead = False
        self.not_before = 0.0  # when the last answer is due: answers keep their order
        self.held: list[bytes] = []  # answers that a fault lets wait for the next one
        self._layout = layout
        self._registers = registers
        self._interrupt = interrupt
        self._waiting: deque[bytes] = deque()
        self._x2i = layout.ring_offset + 2 * slot * layout.ring_size
        self._i2x = self._x2i + layout.ring_size
        self._place = layout.register_offset + slot * REGISTER_STRIDE
        for register in (X2I_TAIL, X2I_HEAD, I2X_TAIL, I2X_HEAD, IRQ_STATUS):
            self._set(register, 0)

    @property
    def addresses(self) -> ChannelAddresses:
        registers = self._layout.register_base + self._place
        sram = self._layout.sram_base
        return ChannelAddresses(
            x2i_tail=registers + X2I_TAIL,
            x2i_head=registers + X2I_HEAD,
            x2i_ring=sram + self._x2i,
            i2x_tail=registers + I2X_TAIL,
            i2x_head=registers + I2X_HEAD,
            i2x_ring=sram + self._i2x,
            ring_size=self._layout.ring_size,
        )

    def owns(self, bar: int, offset: int) -> int | None:
        """Which of the channel's registers stands there, None when it is none of them."""
        register = offset - self._place
        if bar == self._layout.register_bar and 0 <= register <= IRQ_STATUS:
            return register
        return None

    def take(self) -> Iterator[Message]:
        """Every message the host has written so far, each given back to the ring before it is yielded.

        Raises RingError when the ring cannot be read; the channel is dead then.
        """
        head = self._get(X2I_HEAD)
        tail = self._get(X2I_TAIL)
        size = self._layout.ring_size
        if tail > size or tail % 4:
            raise self._broken(f"tail {tail:#x} in a ring of {size:#x} bytes")
        wrapped = False
        while head != tail:
            # The head may stand at the very end: the host's next message is at the start.
            if head == size or self._word(head) == TOMBSTONE:
                if wrapped:
                    raise self._broken("two tombstones without a message between them")
                head, wrapped = 0, True
                continue
            message = self._message(head, tail)
            head += MESSAGE_HEADER.size + len(message.payload)
            self._set(X2I_HEAD, head)
            yield message
        self._set(X2I_HEAD, head)

    def send(self, message: Message, *, announce: bool = True) -> bool:
        """Answer the host, later when its ring is full. False when the answer had to be thrown away.

        ``announce`` False: written, but without the interrupt.
        """
        return self.send_raw(encode(message), announce=announce)

    def send_raw(self, data: bytes, *, announce: bool = True) -> bool:
        """Put bytes into the ring as one message, whatever they say."""
        if self._waiting or not self._put(data):
            if len(self._waiting) >= MAX_WAITING or len(data) >= self._layout.ring_size:
                return False
            self._waiting.append(data)
            return True
        self._signal(announce=announce)
        return True

    def host_read(self) -> None:
        """The host moved its head: put what waited for room."""
        sent = False
        while self._waiting and self._put(self._waiting[0]):
            self._waiting.popleft()
            sent = True
        if sent:
            self._signal(announce=True)

    def point_tail(self, value: int) -> None:
        """Write any value to the tail the host reads (a fault's work) and announce it."""
        self._set(I2X_TAIL, value)
        self._signal(announce=True)

    def _signal(self, *, announce: bool) -> None:
        self._set(IRQ_STATUS, 1)
        if announce:
            self._interrupt(self.vector)

    def _put(self, data: bytes) -> bool:
        size, length = self._layout.ring_size, len(data)
        head, tail = self._get(I2X_HEAD), self._get(I2X_TAIL)
        if tail >= head and tail + length > size:
            # An answer at the start must end before the host's head: equal would mean "empty".
            if length >= head:
                return False
            if tail < size:
                self._set_word(self._i2x + tail, TOMBSTONE)
            tail = 0
        elif tail < head and tail + length >= head:
            return False
        start = self._i2x + tail
        self._sram()[start : start + length] = data
        self._set(I2X_TAIL, tail + length)
        return True

    def _message(self, head: int, tail: int) -> Message:
        size = self._layout.ring_size
        end = tail if tail > head else size
        if head + MESSAGE_HEADER.size > end:
            raise self._broken(f"a header at {head:#x} reaches behind {end:#x}")
        start = self._x2i + head
        total, size_word, message_id, opcode = MESSAGE_HEADER.unpack_from(self._sram(), start)
        if total > MAX_PAYLOAD or total % 4 or head + MESSAGE_HEADER.size + total > end:
            raise self._broken(f"a payload of {total} bytes at {head:#x}, tail {tail:#x}")
        if size_word & MAX_PAYLOAD != total or size_word >> 16 & 0xFF != PROTOCOL_VERSION:
            raise self._broken(f"size word {size_word:#x} of a payload of {total} bytes")
        body = start + MESSAGE_HEADER.size
        return Message(message_id, opcode, bytes(self._sram()[body : body + total]))

    def _broken(self, reason: str) -> RingError:
        self.dead = True
        return RingError(reason)

    def _sram(self) -> Memory:
        return self._registers.bars[self._layout.sram_bar]

    def _word(self, place: int) -> int:
        if place + 4 > self._layout.ring_size or place % 4:
            raise self._broken(f"head {place:#x}")
        return self._registers.get_word(self._layout.sram_bar, self._x2i + place)

    def _set_word(self, offset: int, value: int) -> None:
        self._registers.set_word(self._layout.sram_bar, offset, value)

    def _get(self, register: int) -> int:
        return self._registers.get_word(self._layout.register_bar, self._place + register)

    def _set(self, register: int, value: int) -> None:
        self._registers.set_word(self._layout.register_bar, self._place + register, value)
