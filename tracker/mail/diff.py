"""A unified diff as git writes it -> files, fingerprints. No judgement about what it belongs to.

Two fingerprints are made in one walk: ``patch_id`` equals ``git patch-id --stable`` (builtin/patch-id.c,
git 2.39), and ``diff_hash`` is the hash of the changed lines *with their paths*: equal +/- lines in two
drivers are two different changes (facts: intel-vbtn and intel-hid got identical fixes).
"""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass, field

# "@@ -12,7 +12,9 @@ function heading"; a count left out is 1.
_HUNK = re.compile(r"^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@ ?(.*)")
_SPACE = {ord(c): None for c in " \t\r\n"}
_OCTAL = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
MAX_FILES = 5000
MAX_SIGNATURE = 20_000  # changed lines that count for similarity
_TRIVIAL = frozenset({"{", "}", "};", "return0;", "break;", "else", "}else{", "/*", "*/", "#endif"})


@dataclass(frozen=True)
class FileDiff:
    """One file of a diff. ``path`` is the new name (the old one of a deleted file)."""

    path: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    headings: tuple[str, ...]


@dataclass(frozen=True)
class Diff:
    """A whole diff. ``damaged`` says what was wrong with it, when something was."""

    files: tuple[FileDiff, ...]
    diff_hash: str | None
    patch_id: str | None
    damaged: str | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The files it touches, in order."""
        return tuple(one.path for one in self.files)

    @property
    def signature(self) -> frozenset[int]:
        """crc32 of each changed line with its sign, without white space: for similarity."""
        found: set[int] = set()
        for one in self.files:
            for sign, lines in (("+", one.added), ("-", one.removed)):
                for line in lines:
                    squeezed = line.translate(_SPACE)
                    if squeezed and squeezed not in _TRIVIAL:
                        found.add(zlib.crc32(f"{sign}{squeezed}".encode("utf-8", "replace")))
            if len(found) > MAX_SIGNATURE:
                break
        return frozenset(found)


EMPTY = Diff(files=(), diff_hash=None, patch_id=None)


@dataclass
class _File:
    """A file while it is read."""

    header: list[str]
    old: str = ""
    new: str = ""
    lines: list[str] = field(default_factory=list)  # "---", "+++" and hunk lines, for the patch id
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    binary: bool = False

    @property
    def path(self) -> str:
        name = self.new if self.new and self.new != "/dev/null" else self.old
        return name or _path_of_header(self.header[0])


def parse_diff(text: str) -> Diff:
    """Read a diff from its first ``diff --git`` (or ``--- a/``) line to where its last hunk ends.

    Text before and after is ignored (a mail's signature, a second message). A hunk that is cut short or
    mangled ends the reading; what was read counts, and ``damaged`` says so.
    """
    files: list[_File] = []
    current: _File | None = None
    before = after = 0
    damaged: str | None = None
    lines = text.split("\n")
    position, end = 0, len(lines)
    while position < end:
        line = lines[position]
        position += 1
        if before > 0 or after > 0:
            assert current is not None
            sign = line[:1]
            if sign == "+":
                after -= 1
                current.added.append(line[1:])
            elif sign == "-":
                before -= 1
                current.removed.append(line[1:])
            elif sign == " " or line == "" or line == "\r":
                if line == "" and position == end:
                    damaged = f"the diff of {current.path} is cut short"
                    break
                before -= 1
                after -= 1
                line = line or " "
            elif sign == "\\":
                current.lines.append(line)
                continue
            else:
                damaged = f"a hunk of {current.path} is broken at {line[:60]!r}"
                break
            current.lines.append(line)
            continue
        if line.startswith("diff --git "):
            if len(files) >= MAX_FILES:
                damaged = f"more than {MAX_FILES} files"
                break
            current = _File(header=[line])
            files.append(current)
        elif current is None:
            # A diff without git's header: "--- a/file" directly followed by "+++ b/file".
            if line.startswith("--- ") and position < end and lines[position].startswith("+++ "):
                old, new = _name(line[4:]), _name(lines[position][4:])
                current = _File(header=[f"diff --git a/{old} b/{new}"], old=old, new=new)
                current.lines += [line, lines[position]]
                files.append(current)
                position += 1
        elif line.startswith("@@ -") and (hunk := _HUNK.match(line)):
            before, after = int(hunk[1] or 1), int(hunk[2] or 1)
            current.headings.append(hunk[3])
        elif line.startswith("--- ") and position < end and lines[position].startswith("+++ "):
            if current.lines:  # a further file without git's header
                current = _File(header=[f"diff --git {line[4:]} {lines[position][4:]}"])
                files.append(current)
            current.old, current.new = _name(line[4:]), _name(lines[position][4:])
            current.lines += [line, lines[position]]
            position += 1
        elif line.startswith(("GIT binary patch", "Binary files ")):
            current.binary = True
        elif not current.lines and line[:1].isalpha():
            current.header.append(line)
        elif current.lines and line[:1] != "\\" and not current.binary:
            current_done = line.startswith("-- ") or line == "--"
            if current_done:
                break
    if before > 0 or after > 0:
        damaged = damaged or "the diff is cut short"
    if not files:
        return EMPTY
    return Diff(
        files=tuple(FileDiff(f.path, tuple(f.added), tuple(f.removed), tuple(f.headings)) for f in files),
        diff_hash=None if damaged else _diff_hash(files),
        patch_id=None if damaged else _patch_id(files),
        damaged=damaged,
    )


def _diff_hash(files: list[_File]) -> str | None:
    """sha1 over the files by path, each with its changed lines stripped of white space."""
    digest = hashlib.sha1(usedforsecurity=False)
    some = False
    for one in sorted(files, key=lambda f: f.path):
        digest.update(f"\0{one.path}\0".encode("utf-8", "replace"))
        for sign, lines in (("-", one.removed), ("+", one.added)):
            for line in lines:
                squeezed = line.translate(_SPACE)
                if squeezed:
                    some = True
                    digest.update(f"{sign}{squeezed}\n".encode("utf-8", "replace"))
    return digest.hexdigest() if some else None


def _patch_id(files: list[_File]) -> str | None:
    """As ``git patch-id --stable``; None where git's answer depends on blob ids (binary files)."""
    if any(one.binary for one in files):
        return None
    total = bytearray(20)
    hashed = bytearray()
    for one in files:
        for line in one.header:
            if not line.startswith("index "):
                hashed += line.translate(_SPACE).encode("utf-8", "surrogateescape")
        for line in one.lines:
            if line[:2] != "\\ ":
                hashed += line.translate(_SPACE).encode("utf-8", "surrogateescape")
        if one.lines:  # git flushes at the header after a hunk, not after a header-only file
            _add(total, hashed)
            hashed.clear()
    _add(total, hashed)
    return total.hex()


def _add(total: bytearray, hashed: bytearray) -> None:
    """flush_one_hunk: add the hash to the sum with carry from low to high index."""
    carry = 0
    for index, byte in enumerate(hashlib.sha1(hashed, usedforsecurity=False).digest()):
        carry += total[index] + byte
        total[index] = carry & 0xFF
        carry >>= 8


def _name(text: str) -> str:
    """ "a/drivers/x.c" -> "drivers/x.c"; git's C-quoted names are unquoted; a tab ends the name."""
    name = text.rstrip("\r").split("\t")[0]
    if len(name) > 1 and name[0] == name[-1] == '"':
        raw = name[1:-1].encode("utf-8", "surrogateescape")
        raw = _OCTAL.sub(lambda m: bytes([int(m[1], 8) & 0xFF]) if len(m[1]) == 3 else m[1], raw)
        name = raw.decode("utf-8", "replace")
    return name[2:] if name[:2] in ("a/", "b/") else name


def _path_of_header(header: str) -> str:
    """The path of a header-only file (mode change, rename, empty file): the second name."""
    rest = header.removeprefix("diff --git ")
    at = rest.rfind(" b/")
    return rest[at + 3 :] if at >= 0 else rest.split(" ")[-1]
