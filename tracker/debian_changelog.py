"""Debian's changelog of its kernel (debian/changelog, Debian Policy 4.4) -> uploads and stable titles. Pure.

An entry begins "linux (7.2.7-1) unstable; urgency=medium" and ends " -- Name <mail>  date". Under "* New
upstream stable update:" come the addresses of kernel.org's ChangeLogs and a list of titles without ids; a
long title goes on in the next line, and the title may carry architectures in front and CVE ids behind.
Uploads to experimental list no titles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tracker.calendar import Version, parse_tag
from tracker.text import MAX_TITLE

# "linux (7.2.7-1~bpo13+1) trixie-backports; urgency=medium".
_HEAD = re.compile(r"^([a-z0-9][a-z0-9+.-]*) \(([0-9][\w.+:~-]*)\) ([\w. -]+);")
# " -- Name <mail>  Wed, 23 Sep 2026 12:00:00 +0200".
_TAIL = re.compile(r"^ -- .*?>  ?(.+)$")
# The ChangeLog of one stable update, whatever the host: ".../ChangeLog-7.2.7".
_CHANGELOG = re.compile(r"/ChangeLog-(\d{1,3}\.\d{1,4}(?:\.\d{1,4})?)\s*$")
# "    - [amd64] accel/amdxdna: Fix" begins an item; deeper lines go on with it.
_ITEM = re.compile(r"^ {4}- (.+)$")
_GOES_ON = re.compile(r"^ {6,}(\S.*)$")
# "[amd64]", "[arm64,armhf]", "[!x86]" in front of a title; "(CVE-2026-1, CVE-2026-2)" behind it.
_ARCHITECTURES = re.compile(r"^(?:\[[!a-z0-9,/ _-]+\]\s+)+")
_CVES = re.compile(r"\s*\(((?:CVE-\d{4}-\d{4,7}[, ]*)+)\)$")
# The upstream part of "7.3~rc7-1~exp1": version and candidate.
_UPSTREAM = re.compile(r"^(\d{1,3}\.\d{1,4}(?:\.\d{1,4})?)(?:~rc(\d{1,2}))?-")
MAX_ITEM = 2000  # characters; a title is far shorter


@dataclass(frozen=True)
class StableTitle:
    """One commit's title in a stable update ("7.2.7"), as the changelog lists it."""

    version: str
    title: str
    cves: tuple[str, ...] = ()


@dataclass(frozen=True)
class Upload:
    """One entry: a kernel that Debian shipped. ``upstream`` is None when the version is not understood."""

    package: str
    version: str
    suite: str
    date: datetime | None
    upstream: Version | None
    titles: tuple[StableTitle, ...]


def read_changelog(lines: Iterable[str]) -> Iterable[Upload]:
    """The entries in the order of the file (the newest first). Lines outside of entries are passed over."""
    head: re.Match[str] | None = None
    titles: list[StableTitle] = []
    update: str | None = None
    item: str | None = None

    def close() -> None:
        nonlocal item
        if item is not None and update is not None and (found := _title(update, item)) is not None:
            titles.append(found)
        item = None

    for raw in lines:
        line = raw.rstrip("\r\n")
        if (begun := _HEAD.match(line)) is not None:
            head, titles, update, item = begun, [], None, None
        elif head is None:
            continue
        elif (ended := _TAIL.match(line)) is not None:
            close()
            yield Upload(head[1], head[2], head[3], _date(ended[1]), upstream_of(head[2]), tuple(titles))
            head = None
        elif (changelog := _CHANGELOG.search(line)) is not None:
            close()
            update = changelog[1]
        elif (begun_item := _ITEM.match(line)) is not None:
            close()
            item = begun_item[1]
        elif item is not None and (more := _GOES_ON.match(line)) is not None and len(item) < MAX_ITEM:
            item += " " + more[1]
        else:
            close()
            if line.startswith("  *") or line.startswith("  ["):
                update = None  # Debian's own changes, or another person's


def upstream_of(version: str) -> Version | None:
    """The kernel version a package is made from: "7.3~rc7-1~exp1" -> v7.3-rc7, "7.2.7-1" -> v7.2.7."""
    found = _UPSTREAM.match(version.partition(":")[2] or version)
    if found is None:
        return None
    return parse_tag(f"v{found[1]}" + (f"-rc{found[2]}" if found[2] else ""))


def _title(update: str, item: str) -> StableTitle | None:
    text = _ARCHITECTURES.sub("", " ".join(item.split()))
    cves: tuple[str, ...] = ()
    if (found := _CVES.search(text)) is not None:
        cves = tuple(re.findall(r"CVE-\d{4}-\d+", found[1]))
        text = text[: found.start()]
    return StableTitle(update, text[:MAX_TITLE], cves) if text else None


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text.strip())
    except (ValueError, TypeError, OverflowError):
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)
