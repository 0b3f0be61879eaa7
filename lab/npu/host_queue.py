"""The host queue of AIE4: how user space hands commands to the firmware without the driver (pure).

A header in the memory of the context's queue buffer says where the packets lie; 64-byte packets stand in a
ring there. Layouts: drivers/accel/amdxdna/aie4_host_queue.h of Linux 7.2 and 7.3 for the header (32 bytes;
the out-of-tree driver of mid-2026 spreads it over 136), of amd/xdna-driver for the packets.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

HEADER = struct.Struct("<QHHIQQ")  # read index, major, minor, capacity, write index, packets' address
READ_INDEX = struct.Struct("<Q")  # at the header's start: the only field the firmware writes
PACKET_SIZE = 64
MAJOR = 1
MAX_CAPACITY = 32  # CTX_MAX_CMDS: the driver believes no greater distance of the indices
MAX_ENTRIES = 6  # of an indirect packet
MAX_ARGUMENT_BYTES = 4096
EXEC_BUF = 1

_PACKET = struct.Struct("<HBBHBBQ")  # reserved, opcode, chain flag, count, distribute, indirect, signal
_EXEC = struct.Struct("<IIIHHII")  # trace low, code low, code high, argument bytes, trace high, arguments
_ENTRY = struct.Struct("<II")  # address low; address high (25 bits) and the controller's number
_INDIRECT = struct.Struct("<HBBHBB")  # the same common header before an indirect payload
_HIGH_BITS = (1 << 25) - 1
INDIRECT_SIZE = _INDIRECT.size + _EXEC.size


class State(IntEnum):
    """States of a command in the low four bits of its header (enum ert_cmd_state)."""

    COMPLETED = 4
    ERROR = 5


class QueueError(Exception):
    """A header or packet that cannot be; the context stops there."""


@dataclass(frozen=True)
class QueueHeader:
    """Indices count commands from the context's start; packet n lies in slot n modulo ``capacity``."""

    read_index: int
    capacity: int
    write_index: int
    packets: int

    @property
    def next_packet(self) -> int | None:
        """Address of the next packet to run, None when the queue is empty."""
        if self.read_index == self.write_index:
            return None
        return self.packets + self.read_index % self.capacity * PACKET_SIZE


@dataclass(frozen=True)
class ControlCode:
    """A program and its argument words in memory: ``argument_size`` is in bytes."""

    code: int
    arguments: int
    argument_size: int


@dataclass(frozen=True)
class Packet:
    """One command. ``signal``: address of the word that gets its state, 0 for none. Either ``direct`` is
    given, or ``entries`` are the addresses of payloads, one for each controller."""

    opcode: int
    signal: int
    direct: ControlCode | None
    entries: tuple[int, ...] = ()


def parse_header(data: bytes) -> QueueHeader:
    """Read and check the header. Raises QueueError."""
    read_index, major, minor, capacity, write_index, packets = HEADER.unpack(data)
    if major != MAJOR:
        raise QueueError(f"queue version {major}.{minor}")
    if not 1 <= capacity <= MAX_CAPACITY or capacity & (capacity - 1):
        raise QueueError(f"a capacity of {capacity} packets")
    if not 0 <= write_index - read_index <= capacity:
        raise QueueError(f"read index {read_index}, write index {write_index}, capacity {capacity}")
    if packets % 4:
        raise QueueError(f"packets at {packets:#x}")
    return QueueHeader(read_index, capacity, write_index, packets)


def parse_packet(data: bytes) -> Packet:
    """Read one packet. Raises QueueError; an unknown opcode is the caller's to judge."""
    _reserved, opcode, _chain, count, _distribute, indirect, signal = _PACKET.unpack_from(data)
    if opcode != EXEC_BUF:
        return Packet(opcode, signal, None)
    if not indirect:
        if count not in (0, _EXEC.size):
            raise QueueError(f"a payload of {count} bytes")
        return Packet(opcode, signal, _control_code(data, _PACKET.size))
    entries, rest = divmod(count, _ENTRY.size)
    if rest or not 1 <= entries <= MAX_ENTRIES:
        raise QueueError(f"an indirect payload of {count} bytes")
    found = []
    for index in range(entries):
        low, high = _ENTRY.unpack_from(data, _PACKET.size + index * _ENTRY.size)
        found.append(low | (high & _HIGH_BITS) << 32)
    return Packet(opcode, signal, None, tuple(found))


def parse_indirect(data: bytes) -> ControlCode:
    """Read what an indirect entry points to. Raises QueueError."""
    _reserved, opcode, *_rest = _INDIRECT.unpack_from(data)
    if opcode != EXEC_BUF:
        raise QueueError(f"an indirect payload with opcode {opcode}")
    return _control_code(data, _INDIRECT.size)


def _control_code(data: bytes, place: int) -> ControlCode:
    _trace_low, low, high, size, _trace_high, arguments_low, arguments_high = _EXEC.unpack_from(data, place)
    if size % 4 or size > MAX_ARGUMENT_BYTES:
        raise QueueError(f"{size} bytes of arguments")
    return ControlCode(low | high << 32, arguments_low | arguments_high << 32, size)
