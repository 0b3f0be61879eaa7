"""What is new around the driver in a span of time: CVE records, firmware, user space. Read-only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from db.around_tables import FirmwareStep, UserspaceRelease
from db.git_tables import Tree
from db.mail_tables import Source
from tracker.cves.ingest import published_between


@dataclass(frozen=True)
class News:
    """One thing that is new: ``title``, what to know about it, and where it is."""

    title: str
    detail: str
    reference: str


def cve_news(connection: Connection, since: datetime, until: datetime) -> list[News]:
    """CVE records published in the span; the date is that of the record, else of its file."""
    return [
        News(title or name, f"{name}{', ' + severity if severity else ''}", name)
        for name, title, severity in published_between(connection, since, until)
    ]


def firmware_news(connection: Connection, since: datetime, until: datetime) -> list[News]:
    """Names of firmware that a release of the span added, changed or removed; without one, a commit of it."""
    moment = func.coalesce(FirmwareStep.tag_date, FirmwareStep.date)
    rows = connection.execute(
        select(
            FirmwareStep.path, FirmwareStep.what, FirmwareStep.file, FirmwareStep.version, FirmwareStep.tag,
            Tree.name.label("tree"),
        )
        .join(Tree, Tree.id == FirmwareStep.tree_id)
        .join(Source, Source.id == Tree.source_id)
        .where(moment >= since, moment < until, Source.sample.is_(False))
        .order_by(FirmwareStep.tree_id, FirmwareStep.position)
    )  # fmt: skip
    return [
        News(
            row.path,
            f"{row.what}{' to ' + row.version if row.version else ''}, {row.tag or 'no release yet'}",
            row.tree,
        )
        for row in rows
        if row.path != row.file  # the versioned file behind a name is no news of its own
    ]


def userspace_news(connection: Connection, since: datetime, until: datetime) -> list[News]:
    """Releases of user space dated in the span: new tags, and release branches that moved."""
    rows = connection.execute(
        select(
            UserspaceRelease.name, UserspaceRelease.kind, UserspaceRelease.version,
            UserspaceRelease.driver_version, UserspaceRelease.commit_id, Tree.name.label("tree"),
        )
        .join(Tree, Tree.id == UserspaceRelease.tree_id)
        .join(Source, Source.id == Tree.source_id)
        .where(UserspaceRelease.date >= since, UserspaceRelease.date < until, Source.sample.is_(False))
        .order_by(UserspaceRelease.date, UserspaceRelease.name)
    )  # fmt: skip
    found = []
    for row in rows:
        told = [f"{row.kind} {row.commit_id[:12]}"]
        told += [f"version {row.version}"] if row.version else []
        told += [f"driver {row.driver_version}"] if row.driver_version else []
        found.append(News(f"{row.tree} {row.name}", ", ".join(told), row.commit_id[:12]))
    return found
