"""Measured numbers of two sides: by how much they differ, and by how much they differ by themselves.

Pure. A side's value is the median of its clean runs; its noise is how far single runs lie from it. A change
within the noise says nothing, and where nobody measured twice the noise is unknown and said to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from db.metrics import Better
from reports.records import RunRecord

BETTER = "better"
WORSE = "worse"
WITHIN_NOISE = "within noise"
NOISE_UNKNOWN = "noise unknown"
UNCHANGED = "unchanged"
ONE_SIDE = "one side only"
# A metric is known by its test, its name and its unit: another unit is another metric.
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Measured:
    """One metric on one side: every clean run's value, oldest first."""

    values: tuple[float, ...]
    better: Better

    @property
    def value(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def noise(self) -> float | None:
        """Largest distance of a run from the median, in percent of it; None from one run or around zero."""
        if len(self.values) < 2 or not self.value:
            return None
        return max(abs(value - self.value) for value in self.values) / abs(self.value) * 100


@dataclass(frozen=True)
class MetricChange:
    """One metric on two sides; a side that did not measure it is None."""

    test: str
    name: str
    unit: str
    better: Better
    before: Measured | None
    after: Measured | None

    @property
    def percent(self) -> float | None:
        """How much higher it is than before, in percent; None where there is nothing to compare with."""
        if self.before is None or self.after is None or not self.before.value:
            return None
        return (self.after.value - self.before.value) / abs(self.before.value) * 100

    @property
    def noise(self) -> float | None:
        """The larger noise of both sides, in percent; None while nobody measured twice."""
        known = [side.noise for side in (self.before, self.after) if side is not None]
        return max((noise for noise in known if noise is not None), default=None)

    @property
    def reading(self) -> str:
        """What the change says: one of the words above."""
        if self.before is None or self.after is None:
            return ONE_SIDE
        if self.before.value == self.after.value:
            return UNCHANGED
        if self.percent is None or self.noise is None:
            return NOISE_UNKNOWN
        if abs(self.percent) <= self.noise:
            return WITHIN_NOISE
        return BETTER if (self.percent > 0) == (self.better == "higher") else WORSE


def measured(runs: Iterable[RunRecord]) -> Mapping[Key, Measured]:
    """Every metric of passed tests in these runs, in the order of the newest."""
    found: dict[Key, tuple[list[float], Better]] = {}
    for run in runs:
        for result in run.results:
            if result.outcome != "passed":
                continue
            for metric in result.metrics:
                key = (result.test, metric.name, metric.unit)
                found.setdefault(key, ([], metric.better))[0].append(metric.value)
    return {key: Measured(tuple(values), better) for key, (values, better) in found.items()}


def metric_changes(before: Sequence[RunRecord], after: Sequence[RunRecord]) -> tuple[MetricChange, ...]:
    """Every metric of either side, those that got worse or better first, else in the order of the tests."""
    old, new = measured(before), measured(after)
    found = [
        MetricChange(*key, (new.get(key) or old[key]).better, old.get(key), new.get(key))
        for key in [*new, *(key for key in old if key not in new)]
    ]
    rank = {WORSE: 0, BETTER: 1}
    return tuple(sorted(found, key=lambda change: rank.get(change.reading, 2)))
