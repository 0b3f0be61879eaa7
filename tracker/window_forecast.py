"""Which release will carry a patch that a maintainer has: rules of the trees, weighed with history. Pure.

The rule gives the likely release, the ledger of past cases says how often the rule held in that situation
(tree family, kind of branch, part of the cycle): a Dirichlet estimate, the rule's prior standing for
PRIOR_CASES cases. A forecast sees only cases whose answer was known on its day.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache, lru_cache
from importlib.resources import files

from tracker.applied_history import AppliedCase
from tracker.calendar import next_window, window_key, window_of_untagged
from tracker.forecast import known_on
from tracker.release_facts import TagDay, release_facts

PRIOR_CASES = 10.0
CUT_OFF = 6  # drm-misc: no pull of -next after -rc6 (drm maintainer-tools, drm-misc.rst)
PULL_EVERY = timedelta(days=5)  # drm-misc's last pull is of the Thursday before -rc6
FIX_KNOWN = timedelta(days=14)  # a fix is in mainline two weeks later
MAX_OFFSET = 3
MISSED = 0.5  # at most, for what is not where the rule said; no history to calibrate it on


@dataclass(frozen=True)
class Family:
    """The habits of one tree. ``cut_off``: from this -rc on its -next is for the release after the next."""

    name: str
    pattern: re.Pattern[str]
    cut_off: int | None
    in_window: bool  # what is applied to -next while a merge window is open still goes into it
    source: str


FAMILIES = (
    Family("drm", re.compile(r"^(?:drm|accel|i915|amdgpu|xe)\b|drm-"), CUT_OFF, in_window=False,
           source="drm-misc.rst and drm.rst of the drm maintainer-tools"),
    Family("pdx86", re.compile(r"pdx86|platform-drivers-x86|review-(?:ilpo|hans)"), None, in_window=True,
           source="pulls of 2024-2025: the main one is sent within the window"),
)  # fmt: skip
OTHER = Family("other", re.compile(""), None, in_window=False, source="kernel docs, process/2.Process.rst")


@dataclass(frozen=True)
class Situation:
    """What a forecast is asked about. ``window`` is the release that is being made on that day."""

    family: Family
    kind: str  # fixes, next-fixes, next or unknown
    phase: str  # window, early, eve (the days before -rc6), rc6, late
    window: str
    newest: str

    @property
    def cell(self) -> tuple[str, str, str]:
        """What the ledger counts by. A branch that is not named behaves as -next mostly does."""
        return (self.family.name, self.kind, self.phase)


@dataclass(frozen=True)
class WindowForecast:
    """``chances``: release -> probability, the likeliest first. ``cases``: past ones behind it."""

    window: str
    probability: float
    chances: tuple[tuple[str, float], ...]
    cases: int
    why: str
    merges: bool = True  # comes by a merge window, not as a fix of the cycle


class Ledger:
    """Past cases, opened up to a day and never beyond."""

    def __init__(self, cases: Iterable[AppliedCase], tags: Sequence[TagDay]) -> None:
        self._tags = sorted(tags)
        self._closed = sorted(cases, key=lambda case: case.known, reverse=True)
        self._open_until: date | None = None
        self._counts: dict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0.0] * (MAX_OFFSET + 1))

    def advance(self, today: date) -> None:
        """Open the cases whose answer was known before ``today``. Days only go forward."""
        if self._open_until is not None and today < self._open_until:
            raise ValueError(f"the ledger is open until {self._open_until}; it cannot forget: make a new one")
        self._open_until = today
        while self._closed and self._closed[-1].known < today:
            case = self._closed.pop()
            found = situation(case.tree, case.applied, self._tags)
            if found is not None:
                self._counts[found.cell][offset(found.window, case.window)] += 1

    def counts(self, cell: tuple[str, str, str]) -> list[float]:
        """Cases by how many releases after the current one they came; the last entry is "elsewhere"."""
        return list(self._counts.get(cell, [0.0] * (MAX_OFFSET + 1)))


def situation(tree: str | None, day: date, tags: Sequence[TagDay]) -> Situation | None:
    """The family, branch and part of the cycle. None before the first known tag."""
    known = known_on(tags, day)
    if not known:
        return None
    newest = max(known)
    window = window_of_untagged(newest.name)
    assert window is not None
    rc = newest.version.rc or 0
    if newest.version.final:
        phase = "window"
    elif rc < CUT_OFF:
        phase = "eve" if rc == CUT_OFF - 1 and day - newest.latest >= PULL_EVERY else "early"
    else:
        phase = "rc6" if rc == CUT_OFF else "late"
    name = (tree or "").lower()
    family = next((one for one in FAMILIES if one.pattern.search(name)), OTHER)
    return Situation(family, _kind(name), phase, window, newest.name)


def forecast_window(place: Situation, ledger: Ledger) -> WindowForecast:
    """The release by rule and history."""
    expected, sure, why = _rule(place)
    prior = [0.0] * (MAX_OFFSET + 1)
    for number in range(MAX_OFFSET + 1):
        prior[number] = sure if number == expected else (1 - sure) / MAX_OFFSET
    counts = ledger.counts(place.cell)
    total = sum(counts)
    share = [(n + PRIOR_CASES * p) / (total + PRIOR_CASES) for n, p in zip(counts, prior, strict=True)]
    names = [place.window]
    while len(names) < MAX_OFFSET:
        names.append(next_window(names[-1]))
    chances = sorted(zip(names, share[:MAX_OFFSET], strict=True), key=lambda one: -one[1])
    held = f"the rule held in {counts[expected]:.0f} of {total:.0f} past cases" if total else "no past case"
    return WindowForecast(
        chances[0][0], chances[0][1], tuple(chances), int(total), f"{why}; {held}", place.kind != "fixes"
    )


def still_possible(forecast: WindowForecast, newest: str) -> WindowForecast:
    """The forecast, knowing that the patch is not in mainline although ``newest`` is tagged.

    A release that is out is impossible, and so is one whose merge window is over, unless by a fix.
    """
    making = window_of_untagged(newest)
    assert making is not None
    open_from = window_key(making if "-rc" not in newest or not forecast.merges else next_window(making))
    left = [(name, chance) for name, chance in forecast.chances if window_key(name) >= open_from]
    if len(left) == len(forecast.chances) or forecast.window == (left[0][0] if left else None):
        return forecast
    total = sum(chance for _, chance in left)
    if not left or total <= 0:
        name = ".".join(map(str, open_from))
        chances: tuple[tuple[str, float], ...] = ((name, MISSED),)
    else:
        chances = tuple((name, chance / total) for name, chance in left)
        # What missed its window once is no longer an ordinary case: history says little about it.
        chances = tuple((name, min(chance, MISSED)) for name, chance in sorted(chances, key=_by_window))
    name, chance = chances[0]
    why = f"{forecast.why}; but {newest} is out without it, so {name} at the earliest"
    return replace(forecast, window=name, probability=chance, chances=chances, why=why)


def _by_window(one: tuple[str, float]) -> tuple[int, ...]:
    return window_key(one[0])


def offset(current: str, window: str) -> int:
    """Releases from the current one to ``window``; MAX_OFFSET for anything else."""
    name = current
    for number in range(MAX_OFFSET):
        if name == window:
            return number
        name = next_window(name)
    return MAX_OFFSET


@cache
def shipped_cases() -> tuple[AppliedCase, ...]:
    """Past cases shipped as facts (tracker/data/applied.json): branch, day, release; counts, no titles."""
    raw = json.loads(files("tracker").joinpath("data/applied.json").read_text("utf-8"))
    rc1 = {tag.name: tag.latest for tag in release_facts().tags if tag.version.rc == 1}
    cases = []
    for tree, applied, window, known, count in raw["cases"]:
        day = date.fromisoformat(applied)
        seen = date.fromisoformat(known) if known else max(
            rc1.get(f"v{window}-rc1", day), day + FIX_KNOWN
        )  # fmt: skip
        cases += [AppliedCase(day, tree, "", window, seen)] * count
    return tuple(cases)


@lru_cache(maxsize=64)
def shipped_ledger(today: date) -> Ledger:
    """The shipped cases as they were known on a day. Do not advance it: it is shared."""
    ledger = Ledger(shipped_cases(), release_facts().tags)
    ledger.advance(today)
    return ledger


def _kind(name: str) -> str:
    if "next-fixes" in name:
        return "next-fixes"
    if "fixes" in name or "for-linus" in name:
        return "fixes"
    return "next" if "next" in name else "unknown"


def _rule(place: Situation) -> tuple[int, float, str]:
    """(releases after the current one, prior probability, the rule in words)."""
    family, window = place.family, place.window
    if place.kind == "fixes":
        return 0, 0.9, f"fixes branch at {place.newest}: into {window}"
    if place.kind == "next-fixes":
        if place.phase in ("rc6", "late"):
            return 1, 0.9, f"-next-fixes at {place.newest}: into {next_window(window)}"
        return 0, 0.85, f"-next-fixes at {place.newest}: into {window}"
    unnamed = "" if place.kind == "next" else "branch not named, taken for -next; "
    sure = 0.9 if place.kind == "next" else 0.7
    if place.phase == "window":
        if family.in_window:
            return 0, sure, f"{unnamed}applied in the merge window, {family.name} pulls late in it: {window}"
        return 1, sure, f"{unnamed}applied in the merge window of {window}, closed for {family.name} by then"
    following = next_window(window)
    if family.cut_off is not None and place.phase in ("rc6", "late"):
        target = next_window(following)
        return 2, sure, f"{unnamed}applied after {window}-rc{family.cut_off}, the cut-off: {target}"
    if family.cut_off is not None and place.phase == "eve":
        return 1, 0.6, f"{unnamed}applied just before {window}-rc{family.cut_off}; may miss the last pull"
    return 1, sure, f"{unnamed}applied at {place.newest}: into {following}"
