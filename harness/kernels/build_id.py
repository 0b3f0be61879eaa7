"""Two facts inside a kernel module file: its GNU build id and the kernel release it was made for.

The build id proves that the running module is the one that was built: the kernel shows the same note as
/sys/module/<name>/notes/.note.gnu.build-id. The driver in the kernel tree has no srcversion, so nothing else
does (facts module-build.md section 7). Format: ELF-64 little endian, elf(5); notes as in elf.h Elf64_Nhdr.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
NOTE = struct.Struct("<III")  # Elf64_Nhdr
SHT_NOTE = 7
NT_GNU_BUILD_ID = 3
WANTED = (".modinfo", ".note.gnu.build-id")
MAGIC = b"\x7fELF\x02\x01"  # 64 bit, little endian


class ModuleFileError(Exception):
    """The file is no kernel module that can be read; the text says what is wrong."""


@dataclass(frozen=True)
class ModuleFacts:
    """What a module file says of itself."""

    build_id: str  # lower-case hex
    release: str  # the first word of vermagic: what uname -r must be


def read_module_facts(data: bytes) -> ModuleFacts:
    """Build id and release of a module. ModuleFileError for anything else than a complete module."""
    try:
        sections = dict(_sections(data))
        build_id = next(_build_ids(sections), None)
        info = sections.get(".modinfo", b"")
    except (struct.error, IndexError, OverflowError, ValueError) as error:
        raise ModuleFileError(f"a damaged ELF file: {error}") from error
    vermagic = next((f[9:] for f in info.split(b"\0") if f.startswith(b"vermagic=")), None)
    if vermagic is None or not vermagic.split():
        raise ModuleFileError("no vermagic: this is no kernel module")
    if build_id is None:
        raise ModuleFileError("no GNU build id: it could not be proven that this module was loaded")
    return ModuleFacts(build_id.hex(), vermagic.split()[0].decode("ascii", "replace"))


def _sections(data: bytes) -> Iterator[tuple[str, bytes]]:
    if data[:6] != MAGIC:
        raise ModuleFileError("not a 64-bit little-endian ELF file")
    header = HEADER.unpack_from(data)
    offset, entry_size, count, names_index = header[6], header[11], header[12], header[13]
    if entry_size != SECTION.size or not names_index < count:
        raise ValueError("impossible section table")
    entries = [SECTION.unpack_from(data, offset + index * entry_size) for index in range(count)]
    names = _content(data, entries[names_index])
    for entry in entries:
        name = names[entry[0] : names.index(b"\0", entry[0])].decode("ascii", "replace")
        if name in WANTED:  # a hostile file may list the whole of itself 65,000 times
            yield name, _content(data, entry)


def _content(data: bytes, entry: tuple[int, ...]) -> bytes:
    if entry[1] == 8:  # SHT_NOBITS has no bytes in the file
        return b""
    begin, size = entry[4], entry[5]
    if begin + size > len(data):
        raise ValueError("a section beyond the end of the file")
    return data[begin : begin + size]


def _build_ids(sections: dict[str, bytes]) -> Iterator[bytes]:
    note = sections.get(".note.gnu.build-id", b"")
    position = 0
    while position + NOTE.size <= len(note):
        name_size, size, kind = NOTE.unpack_from(note, position)
        begin = position + NOTE.size + (name_size + 3) // 4 * 4
        name = note[position + NOTE.size : position + NOTE.size + name_size]
        if kind == NT_GNU_BUILD_ID and name == b"GNU\0" and size and begin + size <= len(note):
            yield note[begin : begin + size]
        position = begin + (size + 3) // 4 * 4
