"""The tracker's answers, read from the database: lists, one change whole, one release window.

Read-only. Everything comes back as frozen dataclasses with ``to_json``, for the command line and for pages.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select

from db.database import Database
from db.git_tables import Commit, Landing, Match, Tree
from db.mail_tables import Change, Message, Patch, Series
from tracker.calendar import parse_tag, window_key
from tracker.errors import NoSuchChangeError

STATES = (
    "posted", "reviewed", "changes-requested", "superseded", "applied", "queued", "landed", "released",
    "reverted", "dropped",
)  # fmt: skip
_WINDOW = re.compile(r"^v?(\d{1,3}(?:\.\d{1,3}){1,2})$")


@dataclass(frozen=True)
class ChangeLine:
    """One change in a list."""

    slug: str
    title: str
    author: str
    state: str
    window: str | None
    first_tag: str | None
    probability: float
    rule: str
    first_posted: datetime | None
    last_posted: datetime | None
    versions: int
    commit: str | None  # in mainline where there is one
    notes: dict[str, Any]
    sample: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values; dates in ISO 8601."""
        return _plain(asdict(self))


@dataclass(frozen=True)
class Version:
    """One posting of a change."""

    message_id: str
    subject: str
    version: str
    author: str
    date: datetime | None
    number: int
    total: int
    series: str  # title of its series
    series_rule: str
    link_rule: str | None
    link_score: float | None
    link_evidence: str | None
    files: tuple[str, ...]


@dataclass(frozen=True)
class CommitLine:
    """One commit of a change, in one tree."""

    sha: str
    title: str
    author: str
    author_date: datetime
    commit_date: datetime
    tree: str | None
    role: str | None
    tag: str | None
    window: str | None
    rule: str
    score: float
    evidence: str


@dataclass(frozen=True)
class ChangeAnswer:
    """Everything about one change."""

    line: ChangeLine
    key: str
    evidence: tuple[dict[str, Any], ...]
    versions: tuple[Version, ...] = field(default=())
    commits: tuple[CommitLine, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain values; dates in ISO 8601."""
        return {
            **self.line.to_json(),
            "key": self.key,
            "evidence": list(self.evidence),
            "versions": [_plain(asdict(one)) for one in self.versions],
            "commits": [_plain(asdict(one)) for one in self.commits],
        }


@dataclass(frozen=True)
class WindowAnswer:
    """One release: what landed in it, by the part of the cycle, and what is forecast for it."""

    window: str
    merge_window: tuple[ChangeLine, ...]  # first in -rc1
    fixes: tuple[ChangeLine, ...]  # first in a later -rc or in the release
    untagged: tuple[ChangeLine, ...]  # in mainline, no tag yet
    forecast: tuple[ChangeLine, ...]  # not in mainline: a guess with its probability
    reverted: tuple[ChangeLine, ...]  # landed and undone; also in its part above

    @property
    def total(self) -> int:
        """Changes that git says are in the release."""
        return len(self.merge_window) + len(self.fixes) + len(self.untagged)

    def to_json(self) -> dict[str, Any]:
        """Plain values; dates in ISO 8601."""
        parts = ("merge_window", "fixes", "untagged", "forecast", "reverted")
        return {
            "window": self.window,
            "total": self.total,
            **{part: [line.to_json() for line in getattr(self, part)] for part in parts},
        }


def changes(
    database: Database,
    *,
    state: str | None = None,
    window: str | None = None,
    author: str | None = None,
    text: str | None = None,
    since: datetime | None = None,
    limit: int | None = None,
) -> list[ChangeLine]:
    """Changes by filters, the latest posted or committed first. ``author`` and ``text`` match parts."""
    conditions: list[ColumnElement[bool]] = []
    if state is not None:
        conditions.append(Change.state == state)
    if window is not None:
        conditions.append(Change.window == normal_window(window))
    if author is not None:
        conditions.append(or_(_contains(Change.author_name, author), _contains(Change.author_email, author)))
    if text is not None:
        conditions.append(_contains(Change.title, text))
    with database.engine.connect() as connection:
        lines = _lines(connection, conditions)
    found = [line for date, line in lines if since is None or (date is not None and date >= since)]
    return found[:limit] if limit is not None else found


def show(database: Database, name: str) -> ChangeAnswer:
    """One change by slug, commit id (7 digits or more), message id, or title (whole, else a unique part).

    Raises NoSuchChangeError, which names near titles.
    """
    with database.engine.connect() as connection:
        row = _find(connection, name.strip())
        lines = _lines(connection, [Change.id == row])
        key, evidence = connection.execute(select(Change.key, Change.evidence).where(Change.id == row)).one()
        return ChangeAnswer(
            line=lines[0][1],
            key=key,
            evidence=tuple(evidence),
            versions=_versions(connection, row),
            commits=_commits(connection, row).get(lines[0][1].slug, ()),
        )


def everything(database: Database) -> list[ChangeAnswer]:
    """Every change with its commits, the latest first, in a few queries; without its postings."""
    with database.engine.connect() as connection:
        more = {row.slug: row for row in connection.execute(select(Change.slug, Change.key, Change.evidence))}
        commits = _commits(connection)
        return [
            ChangeAnswer(
                line,
                more[line.slug].key,
                tuple(more[line.slug].evidence),
                commits=commits.get(line.slug, ()),
            )
            for _, line in _lines(connection, [])
        ]


def window(database: Database, name: str) -> WindowAnswer:
    """What is in a release ("7.1", "v7.1", "7.1-rc3"). Raises NoSuchChangeError for other text."""
    wanted = normal_window(name)
    lines = changes(database, window=wanted)
    landed = [line for line in lines if line.probability == 1.0]
    in_order = sorted(landed, key=_tag_order)
    first_rc = [line for line in in_order if line.first_tag is not None and _rc(line.first_tag) == 1]
    later = [line for line in in_order if line.first_tag is not None and _rc(line.first_tag) != 1]
    return WindowAnswer(
        window=wanted,
        merge_window=tuple(first_rc),
        fixes=tuple(later),
        untagged=tuple(line for line in in_order if line.first_tag is None),
        forecast=tuple(line for line in lines if line.probability < 1.0),
        reverted=tuple(line for line in in_order if line.state == "reverted"),
    )


def windows(database: Database) -> list[tuple[str, int]]:
    """(release, changes that git says are in it), the newest release first."""
    with database.engine.connect() as connection:
        rows = connection.execute(
            select(Change.window, func.count())
            .where(Change.window.is_not(None), Change.probability == 1.0)
            .group_by(Change.window)
        )
        return sorted(
            ((str(name), count) for name, count in rows), key=lambda row: window_key(row[0]), reverse=True
        )


def normal_window(name: str) -> str:
    """ "v7.1", "7.1-rc3", "7.1" -> "7.1". Raises NoSuchChangeError for anything else."""
    version = parse_tag(name if name.startswith("v") else f"v{name}")
    if version is not None:
        return version.window
    if _WINDOW.match(name):
        return name.removeprefix("v")
    raise NoSuchChangeError(f"{name!r} is no release; write it as 7.1")


def _contains(column: Any, text: str) -> ColumnElement[bool]:
    return func.lower(column).contains(text.lower(), autoescape=True)


def _lines(
    connection: Connection, conditions: list[ColumnElement[bool]]
) -> list[tuple[datetime | None, ChangeLine]]:
    versions = select(Patch.change_id, func.count().label("n")).group_by(Patch.change_id).subquery("versions")
    rows = connection.execute(
        select(*Change.__table__.c, func.coalesce(versions.c.n, 0).label("n"))
        .outerjoin(versions, versions.c.change_id == Change.id)
        .where(*conditions)
    ).mappings()
    columns = [dict(row) for row in rows]
    commit_of = _main_commits(connection, [row["id"] for row in columns])
    found = []
    for row in columns:
        sha, commit_date = commit_of.get(row["id"], (None, None))
        line = ChangeLine(
            slug=row["slug"],
            title=row["title"],
            author=row["author_name"] or row["author_email"],
            state=row["state"],
            window=row["window"],
            first_tag=row["first_tag"],
            probability=row["probability"],
            rule=row["rule"],
            first_posted=row["first_posted"],
            last_posted=row["last_posted"],
            versions=row["n"],
            commit=sha,
            notes=dict(row["notes"]),
            sample=row["sample"],
        )
        found.append((row["last_posted"] or commit_date, line))
    found.sort(key=lambda entry: (entry[0] is not None, entry[0], entry[1].slug), reverse=True)
    return found


def _main_commits(connection: Connection, rows: list[int]) -> dict[int, tuple[str, datetime]]:
    """Change row -> (its commit in mainline, else any commit; commit date)."""
    found: dict[int, tuple[int, str, datetime]] = {}
    query = (
        select(Match.change_id, Commit.sha, Commit.commit_date, Tree.role)
        .join(Commit, Commit.id == Match.commit_id)
        .outerjoin(Landing, Landing.commit_id == Commit.id)
        .outerjoin(Tree, Tree.id == Landing.tree_id)
        .order_by(Commit.commit_date, Commit.sha)
    )
    if len(rows) < 500:
        query = query.where(Match.change_id.in_(rows))
    for change, sha, date, role in connection.execute(query):
        rank = 0 if role == "mainline" else 1
        if change not in found or rank < found[change][0]:
            found[change] = (rank, sha, date)
    return {change: (sha, date) for change, (_, sha, date) in found.items()}


def _find(connection: Connection, name: str) -> int:
    for condition in (Change.slug == name, Change.key == name.strip("<>"), Change.title == name):
        row = connection.execute(select(Change.id).where(condition).limit(1)).scalar()
        if row is not None:
            return row
    by_mail = (
        select(Patch.change_id)
        .join(Message, Message.id == Patch.message_id)
        .where(Message.message_id == name.strip("<>"), Patch.change_id.is_not(None))
    )
    row = connection.execute(by_mail).scalar()
    if row is not None:
        return row
    if re.fullmatch(r"[0-9a-f]{7,40}", name.lower()):
        rows = set(
            connection.scalars(
                select(Match.change_id)
                .join(Commit, Commit.id == Match.commit_id)
                .where(Commit.sha.startswith(name.lower(), autoescape=True))
            )
        )
        if len(rows) == 1:
            return rows.pop()
        if rows:
            raise NoSuchChangeError(f"{name} begins the ids of {len(rows)} commits; give more digits")
    like = connection.execute(
        select(Change.id, Change.title).where(_contains(Change.title, name)).order_by(Change.title).limit(6)
    ).all()
    if len(like) == 1:
        return int(like[0].id)
    if like:
        titles = "; ".join(row.title for row in like[:5])
        raise NoSuchChangeError(f"{name!r} is in several titles, give more of one: {titles}")
    raise NoSuchChangeError(
        f"no change is called {name!r}; give a slug, a commit id, a message id or a title"
        " (see `xdnawatch track changes`)"
    )


def _versions(connection: Connection, row: int) -> tuple[Version, ...]:
    query = (
        select(
            Message.message_id, Message.subject, Series.version, Message.author_name, Message.author_email,
            Message.date, Patch.number, Series.total, Series.title.label("series"), Series.rule,
            Patch.link_rule, Patch.link_score, Patch.link_evidence, Patch.files,
        )
        .join(Message, Message.id == Patch.message_id)
        .join(Series, Series.id == Patch.series_id)
        .where(Patch.change_id == row)
        .order_by(Message.date, Message.message_id)
    )  # fmt: skip
    return tuple(
        Version(
            message_id=one.message_id,
            subject=one.subject,
            version=one.version,
            author=one.author_name or one.author_email,
            date=one.date,
            number=one.number,
            total=one.total,
            series=one.series,
            series_rule=one.rule,
            link_rule=one.link_rule,
            link_score=one.link_score,
            link_evidence=one.link_evidence,
            files=tuple(one.files),
        )
        for one in connection.execute(query)
    )


def _commits(connection: Connection, row: int | None = None) -> dict[str, tuple[CommitLine, ...]]:
    """Slug -> the commits of the change in each tree; of one change, or of all."""
    query = (
        select(
            Change.slug, Commit.sha, Commit.title, Commit.author_name, Commit.author_date, Commit.commit_date,
            Tree.name, Tree.role, Landing.tag, Landing.window, Match.rule, Match.score, Match.evidence,
        )
        .join(Match, Match.change_id == Change.id)
        .join(Commit, Match.commit_id == Commit.id)
        .outerjoin(Landing, Landing.commit_id == Commit.id)
        .outerjoin(Tree, Tree.id == Landing.tree_id)
        .order_by(Commit.commit_date, Commit.sha, Tree.name)
    )  # fmt: skip
    found: dict[str, list[CommitLine]] = {}
    for slug, *values in connection.execute(query if row is None else query.where(Change.id == row)):
        found.setdefault(slug, []).append(CommitLine(*values))
    return {slug: tuple(lines) for slug, lines in found.items()}


def _rc(tag: str) -> int | None:
    version = parse_tag(tag)
    return version.rc if version else None


def _tag_order(line: ChangeLine) -> tuple[bool, Any, str]:
    version = parse_tag(line.first_tag) if line.first_tag else None
    return (version is None, version.order if version else (), line.title.lower())


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.isoformat()
        if isinstance(value, datetime)
        else list(value)
        if isinstance(value, tuple)
        else value
        for key, value in values.items()
    }
