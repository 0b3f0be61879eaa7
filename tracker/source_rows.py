"""The row of a source in the database, found or made: a ``[[source]]`` of any kind, or a tree's own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select, update

from db.database import Database
from db.mail_tables import Source
from tracker.settings import SourceSettings


def source_row(connection: Connection, settings: SourceSettings) -> tuple[int, dict[str, Any]]:
    """(row id, cursor) of a ``[[source]]``; name and sample are brought up to date."""
    return found_or_made(
        connection, settings.kind, settings.location, name=settings.name, sample=settings.sample
    )


def found_or_made(
    connection: Connection, kind: str, location: str, *, name: str, sample: bool
) -> tuple[int, dict[str, Any]]:
    """(row id, cursor) of the source that ``kind`` and ``location`` name, with this name and sample."""
    found = connection.execute(
        select(Source.id, Source.cursor).where(Source.kind == kind, Source.location == location)
    ).one_or_none()
    if found is not None:
        connection.execute(update(Source).where(Source.id == found.id).values(name=name, sample=sample))
        return found.id, dict(found.cursor or {})
    made = connection.execute(
        insert(Source).values(kind=kind, name=name, location=location, sample=sample, cursor={})
    )
    key = made.inserted_primary_key
    assert key is not None
    return int(key[0]), {}


def note_problem(database: Database, settings: SourceSettings, problem: str) -> None:
    """Keep why a source could not be read, for the pages and for `track sync`'s next report."""
    with database.engine.begin() as connection:
        source_id, _ = source_row(connection, settings)
        connection.execute(update(Source).where(Source.id == source_id).values(problem=problem))
