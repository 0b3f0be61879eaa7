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
    """One file of a diff. ``path`` is the new name (the old one of a deleted file); ``lines`` its hunks'."""

    path: str
    lines: tuple[str, ...]
    headings: tuple[str, ...]

    def changed(self, sign: str) -> list[str]:
        """The lines added ("+") or removed ("-"), without the sign."""
        return [line[1:] for line in self.lines if line[:1] == sign]


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
            for sign in "+-":
                for line in one.changed(sign):
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
    marks: list[str] = field(default_factory=list)  # "--- a/x", "+++ b/x"
    lines: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    binary: bool = False

    @property
    def path(self) -> str:
        name = self.new if self.new and self.new != "/dev/null" else self.old
        return name or _path_of_header(self.header[0])

    def take_marks(self, old: str, new: str) -> None:
        self.marks = [old, new]
        self.old, self.new = _name(old[4:]), _name(new[4:])


def parse_diff(text: str) -> Diff:
    """Read a diff from its first ``diff --git`` (or ``--- a/``) line to where its last hunk ends.

    Text before and after is ignored (a mail's signature, a second message). A hunk that is cut short or
    mangled ends the reading; what was read counts, and ``damaged`` says so.
    """
    files: list[_File] = []
    current: _File | None = None
    damaged: str | None = None
    lines = text.split("\n")
    position, end = 0, len(lines)
    while position < end:
        line = lines[position]
        position += 1
        if line.startswith("diff --git "):
            if len(files) >= MAX_FILES:
                damaged = f"more than {MAX_FILES} files"
                break
            current = _File(header=[line])
            files.append(current)
        elif line.startswith("--- ") and position < end and lines[position].startswith("+++ "):
            if current is None or current.marks:  # a file without git's header
                current = _File(header=[f"diff --git a/{_name(line[4:])} b/{_name(lines[position][4:])}"])
                files.append(current)
            current.take_marks(line, lines[position])
            position += 1
        elif current is None:
            continue
        elif line.startswith("@@ -") and (hunk := _HUNK.match(line)):
            current.headings.append(hunk[3])
            position, damaged = _take_hunk(current, lines, position, int(hunk[1] or 1), int(hunk[2] or 1))
            if damaged is not None:
                break
        elif current.marks:
            if line.startswith("-- ") or line == "--":
                break  # a mail's signature
        elif line.startswith(("GIT binary patch", "Binary files ")):
            current.binary = True
        elif line[:1].isalpha():
            current.header.append(line)
    if not files:
        return EMPTY
    return Diff(
        files=tuple(FileDiff(one.path, tuple(one.lines), tuple(one.headings)) for one in files),
        diff_hash=None if damaged else _diff_hash(files),
        patch_id=None if damaged else _patch_id(files),
        damaged=damaged,
    )


def _take_hunk(
    current: _File, lines: list[str], start: int, before: int, after: int
) -> tuple[int, str | None]:
    """Read a hunk of so many old and new lines; (position behind it, what was wrong)."""
    position, end = start, len(lines)
    problem: str | None = None
    while before > 0 or after > 0:
        if position >= end:
            problem = f"the diff of {current.path} is cut short"
            break
        sign = lines[position][:1]
        if sign == "+":
            after -= 1
        elif sign == "-":
            before -= 1
        elif sign == " ":
            before -= 1
            after -= 1
        elif sign in ("", "\r"):  # a context line whose only blank was stripped on the way
            if position == end - 1:
                problem = f"the diff of {current.path} is cut short"
                break
            before -= 1
            after -= 1
        elif sign != "\\":
            problem = f"a hunk of {current.path} is broken at {lines[position][:60]!r}"
            break
        position += 1
    current.lines += lines[start:position]
    return position, problem


def _diff_hash(files: list[_File]) -> str | None:
    """sha1 over the files by path, each with its removed, then its added lines, without white space."""
    digest = hashlib.sha1(usedforsecurity=False)
    some = False
    for one in sorted(files, key=lambda f: f.path):
        removed = [line for line in one.lines if line[:1] == "-"]
        added = [line for line in one.lines if line[:1] == "+"]
        some = some or bool(removed) or bool(added)
        text = "\0".join([one.path, *removed, "", *added]).translate(_SPACE)
        digest.update(text.encode("utf-8", "replace"))
    return digest.hexdigest() if some else None


def _patch_id(files: list[_File]) -> str | None:
    """As ``git patch-id --stable``; None where git's answer depends on blob ids (binary files)."""
    if any(one.binary for one in files):
        return None
    total = bytearray(20)
    pending = ""
    for one in files:
        header = [line for line in one.header if not line.startswith("index ")]
        lines = [line for line in one.lines if line[:2] != "\\ "]
        pending += "".join([*header, *one.marks, *lines]).translate(_SPACE)
        if one.marks:  # git flushes at the header after a hunk, not after a header-only file
            _add(total, pending)
            pending = ""
    if pending:
        _add(total, pending)
    return total.hex()


def _add(total: bytearray, text: str) -> None:
    """flush_one_hunk: add the hash to the sum with carry from low to high index."""
    carry = 0
    digest = hashlib.sha1(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()
    for index, byte in enumerate(digest):
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
