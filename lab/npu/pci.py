"""PCI configuration space from a table of capabilities.

QEMU sizes the BARs and emulates most of the standard header itself; what the driver and the IOMMU code read
through it are the identity and the capability chains. Which capabilities are needed, and why, was measured
(facts sections 4c and 5.2): PRI for 6.18, its status bit 15 for every release, TLP prefixes for PASID.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lab.npu.generations import Generation

CONFIG_SIZE = 4096
VENDOR_AMD = 0x1022
_CLASS_SIGNAL_PROCESSING = 0x118000
_STATUS_CAPABILITIES = 0x0010


@dataclass(frozen=True)
class Capability:
    """A capability at ``offset``: ``body`` follows the id and next pointer (2 bytes, extended: 4).

    ``writable``: offsets within the capability that the guest may change.
    """

    offset: int
    id: int
    body: bytes
    version: int = 0  # extended ones have a version of 1 or more
    writable: tuple[tuple[int, int], ...] = ()


def capabilities(generation: Generation) -> tuple[Capability, ...]:
    """The chain of one generation, in order."""
    table = generation.msix_bar
    return (
        Capability(0x40, 0x01, struct.pack("<HI", 0x0003, 0), writable=((4, 6),)),  # power management
        Capability(
            0x50,
            0x10,  # PCI Express endpoint, version 2
            struct.pack("<HI", 0x0002, 0x10008000)  # device: role-based errors, function-level reset
            + struct.pack("<HHIHH", 0, 0, 0x11, 0, 0x11)  # link: 2.5 GT/s, one lane
            + bytes(16)
            + struct.pack("<IHH", 0x00200000, 0, 0)  # device 2: end-end TLP prefix, which PASID needs
            + bytes(16),
            writable=((8, 12), (16, 18), (40, 42)),
        ),
        Capability(
            0x90, 0x11, struct.pack("<HII", generation.vectors - 1, table, 0x1000 | table), writable=((2, 4),)
        ),
        Capability(0x100, 0x0F, struct.pack("<HH", 0x0020, 0), version=1, writable=((6, 8),)),  # ATS
        Capability(
            0x110, 0x1B, struct.pack("<HH", 0x1400, 0), version=1, writable=((6, 8),)
        ),  # PASID, 20 bits
        Capability(  # PRI: stopped, PRG responses need a PASID, 32 requests
            0x120, 0x13, struct.pack("<HHII", 0, 0x8100, 32, 0), version=1, writable=((4, 8), (12, 16))
        ),
    )


class ConfigSpace:
    """4096 bytes with a mask of what the guest may write."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._bytes = bytearray(CONFIG_SIZE)
        self._writable = bytearray(CONFIG_SIZE)
        self.reset()

    def reset(self) -> None:
        """Back to the power-on values."""
        space, mask = bytearray(CONFIG_SIZE), bytearray(CONFIG_SIZE)
        generation = self._generation
        struct.pack_into("<HHHH", space, 0, VENDOR_AMD, generation.device, 0, _STATUS_CAPABILITIES)
        struct.pack_into("<I", space, 8, _CLASS_SIGNAL_PROCESSING << 8 | generation.revision)
        struct.pack_into("<HH", space, 0x2C, VENDOR_AMD, generation.device)
        for start, end in ((4, 6), (0x0C, 0x0E), (0x10, 0x28), (0x3C, 0x3E)):
            mask[start:end] = b"\xff" * (end - start)
        chain = capabilities(generation)
        standard = [entry for entry in chain if not entry.version]
        extended = [entry for entry in chain if entry.version]
        space[0x34] = standard[0].offset
        for entry, after in zip(standard, [*standard[1:], None], strict=True):
            head = struct.pack("<BB", entry.id, after.offset if after else 0)
            self._place(space, mask, entry, head)
        for entry, after in zip(extended, [*extended[1:], None], strict=True):
            head = struct.pack("<I", entry.id | entry.version << 16 | (after.offset if after else 0) << 20)
            self._place(space, mask, entry, head)
        self._bytes, self._writable = space, mask

    def read(self, offset: int, count: int) -> bytes:
        return bytes(self._bytes[offset : offset + count])

    def write(self, offset: int, data: bytes) -> None:
        """Store what the mask lets through."""
        for place, value in enumerate(data, offset):
            mask = self._writable[place]
            self._bytes[place] = (self._bytes[place] & ~mask & 0xFF) | (value & mask)

    @staticmethod
    def _place(space: bytearray, mask: bytearray, entry: Capability, head: bytes) -> None:
        data = head + entry.body
        space[entry.offset : entry.offset + len(data)] = data
        for start, end in entry.writable:
            mask[entry.offset + start : entry.offset + end] = b"\xff" * (end - start)
