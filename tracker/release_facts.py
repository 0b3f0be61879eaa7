"""The shipped record of mainline tags (tracker/data/releases.json), and tags of the database, as `TagDay`.

The edge that reads; nothing is forecast here. Exceptions (versions that follow oddly, holidays) are data
with their sources in the same file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from functools import cache
from importlib.resources import files

from tracker.calendar import Version, parse_tag

# A tag of git is stored in UTC; most are made on a Sunday afternoon on the west coast of America, which in
# UTC may be Monday. Eight hours back gives the day the release is named by (facts tracking.md 2.4).
TAGGING_ZONE = timezone(timedelta(hours=-8))


@dataclass(frozen=True, order=True)
class TagDay:
    """A mainline tag and its day. ``earliest`` and ``latest`` differ where only bounds are recorded."""

    version: Version
    name: str
    earliest: date
    latest: date

    @property
    def exact(self) -> bool:
        """The day is recorded, so a forecast of it can be scored."""
        return self.earliest == self.latest


@dataclass(frozen=True)
class Holiday:
    """Days of every year, (month, day) to (month, day), that may run over the year's end."""

    name: str
    first: tuple[int, int]
    last: tuple[int, int]

    def touches(self, first: date, last: date) -> bool:
        """Whether the days from ``first`` to ``last`` have one of the holiday's among them."""
        day = first
        while day <= last:
            place = (day.month, day.day)
            inside = (
                self.first <= place <= self.last
                if self.first <= self.last
                else place >= self.first or place <= self.last
            )
            if inside:
                return True
            day += timedelta(days=1)
        return False


@dataclass(frozen=True)
class ReleaseFacts:
    """What is shipped: tags in release order, and the holidays."""

    tags: tuple[TagDay, ...]
    holidays: tuple[Holiday, ...]


@cache
def release_facts() -> ReleaseFacts:
    """Read the shipped record."""
    raw = json.loads(files("tracker").joinpath("data/releases.json").read_text("utf-8"))
    days = {name: (day, day) for name, day in raw["tags"].items()}
    days |= {name: (first, last) for name, (first, last, _source) in raw["bounds"].items()}
    tags = [
        TagDay(version, name, date.fromisoformat(first), date.fromisoformat(last))
        for name, (first, last) in days.items()
        if (version := parse_tag(name)) is not None
    ]
    holidays = [
        Holiday(one["name"], _month_day(one["from"]), _month_day(one["to"])) for one in raw["holidays"]
    ]
    return ReleaseFacts(tuple(sorted(tags)), tuple(holidays))


def tag_days(shipped: Iterable[TagDay], known: Iterable[tuple[str, datetime]]) -> tuple[TagDay, ...]:
    """The shipped record with tags of git (name, UTC date); git wins. In release order, no stable updates."""
    days = {tag.name: tag for tag in shipped}
    for name, moment in known:
        version = parse_tag(name)
        if version is not None and not version.stable:
            day = moment.astimezone(TAGGING_ZONE).date()
            days[name] = TagDay(version, name, day, day)
    return tuple(sorted(days.values()))


def _month_day(text: str) -> tuple[int, int]:
    month, day = text.split("-")
    return int(month), int(day)
