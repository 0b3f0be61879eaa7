"""The week of the driver in plain text, as a maintainer would read it in a mail. Read-only.

What happened by date (posted, applied, in mainline, released, in stable updates) comes before what waits
(without an answer, missing in stable). Nothing in it is a judgement of its own: see `tracker.windows` and
`tracker.backports`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from db.database import Database
from db.git_tables import Tag, Tree
from db.mail_tables import Source
from tracker.answers import ChangeLine, changes, show
from tracker.calendar import parse_tag
from tracker.news import cve_news, firmware_news, userspace_news
from tracker.stable import stable

WIDTH = 72  # columns, as mail has them
UNANSWERED_AFTER = timedelta(days=14)  # the usual patience before a ping (submitting-patches.rst: 1-2 weeks)
UNANSWERED_UNTIL = timedelta(days=120)  # older ones are not news
MOST = 40  # entries of a section


@dataclass(frozen=True)
class Entry:
    """One line: a title with what to know about it and where to look."""

    title: str
    detail: str
    reference: str


@dataclass(frozen=True)
class Section:
    """A heading with its entries; ``left_out`` more were not printed."""

    heading: str
    entries: tuple[Entry, ...]
    left_out: int = 0


@dataclass(frozen=True)
class Digest:
    """What happened from ``since`` (inclusive) to ``until`` (exclusive)."""

    driver: str
    since: datetime
    until: datetime
    sections: tuple[Section, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; dates in ISO 8601."""
        return {
            "driver": self.driver,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "sections": [asdict(one) for one in self.sections],
        }

    def text(self) -> str:
        """The mail's body: plain text, no line longer than 72 columns unless it is one word."""
        last = self.until - timedelta(seconds=1)
        head = f"{self.driver}: {self.since:%Y-%m-%d} to {last:%Y-%m-%d}"
        parts = [head, "=" * len(head), ""]
        shown = [one for one in self.sections if one.entries]
        if not shown:
            parts += ["Nothing happened.", ""]
        for section in shown:
            title = f"{section.heading} ({len(section.entries) + section.left_out})"
            parts += [title, "-" * len(title)]
            for entry in section.entries:
                parts += _wrapped(entry.title, "* ", "  ")
                parts += _wrapped(entry.detail, "    ", "    ")
                parts += _wrapped(entry.reference, "    ", "    ")
            if section.left_out:
                parts.append(f"  ... and {section.left_out} more")
            parts.append("")
        return "\n".join(parts)


def digest(database: Database, driver: str, until: datetime, *, days: int = 7) -> Digest:
    """The digest of the ``days`` days before ``until``. Changes of the sample are left out."""
    since = until - timedelta(days=days)

    def inside(date: datetime | None) -> bool:
        return date is not None and since <= date < until

    lines = [line for line in changes(database) if not line.sample]
    tags = _tags(database)
    dates: dict[str, datetime] = {name: date for _, name, date in tags}
    landed = [line for line in lines if line.first_tag and inside(dates.get(line.first_tag))]
    applied = [
        (line, date, tree)
        for line in lines
        if line.state in ("applied", "queued")
        for date, tree in [_applied(database, line)]
        if inside(date)
    ]
    new = [line for line in lines if inside(line.first_posted)]
    again = [line for line in lines if inside(line.last_posted) and not inside(line.first_posted)]
    waiting = [
        line
        for line in lines
        if line.state == "posted"
        and line.last_posted is not None
        and until - UNANSWERED_UNTIL <= line.last_posted < until - UNANSWERED_AFTER
    ]
    sections = [
        _section("Releases", [Entry(name, f"{date:%Y-%m-%d} in {tree}", "") for tree, name, date in tags
                              if inside(date)]),
        _section("In mainline, by tag", [_entry(one, f"{one.first_tag}, {one.state}") for one in landed]),
        _section("Applied by maintainers",
                 [_entry(one, f"{tree}, {_forecast(one)}") for one, _, tree in applied]),
        _section("New patches", [_entry(one, f"{one.author}, {one.state}") for one in new]),
        _section("New versions", [_entry(one, f"{one.author}, version {one.versions} of it, {one.state}")
                                  for one in again]),
        *_stable_sections(database, dates, since, until),
        *_around_sections(database, since, until),
        _section("Without an answer for two weeks",
                 [_entry(one, f"{one.author}, {one.last_posted:%Y-%m-%d}") for one in waiting]),
    ]  # fmt: skip
    return Digest(driver, since, until, tuple(sections))


def _stable_sections(
    database: Database, dates: dict[str, datetime], since: datetime, until: datetime
) -> Iterable[Section]:
    found = stable(database, now=until)
    ports = [one for one in found.backports if not one.inherited and one.branch not in found.ended]
    came: list[Entry] = []
    for one in ports:
        date = dates.get(f"v{one.version}")
        if one.state == "present" and date is not None and since <= date < until:
            came.append(Entry(one.title, f"{one.version} of {date:%Y-%m-%d}", one.evidence[0]))
    yield _section("In stable updates", came)
    for state, heading in (("missing", "Missing in stable"), ("failed", "Failed to apply to stable")):
        yield _section(
            heading,
            [
                Entry(one.title, f"{one.branch}: {one.evidence[0] if one.evidence else one.rule}", one.change)
                for one in ports
                if one.state == state
            ],
        )


def _around_sections(database: Database, since: datetime, until: datetime) -> Iterable[Section]:
    with database.engine.connect() as connection:
        for heading, news in (
            ("New CVE records", cve_news),
            ("New firmware", firmware_news),
            ("Releases of user space", userspace_news),
        ):
            found = [Entry(one.title, one.detail, one.reference) for one in news(connection, since, until)]
            yield _section(heading, found)


def _tags(database: Database) -> list[tuple[str, str, datetime]]:
    """(tree, tag, date) of releases and candidates, by date; each tag once."""
    with database.engine.connect() as connection:
        rows = connection.execute(
            select(Tree.name, Tree.role, Tag.name.label("tag"), Tag.date)
            .join(Tree, Tree.id == Tag.tree_id)
            .join(Source, Source.id == Tree.source_id)
            .where(Tag.date.is_not(None), Source.sample.is_(False), Tree.role.in_(("mainline", "stable")))
        ).all()
    found: dict[str, tuple[str, str, datetime]] = {}
    for row in rows:
        version = parse_tag(row.tag)
        if version is not None and version.stable == (row.role == "stable") and row.date is not None:
            found.setdefault(row.tag, (row.name if row.role == "mainline" else "stable", row.tag, row.date))
    return sorted(found.values(), key=lambda one: (one[2], one[1]))


def _applied(database: Database, line: ChangeLine) -> tuple[datetime | None, str]:
    """When and where a maintainer took a change, by its commits."""
    commits = [
        one for one in show(database, line.slug).commits if one.role in ("maintainer", "next") and one.tree
    ]
    first = min(commits, key=lambda one: one.commit_date, default=None)
    return (first.commit_date, str(first.tree)) if first else (None, "")


def _forecast(line: ChangeLine) -> str:
    return f"expected in {line.window} ({line.probability:.0%})" if line.window else "no forecast"


def _entry(line: ChangeLine, detail: str) -> Entry:
    return Entry(line.title, detail, line.commit[:12] if line.commit else line.slug)


def _section(heading: str, entries: list[Entry]) -> Section:
    return Section(heading, tuple(entries[:MOST]), max(0, len(entries) - MOST))


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    """Text from outside in lines of a mail, without control characters."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return textwrap.wrap(
        plain, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
