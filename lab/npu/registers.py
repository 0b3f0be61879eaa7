"""The device's BARs as memory, with 32-bit access to named registers.

A BAR that is plain memory can be shared with the client, as a real one is mapped into the host's address
space: it lies in a file whose size nobody can change any more, and accesses to it need no message.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import weakref
from collections.abc import Collection, Mapping

from lab.npu.generations import Register

_WORD = struct.Struct("<I")
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
Memory = bytearray | mmap.mmap


class RegisterFile:
    """One piece of memory for each BAR. Offsets are bytes; callers keep within the BAR's size.

    ``shared``: the BARs that a client may map. OSError when there is no memory for them.
    """

    def __init__(self, bars: Mapping[int, int], shared: Collection[int] = ()) -> None:
        self._sizes = bars
        self._shared = frozenset(shared)
        self._files: dict[int, _SharedFile] = {}
        self.bars: dict[int, Memory] = {}
        self.renew()

    def renew(self) -> None:
        """All bytes zero, in memory that no client has seen yet."""
        self._files = {index: _SharedFile(self._sizes[index]) for index in self._shared}
        self.bars = {
            index: self._files[index].memory if index in self._files else bytearray(size)
            for index, size in self._sizes.items()
        }

    def file(self, bar: int) -> int | None:
        """The descriptor of a shared BAR's file, still owned here; None for the others."""
        return self._files[bar].descriptor if bar in self._files else None

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
        """All bytes zero, as after power-on; whoever has a BAR mapped sees it so."""
        for memory in self.bars.values():
            memory[:] = bytes(len(memory))


class _SharedFile:
    """Memory with a descriptor, both given back with this object. Sealed: a client that could shrink the file
    would end us with SIGBUS."""

    def __init__(self, size: int) -> None:
        self.descriptor = os.memfd_create("bar", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        weakref.finalize(self, os.close, self.descriptor)
        os.ftruncate(self.descriptor, size)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
        self.memory = mmap.mmap(self.descriptor, size)
