"""The pairs of an out-of-tree driver as rows, and read again. The edge of `tracker.twin.pairs`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from db.around_tables import TwinPair
from db.database import Database
from db.git_tables import Commit, Landing, Match, Tree
from db.mail_tables import Change, Source
from tracker.errors import NoSuchChangeError
from tracker.twin.pairs import STATUSES, Pair


@dataclass(frozen=True)
class TwinLine:
    """One commit of an out-of-tree driver with what it is upstream."""

    tree: str
    sha: str
    title: str
    author: str
    date: datetime  # of its commit there
    status: str
    change: str | None  # slug
    change_title: str | None
    change_state: str | None
    window: str | None
    upstream: str | None
    rule: str
    score: float
    evidence: str
    first: str | None
    days: float | None
    sample: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values; dates in ISO 8601."""
        return {**asdict(self), "date": self.date.isoformat()}


@dataclass(frozen=True)
class Lacking:
    """A change of mainline that no commit of an out-of-tree driver is paired with."""

    change: str
    title: str
    window: str | None
    date: datetime


@dataclass(frozen=True)
class TwinAnswer:
    """The commits that fit the question, the latest first, and how many there are of each status in all."""

    lines: tuple[TwinLine, ...]
    counts: tuple[tuple[str, int], ...]
    lacking: tuple[Lacking, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; dates in ISO 8601."""
        return {
            "counts": dict(self.counts),
            "commits": [one.to_json() for one in self.lines],
            "lacking": [{**asdict(one), "date": one.date.isoformat()} for one in self.lacking],
        }


def write_pairs(
    connection: Connection,
    twins: Mapping[str, Sequence[Pair]],
    change_ids: Mapping[str, int],
    commit_ids: Mapping[str, int],
) -> None:
    """Replace the pairs of before. ``twins``: tree's name -> the answers for its commits."""
    connection.execute(delete(TwinPair))
    trees = dict(connection.execute(select(Tree.name, Tree.id)).all())
    rows = [
        {
            "tree_id": trees[tree],
            "commit_id": commit_ids[one.sha],
            "change_id": change_ids[one.change] if one.change is not None else None,
            "status": one.status,
            "upstream": one.upstream,
            "rule": one.rule,
            "score": one.score,
            "evidence": one.evidence,
            "first": one.first,
            "days": one.days,
        }
        for tree, pairs in twins.items()
        for one in pairs
    ]
    if rows:
        connection.execute(insert(TwinPair), rows)


def twin_answer(
    database: Database,
    *,
    tree: str | None = None,
    status: str | None = None,
    first: str | None = None,
    author: str | None = None,
    text: str | None = None,
    since: datetime | None = None,
    change: str | None = None,
    limit: int | None = None,
) -> TwinAnswer:
    """The pairs by filters. ``author`` and ``text`` match parts; ``change`` is a slug.

    Raises NoSuchChangeError when no out-of-tree driver is followed.
    """
    query = (
        select(
            Tree.name, Commit.sha, Commit.title, Commit.author_name, Commit.commit_date, TwinPair.status,
            Change.slug, Change.title.label("change_title"), Change.state, Change.window, TwinPair.upstream,
            TwinPair.rule, TwinPair.score, TwinPair.evidence, TwinPair.first, TwinPair.days, Source.sample,
        )
        .join(Commit, Commit.id == TwinPair.commit_id)
        .join(Tree, Tree.id == TwinPair.tree_id)
        .join(Source, Source.id == Tree.source_id)
        .outerjoin(Change, Change.id == TwinPair.change_id)
        .order_by(Commit.commit_date.desc(), Commit.sha)
    )  # fmt: skip
    with database.engine.connect() as connection:
        lines = [TwinLine(*tuple(row)) for row in connection.execute(query)]
        lacking = _lacking(connection, lines) if change is None else ()
    if tree is not None:
        lines = [one for one in lines if one.tree == tree]
    if not lines and change is None:
        wanted = f"no out-of-tree driver is called {tree!r}" if tree else "no out-of-tree driver is followed"
        raise NoSuchChangeError(f'{wanted}; add a [[tree]] with role = "twin" and run `track sync`')
    counts = Counter(one.status for one in lines)
    shown = [
        one
        for one in lines
        if (status is None or one.status == status)
        and (first is None or one.first == first)
        and (author is None or author.lower() in one.author.lower())
        and (text is None or text.lower() in one.title.lower())
        and (since is None or one.date >= since)
        and (change is None or one.change == change)
    ]
    return TwinAnswer(
        tuple(shown[:limit]), tuple((one, counts[one]) for one in STATUSES if counts[one]), lacking
    )


def _lacking(connection: Connection, lines: list[TwinLine]) -> tuple[Lacking, ...]:
    """Changes of mainline since the first paired commit that the twin has not, the latest first."""
    paired = [one for one in lines if one.change is not None]
    if not paired:
        return ()
    have = {one.change for one in paired}
    start = min(one.date for one in paired)
    rows = connection.execute(
        select(Change.slug, Change.title, Change.window, func.min(Commit.commit_date).label("date"))
        .join(Match, Match.change_id == Change.id)
        .join(Commit, Commit.id == Match.commit_id)
        .join(Landing, Landing.commit_id == Commit.id)
        .join(Tree, Tree.id == Landing.tree_id)
        .where(Tree.role == "mainline", Change.sample == paired[0].sample, Change.state != "reverted")
        .group_by(Change.id, Change.slug, Change.title, Change.window)
    )
    found = [Lacking(row.slug, row.title, row.window, row.date) for row in rows if row.slug not in have]
    return tuple(sorted((one for one in found if one.date >= start), key=lambda one: one.date, reverse=True))
