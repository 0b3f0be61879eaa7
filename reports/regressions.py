"""Open regressions: tests that fail on the newest kernel of a machine and passed on an older one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.records import RunRecord
from reports.verdicts import FAILING


@dataclass(frozen=True)
class Regression:
    """A test that an older kernel passed. ``good`` is the newest run where it passed, ``bad`` the first
    run after that where it failed, ``latest`` the newest run. ``suspect``: a known candidate defect."""

    test: str
    good: RunRecord
    bad: RunRecord
    latest: RunRecord
    suspect: str | None


def open_regressions(chain: Sequence[RunRecord]) -> list[Regression]:
    """``chain``: the runs that speak for one machine's stock kernels, oldest kernel first."""
    if not chain:
        return []
    latest = chain[-1]
    found = []
    for result in latest.results:
        if result.outcome not in FAILING:
            continue
        bad = latest
        for run in reversed(chain[:-1]):
            outcome = run.outcome_of.get(result.test)
            if outcome in FAILING:
                bad = run
            elif outcome == "passed":
                found.append(Regression(result.test, run, bad, latest, result.suspect))
                break
    return found
