"""What comes: the dates of the coming tags, and when what is applied or queued will be in them. Read-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import select

from db.database import Database
from db.git_tables import Tag, Tree
from db.mail_tables import Source
from tracker import answers
from tracker.answers import ChangeLine
from tracker.calendar import parse_tag, window_key
from tracker.errors import NoSuchChangeError
from tracker.forecast import DateForecast, Milestone, forecast_dates
from tracker.release_facts import TAGGING_ZONE, TagDay, release_facts, tag_days

COMING_STATES = ("queued", "applied", "landed")
WAITING_STATES = ("posted", "reviewed", "changes-requested")


@dataclass(frozen=True)
class Coming:
    """One change on its way. ``first`` is the tag it is expected in, ``release`` the final; None: too far."""

    line: ChangeLine
    first: Milestone | None
    release: Milestone | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; dates in ISO 8601."""
        return {
            **self.line.to_json(),
            "expected_first_tag": milestone_json(self.first),
            "expected_release": milestone_json(self.release),
        }


def known_tags(database: Database) -> tuple[TagDay, ...]:
    """The shipped record with the mainline tags of the trees that are followed; the sample's do not count."""
    query = (
        select(Tag.name, Tag.date)
        .join(Tree, Tree.id == Tag.tree_id)
        .join(Source, Source.id == Tree.source_id)
        .where(Tree.role == "mainline", Tag.date.is_not(None), Source.sample.is_(False))
    )
    with database.engine.connect() as connection:
        rows: list[tuple[str, datetime]] = [(name, day) for name, day in connection.execute(query) if day]
    return tag_days(release_facts().tags, rows)


def dates(database: Database, now: datetime) -> DateForecast:
    """The coming tags. Raises NoSuchChangeError for a day before every known tag."""
    found = forecast_dates(
        known_tags(database), now.astimezone(TAGGING_ZONE).date(), release_facts().holidays
    )
    if found is None:
        raise NoSuchChangeError(f"no mainline tag is known on {now:%Y-%m-%d}; choose a later day")
    return found


def coming(database: Database, now: datetime, name: str | None = None) -> list[Coming]:
    """What is applied, queued or landed but not released, the soonest release first; or one change."""
    forecast = dates(database, now)
    if name is not None:
        lines = [answers.show(database, name).line]
    else:
        lines = [line for state in COMING_STATES for line in answers.changes(database, state=state)]
        lines.sort(key=lambda line: (line.window is None, window_key(line.window) if line.window else ()))
    return [_coming(line, forecast) for line in lines]


def blocked(database: Database) -> list[ChangeLine]:
    """The changes on the list that wait for other work, as mails say."""
    lines = [line for state in WAITING_STATES for line in answers.changes(database, state=state)]
    return [line for line in lines if waits(line.notes)]


def waits(notes: Mapping[str, Any]) -> list[str]:
    """What a change waits for and has not come as far as is known, one sentence each."""
    stated = notes.get("depends", [])
    return [str(one["text"]) for one in stated if one.get("state") != "fulfilled"]


def milestone_json(stone: Milestone | None) -> dict[str, Any] | None:
    """A milestone for ``--json``."""
    if stone is None:
        return None
    return {
        key: value.isoformat() if isinstance(value, date) else value for key, value in asdict(stone).items()
    }


def dates_json(dates: DateForecast) -> dict[str, Any]:
    """The coming tags for ``--json``."""
    return {
        "today": dates.today.isoformat(),
        "newest": dates.newest.name,
        "newest_days": [dates.newest.earliest.isoformat(), dates.newest.latest.isoformat()],
        "stale": dates.stale,
        "rc8": dates.rc8,
        "next_tag": milestone_json(dates.next_tag),
        "next_is_final": dates.next_is_final,
        "following": [milestone_json(stone) for stone in dates.following],
    }


def _coming(line: ChangeLine, forecast: DateForecast) -> Coming:
    stones = {stone.name: stone for stone in forecast.following}
    release = stones.get(f"v{line.window}")
    if line.first_tag is not None and (version := parse_tag(line.first_tag)) is not None:
        return Coming(line, None, release if version.rc is not None else None)
    first: Milestone | None = None
    if line.window == forecast.window:
        # The coming tag of the cycle carries it, whether that is -rc1 or a later one.
        first = forecast.next_tag
        if forecast.rcs and first.name == forecast.rcs[0].name:
            first = replace(first, probability=min(first.probability, line.probability or 1.0))
    elif line.window is not None:
        first = stones.get(f"v{line.window}-rc1")
    return Coming(line, first, release)
