"""A bzImage is unpacked for the direct entry, or left alone."""

from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path

import pytest
import zstandard

from lab.virtual.kernel_image import PHYS32_ENTRY, boot_image, has_direct_entry, unpack


def elf(notes: list[tuple[bytes, int, bytes]]) -> bytes:
    """A 64-bit ELF with one segment of notes."""
    data = b""
    for name, kind, described in notes:
        data += struct.pack("<III", len(name), len(described), kind)
        data += name.ljust(len(name) + 3 & ~3, b"\0") + described.ljust(len(described) + 3 & ~3, b"\0")
    head = bytearray(64)
    head[:5] = b"\x7fELF\x02"
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, 1)
    return bytes(head) + struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(data), len(data), 4) + data


KERNEL = elf([(b"linux\0", 6, b"abc"), (b"Xen\0", PHYS32_ENTRY, bytes(4))])


def bzimage(payload: bytes, *, protocol: int = 0x20F) -> bytes:
    """A setup part of two sectors, then the payload after 100 bytes of code."""
    image = bytearray(3 * 512)
    image[0x1F1] = 2
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, protocol)
    struct.pack_into("<II", image, 0x248, 100, len(payload))
    return bytes(image) + bytes(100) + payload + b"behind"


@pytest.mark.parametrize(
    "packed",
    [
        zstandard.ZstdCompressor().compress(KERNEL) + struct.pack("<I", len(KERNEL)),
        lzma.compress(KERNEL),
        gzip.compress(KERNEL),
    ],
    ids=["zstd", "xz", "gzip"],
)
def test_what_the_decompressor_would_unpack_is_unpacked_here(packed: bytes, tmp_path: Path) -> None:
    vmlinuz, target = tmp_path / "vmlinuz", tmp_path / "vmlinux"
    vmlinuz.write_bytes(bzimage(packed))
    assert boot_image(vmlinuz, target) == target
    assert target.read_bytes() == KERNEL


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"not a kernel" * 100,
        bzimage(zstandard.ZstdCompressor().compress(KERNEL), protocol=0x207),
        bzimage(b"\x02\x21\x4c\x18" + KERNEL),
        bzimage(zstandard.ZstdCompressor().compress(KERNEL)[:40]),
        bzimage(lzma.compress(KERNEL)[:40] + b"x" * 99),
        bzimage(gzip.compress(elf([(b"linux\0", PHYS32_ENTRY, b"")]))),
    ],
    ids=["empty", "no-kernel", "old-protocol", "lz4", "cut", "spoilt", "no-entry"],
)
def test_anything_else_is_booted_as_it_is(image: bytes, tmp_path: Path) -> None:
    vmlinuz, target = tmp_path / "vmlinuz", tmp_path / "vmlinux"
    vmlinuz.write_bytes(image)
    assert boot_image(vmlinuz, target) == vmlinuz
    assert not target.exists()


@pytest.mark.parametrize("cut", [6, 40, 70, 125, 140])
def test_a_cut_kernel_is_no_error(cut: int) -> None:
    assert has_direct_entry(KERNEL)
    assert not has_direct_entry(KERNEL[:cut])
    assert unpack(bzimage(KERNEL)[:cut]) is None


def test_sizes_that_lie_end() -> None:
    lying = bytearray(KERNEL)
    struct.pack_into("<I", lying, 120, 0xFFFFFFF0)  # the first name's size
    assert not has_direct_entry(bytes(lying))
