"""Dates of the coming -rc and release, each with its range and probability. Pure: the day is handed in.

The rule of the calendar (docs/forecast.md): a release is followed by its successor's -rc1 after two weeks,
an -rc by the next after one, the release follows -rc7 after one week, or after two when there is an -rc8;
tags are made on Sundays. What is uncertain is the -rc8, and whether the tag is on the Sunday: both
probabilities come from the tags known on the day of forecasting, never from later ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from tracker.calendar import next_window
from tracker.release_facts import Holiday, TagDay

WEEK = timedelta(days=7)
LAST_RC = 7  # the -rc after which a release may come
MERGE_WEEKS = 2
COVER = 0.97  # a range holds the extra weeks with at least this probability
# What is believed before any tag is seen, as counts: Sunday tags 9 of 10; -rc8 in 1 of 4 cycles.
SUNDAY_PRIOR = (9.0, 10.0)
RC8_PRIOR = (1.0, 4.0)
HOLIDAY_STRENGTH = 2.0  # ordinary cycles stand for so many holiday cycles
STALE = timedelta(days=10)  # a tag so overdue is taken for one that exists but is not known here


@dataclass(frozen=True)
class Milestone:
    """One coming tag. Days are inclusive; ``probability`` is that of the tag being made in the range."""

    name: str
    earliest: date
    likely: date
    latest: date
    probability: float

    @property
    def width(self) -> int:
        """Days from the first to the last day of the range; 0 is one day."""
        return (self.latest - self.earliest).days


@dataclass(frozen=True)
class DateForecast:
    """What is known and what comes. ``following`` is in order; ``next_tag`` is its first, whatever it is."""

    today: date
    newest: TagDay
    rc8: float  # probability of an -rc8 in the cycle that is being made
    stale: bool  # tags after the newest must exist; their days are taken from the rule
    next_tag: Milestone
    next_is_final: float  # probability that the next tag is the release
    release: Milestone
    next_rc1: Milestone
    next_release: Milestone
    rcs: tuple[Milestone, ...]  # those of this cycle that are to come, without an -rc8

    @property
    def window(self) -> str:
        """The release that is being made."""
        return self.release.name.removeprefix("v")

    @property
    def following(self) -> tuple[Milestone, ...]:
        """Every named tag that comes."""
        return (*self.rcs, self.release, self.next_rc1, self.next_release)


def known_on(tags: Sequence[TagDay], today: date) -> list[TagDay]:
    """The tags that a person could know at the end of a day: the only door to the record."""
    return [tag for tag in tags if tag.latest <= today]


def forecast_dates(
    tags: Sequence[TagDay], today: date, holidays: Sequence[Holiday] = ()
) -> DateForecast | None:
    """Forecast at the end of ``today``; tags of later days are not looked at. None without any tag."""
    known = known_on(tags, today)
    if not known:
        return None
    newest = max(known)
    first, last = sunday(newest.earliest), sunday(newest.latest)
    version = newest.version
    window = next_window(version.window) if version.final else version.window
    rc = 0 if version.final else version.rc or 0
    habit = _Habit.of(known, holidays)
    due = MERGE_WEEKS if rc == 0 else 1
    overdue = today >= last + due * WEEK
    stale = today >= last + due * WEEK + STALE
    ahead = _weeks_to_release(rc)  # without an -rc8
    first_rc1 = first + (ahead - LAST_RC) * WEEK
    rc8 = 0.0 if rc > LAST_RC else habit.rc8(habit.on_holiday(first_rc1, last + ahead * WEEK))
    following = next_window(window)
    successor = (ahead + MERGE_WEEKS + LAST_RC) * WEEK
    rc8_next = habit.rc8(habit.on_holiday(first + (ahead + MERGE_WEEKS) * WEEK, last + successor))
    here, there = {0: 1 - rc8, 1: rc8}, {0: 1 - rc8_next, 1: rc8_next}

    def at(name: str, weeks: int, extra: dict[int, float]) -> Milestone:
        least, most, cover = _shortest(extra)
        likely = max(extra, key=lambda count: (extra[count], -count))
        days = [first + (weeks + least) * WEEK, first + (weeks + likely) * WEEK, last + (weeks + most) * WEEK]
        # In a range of weeks a late tag of its first Sunday and an early one of its last are still inside.
        on_day = habit.sunday if least == most else (1 + habit.sunday) / 2
        return _not_before(today, Milestone(name, days[0], days[1], days[2], cover * on_day), stale)

    certain = {0: 1.0}
    rcs = [
        at(f"v{window}-rc{number}", (MERGE_WEEKS + number - 1) if rc == 0 else number - rc, certain)
        for number in range(rc + 1, LAST_RC + 1)
    ]
    release = at(f"v{window}", ahead, here)
    rc1 = at(f"v{following}-rc1", ahead + MERGE_WEEKS, here)
    after = at(f"v{following}", ahead + MERGE_WEEKS + LAST_RC, _sum(here, there))
    is_final = 0.0 if rc < LAST_RC else 1.0 - rc8
    name = rcs[0].name if rcs else f"v{window}" if rc > LAST_RC else f"v{window} or v{window}-rc8"
    following_tag = at(name, due, certain)
    if stale:
        coming = [stone for stone in (*rcs, release, rc1, after) if stone.latest > today]
        rcs = [stone for stone in rcs if stone.latest > today]
        following_tag, is_final = coming[0] if coming else after, 0.0
    elif overdue and today == last + due * WEEK:
        # All late tags of 2019-2026 were made on the Monday; after that the next Sunday is the guess.
        monday = today + timedelta(days=1)
        following_tag = Milestone(name, monday, monday, monday, following_tag.probability)
    return DateForecast(
        today, newest, rc8, stale, following_tag, is_final, release, rc1, after, tuple(rcs)
    )  # fmt: skip


def sunday(day: date) -> date:
    """The nearest Sunday: a tag of Friday or Monday stands for its Sunday."""
    forward = (6 - day.weekday()) % 7
    return day + timedelta(days=forward if forward <= 3 else forward - 7)


@dataclass(frozen=True)
class _Habit:
    """What the known tags say about -rc8 and Sundays."""

    sunday: float
    _plain: tuple[float, float]  # (-rc8, cycles), prior included
    _holiday: tuple[float, float]
    _holidays: tuple[Holiday, ...]

    @classmethod
    def of(cls, known: Sequence[TagDay], holidays: Sequence[Holiday]) -> _Habit:
        exact = [tag for tag in known if tag.exact]
        on_sunday = sum(tag.earliest.weekday() == 6 for tag in exact)
        by_name = {tag.name: tag for tag in known}
        plain, festive = [0.0, 0.0], [0.0, 0.0]
        for tag in known:
            first = by_name.get(f"v{tag.version.window}-rc1")
            if not tag.version.final or first is None:
                continue
            counts = festive if _touched(holidays, first.earliest, first.earliest + LAST_RC * WEEK) else plain
            counts[0] += f"v{tag.version.window}-rc{LAST_RC + 1}" in by_name
            counts[1] += 1
        ordinary = (plain[0] + RC8_PRIOR[0], plain[1] + RC8_PRIOR[1])
        share = HOLIDAY_STRENGTH * ordinary[0] / ordinary[1]
        return cls(
            (on_sunday + SUNDAY_PRIOR[0]) / (len(exact) + SUNDAY_PRIOR[1]),
            ordinary,
            (festive[0] + share, festive[1] + HOLIDAY_STRENGTH),
            tuple(holidays),
        )

    def on_holiday(self, first: date, last: date) -> bool:
        return _touched(self._holidays, first, last)

    def rc8(self, on_holiday: bool) -> float:
        hits, cycles = self._holiday if on_holiday else self._plain
        return hits / cycles


def _touched(holidays: Sequence[Holiday], first: date, last: date) -> bool:
    return any(holiday.touches(first, last) for holiday in holidays)


def _weeks_to_release(rc: int) -> int:
    """From a tag to the release, without an -rc8 to come; ``rc`` 0 stands for the release before."""
    if rc == 0:
        return MERGE_WEEKS + LAST_RC
    return max(1, LAST_RC + 1 - rc)


def _sum(a: dict[int, float], b: dict[int, float]) -> dict[int, float]:
    total: dict[int, float] = {}
    for left, p in a.items():
        for right, q in b.items():
            total[left + right] = total.get(left + right, 0.0) + p * q
    return total


def _shortest(extra: dict[int, float]) -> tuple[int, int, float]:
    """The shortest run of week counts that holds COVER of the probability: (first, last, what it holds)."""
    counts = sorted(extra)
    runs = [
        (counts[j] - counts[i], -cover, counts[i], counts[j])
        for i in range(len(counts))
        for j in range(i, len(counts))
        if (cover := sum(extra[count] for count in counts[i : j + 1])) >= COVER
    ]
    _, cover, least, most = min(runs)
    return least, most, min(1.0, -cover)


def _not_before(today: date, stone: Milestone, stale: bool) -> Milestone:
    """A tag that is not there today is made tomorrow or later; when it is late, the range moves on."""
    if stale or stone.earliest > today:
        return stone
    tomorrow = today + timedelta(days=1)
    latest = max(stone.latest, sunday(tomorrow + timedelta(days=3)))
    return Milestone(
        stone.name, tomorrow, min(max(stone.likely, tomorrow), latest), latest, stone.probability
    )
