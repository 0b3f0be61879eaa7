"""Runs -> judgements: which run speaks for a kernel, what a run changed, which changes are suspects.

Pure. A run that says nothing about its kernel (wrong kernel, environment, model gap, laboratory,
interrupted) is never a baseline and never makes a suspect; nor is one with injected faults, or a step of
a bisection, which runs a part of the suite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reports.marks import Tone, finding_tone
from reports.records import ChangeRecord, FindingRecord, KernelRecord, MatchRecord, ResultRecord, RunRecord
from reports.versions import carries, kernel_version, sort_key

ABOUT_THE_KERNEL = frozenset({"pass", "fail", "panic", "hang", "no-boot"})
# Those that reached the end of the suite.
WHOLE = frozenset({"pass", "fail"})
FAILING = frozenset({"failed", "error", "incomplete"})
# States in which a release carries, or carried, the change.
LANDED = frozenset({"landed", "released", "reverted"})
# Below this score a match of mail and commit is shown, but not used to say which kernel carries a change.
TRUSTED_MATCH = 0.6


def conclusive(run: RunRecord) -> bool:
    """Whether the run says something about its kernel."""
    return run.comparable and run.verdict in ABOUT_THE_KERNEL


def kernel_order(kernel: KernelRecord) -> tuple[object, ...]:
    """Sort key: by version, then release string, then origin."""
    return (*sort_key(kernel.version), kernel.release, kernel.origin)


@dataclass(frozen=True)
class Latest:
    """The run that speaks for one kernel on one machine, and a newer one that could not be judged."""

    run: RunRecord
    newer_inconclusive: RunRecord | None = None


def latest(runs: Iterable[RunRecord]) -> Latest | None:
    """The newest conclusive run, or the newest of all where none is; None without a comparable run."""
    candidates = sorted((r for r in runs if r.comparable), key=lambda r: (r.started_at, r.id))
    if not candidates:
        return None
    newest = candidates[-1]
    judged = [run for run in candidates if conclusive(run)]
    if not judged:
        return Latest(newest)
    return Latest(judged[-1], newest if newest.id != judged[-1].id else None)


def baseline_of(run: RunRecord, runs: Iterable[RunRecord]) -> RunRecord | None:
    """What a run is compared with: the newest whole run of the nearest older stock kernel.

    Same machine, same family of suites. Whole: it reached the suite's end (pass or fail); after a panic
    most tests have no result, and a new failure would not be seen. An unknown kernel has no baseline.
    """
    if run.kernel is None or kernel_version(run.kernel.version) is None:
        return None
    mine = kernel_order(run.kernel)
    older = [
        other
        for other in runs
        if other.machine.id == run.machine.id
        and other.suite_family == run.suite_family
        and other.verdict in WHOLE
        and other.comparable
        and other.kernel is not None
        and other.kernel.stock
        and other.kernel.id != run.kernel.id
        and kernel_order(other.kernel) < mine
    ]
    if not older:
        return None
    return max(older, key=lambda r: (kernel_order(r.kernel) if r.kernel else (), r.started_at, r.id))


def standing(before: ResultRecord | None, after: ResultRecord | None) -> str:
    """One word of marks.STANDINGS for a test in the baseline and in the run."""
    if after is None:
        return "missing"
    if after.outcome == "not-run":
        return "not run"
    if after.outcome == "skipped":
        return "newly skipped" if before is not None and before.outcome in {"passed", *FAILING} else "skipped"
    if after.outcome in FAILING:
        if before is None or before.outcome not in {"passed", *FAILING}:
            return "failing"
        return "still failing" if before.outcome in FAILING else "new failure"
    return "fixed" if before is not None and before.outcome in FAILING else "passing"


@dataclass(frozen=True)
class Judgement:
    """A run against its baseline: each test's standing, and the tests that are news."""

    run: RunRecord
    baseline: RunRecord | None
    standings: Mapping[str, str]

    def tests(self, *standings: str) -> tuple[str, ...]:
        """Tests with one of these standings, in the run's order."""
        return tuple(test for test, word in self.standings.items() if word in standings)

    @property
    def regressed(self) -> bool:
        """A new failure, or a machine that died or never came up where the baseline's did not."""
        if not conclusive(self.run):
            return False
        if self.baseline is None:
            return False
        return bool(self.tests("new failure")) or self.run.verdict not in WHOLE


def judge(run: RunRecord, baseline: RunRecord | None) -> Judgement:
    """Compare each test with the baseline's; without a baseline nothing is new."""
    before = {result.test: result for result in baseline.results} if baseline else {}
    after = {result.test: result for result in run.results}
    words = {test: standing(before.get(test), result) for test, result in after.items()}
    if baseline is not None and baseline.suite == run.suite:
        words.update({test: "missing" for test in before if test not in after})
    return Judgement(run, baseline, words)


def provoked(finding: FindingRecord, outcomes: Mapping[str, str]) -> bool:
    """Whether a line was logged during a test that passed: the test asked for it.

    ``outcomes``: test -> outcome of the same run. A kernel warning or worse is nobody's wish.
    """
    return finding.klass != "oops" and finding.test is not None and outcomes.get(finding.test) == "passed"


def tone_in(finding: FindingRecord, outcomes: Mapping[str, str]) -> Tone:
    """How loud a finding is in its run; what was provoked is calm."""
    return "calm" if provoked(finding, outcomes) else finding_tone(finding.klass, finding.severity)


def flaky_tests(runs: Iterable[RunRecord]) -> frozenset[str]:
    """Tests that both passed and failed among these runs, which must share kernel and environment."""
    passed: set[str] = set()
    failed: set[str] = set()
    for run in runs:
        passed.update(r.test for r in run.results if r.outcome == "passed")
        failed.update(r.test for r in run.results if r.outcome in FAILING)
    return frozenset(passed & failed)


def trusted_match(change: ChangeRecord) -> MatchRecord | None:
    """The best match that may be relied on."""
    return next((m for m in change.matches if m.score >= TRUSTED_MATCH), None)


def carried_by(change: ChangeRecord, kernel: KernelRecord) -> bool:
    """Whether a stock kernel carries the change: it has the commit's first tag and not a later revert's.

    Without any commit the tracker's ``first_tag`` decides.
    """
    if change.state not in LANDED or not kernel.stock:
        return False
    match = trusted_match(change)
    if match is None:
        return change.first_tag is not None and carries(kernel.version, (change.first_tag,))
    tags = [landing.tag for landing in match.commit.landings if landing.tag]
    tags = tags or ([change.first_tag] if change.first_tag else [])
    if not carries(kernel.version, tags):
        return False
    return not any(carries(kernel.version, revert.tags) for revert in match.commit.reverted_by[-1:])


def first_kernel_carrying(change: ChangeRecord, kernels: Iterable[KernelRecord]) -> KernelRecord | None:
    """The oldest of ``kernels`` (those that were run) that carries the change."""
    return min((k for k in kernels if carried_by(change, k)), key=kernel_order, default=None)


def entered_between(
    changes: Iterable[ChangeRecord], older: KernelRecord, newer: KernelRecord
) -> tuple[ChangeRecord, ...]:
    """Changes that the newer kernel carries and the older does not: the suspects of a new failure."""
    return tuple(c for c in changes if carried_by(c, newer) and not carried_by(c, older))
