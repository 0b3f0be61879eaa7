"""The history of names in a firmware tree: at which commit each appeared, changed or went. Pure.

Reading every commit of WHENCE would be a gigabyte. The file is read at fixed points (every release, every
commit that touches the driver's folder, both ends), and where two neighbours differ the commit in between is
found by halving. What changed and changed back between two fixed points is not seen: no release had it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tracker.firmware.whence import Named

State = dict[str, Named]


@dataclass(frozen=True)
class Step:
    """One name at one commit. ``what``: added, changed or removed; ``now`` None when removed."""

    commit: str
    path: str
    what: str
    now: Named | None


def steps(commits: Sequence[str], fixed: Iterable[int], state: Callable[[int], State]) -> list[Step]:
    """Every change along ``commits`` (oldest first). ``state``: what WHENCE says at a position; it is asked
    once for each position that is needed."""
    if not commits:
        return []
    known: dict[int, State] = {}

    def at(position: int) -> State:
        if position not in known:
            known[position] = state(position)
        return known[position]

    points = sorted({0, len(commits) - 1, *(one for one in fixed if 0 <= one < len(commits))})
    found = _differences(commits[0], {}, at(0))
    for left, right in pairwise(points):
        for position in _changes(left, right, at):
            found += _differences(commits[position], at(position - 1), at(position))
    return found


def _changes(left: int, right: int, at: Callable[[int], State]) -> list[int]:
    """Positions in (left, right] whose state differs from the one before."""
    if at(left) == at(right):
        return []
    if right - left == 1:
        return [right]
    middle = (left + right) // 2
    return _changes(left, middle, at) + _changes(middle, right, at)


def _differences(commit: str, before: State, now: State) -> list[Step]:
    found = []
    for path in sorted({*before, *now}):
        if before.get(path) != now.get(path):
            what = "added" if path not in before else "removed" if path not in now else "changed"
            found.append(Step(commit, path, what, now.get(path)))
    return found
