"""WHENCE, the list of what a firmware tree has (linux-firmware's README): text -> names. Pure.

Sections are ended by a line of dashes; ``File:`` and ``RawFile:`` name what is there, ``Link: a -> b`` what
is made on installation (the target relative to the name's folder; it may be a folder or another link),
``Version:`` the version of the file before it. amdnpu files bear their version as suffix.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_WHENCE = 16 * 1024 * 1024  # bytes; linux-firmware's of 2026 has half a MB
MAX_DEPTH = 8  # links that lead to links
_FILE = re.compile(r'^(?:Raw)?File:\s*"?([^"\n]{1,300}?)"?\s*$')
_LINK = re.compile(r'^Link:\s*"?([^"\n]{1,300}?)"?\s*->\s*"?([^"\n]{1,300}?)"?\s*$')
_VERSION = re.compile(r"^Version:\s*(.{1,100}?)\s*$")
_SUFFIX = re.compile(r"\.(?:s?bin|fw)\.(\d+(?:\.\d+){1,5})$")


@dataclass(frozen=True)
class Named:
    """What a name leads to: the file with its version, where one is told."""

    file: str
    version: str | None


def parse_whence(text: str, prefix: str) -> dict[str, Named]:
    """Name -> file, for every file and link below ``prefix`` ("amdnpu/"). What is damaged is left out."""
    files: dict[str, str | None] = {}
    links: dict[str, str] = {}
    last: str | None = None
    for line in text.split("\n"):
        if (found := _FILE.match(line)) is not None:
            last = _unescaped(found[1]) if _safe(found[1], prefix) else None
            if last is not None:
                files[last] = None
        elif (found := _LINK.match(line)) is not None:
            name = _unescaped(found[1])
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), _unescaped(found[2])))
            if _safe(name, prefix) and _safe(target, prefix):
                links[name] = target
        elif last is not None and (found := _VERSION.match(line)) is not None and files[last] is None:
            files[last] = found[1] if found[1].isprintable() else None
        elif line.startswith("-----"):
            last = None
    answer = {name: Named(name, told or _version(name)) for name, told in files.items()}
    for name, target in links.items():
        answer |= _followed(name, target, files, links)
    return answer


def _followed(
    name: str, target: str, files: Mapping[str, str | None], links: Mapping[str, str]
) -> dict[str, Named]:
    """The names that a link gives: its own, or those of the folder it leads to."""
    for _ in range(MAX_DEPTH):
        if target in files:
            return {name: Named(target, files[target] or _version(target))}
        if target not in links:
            break
        target = links[target]
    found: dict[str, Named] = {}
    for file, told in files.items():
        if file.startswith(target + "/"):
            found[name + file[len(target) :]] = Named(file, told or _version(file))
    for other, aim in links.items():
        if other.startswith(target + "/") and aim in files:
            found[name + other[len(target) :]] = Named(aim, files[aim] or _version(aim))
    return found


def _safe(path: str, prefix: str) -> bool:
    return path.startswith(prefix) and ".." not in path.split("/") and path.isprintable()


def _unescaped(path: str) -> str:
    return path.replace("\\ ", " ")


def _version(path: str) -> str | None:
    found = _SUFFIX.search(path)
    return found[1] if found else None
