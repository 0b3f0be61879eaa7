"""What one change touches, as it was stored at the last sync (`tracker.stored_answers`). Read-only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from db.answer_tables import Touched
from db.database import Database
from db.mail_tables import Change
from tracker.answers import show
from tracker.errors import SourceError
from tracker.touches import Touches


@dataclass(frozen=True)
class AbiAnswer:
    """What one change touches. ``source``: the commit or the mail whose diff was read."""

    slug: str
    title: str
    source: str
    touches: Touches

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "slug": self.slug, "title": self.title, "source": self.source, **self.touches.to_json(),
        }  # fmt: skip


def abi(database: Database, name: str) -> AbiAnswer:
    """What the change called ``name`` touches, by the diff of its commit, else of its newest mail.

    Raises NoSuchChangeError, and SourceError when neither a commit nor a mail had a diff.
    """
    line = show(database, name).line
    with database.engine.connect() as connection:
        row = connection.execute(
            select(Touched.source, Touched.uapi, Touched.named)
            .join(Change, Change.id == Touched.change_id)
            .where(Change.slug == line.slug)
        ).one_or_none()
    if row is None:
        raise SourceError(
            f"no diff of {line.title!r} was read: follow a [[tree]] that has it, then run `track sync`"
        )
    return AbiAnswer(line.slug, line.title, row.source, Touches.of_json(row.uapi, row.named))
