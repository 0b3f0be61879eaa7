"""The uncompressed kernel inside a bzImage, for QEMU's direct entry (PVH).

Unpacking itself costs an emulated CPU four seconds of each boot; this host does it in a quarter of one. A
kernel that cannot be entered so is booted as it is. Sources: the kernel's Documentation/arch/x86/boot.rst
(offsets of the setup header) and xen/include/public/elfnote.h (the note that names the entry). Entered
directly, the kernel stays at its link address: KASLR is the decompressor's work.
"""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import zstandard

LIMIT = 1 << 29  # bytes of an unpacked kernel; Debian's have 64 MB
FIRST_WITH_PAYLOAD = 0x0208  # boot protocol that names the payload
PT_NOTE = 4
PHYS32_ENTRY = 18  # XEN_ELFNOTE_PHYS32_ENTRY
UNPACKERS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (
        b"\x28\xb5\x2f\xfd",
        lambda data: zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(LIMIT),
    ),
    (b"\xfd7zXZ\x00", lambda data: lzma.LZMADecompressor().decompress(data, LIMIT)),
    (b"\x1f\x8b", lambda data: zlib.decompressobj(31).decompress(data, LIMIT)),
)


def boot_image(vmlinuz: Path, target: Path) -> Path:
    """Write the kernel that ``vmlinuz`` holds to ``target`` and return it, or ``vmlinuz`` as it is."""
    unpacked = unpack(vmlinuz.read_bytes())
    if unpacked is None or not has_direct_entry(unpacked):
        return vmlinuz
    target.write_bytes(unpacked)
    return target


def unpack(image: bytes) -> bytes | None:
    """The payload of a bzImage, unpacked; None for anything else, and for a compression not known here."""
    if len(image) < 0x250 or image[0x202:0x206] != b"HdrS":
        return None
    if struct.unpack_from("<H", image, 0x206)[0] < FIRST_WITH_PAYLOAD:
        return None
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = ((image[0x1F1] or 4) + 1) * 512 + offset
    payload = image[start : start + length]
    for magic, unpacker in UNPACKERS:
        if payload.startswith(magic):
            try:
                return unpacker(payload)
            except (zstandard.ZstdError, lzma.LZMAError, zlib.error):
                return None
    return None


def has_direct_entry(kernel: bytes) -> bool:
    """Whether a 64-bit ELF names a 32-bit physical entry (CONFIG_PVH)."""
    if kernel[:5] != b"\x7fELF\x02":
        return False
    try:
        return any(name == b"Xen" and kind == PHYS32_ENTRY for name, kind in _notes(kernel))
    except struct.error:
        return False


def _notes(kernel: bytes) -> Iterator[tuple[bytes, int]]:
    (table,) = struct.unpack_from("<Q", kernel, 32)
    size, count = struct.unpack_from("<HH", kernel, 54)
    for number in range(count):
        kind, _flags, at, _virtual, _physical, length = struct.unpack_from(
            "<IIQQQQ", kernel, table + number * size
        )
        end = at + length
        while kind == PT_NOTE and at + 12 <= end:
            name_size, described, note = struct.unpack_from("<III", kernel, at)
            yield kernel[at + 12 : at + 12 + name_size].rstrip(b"\0"), note
            at += 12 + (name_size + 3 & ~3) + (described + 3 & ~3)
