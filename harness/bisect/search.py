"""Which candidate to judge next, and when the answer is known. Pure mathematics: no kernel, no clock.

A ``Search`` is a function of the history and of everything observed so far. It keeps no state, so a
campaign that was killed continues by observing its recorded steps again, and a search that reckons with
noisy tests can take the place of ``Halving`` without touching the campaign.

The history is a graph given by parents (git's merges are allowed); ``Halving`` assumes what ``git bisect``
assumes: one culprit, every descendant of it is bad, everything else is good, verdicts do not flicker.
This module does not decide what a verdict is (harness/bisect/judge.py) nor remember it (campaign.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import ceil, log2
from typing import Protocol


class Verdict(StrEnum):
    """What one look at one candidate said about the test."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"  # it cannot be built, booted or judged: says nothing about the test


class Outcome(StrEnum):
    """How a search ended (the words of kci-bisect's records, facts lab.md section 3)."""

    CULPRIT = "culprit"  # one candidate, confirmed by a second run of it and of its parents
    RANGE = "range"  # candidates that cannot be judged hide which one of several it is
    NOT_CONFIRMED = "not-confirmed"  # verdicts contradict each other: the test flickers
    NOT_REPRODUCED = "not-reproduced"  # the bad end is good
    ALREADY_BAD = "already-bad"  # the good end is bad
    UNRESOLVED = "unresolved"  # an end of the range cannot be judged at all


@dataclass(frozen=True)
class History:
    """The candidates as a graph: ``parents[i]`` are indices below ``i``.

    Index 0 is the good end and the only candidate without parents; the last index is the bad end.
    """

    parents: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.parents) < 2:
            raise ValueError("a search needs two candidates at least: the good end and the bad end")
        for index, parents in enumerate(self.parents):
            if bool(index) != bool(parents) or any(not 0 <= parent < index for parent in parents):
                raise ValueError(f"candidate {index} has impossible parents {parents}")

    def __len__(self) -> int:
        return len(self.parents)

    @staticmethod
    def line(length: int) -> History:
        """A history without branches."""
        return History(tuple((index - 1,) if index else () for index in range(length)))

    def ancestors(self) -> list[int]:
        """For each candidate the set of itself and its ancestors, as a bit set (bit i is candidate i)."""
        sets: list[int] = []
        for index, parents in enumerate(self.parents):
            bits = 1 << index
            for parent in parents:
                bits |= sets[parent]
            sets.append(bits)
        return sets


@dataclass(frozen=True)
class Observation:
    """One recorded look at one candidate."""

    index: int
    verdict: Verdict


@dataclass(frozen=True)
class Ask:
    """Judge this candidate next. ``again``: it was judged before, a remembered verdict will not do."""

    index: int
    why: str  # "bad end", "good end", "halving", "confirm"
    again: bool = False
    suspects: int = 0  # how many candidates could still be the culprit


@dataclass(frozen=True)
class Answer:
    """The end of a search. ``suspects`` holds the culprit alone, or the range, oldest first."""

    outcome: Outcome
    suspects: tuple[int, ...]
    probability: float | None  # of the culprit; None where the search's rule gives no figure
    rule: str


class Search(Protocol):
    """Anything that can lead a bisection."""

    name: str

    def decide(self, history: History, observations: Sequence[Observation]) -> Ask | Answer:
        """The next question, or the answer; a pure function of its arguments."""
        ...


CONFIRMED = "halving: the culprit was bad and each parent good, twice each in separate runs"
HIDDEN = "halving: no candidate between the last good and the first bad one could be judged"
CONTRADICTED = "halving: a second run contradicted the first, or a good candidate descends from a bad one"
UNCONFIRMED = "halving: the second run of the culprit or of its parent gave no verdict"
BAD_END = "the bad end was judged first and is not bad"
GOOD_END = "the good end was judged and is not good"
NO_END = "an end of the range could not be judged"


class Halving:
    """Halve the suspects at every step, walk around what cannot be judged, confirm the end twice."""

    name = "halving"

    def decide(self, history: History, observations: Sequence[Observation]) -> Ask | Answer:
        """Ends first, then halving, then a second run of the culprit and of its parents."""
        seen = _verdicts(observations)
        last = len(history) - 1
        ends = _check_end(seen, last, Verdict.BAD, len(history) - 1) or _check_end(
            seen, 0, Verdict.GOOD, len(history) - 1
        )
        if ends is not None:
            return ends
        ancestors = history.ancestors()
        suspects = _suspects(ancestors, seen)
        members = _bits(suspects)
        if not members:
            return Answer(Outcome.NOT_CONFIRMED, (), None, CONTRADICTED)
        if len(members) == 1:
            return _confirm(history, members[0], seen)
        choice = _choose(ancestors, suspects, members, seen)
        if choice is None:
            return Answer(Outcome.RANGE, tuple(members), None, HIDDEN)
        return Ask(choice, "halving", suspects=len(members))


def steps_bound(length: int) -> int:
    """The most steps halving takes on a line of ``length`` candidates when all of them can be judged.

    Two ends, one step for each doubling of the ``length - 1`` suspects, two runs to confirm.
    """
    return 2 + ceil(log2(length - 1)) + 2


def _verdicts(observations: Sequence[Observation]) -> dict[int, list[Verdict]]:
    seen: dict[int, list[Verdict]] = {}
    for observation in observations:
        seen.setdefault(observation.index, []).append(observation.verdict)
    return seen


def _check_end(
    seen: dict[int, list[Verdict]], index: int, wanted: Verdict, suspects: int
) -> Ask | Answer | None:
    """Ask for an end that was not looked at, end the search when it is not what the user said."""
    if index not in seen:
        return Ask(index, f"{wanted} end", suspects=suspects)
    first = seen[index][0]
    if first is wanted:
        return None
    if first is Verdict.SKIP:
        return Answer(Outcome.UNRESOLVED, (), None, NO_END)
    if wanted is Verdict.BAD:
        return Answer(Outcome.NOT_REPRODUCED, (), None, BAD_END)
    return Answer(Outcome.ALREADY_BAD, (), None, GOOD_END)


def _suspects(ancestors: list[int], seen: dict[int, list[Verdict]]) -> int:
    """Candidates that can be the one culprit: ancestors of every bad one and of no good one."""
    suspects = (1 << len(ancestors)) - 1
    for index, verdicts in seen.items():
        # The first verdict decides; second runs are judged by _confirm alone.
        if verdicts[0] is Verdict.BAD:
            suspects &= ancestors[index]
        elif verdicts[0] is Verdict.GOOD:
            suspects &= ~ancestors[index]
    return suspects


def _choose(
    ancestors: list[int], suspects: int, members: list[int], seen: dict[int, list[Verdict]]
) -> int | None:
    """The suspect to look at next; None when no suspect that splits the others is left.

    Without skips it is the evenest split. With skips: a commit that does not build stands in a stretch of
    such commits, so the search halves the way from the stretch to the nearest judged edge (the longer way
    first). A stretch of n commits costs about 2 log2(n) looks, where trying its neighbours would cost n.
    """
    splits = []
    for member in members:
        below = (ancestors[member] & suspects).bit_count()
        if below < len(members):  # one that has every suspect below it is known to be bad
            splits.append((below, member))
    splits.sort()
    broken = [place for place, (_, member) in enumerate(splits) if member in seen]
    if not broken:
        return max(splits, key=lambda split: min(split[0], len(members) - split[0]))[1]
    outer = [(0, broken[0]), (broken[-1] + 1, len(splits))]
    inner = [(left + 1, right) for left, right in pairwise(broken)]
    for gaps in (outer, inner):
        begin, end = max(gaps, key=lambda gap: gap[1] - gap[0], default=(0, 0))
        if begin < end:
            return splits[(begin + end) // 2][1]
    return None


def _confirm(history: History, culprit: int, seen: dict[int, list[Verdict]]) -> Ask | Answer:
    """Each of culprit and parents is run a second time before anyone is blamed."""
    expected = [(culprit, Verdict.BAD), *((parent, Verdict.GOOD) for parent in history.parents[culprit])]
    for index, wanted in expected:
        verdicts = seen.get(index, [])
        if len(verdicts) < 2:
            return Ask(index, "confirm", again=bool(verdicts), suspects=1)
        if verdicts[1] is Verdict.SKIP:
            return Answer(Outcome.NOT_CONFIRMED, (culprit,), None, UNCONFIRMED)
        if verdicts[0] is not wanted or verdicts[1] is not wanted:
            return Answer(Outcome.NOT_CONFIRMED, (culprit,), None, CONTRADICTED)
    return Answer(Outcome.CULPRIT, (culprit,), 1.0, CONFIRMED)


def _bits(value: int) -> list[int]:
    members = []
    while value:
        low = value & -value
        members.append(low.bit_length() - 1)
        value ^= low
    return members
