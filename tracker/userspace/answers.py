"""The user-space answers: releases and kernels in, fits out, and read again. The edge."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from db.around_tables import DriverRelease, UserspaceFit, UserspaceRelease
from db.database import Database
from db.git_tables import Tree
from db.mail_tables import Source
from tracker.calendar import Version, parse_tag
from tracker.userspace.releases import Fit, fits, load_interface


@dataclass(frozen=True)
class ReleaseLine:
    """One release of user space. ``firmware``: name -> version; ``pins``: submodules with their release."""

    tree: str
    name: str
    kind: str
    commit: str
    date: datetime | None
    version: str | None
    driver_version: str | None
    uapi: tuple[str, ...]
    firmware: dict[str, str]
    pins: tuple[dict[str, Any], ...]
    fits: tuple[Fit, ...]
    sample: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values; dates in ISO 8601."""
        return {**asdict(self), "date": self.date.isoformat() if self.date else None}


def derive_fits(connection: Connection) -> int:
    """Compute how every stored release fits the kernels and replace the answers of before."""
    connection.execute(delete(UserspaceFit))
    interface = load_interface()
    rows: list[dict[str, Any]] = []
    releases = connection.execute(
        select(UserspaceRelease.id, UserspaceRelease.uapi, Source.sample)
        .join(Tree, Tree.id == UserspaceRelease.tree_id)
        .join(Source, Source.id == Tree.source_id)
        .order_by(UserspaceRelease.id)
    ).all()
    headers = {sample: _headers(connection, sample=sample) for sample in {row.sample for row in releases}}
    for row in releases:
        for position, one in enumerate(fits(map(str, row.uapi), interface, headers[row.sample])):
            rows.append(
                {
                    "release_id": row.id,
                    "position": position,
                    "kernel": one.kernel,
                    "verdict": one.verdict,
                    "lacks": list(one.lacks),
                    "why": one.why,
                }
            )
    if rows:
        connection.execute(insert(UserspaceFit), rows)
    return len(rows)


def userspace_answer(
    database: Database, name: str | None = None, *, kernel: str | None = None
) -> list[ReleaseLine]:
    """The releases, the latest first. ``name``: part of a tree's or a release's; ``kernel``: only its fit."""
    with database.engine.connect() as connection:
        told: dict[int, list[Fit]] = defaultdict(list)
        for row in connection.execute(
            select(UserspaceFit.__table__).order_by(UserspaceFit.release_id, UserspaceFit.position)
        ):
            if kernel is None or row.kernel == kernel:
                told[row.release_id].append(Fit(row.kernel, row.verdict, tuple(row.lacks), row.why))
        rows = connection.execute(
            select(*UserspaceRelease.__table__.c, Tree.name.label("tree"), Source.sample)
            .join(Tree, Tree.id == UserspaceRelease.tree_id)
            .join(Source, Source.id == Tree.source_id)
        ).all()
    found = [
        ReleaseLine(
            row.tree,
            row.name,
            row.kind,
            row.commit_id,
            row.date,
            row.version,
            row.driver_version,
            tuple(row.uapi),
            dict(row.firmware),
            tuple(row.pins),
            tuple(told[row.id]),
            row.sample,
        )
        for row in rows
        if name is None or name in row.tree or name in row.name
    ]
    found.sort(key=lambda one: (one.date is not None, one.date, one.name), reverse=True)
    return found


def _headers(connection: Connection, *, sample: bool) -> dict[str, frozenset[str]]:
    """Release -> constants of the user header in its newest followed tag."""
    newest: dict[str, tuple[Version, frozenset[str]]] = {}
    for tag, uapi in connection.execute(
        select(DriverRelease.tag, DriverRelease.uapi)
        .join(Tree, Tree.id == DriverRelease.tree_id)
        .join(Source, Source.id == Tree.source_id)
        .where(Source.sample == sample)
    ):
        version = parse_tag(tag)
        if version is not None and (version.window not in newest or newest[version.window][0] < version):
            newest[version.window] = (version, frozenset(map(str, uapi)))
    return {window: names for window, (_, names) in newest.items() if names}
