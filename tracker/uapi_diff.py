"""What a diff does to a header of user space: structs, enums and macros, with an ABI verdict. Pure.

Works on the hunks alone, so a struct of which a hunk shows only a part is judged by that part. Rules:
Documentation/process/botching-up-ioctls.rst and drm_ioctl() of drivers/gpu/drm/drm_ioctl.c (v7.3), which
fills the end of a struct that grew with zeros. It does not compile anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import SequenceMatcher

VERDICTS = ("none", "compatible", "check", "breaking")  # in rising order
# "struct amdxdna_drm_wait_cmd {", "enum amdxdna_power_mode_type {" at the start of a line.
_OPEN = re.compile(r"^(struct|enum|union)\s+(\w+)\s*\{")
_CLOSE = re.compile(r"^\}")
# "__u32 pad[3];", "struct x y;", "__u64 handles[] __counted_by(n);".
_MEMBER = re.compile(r"^([\w\s*]+?[\s*])(\w+)\s*((?:\[[^\]]*\]\s*)*)(?::\s*\w+)?;$")
_ENTRY = re.compile(r"^(\w+)\s*(?:=\s*([^,]+?))?\s*,?$")
_DEFINE = re.compile(r"^#\s*define\s+(\w+)(?:\([^)]*\))?\s*(.*)$")
_ANNOTATION = re.compile(r"\s*__(?:counted_by(?:_[lb]e)?|attribute__\s*\()?\s*\([^)]*\)+")
_COMMENT = re.compile(r"/\*.*?\*/|//.*$")
_PAD = re.compile(r"^_*(?:pad|padding|reserved|rsvd|resv|mbz)\w*$", re.IGNORECASE)
_COUNTER = re.compile(r"_(?:LAST|MAX|NUM|COUNT|INVALID)$|^(?:NUM|MAX)_")
_SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}
_FIXED = re.compile(r"^__(?:[us]|le|be)(8|16|32|64)$")
_GUARD = re.compile(r"_H_*$")


@dataclass(frozen=True)
class UapiChange:
    """One name of the user interface that a patch adds, removes or changes."""

    file: str
    kind: str  # struct, enum, union, ioctl, macro
    name: str
    what: str  # added, removed, changed
    verdict: str  # one of VERDICTS
    reason: str


@dataclass(frozen=True)
class Hunk:
    """One hunk: ``heading`` is what git wrote behind the second @@, ``lines`` keep their signs."""

    path: str
    heading: str
    lines: tuple[str, ...]


@dataclass
class _Body:
    """A struct, union or enum as far as a hunk shows it."""

    kind: str
    name: str
    members: list[tuple[str, str, str]] = field(default_factory=list)  # (type or value, name, array)
    closed: bool = False


@dataclass
class _Side:
    """One side of a hunk, read."""

    bodies: dict[tuple[str, str], _Body] = field(default_factory=dict)
    macros: dict[str, str] = field(default_factory=dict)


def compare_uapi(hunks: Iterable[Hunk]) -> tuple[UapiChange, ...]:
    """What the hunks of one header do to the user interface."""
    found: list[UapiChange] = []
    gone, come = _Side(), _Side()
    path = ""
    for hunk in hunks:
        path = hunk.path
        old, new = _read(hunk, "-"), _read(hunk, "+")
        for key in [*old.bodies, *(key for key in new.bodies if key not in old.bodies)]:
            if key in old.bodies and key in new.bodies:
                found += _compared(path, old.bodies[key], new.bodies[key])
            else:
                side, other = (gone, old) if key in old.bodies else (come, new)
                side.bodies[key] = other.bodies[key]
        gone.macros.update({name: value for name, value in old.macros.items() if name not in new.macros})
        come.macros.update({name: value for name, value in new.macros.items() if name not in old.macros})
        for name in old.macros.keys() & new.macros.keys():
            if old.macros[name] != new.macros[name]:
                gone.macros[name], come.macros[name] = old.macros[name], new.macros[name]
    for key in [*gone.bodies, *(key for key in come.bodies if key not in gone.bodies)]:
        if key in gone.bodies and key in come.bodies:
            found += _compared(path, gone.bodies[key], come.bodies[key])
        elif key in come.bodies:
            found.append(UapiChange(path, *key, "added", "compatible", "new"))
        else:
            found.append(UapiChange(path, *key, "removed", "breaking", "user space may use it"))
    return tuple(found + _macros(path, gone.macros, come.macros))


def worst(verdicts: Iterable[str]) -> str:
    """The verdict that decides among several."""
    return max(verdicts, key=VERDICTS.index, default="none")


def _macros(path: str, gone: dict[str, str], come: dict[str, str]) -> list[UapiChange]:
    found = []
    for name in sorted({*gone, *come}):
        before, after = gone.get(name), come.get(name)
        if before == after:
            continue  # moved
        value = after if after is not None else before
        kind = "ioctl" if re.search(r"\b(?:DRM_)?_?IO(?:WR|W|R)?\(|DRM_IO", value or "") else "macro"
        if before is None:
            found.append(UapiChange(path, kind, name, "added", "compatible", f"new: {after}"))
        elif after is None:
            found.append(UapiChange(path, kind, name, "removed", "breaking", "user space may use it"))
        else:
            verdict = "check" if _COUNTER.search(name) else "breaking"
            found.append(UapiChange(path, kind, name, "changed", verdict, f"{before} -> {after}"))
    return found


def _compared(path: str, old: _Body, new: _Body) -> list[UapiChange]:
    if old.members == new.members:
        return []
    verdict, reason = (_enum if old.kind == "enum" else _struct)(old, new)
    if verdict == "none":
        return []
    return [UapiChange(path, old.kind, old.name, "changed", verdict, reason)]


def _struct(old: _Body, new: _Body) -> tuple[str, str]:
    verdicts: list[tuple[str, str]] = []
    matcher = SequenceMatcher(None, old.members, new.members, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        before, after = old.members[a:b], new.members[c:d]
        names = ", ".join(name for _, name, _ in after or before)
        if tag == "insert" and b == len(old.members) and new.closed:
            verdicts.append(("compatible", f"grows at its end by {names}"))
        elif tag == "insert" and b == len(old.members):
            verdicts.append(("check", f"gets {names}; the patch does not show whether that is its end"))
        elif tag == "insert":
            verdicts.append(("breaking", f"{names} inserted before other fields: offsets change"))
        elif tag == "delete":
            verdicts.append(("breaking", f"{names} removed"))
        elif tag == "replace":
            verdicts.append(_replaced(before, after))
    return max(verdicts, key=lambda one: VERDICTS.index(one[0]), default=("none", ""))


def _replaced(before: list[tuple[str, str, str]], after: list[tuple[str, str, str]]) -> tuple[str, str]:
    names = ", ".join(name for _, name, _ in after)
    old_size, new_size = _size(before), _size(after)
    if all(_PAD.match(name) for _, name, _ in before):
        if [(kind, array) for kind, _, array in before] == [(kind, array) for kind, _, array in after] or (
            old_size is not None and old_size == new_size
        ):
            return "compatible", f"reserved space gets a meaning: {names}"
        return "breaking", f"reserved space is replaced by {names}, of another size"
    if [(kind, array) for kind, _, array in before] == [(kind, array) for kind, _, array in after]:
        return "check", f"renamed to {names}: the layout stays, sources must change"
    if old_size is not None and old_size == new_size and len(before) == len(after):
        return "check", f"{names}: other types of the same size"
    return "breaking", f"{', '.join(name for _, name, _ in before)} became {names}: the layout changes"


def _size(members: list[tuple[str, str, str]]) -> int | None:
    """Bytes of members of fixed-width types; None when one is of another type."""
    total = 0
    for kind, _, array in members:
        fixed = _FIXED.match(kind)
        counts = re.findall(r"\[\s*(\d+)\s*\]", array)
        if fixed is None or array.count("[") != len(counts):
            return None
        size = _SIZES[fixed[1]]
        for count in counts:
            size *= int(count)
        total += size
    return total


def _enum(old: _Body, new: _Body) -> tuple[str, str]:
    def entries(body: _Body) -> list[tuple[str, str]]:
        return [(name, value) for value, name, _ in body.members if not _COUNTER.search(name)]

    before, after = entries(old), entries(new)
    names_after = dict(after)
    removed = [name for name, _ in before if name not in names_after]
    if removed:
        return "breaking", f"{', '.join(removed)} removed"
    altered = [name for name, value in before if value and names_after[name] != value]
    if altered:
        return "breaking", f"{', '.join(altered)} got another value"
    added = [name for name, _ in after if name not in dict(before)]
    last = max((index for index, (name, _) in enumerate(after) if name in dict(before)), default=-1)
    for index, (name, _) in enumerate(after[:last]):
        if name in added and not after[index + 1][1]:
            return "breaking", f"{name} inserted: the values behind it change"
    if [name for name, _ in before] != [name for name, _ in after if name not in added]:
        implicit = any(not value for _, value in after)
        return ("breaking", "order changed") if implicit else ("none", "")
    if not added:
        return "none", ""
    return "compatible", f"new: {', '.join(added)}"


def _read(hunk: Hunk, own: str) -> _Side:
    """One side of a hunk: context and the lines of sign ``own``."""
    side = _Side()
    current: _Body | None = None
    depth = 0
    comment = False
    if (opened := _OPEN.match(hunk.heading)) is not None:
        current = _Body(opened[1], opened[2])
    lines = [line[1:] for line in hunk.lines if line[:1] in (" ", own)]
    for text in _logical(lines):
        line = _COMMENT.sub("", text)
        if comment or line.lstrip().startswith(("* ", "*/")) or line.strip() == "*":
            comment = "*/" not in line and comment
            continue
        if "/*" in line:
            line, comment = line[: line.index("/*")], True
        if (macro := _DEFINE.match(line)) is not None:
            if not (_GUARD.search(macro[1]) and not macro[2]):
                side.macros[macro[1]] = " ".join(macro[2].split())
        elif (opened := _OPEN.match(line)) is not None:
            current, depth = _Body(opened[1], opened[2]), 0
            side.bodies[current.kind, current.name] = current
            continue
        elif current is None or not line.strip():
            continue
        elif _CLOSE.match(line):
            current.closed = True
            side.bodies[current.kind, current.name] = current
            current = None
        elif (member := _member(current.kind, line.strip(), depth)) is not None:
            current.members.append(member)
            side.bodies[current.kind, current.name] = current
        depth += line.count("{") - line.count("}") if current is not None else 0
    return side


def _member(kind: str, text: str, depth: int) -> tuple[str, str, str] | None:
    if kind == "enum":
        entry = _ENTRY.match(text)
        return (" ".join((entry[2] or "").split()), entry[1], "") if entry else None
    found = _MEMBER.match(_ANNOTATION.sub("", text))
    if found is not None:
        return ("> " * depth + " ".join(found[1].split()), found[2], "".join(found[3].split()))
    return ("> " * depth + text, text, "") if text not in ("};", "{") else None


def _logical(lines: list[str]) -> list[str]:
    """Lines that end with a backslash joined with what follows."""
    joined: list[str] = []
    pending = ""
    for line in lines:
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        joined.append(pending + line)
        pending = ""
    return [*joined, pending] if pending else joined
