"""The device's BARs as memory, with 32-bit access to named registers."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from lab.npu.generations import Register

_WORD = struct.Struct("<I")


class RegisterFile:
    """One byte array for each BAR. Offsets are bytes; callers keep within the BAR's size."""

    def __init__(self, bars: Mapping[int, int]) -> None:
        self.bars = {index: bytearray(size) for index, size in bars.items()}

    def get(self, register: Register) -> int:
        """The register's 32-bit value."""
        return self.get_word(register.bar, register.offset)

    def set(self, register: Register, value: int) -> None:
        """Store the low 32 bits of ``value``."""
        self.set_word(register.bar, register.offset, value)

    def get_word(self, bar: int, offset: int) -> int:
        word: int = _WORD.unpack_from(self.bars[bar], offset)[0]
        return word

    def set_word(self, bar: int, offset: int, value: int) -> None:
        _WORD.pack_into(self.bars[bar], offset, value & 0xFFFFFFFF)

    def read(self, bar: int, offset: int, count: int) -> bytes:
        return bytes(self.bars[bar][offset : offset + count])

    def write(self, bar: int, offset: int, data: bytes) -> None:
        self.bars[bar][offset : offset + len(data)] = data

    def clear(self) -> None:
        """All bytes zero, as after power-on."""
        for memory in self.bars.values():
            memory[:] = bytes(len(memory))
