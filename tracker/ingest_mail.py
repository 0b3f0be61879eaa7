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
from tracker.mail.source import Cursor, MailReader, RawMail
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
    intake = _Intake(database, source_id, profile, reader, cursor)
    progress.start(settings.name)
    try:
        for item in reader.read(intake.position):
            progress.advance()
            intake.take(item)
    except TrackerError:
        # A source that breaks off (a cut archive): what it gave is stored, and next time it goes on there.
        intake.commit()
        raise
    intake.end()
    with database.engine.begin() as connection:
        connection.execute(
            update(Source).where(Source.id == source_id).values(synced_at=utc_now(), problem=None)
        )
    return MailCount(intake.scanned, intake.new)


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
        if settings.location.startswith(("https://", "http://")):
            from tracker.mail.epochs import is_single_repository, update_mirror

            if not is_single_repository(settings.location):
                return InboxReader(update_mirror(settings.location, clones, settings.name, progress))
        if is_url(settings.location):
            clone = open_or_clone(settings.location, clones, settings.name, progress, blobless=False)
            return InboxReader(clone.path)
        return InboxReader(Path(settings.location).expanduser())
    path = Path(settings.location).expanduser()
    return MboxReader(path) if settings.kind == "mbox" else EmlReader(path)


class _Intake:
    """What one sync of one source takes in, a transaction at a time."""

    def __init__(
        self, database: Database, source_id: int, profile: DriverProfile, reader: MailReader, cursor: Cursor
    ) -> None:
        self._profile_json = profile.model_dump(mode="json")
        if cursor.get("profile") != self._profile_json:
            cursor = {}  # another driver is followed now: every mail is judged again
        self.position: Cursor = dict(cursor.get("position", {}))
        self.scanned = self.new = 0
        self._database = database
        self._source_id = source_id
        self._profile = profile
        self._reader = reader
        self._cursor = cursor
        self._sieve: Sieve | None = None  # a source without a new mail need not know what is stored
        self._batch: list[Row] = []
        self._text = self._since = 0
        self._last = time.monotonic()

    def take(self, item: RawMail) -> None:
        """One mail of the source."""
        if self._sieve is None:
            self._sieve = self._open_sieve()
        self.scanned += 1
        self._since += 1
        for kept in self._sieve.sift(item):
            self._batch.append(_row(self._source_id, kept))
            self._text += len(kept.mail.body)
        self.position = item.cursor
        if (
            len(self._batch) >= BATCH_KEPT
            or self._text >= BATCH_TEXT
            or self._since >= BATCH_SCANNED
            or time.monotonic() - self._last > BATCH_SECONDS
        ):
            self.commit()

    def end(self) -> None:
        """Everything was read."""
        self.position = self._reader.end_cursor(self.position)
        if self._batch or self._state() != self._cursor:
            self.commit()

    def commit(self) -> None:
        """Store the batch and the cursor behind it."""
        self.new += _commit(self._database, self._source_id, self._batch, self._state())
        self._batch, self._text, self._since, self._last = [], 0, 0, time.monotonic()

    def _state(self) -> Cursor:
        passed = (
            self._cursor.get("passed", [])
            if self._sieve is None
            else [one.to_json() for one in self._sieve.memory]
        )
        return {"profile": self._profile_json, "position": self.position, "passed": passed}

    def _open_sieve(self) -> Sieve:
        memory = [Passed.from_json(entry) for entry in self._cursor.get("passed", [])]
        with self._database.engine.connect() as connection:
            kept, damaged, wanted = _stored(connection)
        return Sieve(self._profile, kept, self._reader.fetch, memory, damaged=damaged, wanted=wanted)


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
