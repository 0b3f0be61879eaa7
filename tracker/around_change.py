"""What surrounds one change: firmware that it asks for, user space that uses what it adds. Read-only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from db.answer_tables import Touched
from db.around_tables import FirmwareNeed, UserspaceRelease
from db.database import Database
from db.git_tables import Tree
from db.mail_tables import Change, Source


@dataclass(frozen=True)
class FirmwareAsked:
    """A firmware name that the change adds or removes, with the answer for it."""

    path: str
    what: str
    version: str | None
    since: str | None
    since_date: datetime | None
    verdict: str
    why: str


@dataclass(frozen=True)
class UsedBy:
    """A name of the user interface that the change adds, and the first release of user space that uses it."""

    name: str
    tree: str
    release: str
    date: datetime | None


@dataclass(frozen=True)
class AroundChange:
    """Both for one change; empty where nothing is known."""

    firmware: tuple[FirmwareAsked, ...] = ()
    userspace: tuple[UsedBy, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; dates in ISO 8601."""
        return {
            "firmware": [_dated(asdict(one), "since_date") for one in self.firmware],
            "userspace": [_dated(asdict(one), "date") for one in self.userspace],
        }


def around_change(database: Database, slug: str) -> AroundChange:
    """What is known around the change called ``slug``, from what it touches (`tracker.touches`)."""
    with database.engine.connect() as connection:
        row = connection.execute(
            select(Touched.named, Touched.uapi, Change.sample)
            .join(Change, Change.id == Touched.change_id)
            .where(Change.slug == slug)
        ).one_or_none()
        if row is None:
            return AroundChange()
        asked = {str(one["name"]): str(one["what"]) for one in row.named if one["kind"] == "firmware"}
        added = {name for one in row.uapi for name in _added(one)}
        return AroundChange(
            _firmware(connection, asked, sample=row.sample), _userspace(connection, added, sample=row.sample)
        )


def _added(touch: dict[str, Any]) -> list[str]:
    """Names that a touched part of the user interface adds: its own, or new values of an enum."""
    if touch["what"] == "added":
        return [str(touch["name"])]
    reason = str(touch.get("reason", ""))
    new = touch["kind"] == "enum" and reason.startswith("new: ")  # as tracker.uapi_diff puts it
    return [one.strip() for one in reason.removeprefix("new: ").split(",")] if new else []


def _firmware(connection: Connection, asked: dict[str, str], *, sample: bool) -> tuple[FirmwareAsked, ...]:
    rows = connection.execute(
        select(FirmwareNeed.__table__)
        .where(FirmwareNeed.path.in_(asked), FirmwareNeed.sample == sample)
        .order_by(FirmwareNeed.path)
    )
    return tuple(
        FirmwareAsked(row.path, asked[row.path], row.version, row.since, row.since_date, row.verdict, row.why)
        for row in rows
    )


def _userspace(connection: Connection, added: set[str], *, sample: bool) -> tuple[UsedBy, ...]:
    if not added:
        return ()
    first: dict[tuple[str, str], UsedBy] = {}
    rows = connection.execute(
        select(UserspaceRelease.name, UserspaceRelease.date, UserspaceRelease.uapi, Tree.name.label("tree"))
        .join(Tree, Tree.id == UserspaceRelease.tree_id)
        .join(Source, Source.id == Tree.source_id)
        .where(Source.sample == sample)
        .order_by(UserspaceRelease.date, UserspaceRelease.name)
    )
    for row in rows:
        for name in added & set(map(str, row.uapi)):
            first.setdefault((name, row.tree), UsedBy(name, row.tree, row.name, row.date))
    return tuple(first[key] for key in sorted(first))


def _dated(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {**values, key: values[key].isoformat() if values[key] else None}
