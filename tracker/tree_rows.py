"""The rows of a ``[[tree]]`` in the database: its source with the cursor, and the tree itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, insert, select, update

from db.base import utc_now
from db.database import Database
from db.git_tables import Tree
from db.mail_tables import Source
from tracker.git.repository import Ref
from tracker.settings import TreeSettings
from tracker.source_rows import found_or_made


def open_tree(database: Database, settings: TreeSettings) -> tuple[int, int, dict[str, Any]]:
    """(source row, tree row, cursor) of a tree, found or made."""
    with database.engine.begin() as connection:
        source_id, cursor = tree_source(connection, settings)
        return source_id, _tree_row(connection, settings, source_id), cursor


def tree_source(connection: Connection, settings: TreeSettings) -> tuple[int, dict[str, Any]]:
    """(row, cursor) of a tree's source; several trees may be branches of one location."""
    location = settings.location if settings.branch == "HEAD" else f"{settings.location}#{settings.branch}"
    return found_or_made(connection, "git", location, name=settings.name, sample=settings.sample)


def tree_synced(
    connection: Connection, source_id: int, tree_id: int, cursor: dict[str, Any], head: str
) -> None:
    """Everything up to ``head`` is stored: the cursor may move."""
    connection.execute(update(Tree).where(Tree.id == tree_id).values(head=head))
    connection.execute(
        update(Source).where(Source.id == source_id).values(cursor=cursor, synced_at=utc_now(), problem=None)
    )


def note_tree_problem(database: Database, settings: TreeSettings, problem: str) -> None:
    """Keep why a tree could not be read."""
    with database.engine.begin() as connection:
        source_id, _ = tree_source(connection, settings)
        connection.execute(update(Source).where(Source.id == source_id).values(problem=problem))


def digest_of(refs: Iterable[Ref]) -> str:
    """A fingerprint of tags and where they are."""
    digest = hashlib.sha1(usedforsecurity=False)
    for ref in refs:
        digest.update(f"{ref.name}\0{ref.commit}\n".encode())
    return digest.hexdigest()


def _tree_row(connection: Connection, settings: TreeSettings, source_id: int) -> int:
    found = connection.execute(select(Tree.id).where(Tree.name == settings.name)).scalar_one_or_none()
    if found is not None:
        connection.execute(
            update(Tree).where(Tree.id == found).values(role=settings.role, source_id=source_id)
        )
        return found
    made = connection.execute(
        insert(Tree).values(name=settings.name, role=settings.role, source_id=source_id)
    )
    key = made.inserted_primary_key
    assert key is not None
    return int(key[0])
