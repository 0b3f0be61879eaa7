"""The row of a ``[[source]]`` in the database, found or made: for every kind that is no git tree."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select, update

from db.mail_tables import Source
from tracker.settings import SourceSettings


def source_row(connection: Connection, settings: SourceSettings) -> tuple[int, dict[str, Any]]:
    """(row id, cursor) of a source; name and sample are brought up to date."""
    found = connection.execute(
        select(Source.id, Source.cursor).where(
            Source.kind == settings.kind, Source.location == settings.location
        )
    ).one_or_none()
    if found is not None:
        connection.execute(
            update(Source).where(Source.id == found.id).values(name=settings.name, sample=settings.sample)
        )
        return found.id, dict(found.cursor or {})
    made = connection.execute(
        insert(Source).values(
            kind=settings.kind,
            name=settings.name,
            location=settings.location,
            sample=settings.sample,
            cursor={},
        )
    )
    key = made.inserted_primary_key
    assert key is not None
    return int(key[0]), {}
