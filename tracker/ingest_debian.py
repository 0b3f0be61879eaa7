"""A Debian kernel changelog into the database: the uploads, and the driver's titles of stable updates.

A changelog is small and grows at its front, so it is read whole when its content changed, and what it said
before is replaced in one transaction: a killed sync leaves the old state.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from db.base import utc_now
from db.database import Database
from db.distribution_tables import ListedTitle, Upload
from db.mail_tables import Source
from tracker.debian_changelog import Upload as ReadUpload
from tracker.debian_changelog import read_changelog
from tracker.errors import SourceError
from tracker.progress import Progress
from tracker.settings import DriverProfile, SourceSettings
from tracker.source_rows import source_row

MAX_CHANGELOG = 256 * 1024 * 1024  # bytes, unpacked; Debian's of 2026 has 4 MB


@dataclass(frozen=True)
class ChangelogCount:
    """What one sync of one changelog did: uploads read, and those that were not known before."""

    uploads: int
    new: int


def ingest_changelog(
    database: Database, settings: SourceSettings, profile: DriverProfile, progress: Progress
) -> ChangelogCount:
    """Bring one changelog up to date. Raises SourceError; the old state stays in that case."""
    content = _content(Path(settings.location).expanduser())
    state = {"sha256": hashlib.sha256(content).hexdigest(), "profile": profile.model_dump(mode="json")}
    progress.start(settings.name)
    with database.engine.begin() as connection:
        source_id, cursor = source_row(connection, settings)
        known = set(connection.scalars(select(Upload.version).where(Upload.source_id == source_id)))
        if cursor == state:
            count = ChangelogCount(len(known), 0)
        else:
            read = list(read_changelog(content.decode("utf-8", "replace").split("\n")))
            if not read:
                raise SourceError(f"{settings.location} has no entry of a Debian changelog; check `location`")
            versions = _store(connection, source_id, read, profile)
            count = ChangelogCount(len(versions), len(versions - known))
        connection.execute(
            update(Source)
            .where(Source.id == source_id)
            .values(cursor=state, synced_at=utc_now(), problem=None)
        )
    return count


def _store(
    connection: Connection, source_id: int, read: list[ReadUpload], profile: DriverProfile
) -> set[str]:
    """Replace what this source said. Returns the versions it has now."""
    old = select(Upload.id).where(Upload.source_id == source_id)
    connection.execute(delete(ListedTitle).where(ListedTitle.upload_id.in_(old)))
    connection.execute(delete(Upload).where(Upload.source_id == source_id))
    versions: set[str] = set()
    for position, one in enumerate(reversed(read)):
        if one.version in versions:
            continue  # an entry written twice: the older one counts
        versions.add(one.version)
        made = connection.execute(
            insert(Upload).values(
                source_id=source_id,
                package=one.package,
                version=one.version,
                suite=one.suite,
                date=one.date,
                upstream=_tag(one),
                position=position,
            )
        )
        key = made.inserted_primary_key
        assert key is not None
        rows = [
            {"upload_id": key[0], "version": title.version, "title": title.title, "cves": list(title.cves)}
            for title in one.titles
            if profile.named_in(title.title)
        ]
        if rows:
            connection.execute(insert(ListedTitle), rows)
    return versions


def _tag(one: ReadUpload) -> str | None:
    if one.upstream is None:
        return None
    version = one.upstream
    name = f"v{version.window}" + (f".{version.patch}" if version.patch else "")
    return name + (f"-rc{version.rc}" if version.rc is not None else "")


def _content(path: Path) -> bytes:
    """The changelog's bytes, unpacked; at most MAX_CHANGELOG of them."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                content = packed.read(MAX_CHANGELOG + 1)
        else:
            with path.open("rb") as plain:
                content = plain.read(MAX_CHANGELOG + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"cannot read the changelog {path}: {error}") from error
    if len(content) > MAX_CHANGELOG:
        raise SourceError(f"{path} has more than {MAX_CHANGELOG} bytes: no changelog of a kernel")
    return content
