"""What differs between kernels that ran the same suite, and what each difference is (pure).

Two neighbouring kernels on one machine are compared test by test. A difference that the release table
foresees is a *feature* (also a changed behaviour) or a *fix*, with the row's source; one that a test of a
suspected defect shows is a *suspect*; whatever is left has no explanation and must be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from harness.results import CaseResult
from harness.verdict import BAD_OUTCOMES

Label = Literal["feature", "fix", "suspect", "unexplained"]
LABELS: tuple[Label, ...] = ("unexplained", "suspect", "fix", "feature")
BAD = frozenset(BAD_OUTCOMES)
# So a test says that it was skipped for what the kernel is, not the machine: "no telemetry on this kernel";
# "addresses: ... (SVA) ...", where the driver cannot be told to use the IOMMU's (force_iova, 7.1).
KERNEL_LACKS = ("on this kernel", "addresses: ")


@dataclass(frozen=True)
class Difference:
    """One thing that is otherwise on ``newer``. ``what``: the table's key, the suspicion, or the test."""

    label: Label
    what: str
    older: str
    newer: str
    source: str
    machines: tuple[str, ...]
    tests: tuple[str, ...]


Key = tuple[Label, str, str, str, str]


def differences(runs: Mapping[str, Sequence[tuple[str, Sequence[CaseResult]]]]) -> list[Difference]:
    """Every difference between neighbours. ``runs``: for each machine its kernels, oldest first."""
    seen: dict[Key, tuple[dict[str, None], dict[str, None]]] = {}
    for machine, kernels in runs.items():
        for (older, before), (newer, after) in pairwise(kernels):
            known = {case.test: case for case in before}
            for case in after:
                if case.test not in known:
                    continue
                for label, what, source in _between(known[case.test], case):
                    machines, tests = seen.setdefault((label, what, older, newer, source), ({}, {}))
                    machines[machine] = tests[case.test] = None
    found = [
        Difference(label, what, older, newer, source, tuple(machines), tuple(tests))
        for (label, what, older, newer, source), (machines, tests) in seen.items()
    ]
    return sorted(found, key=lambda difference: LABELS.index(difference.label))


def _between(before: CaseResult, after: CaseResult) -> list[tuple[Label, str, str]]:
    foreseen = _foreseen(before, after)
    if foreseen or before.outcome == after.outcome:
        return foreseen
    if after.outcome in BAD and reason_of_failure(after) == "fix":
        # Right before and wrong from here on: neither kernel has the fix, and the older one needs none.
        lacking = [row for row in _rows(after).values() if row.get("carried") is False]
        return [
            ("fix", str(row.get("key")), f"wrong from here on, until: {row.get('source')}") for row in lacking
        ]
    skipped = next((case for case in (before, after) if case.outcome == "skipped"), None)
    if skipped is not None and any(words in skipped.message for words in KERNEL_LACKS):
        return [("feature", skipped.message, f"{before.outcome}, then {after.outcome}")]
    if before.suspect or after.suspect:
        suspicion = after.suspect or before.suspect or ""
        shows = "shows itself" if after.outcome in BAD else f"{after.outcome}, was {before.outcome}"
        return [("suspect", suspicion, shows)]
    return [("unexplained", after.test, f"{before.outcome}, then {after.outcome}")]


def _foreseen(before: CaseResult, after: CaseResult) -> list[tuple[Label, str, str]]:
    """The rows of the release table that both tests used and that say something else on the newer kernel."""
    old, found = _rows(before), []
    for key, row in _rows(after).items():
        other = old.get(key)
        if other is None or (other.get("expected"), other.get("carried")) == (
            row.get("expected"),
            row.get("carried"),
        ):
            continue
        # Of a fix both kernels are held to the same row; of the rest, the newer row names what came.
        label: Label = "fix" if row.get("kind") == "fix" else "feature"
        found.append((label, key, str(row.get("source") or "")))
    return found


def _rows(case: CaseResult) -> dict[str, dict[str, Any]]:
    return {str(row.get("key")): row for row in case.expectations if isinstance(row, dict)}


def reason_of_failure(case: CaseResult) -> Label:
    """Why a test that failed did so: a suspected defect, a fix that this kernel lacks, or nobody knows."""
    if case.suspect:
        return "suspect"
    lacking = any(row.get("kind") == "fix" and row.get("carried") is False for row in _rows(case).values())
    return "fix" if lacking else "unexplained"
