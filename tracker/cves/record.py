"""One CVE record (CVE JSON 5.x, as the kernel's numbering authority publishes it) -> frozen facts. Pure.

Layout: vulns.git of kernel.org has ``cve/published/YYYY/CVE-*.json``. Each record has one "Linux" product
with ranges of commit ids (``versionType: git``: the commit that brought the bug, and the one that ends it in
one branch), and one with ranges of releases. Of the releases, ``"6.18.17" .. "6.18.*" unaffected`` is a
stable update with the fix, ``original_commit_for_fix`` the release of mainline with it, and what no range
names has ``defaultStatus`` (CVE record format 5.1, "versions").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from tracker.calendar import Version, parse_tag, window_key
from tracker.text import storable

MAX_RECORD = 2 * 1024 * 1024  # bytes; the kernel's largest of 2026 has 60 KiB
MAX_RANGES = 2000
_NAME = re.compile(r"^CVE-\d{4}-\d{4,19}$")
_COMMIT = re.compile(r"^[0-9a-f]{7,40}$")
_WILD = re.compile(r"^(\d{1,3}(?:\.\d{1,4}){1,2})\.\*$")


class DamagedRecordError(ValueError):
    """The bytes are no CVE record."""


@dataclass(frozen=True)
class Range:
    """Releases from ``start`` on. ``until`` None: ``start`` alone; "6.18.*" and "*" are ends as written.

    ``inclusive``: ``until`` belongs to it. ``original``: it begins at mainline's fix.
    """

    start: str
    until: str | None
    inclusive: bool
    affected: bool
    original: bool = False

    def covers(self, version: Version) -> bool:
        """Whether a release is in the range."""
        start = parse_tag(f"v{self.start}")
        if self.start != "0" and (start is None or version < start):
            return False
        if self.until is None:
            return version == start
        if self.until == "*":
            return True
        wild = _WILD.match(self.until)
        if wild is not None:
            return version.base <= window_key(wild[1])
        end = parse_tag(f"v{self.until}")
        return end is not None and (version <= end if self.inclusive else version < end)


@dataclass(frozen=True)
class CveRecord:
    """A record. ``pairs``: (commit that brought the bug, commit that ends it); "" where none is named."""

    name: str
    state: str  # published, rejected
    title: str
    published: datetime | None
    severity: str | None
    files: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    versions: tuple[Range, ...]
    affected_by_default: bool

    @property
    def fixes(self) -> tuple[str, ...]:
        """Ids of the commits that end the bug, in mainline and in branches."""
        return tuple(dict.fromkeys(fix for _, fix in self.pairs if fix))

    @property
    def causes(self) -> tuple[str, ...]:
        """Ids of the commits that brought it."""
        return tuple(dict.fromkeys(cause for cause, _ in self.pairs if cause))

    @property
    def mainline_fix(self) -> str | None:
        """The release of mainline that has the fix, where the record says it."""
        return next((one.start for one in self.versions if one.original), None)

    @property
    def introduced(self) -> str | None:
        """The first affected release, or None when the record names no release."""
        known = [version for start in self._starts() if (version := parse_tag(f"v{start}")) is not None]
        return release_name(min(known)) if known else None

    @property
    def introduced_in_mainline(self) -> str | None:
        """The first affected release of mainline; None when only stable updates are named."""
        known = [version for start in self._starts() if (version := parse_tag(f"v{start}")) is not None]
        return min((one.window for one in known if not one.stable), key=window_key, default=None)

    def affects(self, version: Version) -> bool:
        """Whether the record calls a release affected. The first range that names it decides."""
        for one in self.versions:
            if one.covers(version):
                return one.affected
        return self.affected_by_default

    def _starts(self) -> list[str]:
        """Where affected releases begin."""
        starts = [one.start for one in self.versions if one.affected and one.start != "0"]
        if self.affected_by_default:
            starts += [
                one.until
                for one in self.versions
                if one.start == "0" and not one.affected and one.until and not one.inclusive
            ]
        return starts

    def named_bases(self) -> tuple[str, ...]:
        """Releases for whose updates the record gives a fix, as "6.18"; the oldest first."""
        wild = (_WILD.match(one.until or "") for one in self.versions if not one.affected)
        return tuple(sorted({found[1] for found in wild if found}, key=window_key))

    def claim(self, base: str, newest: int = 0) -> Claim:
        """What the record says of one release and its updates. ``newest``: the last update that is known."""
        numbers = [window_key(base)]
        patches = [newest]
        for one in self.versions:
            for text in (one.start, one.until or ""):
                version = parse_tag(f"v{text}")
                if version is not None and version.base == numbers[0]:
                    patches.append(version.patch)
        last = min(max(patches), 9999) + 1
        hit = [n for n in range(last + 1) if self.affects(Version(numbers[0], n))]
        if not hit:
            first = self.introduced
            never = first is not None and numbers[0] < window_key(first)[:2]
            return Claim("never" if never else "from-start")
        since = release_name(Version(numbers[0], hit[0]))
        if hit[-1] == last:
            return Claim("affected", since)
        return Claim("fixed", since, release_name(Version(numbers[0], hit[-1] + 1)))


@dataclass(frozen=True)
class Claim:
    """A record about one release and its updates.

    ``kind``: fixed (in ``fixed``, affected from ``since``), affected (no fix), never (the bug came later),
    from-start (the release itself has the fix, or the record calls none of it affected).
    """

    kind: str
    since: str | None = None
    fixed: str | None = None

    def words(self) -> str:
        """In a few words."""
        return {
            "fixed": f"affected from {self.since}, fixed in {self.fixed}",
            "affected": f"affected from {self.since}, no fix",
            "never": "never affected",
            "from-start": "not affected: fixed before it",
        }[self.kind]


@dataclass
class _Reading:
    """What the products of a record say, while they are read."""

    files: list[str] = field(default_factory=list)
    pairs: list[tuple[str, str]] = field(default_factory=list)
    versions: list[Range] = field(default_factory=list)
    default: bool = False


def parse_record(raw: bytes, *, rejected: bool = False) -> CveRecord:
    """Read one record. Unknown parts are left out. Raises DamagedRecordError."""
    if len(raw) > MAX_RECORD:
        raise DamagedRecordError(f"more than {MAX_RECORD} bytes")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DamagedRecordError(f"no JSON: {error}") from error
    head, body = _part(found, "cveMetadata"), _part(_part(found, "containers"), "cna")
    name = str(head.get("cveId") or head.get("cveID") or "")
    if not _NAME.match(name):
        raise DamagedRecordError("no cveMetadata.cveId")
    reading = _Reading()
    for product in _parts(body.get("affected")):
        _read_product(product, reading)
    state = "rejected" if rejected or str(head.get("state")).upper() == "REJECTED" else "published"
    return CveRecord(
        name=name,
        state=state,
        title=" ".join(_text(body.get("title"), 2000).split())[:500],
        published=_date(head.get("datePublished")),
        severity=_severity(body.get("metrics")),
        files=tuple(dict.fromkeys(reading.files)),
        pairs=tuple(dict.fromkeys(reading.pairs)),
        versions=tuple(reading.versions),
        affected_by_default=reading.default,
    )


def with_date(record: CveRecord, published: datetime | None) -> CveRecord:
    """The record with the date of its file, where it carries none itself."""
    return record if record.published is not None else replace(record, published=published)


def release_name(version: Version) -> str:
    """ "6.18.17", "7.0"."""
    return version.window + (f".{version.patch}" if version.patch else "")


def _read_product(product: dict[str, Any], reading: _Reading) -> None:
    files = product.get("programFiles")
    reading.files += [_text(one, 500) for one in files[:MAX_RANGES]] if isinstance(files, list) else []
    for one in _parts(product.get("versions")):
        start = _text(one.get("version"), 60)
        below, upto = one.get("lessThan"), one.get("lessThanOrEqual")
        affected = one.get("status") == "affected"
        kind = one.get("versionType")
        if kind == "git":
            end = _text(below, 60)
            if affected:
                reading.pairs.append(
                    (start if _COMMIT.match(start) else "", end if _COMMIT.match(end) else "")
                )
            continue
        reading.default = product.get("defaultStatus") == "affected"
        limit = upto if upto is not None else below
        until = None if limit is None else _text(limit, 60)
        reading.versions.append(
            Range(start, until, upto is not None, affected, kind == "original_commit_for_fix")
        )


def _text(value: Any, most: int) -> str:
    """A value as text that a database takes; "" for what is absent or a structure."""
    return storable(str(value))[:most] if isinstance(value, str | int | float) else ""


def _part(value: Any, key: str) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    for one in value[:MAX_RANGES] if isinstance(value, list) else ():
        if isinstance(one, dict):
            yield one


def _severity(metrics: Any) -> str | None:
    for one in _parts(metrics):
        for key, score in one.items():
            if key.startswith("cvss") and isinstance(score, dict) and score.get("baseScore") is not None:
                told = f"{_text(score['baseScore'], 10)} {_text(score.get('baseSeverity'), 20)}"
                return told.strip()
    return None


def _date(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
