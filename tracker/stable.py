"""The stable answers, read from the database: `tracker.backports` over what is stored. Read-only."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from db.base import utc_now
from db.database import Database
from db.distribution_tables import ListedTitle, Upload
from db.git_tables import Commit, Landing, Match, Tag, Tree
from db.mail_tables import Change, Message, Source
from tracker.backports import (
    Backport,
    BackportOnlyBug,
    Branch,
    BranchCommit,
    Mainline,
    MainlineChange,
    backport_only_bugs,
    judge_backports,
)
from tracker.calendar import Version, parse_tag, window_key
from tracker.mail.body import upstream_commit
from tracker.stable_mail import StableMail, read_stable_mail

# "linux-6.18.y", "stable-7.1", "v6.18": the base release in a tree's name.
_BASE = re.compile(r"(?<![\d.])(\d{1,2}\.\d{1,3})(?:\.y)?(?![\d.])")


@dataclass(frozen=True)
class StableAnswer:
    """Mainline's changes in the followed stable branches. ``ended``: branches without recent updates."""

    branches: tuple[Branch, ...]
    backports: tuple[Backport, ...]
    only_here: tuple[BackportOnlyBug, ...]
    ended: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values. Inherited rows (the branch began with the change) are left out."""
        return {
            "branches": [
                {
                    "name": one.name,
                    "base": one.base,
                    "newest": one.newest,
                    "newest_date": one.newest_date.isoformat() if one.newest_date else None,
                    "ended": one.name in self.ended,
                }
                for one in self.branches
            ],
            "backports": [
                {**asdict(one), "evidence": list(one.evidence)} for one in self.backports if not one.inherited
            ],
            "backport_only_bugs": [asdict(one) for one in self.only_here],
        }


def stable(
    database: Database, *, branch: str | None = None, change: str | None = None, now: datetime | None = None
) -> StableAnswer:
    """Judge the followed stable branches. ``branch``: part of a name or base; ``change``: a slug."""
    branches: list[Branch] = []
    backports: list[Backport] = []
    only_here: list[BackportOnlyBug] = []
    with database.engine.connect() as connection:
        for sample in (False, True):  # what the project generated never explains what people wrote
            here = [
                one
                for one in read_branches(connection, sample=sample)
                if branch is None or branch in (one.name, one.base)
            ]
            changes, mainline = read_mainline(connection, sample=sample)
            mails = read_mails(connection, sample=sample)
            wanted = [one for one in changes if change is None or one.key == change]
            backports += judge_backports(wanted, here, mails, mainline)
            only_here += backport_only_bugs(changes, here, mainline)
            branches += here
    moment = now or utc_now()
    return StableAnswer(
        tuple(branches),
        tuple(backports),
        tuple(one for one in only_here if change is None or one.fix == change),
        tuple(one.name for one in branches if one.ended(moment)),
    )


def read_branches(connection: Connection, *, sample: bool) -> list[Branch]:
    """The trees of role ``stable``, the newest base first."""
    commits: dict[int, list[BranchCommit]] = defaultdict(list)
    rows = connection.execute(
        select(
            Landing.tree_id, Landing.tag, Commit.sha, Commit.title, Commit.upstream, Commit.reverts,
            Commit.commit_date,
        )
        .join(Commit, Commit.id == Landing.commit_id)
        .join(Tree, Tree.id == Landing.tree_id)
        .where(Tree.role == "stable")
        .order_by(Commit.commit_date, Commit.sha)
    )  # fmt: skip
    for row in rows:
        commits[row.tree_id].append(
            BranchCommit(row.sha, row.title, row.upstream, row.reverts, row.tag, row.commit_date)
        )
    tags: dict[int, list[tuple[Version, str, datetime | None]]] = defaultdict(list)
    for tree_id, name, date in connection.execute(
        select(Tag.tree_id, Tag.name, Tag.date)
        .join(Tree, Tree.id == Tag.tree_id)
        .where(Tree.role == "stable")
    ):
        if (version := parse_tag(name)) is not None:
            tags[tree_id].append((version, name, date))
    listed: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for title, update in connection.execute(
        select(ListedTitle.title, ListedTitle.version)
        .join(Upload, Upload.id == ListedTitle.upload_id)
        .join(Source, Source.id == Upload.source_id)
        .where(Source.sample == sample)
    ):
        if (version := parse_tag(f"v{update}")) is not None:
            listed[version.window].append((title, update))
    found = []
    trees = connection.execute(
        select(Tree.id, Tree.name)
        .join(Source, Source.id == Tree.source_id)
        .where(Tree.role == "stable", Source.sample == sample)
    )
    for tree_id, name in trees:
        base = _base(name, [one.tag for one in commits[tree_id] if one.tag])
        if base is None:
            continue
        own = [one for one in tags[tree_id] if one[0].window == base and one[0].final]
        newest = max(own, key=lambda one: one[0], default=None)
        found.append(
            Branch(
                name,
                base,
                newest[1] if newest else None,
                newest[2] if newest else None,
                tuple(commits[tree_id]),
                tuple(listed[base]),
            )
        )
    return sorted(found, key=lambda one: (window_key(one.base), one.name), reverse=True)


def read_mainline(connection: Connection, *, sample: bool) -> tuple[list[MainlineChange], Mainline]:
    """The changes that are in mainline, the latest release first, and every commit of the driver there."""
    windows: dict[str, str | None] = {}
    tag_of: dict[str, str | None] = {}
    in_mainline = (
        select(Commit.sha, Landing.window, Landing.tag)
        .join(Landing, Landing.commit_id == Commit.id)
        .join(Tree, Tree.id == Landing.tree_id)
        .join(Source, Source.id == Tree.source_id)
        .where(Tree.role == "mainline", Source.sample == sample)
    )
    for sha, window, tag in connection.execute(in_mainline):
        windows[sha] = window
        tag_of[sha] = tag
    shas: dict[int, list[str]] = defaultdict(list)
    trailers: dict[int, list[tuple[str, str]]] = defaultdict(list)
    rows = connection.execute(
        select(Match.change_id, Commit.sha, Commit.trailers)
        .join(Commit, Commit.id == Match.commit_id)
        .order_by(Commit.commit_date, Commit.sha)
    )
    for change_id, sha, found in rows:
        shas[change_id].append(sha)
        if sha in windows:
            trailers[change_id] += [(str(key), str(value)) for key, value in found]
    changes = []
    every = select(Change.id, Change.slug, Change.title, Change.state).where(Change.sample == sample)
    for row in connection.execute(every):
        own = tuple(sha for sha in shas[row.id] if sha in windows)
        if own:
            changes.append(
                MainlineChange(
                    row.slug,
                    row.title,
                    own,
                    frozenset(shas[row.id]),
                    windows[own[0]],
                    tag_of[own[0]],
                    tuple(trailers[row.id]),
                    row.state == "reverted",
                )
            )
    changes.sort(key=lambda one: one.title.lower())
    changes.sort(key=lambda one: window_key(one.window) if one.window else (999,), reverse=True)
    return changes, Mainline(windows)


def read_mails(connection: Connection, *, sample: bool) -> list[StableMail]:
    """The mails of the stable process that are stored."""
    rows = connection.execute(
        select(Message.message_id, Message.subject, Message.date, Message.body)
        .join(Source, Source.id == Message.source_id)
        .where(Message.kind.in_(("stable", "other", "report")), Source.sample == sample)
        .order_by(Message.date, Message.message_id)
    )
    read = (
        read_stable_mail(row.message_id, row.subject, row.date, upstream_commit(row.body[:4000]))
        for row in rows
    )
    return [one for one in read if one is not None]


def _base(name: str, tags: list[str]) -> str | None:
    """The release a stable tree is made on: by its name, else by its newest update's tag."""
    named = _BASE.search(name)
    if named is not None:
        return named[1]
    versions = [version for tag in tags if (version := parse_tag(tag)) is not None]
    return max(versions).window if versions else None
