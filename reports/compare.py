"""Two runs -> what differs in results, recorded values and log findings, each difference with its label.

Pure. The environment is looked at first: what follows from another IOMMU mode, or from a fault of the
environment, is labelled ``environment only`` and never counted as a regression.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reports.measured import WORSE, MetricChange, metric_changes
from reports.records import FindingRecord, ResultRecord, RunRecord
from reports.statistics import Tally, probability_rate_rose
from reports.values import flatten, gist, is_duration, shown
from reports.verdicts import FAILING, WHOLE, standing, tone_in

NEW_FAILURE = "new failure"
FIXED = "fixed"
VALUE_CHANGED = "value changed"
NEWLY_SKIPPED = "newly skipped"
NO_LONGER_SKIPPED = "no longer skipped"
NOT_RUN = "not run"
ONLY_AFTER = "only after"
UNPROVED = "failing, unknown before"
NEW_FINDING = "new finding"
FINDING_GONE = "finding gone"
LOG_CHANGED = "log line changed"
ENVIRONMENT_ONLY = "environment only"
VARIES = "varies by itself"
TIMING = "timing"

# In the order a reader wants them; the last four are folded away.
LABELS = (
    NEW_FAILURE,
    NEW_FINDING,
    UNPROVED,
    NOT_RUN,
    NEWLY_SKIPPED,
    VALUE_CHANGED,
    FIXED,
    NO_LONGER_SKIPPED,
    FINDING_GONE,
    ONLY_AFTER,
    LOG_CHANGED,
    ENVIRONMENT_ONLY,
    VARIES,
    TIMING,
)
QUIET_LABELS = frozenset({LOG_CHANGED, ENVIRONMENT_ONLY, VARIES, TIMING})
# What the suite records of the kernel log around a test; the log's own findings tell it better.
_RETOLD = frozenset({"device-changed"})
# The suite's reason for a skip that is the machine's doing (harness.suite.contract, ENVIRONMENT_PREFIX).
_ENVIRONMENT_SKIP = "environment: "

# Value names whose content is an address: chosen by the IOMMU mode (an I/O virtual address under
# force_iova, the user's own under SVA; facts: virtual NPU section 7), not by the driver's correctness.
_ADDRESS = re.compile(r"addr|iova|pasid|map_offset")
# Environment facts that name the IOMMU mode.
_IOMMU = re.compile(r"iommu|iova|sva|pasid", re.IGNORECASE)
# "[   12.345678] ", and the parts of a log line that differ from boot to boot.
_CHANGING = re.compile(r"^\[\s*\d+\.\d+\]\s*|0x[0-9a-f]+|\b[0-9a-f]{12,}\b|\bpid[ :=]\d+", re.IGNORECASE)
# "WARNING: drivers/accel/x.c:1331 at some_function+0x15f/0x2a0 [amdxdna], ..." and the form before 7.1,
# "WARNING: CPU: 0 PID: 147 at drivers/accel/x.c:1331 some_function+...": the file, then the function.
_PLACE = re.compile(r"(?P<file>[\w./-]+\.[chS]):\d+(?: at)? (?P<function>[\w.]+)\+")


@dataclass(frozen=True)
class Side:
    """One side: the run, and every clean run of the same kernel, machine and suite (itself included)."""

    run: RunRecord
    siblings: tuple[RunRecord, ...] = ()

    @property
    def all(self) -> tuple[RunRecord, ...]:
        """The siblings, or the run alone."""
        return self.siblings or (self.run,)


@dataclass(frozen=True)
class Difference:
    """One difference. ``sure``: P(the failure rate really rose or fell), None where that has no meaning.

    ``grave``: something got worse that is not the environment's doing.
    """

    label: str
    kind: str  # result, value, finding
    subject: str  # a test id or a log signature
    detail: str  # "outcome", the name of a value, the class of a finding
    before: str
    after: str
    note: str = ""
    sure: float | None = None
    grave: bool = False


@dataclass(frozen=True)
class FactDifference:
    """A fact of the environment that is not the same on both sides."""

    name: str
    before: str
    after: str
    iommu: bool


@dataclass(frozen=True)
class Comparison:
    """What differs, in the order of LABELS; ``caveats`` say what weakens the whole comparison."""

    before: RunRecord
    after: RunRecord
    headline: str
    differences: tuple[Difference, ...]
    environment: tuple[FactDifference, ...]
    caveats: tuple[str, ...]
    equal_results: int
    equal_values: int
    metrics: tuple[MetricChange, ...] = ()  # every measured number of either side

    @property
    def counts(self) -> Mapping[str, int]:
        """Label -> how many, in the order of LABELS, without zeros."""
        found = Counter(d.label for d in self.differences)
        return {label: found[label] for label in LABELS if found[label]}

    @property
    def regressed(self) -> bool:
        """Whether anything got worse that is not the environment's doing."""
        return self.died or any(d.grave for d in self.differences)

    @property
    def died(self) -> bool:
        """Whether the machine went down on the later side alone."""
        return self.after.verdict in ("panic", "hang", "no-boot") and self.before.verdict in WHOLE


def compare(before: Side, after: Side) -> Comparison:
    """Compare two runs of one suite: two kernels on one machine, or one kernel on two machines."""
    facts = _facts(before.run.environment, after.run.environment)
    found = [
        *_results(before, after),
        *_values(before, after, iommu_differs=any(f.iommu for f in facts)),
        *_findings(before, after),
    ]
    found.sort(key=lambda d: LABELS.index(d.label))
    old = {r.test: r for r in before.run.results}
    new = {r.test: r for r in after.run.results}
    both = old.keys() & new.keys()
    equal_values = sum(
        1
        for test in both
        for name, value in flatten(new[test].facts).items()
        if flatten(old[test].facts).get(name, _ABSENT) == value
    )
    metrics = metric_changes(before.all, after.all)
    return Comparison(
        before=before.run,
        after=after.run,
        headline=_headline(before.run, after.run, found, sum(m.reading == WORSE for m in metrics)),
        differences=tuple(found),
        environment=facts,
        caveats=_caveats(before, after),
        equal_results=sum(old[test].outcome == new[test].outcome for test in both),
        equal_values=equal_values,
        metrics=metrics,
    )


_ABSENT = object()


def _facts(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[FactDifference, ...]:
    old, new = flatten(before), flatten(after)
    return tuple(
        FactDifference(name, shown(old.get(name)), shown(new.get(name)), bool(_IOMMU.search(name)))
        for name in sorted(old.keys() | new.keys())
        if old.get(name, _ABSENT) != new.get(name, _ABSENT)
    )


def _results(before: Side, after: Side) -> Iterable[Difference]:
    old = {r.test: r for r in before.run.results}
    new = {r.test: r for r in after.run.results}
    for test in [*old, *(t for t in new if t not in old)]:
        difference = _result(test, old.get(test), new.get(test), before, after)
        if difference is not None:
            yield difference


def _result(
    test: str, old: ResultRecord | None, new: ResultRecord | None, before: Side, after: Side
) -> Difference | None:
    was, now = (old.outcome if old else "absent"), (new.outcome if new else "absent")
    if was == now:
        return None
    note, sure = "", None
    word = standing(old, new)
    if new is None or now == "not-run":
        if was == "not-run":
            return None
        label, note = NOT_RUN, after.run.reason
    elif old is None:
        label, note = UNPROVED if now in FAILING else ONLY_AFTER, "the other side has no such test"
    elif after.run.verdict == "environment" or before.run.verdict == "environment":
        label, note = ENVIRONMENT_ONLY, gist(new.message or old.message)
    elif now == "skipped":
        label = ENVIRONMENT_ONLY if new.message.startswith(_ENVIRONMENT_SKIP) else NEWLY_SKIPPED
        note = gist(new.message)
    elif was == "skipped" and old.message.startswith(_ENVIRONMENT_SKIP) and now == "passed":
        label, note = ENVIRONMENT_ONLY, gist(old.message)
    elif word == "new failure":
        label, note = NEW_FAILURE, _why(new)
        sure = probability_rate_rose(_tally(test, before), _tally(test, after))
    elif now in FAILING:
        label = NOT_RUN if now == "incomplete" and was in FAILING else UNPROVED
        note = f"{_why(new)} (was {was} before)".strip()
    elif was == "skipped":
        label, note = NO_LONGER_SKIPPED, gist(old.message)
    elif was in FAILING:
        label, note = FIXED, _why(old)
        sure = probability_rate_rose(_tally(test, after), _tally(test, before))
    else:
        label, note = ONLY_AFTER, before.run.reason
    grave = label == NEW_FAILURE
    return Difference(label, "result", test, "outcome", was, now, note, sure, grave)


def _why(result: ResultRecord) -> str:
    """What was wrong, and the candidate defect it is known as."""
    return f"suspected: {result.suspect}" if result.suspect else gist(result.message)


def _tally(test: str, side: Side) -> Tally:
    outcomes = [r.outcome for run in side.all for r in run.results if r.test == test]
    judged = [o for o in outcomes if o == "passed" or o in FAILING]
    return Tally(sum(o in FAILING for o in judged), len(judged))


def _values(before: Side, after: Side, *, iommu_differs: bool) -> Iterable[Difference]:
    old = {r.test: flatten(r.facts) for r in before.run.results}
    for result in after.run.results:
        if result.test not in old:
            continue
        mine, theirs = flatten(result.facts), old[result.test]
        for name in [*theirs, *(n for n in mine if n not in theirs)]:
            was, now = theirs.get(name, _ABSENT), mine.get(name, _ABSENT)
            if was == now or name in _RETOLD or _names_its_kernel(was, now, before, after):
                continue
            if (was is _ABSENT and not theirs) or (now is _ABSENT and not mine):
                continue  # a test that recorded nothing at all on one side is told by its outcome
            label, note = VALUE_CHANGED, ""
            if is_duration(name):
                label = TIMING
            elif iommu_differs and _ADDRESS.search(name):
                label, note = ENVIRONMENT_ONLY, "an address; the IOMMU mode differs"
            elif _seen(result.test, name, now, before) or _seen(result.test, name, was, after):
                label, note = VARIES, "seen on both sides in other runs"
            elif _ADDRESS.search(name) and not isinstance(now, bool):
                label, note = VARIES, "an address, chosen anew at each boot"
            yield Difference(label, "value", result.test, name, _text(was), _text(now), note)


def _names_its_kernel(was: object, now: object, before: Side, after: Side) -> bool:
    """Whether both values are nothing but the name of their kernel."""
    old, new = before.run.kernel, after.run.kernel
    if old is None or new is None:
        return False
    return (was, now) in ((old.version, new.version), (old.release, new.release))


def _text(value: object) -> str:
    return "absent" if value is _ABSENT else shown(value)


def _seen(test: str, name: str, value: object, side: Side) -> bool:
    return value is not _ABSENT and any(
        flatten(r.facts).get(name, _ABSENT) == value
        for run in side.all
        if run.id != side.run.id
        for r in run.results
        if r.test == test
    )


def _findings(before: Side, after: Side) -> Iterable[Difference]:
    old, new = _by_signature(before.run), _by_signature(after.run)
    outcomes = {r.test: r.outcome for run in (before.run, after.run) for r in run.results}
    for signature in [*new, *(s for s in old if s not in new)]:
        was, now = old.get(signature, {}), new.get(signature, {})
        if len(was) == len(now) == 1 and was.keys() != now.keys():
            yield _finding(signature, next(iter(was.values())), next(iter(now.values())), outcomes)
            continue
        for said in [*now, *(e for e in was if e not in now)]:
            if (said in was) != (said in now):
                yield _finding(signature, was.get(said), now.get(said), outcomes)


def _finding(
    signature: str, was: FindingRecord | None, now: FindingRecord | None, outcomes: Mapping[str, str]
) -> Difference:
    one = now or was
    assert one is not None, "a difference has a side"
    tone = tone_in(one, outcomes)
    note = f"during {one.test}" if one.test else ""
    if one.environment_fault:
        label, note = ENVIRONMENT_ONLY, "a fault of the environment"
    elif one.klass == "model-gap":
        label, note = ENVIRONMENT_ONLY, "the virtual NPU lacks this"
    elif tone == "calm" or (was and now):
        label = LOG_CHANGED
    else:
        label = NEW_FINDING if now else FINDING_GONE
    return Difference(
        label=label,
        kind="finding",
        subject=signature,
        detail=f"{one.klass}, {one.severity}",
        before=essence(was) if was else "absent",
        after=essence(now) if now else "absent",
        note=note,
        grave=label == NEW_FINDING and tone == "bad",
    )


def _by_signature(run: RunRecord) -> Mapping[str, Mapping[str, FindingRecord]]:
    """Signature -> what such lines say, each once, without what differs from boot to boot."""
    found: dict[str, dict[str, FindingRecord]] = {}
    for finding in run.findings:
        if finding.klass == "suspect":
            continue  # a failed test kept as a finding: its outcome tells it already
        found.setdefault(finding.signature, {}).setdefault(essence(finding), finding)
    return found


def essence(finding: FindingRecord) -> str:
    """What a finding says, without what differs from boot to boot or by the kernel's wording."""
    line = finding.text.partition("\n")[0]
    place = _PLACE.search(line)
    if place is not None:
        return f"{line.partition(':')[0]}: {place['file']} {place['function']}"[:300]
    return _CHANGING.sub("…", line).removeprefix("…").strip()[:300]


def _caveats(before: Side, after: Side) -> tuple[str, ...]:
    old, new = before.run, after.run
    found = []
    if old.suite != new.suite:
        found.append(f"The suites differ ({old.suite}, {new.suite}).")
    elif old.suite_digest != new.suite_digest:
        found.append("The test files differ between the two runs: a difference may be the test's.")
    if old.faults or new.faults:
        found.append("Faults were injected on purpose.")
    for side in (old, new):
        if side.verdict not in WHOLE:
            reason = f": {side.reason}" if side.reason else ""
            found.append(f"The run {side.id} ended with the verdict {side.verdict or side.state}{reason}.")
    if len(before.all) == 1 and len(after.all) == 1:
        found.append("One run on each side: nothing here was seen twice.")
    if old.machine.simulated or new.machine.simulated:
        found.append("The NPU is simulated: this judges the driver, not silicon.")
    return tuple(found)


def _headline(before: RunRecord, after: RunRecord, found: list[Difference], worse: int) -> str:
    """One sentence: the answer at the first glance."""
    if after.verdict in ("panic", "hang", "no-boot") and before.verdict in WHOLE:
        return f"{_name(after)} ended with {after.verdict}; {_name(before)} did not."
    counts = Counter(d.label for d in found if d.label not in QUIET_LABELS)
    if not counts and not worse:
        quiet = len(found)
        return (
            f"No difference that matters ({quiet} by environment, wording, timing or by itself)."
            if quiet
            else "No difference."
        )
    parts = [plural(counts[label], label) for label in LABELS if counts[label]]
    if worse:
        parts.append(f"{worse} measured number{'' if worse == 1 else 's'} worse than the noise explains")
    return ", ".join(parts)[:1].upper() + ", ".join(parts)[1:] + "."


def _name(run: RunRecord) -> str:
    return f"{run.kernel.label if run.kernel else run.requested} on {run.machine.name}"


_PLURALS = {
    NEW_FAILURE: "new failures",
    VALUE_CHANGED: "values changed",
    NEW_FINDING: "new log findings",
    FINDING_GONE: "log findings gone",
    LOG_CHANGED: "log lines changed",
}


def plural(count: int, label: str) -> str:
    """ "1 new failure", "3 new failures"."""
    if count == 1:
        return f"1 {label}"
    return f"{count} {_PLURALS.get(label, label)}"
