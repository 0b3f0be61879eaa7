"""Forecasts replayed day by day over the recorded past, and scored. Pure.

Each day sees only what was known at its end (`tracker.forecast.known_on`, `tracker.window_forecast.Ledger`).
The comparison is the calendar rule of kernel-tea-leaves as facts tracking.md 2.4 states it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from tracker.applied_history import AppliedCase
from tracker.forecast import LAST_RC, WEEK, Milestone, forecast_dates, sunday
from tracker.release_facts import Holiday, TagDay
from tracker.window_forecast import Ledger, forecast_window, situation

BINS = 10  # of the reliability table
TARGETS = ("next tag", "release", "next -rc1", "next release")
# What the backtest is asked to prove: the coming tag and the release (docs/forecast.md).
COMING = TARGETS[:2]


@dataclass(frozen=True)
class DateScore:
    """One kind of date over all days. Widths in days; rates of 1. ``peer`` is the calendar rule."""

    target: str
    days: int
    hits: int
    width: float
    peer_hits: int
    peer_width: float
    events: int  # different tags
    event_hits: int  # tags inside the range that was forecast on the day the tag before them was known

    @property
    def rate(self) -> float:
        """Share of days whose range held the truth."""
        return self.hits / self.days if self.days else 0.0

    @property
    def peer_rate(self) -> float:
        """The same for the calendar rule."""
        return self.peer_hits / self.days if self.days else 0.0


@dataclass(frozen=True)
class Bin:
    """Forecasts whose probability is in [low, high): what was said on average, and what happened."""

    low: float
    high: float
    count: int
    said: float
    happened: float


@dataclass(frozen=True)
class Calibration:
    """Scores of probabilities. ``brier`` is the mean squared error: 0 is perfect, 0.25 a coin's."""

    what: str
    count: int
    brier: float
    base: float  # Brier score of always saying how often it happens
    table: tuple[Bin, ...]


@dataclass(frozen=True)
class DateBacktest:
    """The replay of the dates."""

    first: date
    last: date
    scores: tuple[DateScore, ...]
    inside: Calibration  # "the tag is in the range"
    rc8: Calibration  # "this cycle gets an -rc8", each day


def backtest_dates(
    tags: Sequence[TagDay],
    holidays: Sequence[Holiday] = (),
    first: date | None = None,
    last: date | None = None,
) -> DateBacktest:
    """Replay every day from ``first`` (default: the oldest tag) to ``last`` (the newest exact tag)."""
    ordered = sorted(tags)
    exact = [tag for tag in ordered if tag.exact]
    if not exact:
        raise ValueError("no tag with a recorded day: there is nothing to replay")
    begin, end = first or exact[0].earliest, last or exact[-1].earliest
    truth = {tag.name: tag for tag in ordered}
    tallies: dict[str, _Tally] = {target: _Tally() for target in TARGETS}
    inside: list[tuple[float, bool]] = []
    rc8: list[tuple[float, bool]] = []
    day = begin
    while day <= end:
        forecast = forecast_dates(ordered, day, holidays)
        day += timedelta(days=1)
        if forecast is None or forecast.stale:
            continue
        peer = calendar_rule(forecast.newest)
        position = ordered.index(forecast.newest) + 1
        if position == len(ordered):
            break
        coming = ordered[position]
        stones = (forecast.next_tag, forecast.release, forecast.next_rc1, forecast.next_release)
        for target, stone, simple in zip(TARGETS, stones, peer, strict=True):
            found = coming if target == TARGETS[0] else truth.get(stone.name)
            if found is None or not found.exact or found.earliest > end:
                continue
            hit = tallies[target].add(forecast.today, found, stone, simple)
            if target in COMING:
                inside.append((stone.probability, hit))
        if forecast.release.name in truth and (forecast.newest.version.rc or 0) <= LAST_RC:
            rc8.append((forecast.rc8, f"{forecast.release.name}-rc{LAST_RC + 1}" in truth))
    return DateBacktest(
        begin,
        end,
        tuple(tally.score(target) for target, tally in tallies.items()),
        calibrate("the tag is made in its range", inside),
        calibrate("the cycle gets an -rc8", rc8),
    )


def calendar_rule(newest: TagDay) -> tuple[tuple[date, date], ...]:
    """(first, last day) of the next tag, the release, the next -rc1 and the next release, by the peer's rule.

    Release to -rc1 two weeks; -rcK to the next one week below 7; -rc7 to the release one to two weeks (-rc8
    is not predicted); -rc8 and later to the release one week; a day that is no Sunday counts as the nearest.
    """
    day = sunday(newest.latest)
    rc = 0 if newest.version.final else newest.version.rc or 0
    if rc > LAST_RC:
        release = (day + WEEK, day + WEEK)
        following = release
    elif rc == LAST_RC:
        release = (day + WEEK, day + 2 * WEEK)
        following = release
    else:
        weeks = 2 + LAST_RC if rc == 0 else LAST_RC + 1 - rc
        release = (day + weeks * WEEK, day + (weeks + 1) * WEEK)
        due = day + (2 if rc == 0 else 1) * WEEK
        following = (due, due)
    rc1 = (release[0] + 2 * WEEK, release[1] + 2 * WEEK)
    after = (rc1[0] + LAST_RC * WEEK, rc1[1] + (LAST_RC + 1) * WEEK)
    return following, release, rc1, after


def calibrate(what: str, said: Iterable[tuple[float, bool]]) -> Calibration:
    """Brier score and reliability table of (probability, it happened)."""
    pairs = list(said)
    count = len(pairs)
    happened = sum(hit for _, hit in pairs) / count if count else 0.0
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for probability, hit in pairs:
        bins[min(BINS - 1, int(probability * BINS))].append((probability, hit))
    return Calibration(
        what,
        count,
        sum((probability - hit) ** 2 for probability, hit in pairs) / count if count else 0.0,
        happened * (1 - happened),
        tuple(
            Bin(
                number / BINS,
                (number + 1) / BINS,
                len(inside),
                sum(probability for probability, _ in inside) / len(inside),
                sum(hit for _, hit in inside) / len(inside),
            )
            for number, inside in sorted(bins.items())
        ),
    )


@dataclass(frozen=True)
class WindowScore:
    """Cases of one tree family; ``named`` are those whose branch the notice names."""

    family: str
    cases: int
    hits: int
    named: int
    named_hits: int


@dataclass(frozen=True)
class Miss:
    """A forecast that was wrong."""

    case: AppliedCase
    said: str
    probability: float
    why: str


@dataclass(frozen=True)
class WindowBacktest:
    """The replay of the window forecast, each case on the day it was applied."""

    scores: tuple[WindowScore, ...]
    right: Calibration
    misses: tuple[Miss, ...]


def backtest_windows(
    cases: Iterable[AppliedCase],
    tags: Sequence[TagDay],
    first: date | None = None,
    history: Iterable[AppliedCase] = (),
) -> WindowBacktest:
    """Replay the cases in order of applying; score those applied on or after ``first``.

    ``history``: cases that teach and are not scored; of them only those older than the first case count, the
    others may be the same.

    A forecast sees the tags of its day and the cases whose answer was known before it.
    """
    ordered = sorted(cases)
    older = [case for case in history if ordered and case.applied < ordered[0].applied]
    ledger = Ledger([*older, *ordered], tags)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    said: list[tuple[float, bool]] = []
    misses = []
    for case in ordered:
        place = situation(case.tree, case.applied, tags)
        if place is None or (first is not None and case.applied < first):
            continue
        ledger.advance(case.applied)
        forecast = forecast_window(place, ledger)
        hit = forecast.window == case.window
        named = place.kind != "unknown"
        for position, one in enumerate((True, hit, named, named and hit)):
            counts[place.family.name][position] += one
        said.append((forecast.probability, hit))
        if not hit:
            misses.append(Miss(case, forecast.window, forecast.probability, forecast.why))
    return WindowBacktest(
        tuple(WindowScore(family, *numbers) for family, numbers in sorted(counts.items())),
        calibrate("the release forecast on the day of applying", said),
        tuple(misses),
    )


class _Tally:
    """Counts for one kind of date."""

    def __init__(self) -> None:
        self._days = self._hits = self._peer_hits = self._width = self._peer_width = 0
        self._first: dict[str, bool] = {}  # tag -> hit of the first forecast in the run-up to it

    def add(self, today: date, found: TagDay, stone: Milestone, peer: tuple[date, date]) -> bool:
        """One day's forecast against the truth; whether it was right."""
        hit = stone.earliest <= found.earliest <= stone.latest
        self._days += 1
        self._hits += hit
        self._width += stone.width
        # The peer never moves a date that passed, and knows only Sundays.
        self._peer_hits += peer[0] <= found.earliest <= peer[1]
        self._peer_width += (peer[1] - peer[0]).days
        self._first.setdefault(found.name, hit)
        return hit

    def score(self, target: str) -> DateScore:
        """The totals."""
        return DateScore(
            target,
            self._days,
            self._hits,
            self._width / self._days if self._days else 0.0,
            self._peer_hits,
            self._peer_width / self._days if self._days else 0.0,
            len(self._first),
            sum(self._first.values()),
        )
