"""Which kernel has a change: mainline, other trees, stable branches, distributions. Read-only.

A distribution's kernel carries a change when the release it is made from does: mainline's first tag is not
later, or the stable update that has the change is not later. What a distribution patches by itself is not
known. Every line carries the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from db.database import Database
from db.distribution_tables import ListedTitle, Upload
from db.mail_tables import Source
from tracker.answers import ChangeAnswer, show
from tracker.backports import Backport
from tracker.calendar import Version, parse_tag, window_key
from tracker.errors import NoSuchChangeError
from tracker.mail.subject import normal_title
from tracker.stable import stable


@dataclass(frozen=True)
class Carrier:
    """One line of the answer.

    ``kind``: mainline, tree, stable or distribution. ``carries``: yes, no, queued, forecast or unknown.
    ``since`` is the first version there that has the change.
    """

    kind: str
    name: str
    carries: str
    since: str | None
    date: datetime | None
    why: str


@dataclass(frozen=True)
class WhereAnswer:
    """Where one change is. ``slug`` is None for a title that only a distribution's changelog knows."""

    title: str
    slug: str | None
    state: str | None
    window: str | None
    commit: str | None
    carriers: tuple[Carrier, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; dates in ISO 8601."""
        carriers = [
            {**asdict(one), "date": one.date.isoformat() if one.date else None} for one in self.carriers
        ]
        return {
            "title": self.title,
            "slug": self.slug,
            "state": self.state,
            "window": self.window,
            "commit": self.commit,
            "carriers": carriers,
        }


@dataclass(frozen=True)
class Shipped:
    """One kernel of a distribution. ``upstream`` is the release it is made from."""

    distribution: str
    suite: str
    version: str
    date: datetime | None
    upstream: Version


@dataclass(frozen=True)
class Reach:
    """In which releases a change is: everything `carried` needs. Versions are tags of Linux.

    ``updates``: base -> the first stable update with it. ``followed``: bases of which every update is known.
    """

    first: Version | None
    undone: Version | None
    updates: Mapping[str, Version]
    followed: frozenset[str]


def where(database: Database, name: str, *, now: datetime | None = None) -> WhereAnswer:
    """Which kernels have the change called ``name``: a slug, commit id, message id, title or part of one.

    Raises NoSuchChangeError when neither a change nor a distribution's changelog knows it.
    """
    try:
        found = show(database, name)
    except NoSuchChangeError:
        return _listed_only(database, name)
    judged = stable(database, change=found.line.slug, now=now)
    with database.engine.connect() as connection:
        listed = listed_updates(connection)
        shipped = shipped_kernels(connection, sample=found.line.sample)
    followed = frozenset(branch.base for branch in judged.branches)
    return answer(found, reach_of(found, judged.backports, listed, followed), judged.backports, shipped)


def answer(
    found: ChangeAnswer, reach: Reach, ports: Iterable[Backport], shipped: Iterable[Shipped]
) -> WhereAnswer:
    """The carriers of one change, from what was read. Pure."""
    line = found.line
    carriers = [_mainline(found), *_trees(found), *map(_stable, ports), *distributions(shipped, reach)]
    return WhereAnswer(line.title, line.slug, line.state, line.window, line.commit, tuple(carriers))


def carried(upstream: Version, reach: Reach) -> tuple[str, str]:
    """(yes | no | unknown, why) for a kernel made from ``upstream``. Pure."""
    name = upstream.tag
    if reach.undone is not None and upstream >= reach.undone:
        return "no", f"{name} has the revert of {reach.undone.tag}"
    if reach.first is not None and upstream >= reach.first:
        return "yes", f"{name} is not before {reach.first.tag}"
    update = reach.updates.get(upstream.window)
    if update is not None:
        if upstream >= update:
            return "yes", f"{name} has the update {update.tag}"
        return "no", f"{name} is before the update {update.tag}"
    if not upstream.stable or upstream.window in reach.followed:
        return "no", f"{name} has it not"
    return "unknown", f"the updates of {upstream.window} are not followed"


def distributions(shipped: Iterable[Shipped], reach: Reach) -> list[Carrier]:
    """For each suite: whether its newest kernel has the change, and since which upload. ``shipped``: oldest
    first. Pure."""
    suites: dict[tuple[str, str], list[Shipped]] = {}
    for one in shipped:
        suites.setdefault((one.distribution, one.suite), []).append(one)
    answers = []
    for (distribution, suite), uploads in suites.items():
        newest = uploads[-1]
        carries, why = carried(newest.upstream, reach)
        first = next((one for one in uploads if carried(one.upstream, reach)[0] == "yes"), None)
        shown = first if carries == "yes" and first is not None else None
        answers.append(
            Carrier(
                "distribution",
                f"{distribution} {suite}",
                carries,
                shown.version if shown else None,
                shown.date if shown else None,
                f"newest there is {newest.version}: {why}",
            )
        )
    return answers


def _mainline(found: ChangeAnswer) -> Carrier:
    line = found.line
    dates = [one.commit_date for one in found.commits if one.role == "mainline"]
    if line.state == "reverted":
        undone = line.notes.get("reverted", {})
        why = f"reverted in {undone.get('tag') or 'mainline, no tag yet'}"
        return Carrier("mainline", "mainline", "no", line.first_tag, min(dates, default=None), why)
    if dates:
        return Carrier("mainline", "mainline", "yes", line.first_tag, min(dates), line.rule)
    if line.window is not None:
        why = f"{line.rule}; {line.probability:.0%}"
        return Carrier("mainline", "mainline", "forecast", f"v{line.window}", None, why)
    return Carrier("mainline", "mainline", "no", None, None, line.rule)


def _trees(found: ChangeAnswer) -> list[Carrier]:
    return [
        Carrier("tree", one.tree, "yes", one.tag, one.commit_date, f"{one.sha[:12]} by {one.rule}")
        for one in found.commits
        if one.tree is not None and one.role not in ("mainline", "stable")
    ]


def _stable(port: Backport) -> Carrier:
    carries = {"present": "yes", "queued": "queued", "unknown": "unknown"}.get(port.state, "no")
    why = f"{port.state}: {port.evidence[0] if port.evidence else port.rule}"
    return Carrier("stable", port.branch, carries, port.version, None, why)


def reach_of(
    found: ChangeAnswer,
    ports: Iterable[Backport],
    listed: Mapping[str, list[str]],
    followed: frozenset[str],
) -> Reach:
    """In which releases a change is. ``listed``: see `listed_updates`; ``followed``: bases of stable
    branches. Pure."""
    updates: dict[str, Version] = {}
    for port in ports:
        version = parse_tag(f"v{port.version}") if port.version and port.state == "present" else None
        if version is not None and not port.inherited:
            updates[port.base] = version
    for text in listed.get(normal_title(found.line.title), ()):
        version = parse_tag(f"v{text}")
        if version is not None and (version.window not in updates or version < updates[version.window]):
            updates[version.window] = version
    undone = found.line.notes.get("reverted", {})
    gone = isinstance(undone, dict) and not undone.get("landed_again")
    return Reach(
        parse_tag(found.line.first_tag) if found.line.first_tag and _in_mainline(found) else None,
        parse_tag(str(undone.get("tag"))) if gone and undone.get("tag") else None,
        updates,
        followed,
    )


def _in_mainline(found: ChangeAnswer) -> bool:
    return any(one.role == "mainline" for one in found.commits)


def shipped_kernels(connection: Connection, *, sample: bool) -> list[Shipped]:
    """The kernels of the followed distributions, the oldest upload of each first."""
    rows = connection.execute(
        select(Source.name, Upload.suite, Upload.version, Upload.date, Upload.upstream)
        .join(Source, Source.id == Upload.source_id)
        .where(Upload.upstream.is_not(None), Source.sample == sample)
        .order_by(Source.name, Upload.position)
    )
    return [
        Shipped(name, suite, version, date, upstream)
        for name, suite, version, date, tag in rows
        if (upstream := parse_tag(str(tag))) is not None
    ]


def listed_updates(connection: Connection) -> dict[str, list[str]]:
    """Normal title -> the stable updates of which a changelog lists it."""
    found: dict[str, list[str]] = {}
    for version, text in connection.execute(select(ListedTitle.version, ListedTitle.title)):
        found.setdefault(normal_title(text), []).append(version)
    return found


def _listed_only(database: Database, name: str) -> WhereAnswer:
    """The answer for a title that no change has, from changelogs alone."""
    with database.engine.connect() as connection:
        rows = connection.execute(
            select(ListedTitle.title, ListedTitle.version).where(
                func.lower(ListedTitle.title).contains(name.strip().lower(), autoescape=True)
            )
        ).all()
        shipped = shipped_kernels(connection, sample=False)
    titles = sorted({row.title for row in rows})
    if not titles:
        # The words of `show`, which name near titles, are the better answer.
        show(database, name)
        raise NoSuchChangeError(f"nothing is called {name!r}")
    if len(titles) > 1:
        raise NoSuchChangeError(f"{name!r} is in several titles, give more of one: {'; '.join(titles[:5])}")
    updates: dict[str, Version] = {}
    for row in sorted(rows, key=lambda one: window_key(one.version)):
        version = parse_tag(f"v{row.version}")
        if version is not None:
            updates.setdefault(version.window, version)
    carriers = [
        Carrier("stable", base, "yes", version.tag[1:], None, "a distribution's changelog lists it")
        for base, version in updates.items()
    ]
    reach = Reach(None, None, updates, frozenset())
    answers = (*carriers, *distributions(shipped, reach))
    return WhereAnswer(titles[0], None, None, None, None, answers)
