"""CVE records of one source into the database: a folder or a git tree of ``CVE-*.json``, incremental.

A git tree has its commit as cursor, and only files that changed since are read; a folder has the digest of
its listing. Records, and what was withdrawn or no longer concerns the driver, are replaced in one
transaction with the cursor.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from db.around_tables import Cve
from db.base import utc_now
from db.database import Database
from db.mail_tables import Source
from tracker.cves.record import MAX_RECORD, CveRecord, DamagedRecordError, parse_record, with_date
from tracker.errors import NotARepositoryError, SourceError
from tracker.git.repository import Repository, is_url, open_or_clone
from tracker.progress import Progress
from tracker.settings import DriverProfile, SourceSettings
from tracker.source_rows import source_row

# "cve/published/2026/CVE-2026-23280.json", "cves/2026/23xxx/CVE-2026-23280.json".
_FILE = re.compile(r"(?:^|/)(CVE-\d{4}-\d{4,19})\.json$")
MAX_FILES = 1_000_000
READER = 1  # raise it when a record is read in another way: everything is read again
_IN = 500  # values of one IN (...)


@dataclass(frozen=True)
class CveCount:
    """What one sync of one source did. ``damaged``: files that are no record, with their reason."""

    read: int
    new: int
    damaged: tuple[str, ...] = ()


@dataclass
class _Changes:
    """What is to be stored: records of the driver, and names of which there is none any more."""

    keep: dict[str, CveRecord] = field(default_factory=dict)
    drop: set[str] = field(default_factory=set)
    damaged: list[str] = field(default_factory=list)
    read: int = 0

    def take(self, path: str, raw: bytes, profile: DriverProfile) -> bool:
        """Read one file; whether it concerns the driver."""
        self.read += 1
        found = _FILE.search(path)
        assert found is not None
        try:
            record = parse_record(raw, rejected="/rejected/" in f"/{path}")
        except DamagedRecordError as error:
            self.damaged.append(f"{path}: {error}")
            return False
        if record.name != found[1]:
            self.damaged.append(f"{path}: it holds {record.name}")
            return False
        if profile.owns_any(record.files) or profile.named_in(record.title):
            self.keep[record.name] = record
            self.drop.discard(record.name)
            return True
        self.drop.add(record.name)
        return False


def ingest_cves(
    database: Database, settings: SourceSettings, profile: DriverProfile, clones: Path, progress: Progress
) -> CveCount:
    """Bring one source up to date. Raises SourceError or GitError; the old state stays in that case."""
    with database.engine.begin() as connection:
        source_id, cursor = source_row(connection, settings)
    state: dict[str, Any] = {"profile": profile.model_dump(mode="json"), "reader": READER}
    fresh = {key: cursor.get(key) for key in state} != state
    old = None if fresh else cursor.get("at")
    repository = _repository(settings, clones, progress)
    progress.start(settings.name)
    if repository is None:
        folder = Path(settings.location).expanduser()
        listing = _listing(folder)
        state["at"] = _digest(listing)
        changes = _Changes() if state["at"] == old else _from_folder(folder, listing, profile, progress)
        whole = state["at"] != old
    else:
        head = repository.resolve(settings.branch or "HEAD")
        if head is None:
            raise SourceError(
                f"{settings.location} has no branch {settings.branch or 'HEAD'!r}; set `branch`"
            )
        state["at"] = head
        since = (
            old if old and repository.resolve(str(old)) and repository.is_ancestor(str(old), head) else None
        )
        whole = since is None
        changes = _from_git(repository, head, since, profile, progress)
    with database.engine.begin() as connection:
        new = _store(connection, source_id, changes, whole=whole)
        connection.execute(
            update(Source)
            .where(Source.id == source_id)
            .values(cursor=state, synced_at=utc_now(), problem=None)
        )
    return CveCount(changes.read, new, tuple(changes.damaged))


def _repository(settings: SourceSettings, clones: Path, progress: Progress) -> Repository | None:
    """The git tree of a source, or None for a plain folder."""
    if is_url(settings.location):
        return open_or_clone(settings.location, clones, settings.name, progress, blobless=False)
    path = Path(settings.location).expanduser()
    if not path.is_dir():
        raise SourceError(f"{path} is no folder; give a clone of vulns.git, or a folder with CVE-*.json")
    try:
        return Repository(path)
    except NotARepositoryError:
        return None


def _from_git(
    repository: Repository, head: str, since: str | None, profile: DriverProfile, progress: Progress
) -> _Changes:
    changes = _Changes()
    if since == head:
        return changes
    if since is None:
        paths = [one.path for one in repository.entries(head) if one.kind == "blob"]
    else:
        listed = repository.changed(since, head)
        changes.drop = {
            found[1] for status, path in listed if status == "D" and (found := _FILE.search(path))
        }
        paths = [path for status, path in listed if status != "D"]
    wanted = _wanted(paths)
    where: dict[str, str] = {}
    names = (f"{head}:{path}" for path in wanted)
    for path, blob in zip(wanted, repository.blobs(names, limit=MAX_RECORD), strict=True):
        progress.advance()
        if blob.data is None or blob.size > MAX_RECORD:
            changes.damaged.append(f"{path}: missing or larger than {MAX_RECORD} bytes")
        elif changes.take(path, blob.data, profile):
            where[_name(path)] = path
    dates = repository.added_dates(head, where.values())
    for name, path in where.items():
        changes.keep[name] = with_date(changes.keep[name], dates.get(path))
    return changes


def _from_folder(
    folder: Path, listing: dict[str, tuple[int, int]], profile: DriverProfile, progress: Progress
) -> _Changes:
    changes = _Changes()
    for path in _wanted(listing):
        progress.advance()
        try:
            with (folder / path).open("rb") as file:
                changes.take(path, file.read(MAX_RECORD + 1), profile)
        except OSError as error:
            changes.damaged.append(f"{path}: {error.strerror or error}")
    return changes


def _wanted(paths: Iterable[str]) -> list[str]:
    """The records among the paths; a withdrawn one after a published one of the same name."""
    found = [path for path in paths if _FILE.search(path)]
    if len(found) > MAX_FILES:
        raise SourceError(f"more than {MAX_FILES} CVE records; is `location` the right folder?")
    return sorted(found, key=lambda path: ("/rejected/" in f"/{path}", path))


def _name(path: str) -> str:
    found = _FILE.search(path)
    assert found is not None
    return found[1]


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Path of each record below the folder -> (size, time of change in ns). Links are not followed."""

    def walk() -> Iterator[tuple[str, tuple[int, int]]]:
        for top, _, names in os.walk(folder):
            for name in names:
                path = Path(top) / name
                if _FILE.search(name) and not path.is_symlink():
                    found = path.stat()
                    yield str(path.relative_to(folder)), (found.st_size, found.st_mtime_ns)

    return dict(walk())


def _digest(listing: dict[str, tuple[int, int]]) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for path in sorted(listing):
        digest.update(f"{path}\0{listing[path]}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _store(connection: Connection, source_id: int, changes: _Changes, *, whole: bool) -> int:
    """Replace what changed, after a ``whole`` reading also what is gone. Returns how many are new."""
    known = set(connection.scalars(select(Cve.name).where(Cve.source_id == source_id)))
    gone = (known - set(changes.keep)) if whole else (known & changes.drop)
    replaced = sorted(gone | (known & set(changes.keep)))
    for at in range(0, len(replaced), _IN):
        part = replaced[at : at + _IN]
        connection.execute(delete(Cve).where(Cve.source_id == source_id, Cve.name.in_(part)))
    rows = [_row(source_id, record) for _, record in sorted(changes.keep.items())]
    if rows:
        connection.execute(insert(Cve), rows)
    return len(set(changes.keep) - known)


def _row(source_id: int, record: CveRecord) -> dict[str, Any]:
    return {
        "source_id": source_id,
        "name": record.name,
        "state": record.state,
        "title": record.title,
        "published": record.published,
        "severity": record.severity,
        "files": list(record.files),
        "pairs": [list(pair) for pair in record.pairs],
        "versions": [
            [one.start, one.until, one.inclusive, one.affected, one.original] for one in record.versions
        ],
        "affected_by_default": record.affected_by_default,
    }


def published_between(
    connection: Connection, since: datetime, until: datetime
) -> list[tuple[str, str, str | None]]:
    """(name, title, severity) of records published in a span, the oldest first; the sample's are left out."""
    rows = connection.execute(
        select(Cve.name, Cve.title, Cve.severity)
        .join(Source, Source.id == Cve.source_id)
        .where(Cve.published >= since, Cve.published < until, Cve.state == "published")
        .where(Source.sample.is_(False))
        .order_by(Cve.published, Cve.name)
    )
    return [(row.name, row.title, row.severity) for row in rows]
