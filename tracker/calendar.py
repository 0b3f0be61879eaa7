"""Kernel versions, tags and windows: which release carries a tag, and in which order tags come.

Pure arithmetic on names; dates and forecasts are not decided here. Tags are ordered by (version, rc with
the final last), never by date (stable tags interleave) and never by ``sort -V`` (it puts v6.18 before
v6.18-rc1).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, total_ordering
from importlib.resources import files

# "v7.1", "v7.1-rc3", "v7.1.4", "v2.6.39-rc1".
_TAG = re.compile(r"^v(\d{1,3})\.(\d{1,4})(?:\.(\d{1,4}))?(?:\.(\d{1,4}))?(?:-rc(\d{1,3}))?$")
# "drm-misc-next-2026-04-20", "drm-misc-fixes-2026-02-26-1", "next-20260420".
_DATED = re.compile(r"^[A-Za-z][\w.-]*?-(\d{4})-?(\d\d)-?(\d\d)(?:-(\d+))?$")
_FINAL = 10_000  # a final release comes after all of its -rc

# The version that follows, where it is not "minor + 1", with the source of each in the data file: the rule
# since 4.x is that minor 19 is followed by the next major, but 4.20 existed.
NEXT_VERSION: dict[str, str] = {
    before: after
    for before, (after, _source) in json.loads(
        files("tracker").joinpath("data/releases.json").read_text("utf-8")
    )["versions"].items()
}


@total_ordering
@dataclass(frozen=True)
class Version:
    """A tag's version. ``base`` is (7, 1) or (2, 6, 39); ``rc`` None for a final; ``patch`` 0 for a base."""

    base: tuple[int, ...]
    patch: int = 0
    rc: int | None = None

    @cached_property
    def window(self) -> str:
        """The release this tag belongs to: v7.1-rc3 and v7.1 and v7.1.4 are of "7.1"."""
        return ".".join(str(part) for part in self.base)

    @property
    def final(self) -> bool:
        """A release, not a candidate."""
        return self.rc is None

    @property
    def stable(self) -> bool:
        """A stable update such as v7.1.4."""
        return self.patch > 0

    @cached_property
    def tag(self) -> str:
        """The tag's name: "v7.1-rc3", "v7.1.4"."""
        name = f"v{self.window}" + (f".{self.patch}" if self.patch else "")
        return name + (f"-rc{self.rc}" if self.rc is not None else "")

    @property
    def order(self) -> tuple[tuple[int, ...], int, int]:
        """(version, stable update, rc with the final last)."""
        return (self.base, self.patch, _FINAL if self.rc is None else self.rc)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self.order < other.order


def parse_tag(name: str) -> Version | None:
    """A version tag of Linux, or None for any other tag."""
    found = _TAG.match(name)
    if found is None:
        return None
    major, minor, third, fourth, rc = (None if part is None else int(part) for part in found.groups())
    assert major is not None
    assert minor is not None
    if (major, minor) == (2, 6):
        return Version((2, 6, third or 0), fourth or 0, rc)
    return None if fourth is not None else Version((major, minor), third or 0, rc)


def window_key(window: str) -> tuple[int, ...]:
    """Order of windows: "6.19" < "7.0". Raises ValueError for text that is no version."""
    return tuple(int(part) for part in window.split("."))


def next_window(window: str) -> str:
    """The release after this one: 7.1 -> 7.2, 6.19 -> 7.0."""
    if window in NEXT_VERSION:
        return NEXT_VERSION[window]
    major, minor = window_key(window)[:2]
    return f"{major + 1}.0" if minor >= 19 and major >= 5 else f"{major}.{minor + 1}"


def previous_window(window: str) -> str | None:
    """The release before this one, or None for the first of its major that has no known forerunner."""
    for before, after in NEXT_VERSION.items():
        if after == window:
            return before
    major, minor = window_key(window)[:2]
    if minor > 0:
        return f"{major}.{minor - 1}"
    return f"{major - 1}.19" if major > 5 else None


def release_order(names: Iterable[str], *, stable: bool = False) -> list[str]:
    """The version tags among ``names`` in release order; stable updates only with ``stable``."""
    found = [(version, name) for name in names if (version := parse_tag(name)) is not None]
    return [name for version, name in sorted(found) if stable or not version.stable]


def dated_order(names: Iterable[str]) -> list[str]:
    """Tags of maintainer trees and of linux-next ("drm-misc-next-2026-04-20-1") by the date they carry."""
    found = []
    for name in names:
        match = _DATED.match(name)
        if match is not None:
            year, month, day, number = (int(part or 0) for part in match.groups())
            found.append(((year, month, day, number), name))
    return [name for _, name in sorted(found)]


def window_of_untagged(newest: str | None) -> str | None:
    """Where a mainline commit after the newest tag will be: after v7.1 in "7.2", after v7.2-rc3 in "7.2"."""
    version = parse_tag(newest) if newest else None
    if version is None:
        return None
    return next_window(version.window) if version.final else version.window
