"""Mails of one source into the database: incremental, in batches, one transaction each.

The cursor is written in the same transaction as the mails before it, so a process killed at any moment
resumes where the last transaction ended and stores nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from db.base import utc_now
from db.database import Database
from db.mail_tables import Message, Source
from tracker.errors import TrackerError
from tracker.git.repository import is_url, open_or_clone
from tracker.mail.eml import EmlReader
from tracker.mail.inbox import InboxReader
from tracker.mail.mbox import MboxReader
from tracker.mail.passed import Passed
from tracker.mail.relevance import Kept, Sieve
from tracker.mail.source import Cursor, MailReader
from tracker.progress import Progress
from tracker.settings import DriverProfile, SourceSettings
from tracker.source_rows import source_row

BATCH_KEPT = 500  # stored mails a transaction
BATCH_SCANNED = 20_000  # scanned mails a transaction, when few are stored
BATCH_TEXT = 8 * 1024 * 1024  # characters of stored mails a transaction
BATCH_SECONDS = 15.0  # at most this much work is done again after a kill

Row = dict[str, Any]


@dataclass(frozen=True)
class MailCount:
    """What one sync of one source did."""

    scanned: int
    new: int


def ingest_mail(
    database: Database, settings: SourceSettings, profile: DriverProfile, clones: Path, progress: Progress
) -> MailCount:
    """Bring one source up to date. Raises SourceError; what was stored before stays stored."""
    reader = open_reader(settings, clones, profile, progress)
    with database.engine.begin() as connection:
        source_id, cursor = source_row(connection, settings)
        kept, damaged, wanted = _stored(connection)
    if cursor.get("profile") != profile.model_dump(mode="json"):
        cursor = {}  # another driver is followed now: every mail is judged again
    state = {"profile": profile.model_dump(mode="json")}
    position: Cursor = dict(cursor.get("position", {}))
    memory = [Passed.from_json(entry) for entry in cursor.get("passed", [])]
    sieve = Sieve(profile, kept, reader.fetch, memory, damaged=damaged, wanted=wanted)
    scanned = new = since = text = 0
    batch: list[Row] = []
    last = time.monotonic()
    progress.start(settings.name)
    try:
        for item in reader.read(position):
            scanned += 1
            since += 1
            progress.advance()
            for kept_mail in sieve.sift(item):
                batch.append(_row(source_id, kept_mail))
                text += len(kept_mail.mail.body)
            position = item.cursor
            if (
                len(batch) >= BATCH_KEPT
                or text >= BATCH_TEXT
                or since >= BATCH_SCANNED
                or time.monotonic() - last > BATCH_SECONDS
            ):
                new += _commit(database, source_id, batch, {**state, **_state(position, sieve)})
                batch, since, text, last = [], 0, 0, time.monotonic()
    except TrackerError:
        # A source that breaks off (a cut archive): what it gave is stored, and next time it goes on there.
        _commit(database, source_id, batch, {**state, **_state(position, sieve)})
        raise
    final = {**state, **_state(reader.end_cursor(position), sieve)}
    if batch or final != cursor:
        new += _commit(database, source_id, batch, final)
    with database.engine.begin() as connection:
        connection.execute(
            update(Source).where(Source.id == source_id).values(synced_at=utc_now(), problem=None)
        )
    return MailCount(scanned, new)


def open_reader(
    settings: SourceSettings, clones: Path, profile: DriverProfile, progress: Progress
) -> MailReader:
    """The reader for a source's kind, imported (with http or HTML) only where there is such a source."""
    if settings.kind == "lore":
        from tracker.mail.lore import LoreReader

        return LoreReader(settings.location, profile, query=settings.query, contact=settings.contact)
    if settings.kind == "nntp":
        from tracker.mail.nntp import NntpReader

        return NntpReader(settings.location, profile)
    if settings.kind == "pipermail":
        from tracker.mail.pipermail import PipermailReader

        return PipermailReader(settings.location, contact=settings.contact)
    if settings.kind == "patchwork":
        from tracker.mail.patchwork import PatchworkReader

        return PatchworkReader(settings.location, profile, contact=settings.contact)
    if settings.kind == "public-inbox":
        from tracker.mail.epochs import is_single_repository, update_mirror

        if settings.location.startswith(("https://", "http://")) and not is_single_repository(
            settings.location
        ):
            return InboxReader(update_mirror(settings.location, clones, settings.name, progress))
        if is_url(settings.location):
            clone = open_or_clone(settings.location, clones, settings.name, progress, blobless=False)
            return InboxReader(clone.path)
        return InboxReader(Path(settings.location).expanduser())
    path = Path(settings.location).expanduser()
    return MboxReader(path) if settings.kind == "mbox" else EmlReader(path)


def note_problem(database: Database, settings: SourceSettings, problem: str) -> None:
    """Keep why a source could not be read, for the pages and for `track sync`'s next report."""
    with database.engine.begin() as connection:
        source_id, _ = source_row(connection, settings)
        connection.execute(update(Source).where(Source.id == source_id).values(problem=problem))


def _stored(connection: Connection) -> tuple[dict[str, str], set[str], set[str]]:
    """(message id -> kind, ids of damaged mails, roots that stored patches answer and nobody has seen)."""
    kept: dict[str, str] = {}
    damaged: set[str] = set()
    roots: set[str] = set()
    rows = connection.execute(
        select(Message.message_id, Message.kind, Message.corrupted.is_not(None), Message.in_reply_to)
    )
    for message_id, kind, corrupted, in_reply_to in rows:
        kept[message_id] = kind
        if corrupted:
            damaged.add(message_id)
        if kind == "patch" and in_reply_to:
            roots.add(in_reply_to)
    return kept, damaged, roots - kept.keys()


def _state(position: Cursor, sieve: Sieve) -> dict[str, Any]:
    return {"position": position, "passed": [one.to_json() for one in sieve.memory]}


def _commit(database: Database, source_id: int, batch: Iterable[Row], cursor: Cursor) -> int:
    """One transaction: the batch and the cursor behind it. Returns how many mails were new."""
    rows = {str(row["message_id"]): row for row in batch}
    with database.engine.begin() as connection:
        known = set(
            connection.scalars(select(Message.message_id).where(Message.message_id.in_(list(rows))))
            if rows
            else ()
        )
        fresh = [row for message_id, row in rows.items() if message_id not in known]
        if fresh:
            connection.execute(insert(Message), fresh)
        for message_id in known:  # a mail that had been cut off is whole now
            connection.execute(
                update(Message).where(Message.message_id == message_id).values(**rows[message_id])
            )
        connection.execute(update(Source).where(Source.id == source_id).values(cursor=cursor))
    return len(fresh)


def _row(source_id: int, kept: Kept) -> Row:
    mail = kept.mail
    return {
        "message_id": mail.message_id,
        "source_id": source_id,
        "date": mail.head.date,
        "author_name": mail.head.author.name,
        "author_email": mail.head.author.email,
        "subject": mail.head.subject,
        "in_reply_to": mail.head.in_reply_to or (mail.head.references[-1] if mail.head.references else None),
        "references": list(mail.head.references),
        "list_id": mail.head.list_id,
        "kind": kept.kind,
        "body": mail.body,
        "trailers": [list(entry) for entry in mail.trailers],
        "corrupted": mail.corrupted,
    }
