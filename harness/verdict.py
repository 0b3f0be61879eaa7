"""One run -> one verdict with its reason, by rules that can be read from top to bottom (pure).

The order is the argument: first what says that nobody could judge (the run was interrupted, the lab failed),
then what the kernel did to the machine, then whether it was the right kernel and a fit environment, then the
tests, and last what the kernel said although every test passed. An environment fault or a gap in the device
model is never a kernel's failure.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.journal import (
    BootFailed,
    EnvironmentRecord,
    Journal,
    LogStopped,
    MachineLost,
    Proof,
    SuiteEvent,
    SuiteStopped,
    Trouble,
)
from harness.kernel_log import LogFinding
from harness.results import CaseResult, headline
from harness.suite.contract import ENVIRONMENT_PREFIX
from harness.untrusted import clean


class RunVerdict(StrEnum):
    """What a run says. Only PASS and the four of SUBJECT speak about the kernel."""

    PASS = "pass"  # noqa: S105 - no password: the word for a run without failures
    FAIL = "fail"
    PANIC = "panic"
    HANG = "hang"
    NO_BOOT = "no-boot"
    WRONG_KERNEL = "wrong-kernel"
    ENVIRONMENT = "environment"
    MODEL_GAP = "model-gap"
    INFRASTRUCTURE = "infrastructure"
    INTERRUPTED = "interrupted"


SUBJECT = frozenset({RunVerdict.FAIL, RunVerdict.PANIC, RunVerdict.HANG, RunVerdict.NO_BOOT})
"""The kernel is at fault."""

JUDGED = SUBJECT | {RunVerdict.PASS}
"""The run speaks about the kernel, one way or the other."""

BAD_OUTCOMES = ("failed", "error", "incomplete")
# A driver that says so has failed, even when every test passed.
BAD_SEVERITIES = frozenset({"probe-fail", "load-fail", "suspend-abort", "resume-fail"})
# Provoked by tests on purpose too; they count only when a test did not expect them, i.e. outside of tests.
UNASKED_SEVERITIES = frozenset({"cmd-timeout", "timeout", "degraded"})
BEFORE_THE_DEVICE = frozenset({"probe-fail", "open-fail", "load-fail"})


@dataclass(frozen=True)
class Judgement:
    """A verdict, its reason in one sentence, and the finding or test that decided it."""

    verdict: RunVerdict
    reason: str
    evidence: tuple[str, ...] = ()  # tests, or "log:line" of findings

    @property
    def exit_code(self) -> int:
        """0 fine, 1 the kernel failed, 3 nobody can judge (docs/architecture.md, promises)."""
        if self.verdict is RunVerdict.PASS:
            return 0
        return 1 if self.verdict in SUBJECT else 3


def judge(journal: Journal, results: Sequence[CaseResult], findings: Sequence[LogFinding]) -> Judgement:
    """The verdict of a run that is over. A journal without an end is a run that was killed."""
    return (
        _interrupted(journal, results)
        or _machine_fell(journal, results, findings)
        or _infrastructure(journal)
        or _wrong_kernel(journal)
        or _environment(journal, results, findings)
        or _no_suite(journal, results)
        or _kernel_crashed(results, findings)
        or _tests_failed(journal, results, findings)
        or _kernel_complained(results, findings)
        or _nothing_ran(results)
        or _passed(results)
    )


def _interrupted(journal: Journal, results: Sequence[CaseResult]) -> Judgement | None:
    ended = journal.ended
    if ended is not None and not ended.interrupted:
        return None
    done = sum(result.outcome not in ("not-run", "incomplete") for result in results)
    how = "was killed" if ended is None else "was interrupted"
    return Judgement(RunVerdict.INTERRUPTED, f"the run {how} after {done} of {len(results)} tests")


def _machine_fell(
    journal: Journal, results: Sequence[CaseResult], findings: Sequence[LogFinding]
) -> Judgement | None:
    """A kernel that does not come up, or takes the machine down under a test."""
    panic = next((finding for finding in findings if finding.severity == "panic"), None)
    for record in journal.records:
        if isinstance(record, BootFailed):
            where = (_place(panic),) if panic and record.how == "panic" else ()
            if record.how == "panic":
                return Judgement(RunVerdict.PANIC, record.message, where)
            verdict = RunVerdict.HANG if record.how == "hang" else RunVerdict.NO_BOOT
            return Judgement(verdict, record.message)
        if isinstance(record, MachineLost):
            guilty = [result for result in results if result.outcome == "incomplete"]
            under = f" during {guilty[0].test}" if guilty else ""
            tests = tuple(result.test for result in guilty)
            if panic is not None:
                said = clean(panic.text.split("\n", 1)[0], 300)
                return Judgement(RunVerdict.PANIC, f"{said}{under}", (*tests, _place(panic)))
            if not _ours(journal):
                # A machine that we did not boot may have been switched off by its owner.
                return Judgement(RunVerdict.INFRASTRUCTURE, f"{record.message}{under}", tests)
            return Judgement(RunVerdict.HANG, f"{record.message}{under}", tests)
    return None


def _infrastructure(journal: Journal) -> Judgement | None:
    for record in journal.records:
        if isinstance(record, Trouble):
            return Judgement(RunVerdict.INFRASTRUCTURE, f"{record.where}: {record.message}")
    return None


def _wrong_kernel(journal: Journal) -> Judgement | None:
    for record in journal.records:
        if isinstance(record, Proof) and not record.holds:
            seen = record.seen if record.seen is not None else "nothing"
            return Judgement(RunVerdict.WRONG_KERNEL, f"{record.name} is {seen}, expected {record.expected}")
    return None


def _environment(
    journal: Journal, results: Sequence[CaseResult], findings: Sequence[LogFinding]
) -> Judgement | None:
    for record in journal.records:
        if isinstance(record, EnvironmentRecord):
            for problem in record.problems:
                if problem.get("blocking"):
                    return Judgement(
                        RunVerdict.ENVIRONMENT, f"{problem.get('cause')}; {problem.get('next_step')}"
                    )
    if _reached(journal, results):
        return None  # what stays are single tests, judged below
    for finding in findings:
        if finding.environment and finding.severity in BEFORE_THE_DEVICE:
            first, _, _ = finding.text.partition("\n")
            return Judgement(
                RunVerdict.ENVIRONMENT,
                clean(f"{finding.signature}: {first}", 400),
                (_place(finding),),
            )
    return None if _ours(journal) else _unexplained(journal, findings)


def _unexplained(journal: Journal, findings: Sequence[LogFinding]) -> Judgement | None:
    """A machine that others set up, a device that the suite did not reach, a kernel that reports no failure.

    The driver was taken from the device by hand, say; a kernel is not blamed for what it did not do.
    """
    if any(finding.severity in BEFORE_THE_DEVICE for finding in findings):
        return None
    missing = _missing(journal)
    if not missing:
        return None
    return Judgement(
        RunVerdict.ENVIRONMENT,
        f"{missing[0]}; no line of the kernel log says that the driver failed (see `xdnawatch doctor`)",
    )


def _missing(journal: Journal) -> list[str]:
    """What the suite found lacking before its first test, in its words (contract, ``environment``)."""
    found: list[str] = []
    for record in journal.records:
        if isinstance(record, SuiteEvent) and record.event.get("event") == "environment":
            pieces = record.event.get("missing")
            for piece in pieces if isinstance(pieces, list) else []:
                if isinstance(piece, dict):
                    found.append(clean(str(piece.get("message")), 300))
    return found


def _reached(journal: Journal, results: Sequence[CaseResult]) -> bool:
    """Whether some test had the device. A few pass without: that the driver made a node is one of them."""
    return not _missing(journal) and any(result.outcome == "passed" for result in results)


def _no_suite(journal: Journal, results: Sequence[CaseResult]) -> Judgement | None:
    """The suite could not be started or broke: nothing was said about the kernel."""
    if results:
        return None
    for record in journal.records:
        if isinstance(record, SuiteEvent) and record.event.get("event") == "collect-error":
            said = clean(str(record.event.get("message")), 400)
            return Judgement(RunVerdict.INFRASTRUCTURE, f"the suite could not be read: {said}")
        if isinstance(record, SuiteStopped):
            said = f": {record.message}" if record.message else ""
            return Judgement(
                RunVerdict.INFRASTRUCTURE,
                f"the suite ended without a test ({record.how}, status {record.status}){clean(said, 400)}",
            )
    return Judgement(RunVerdict.INFRASTRUCTURE, "no test was run")


def _kernel_crashed(results: Sequence[CaseResult], findings: Sequence[LogFinding]) -> Judgement | None:
    """An Oops, BUG or lockup: whatever the tests say, the kernel broke."""
    crashes = [finding for finding in findings if finding.severity in ("crash", "panic")]
    if not crashes:
        return None
    first = crashes[0]
    under = f" during {first.test}" if first.test else ""
    bad = _bad(results)
    also = f"; {len(bad)} of {len(results)} tests failed" if bad else ""
    head = clean(first.text.split("\n", 1)[0], 300)
    places = (_place(crash) for crash in crashes[:20])
    return Judgement(
        RunVerdict.FAIL,
        f"the kernel reported {first.signature}{under}: {head}{also}",
        (*places, *(result.test for result in bad[:200])),
    )


def _tests_failed(
    journal: Journal, results: Sequence[CaseResult], findings: Sequence[LogFinding]
) -> Judgement | None:
    bad = [result for result in _bad(results) if not result.suspect]
    unreached = _unreached(journal, results, findings)
    if not bad and unreached is None:
        return None
    gaps = [finding for finding in findings if finding.klass == "model-gap"]
    excused = {finding.test for finding in gaps}
    if gaps and (None in excused or (bad and all(result.test in excused for result in bad))):
        first = gaps[0]
        return Judgement(
            RunVerdict.MODEL_GAP,
            clean(f"the simulated device does not know something the driver used: {first.text}", 400),
            (_place(first), *(result.test for result in bad[:20])),
        )
    if unreached is not None:
        return unreached
    names = ", ".join(result.test for result in bad[:3]) + (" ..." if len(bad) > 3 else "")
    because = f": {headline(bad[0].message)}" if len(bad) == 1 and bad[0].message else ""
    return Judgement(
        RunVerdict.FAIL,
        f"{len(bad)} of {len(results)} tests failed ({names}){because}",
        tuple(result.test for result in bad[:200]),
    )


def _unreached(
    journal: Journal, results: Sequence[CaseResult], findings: Sequence[LogFinding]
) -> Judgement | None:
    """A driver that gave up on the device: every test then says that there is none."""
    if _reached(journal, results):
        return None
    for finding in findings:
        if finding.severity in BEFORE_THE_DEVICE and not finding.environment:
            return Judgement(
                RunVerdict.FAIL,
                clean(f"the driver did not take the device: {finding.text}", 400),
                (_place(finding),),
            )
    return None


def _kernel_complained(results: Sequence[CaseResult], findings: Sequence[LogFinding]) -> Judgement | None:
    """Every test passed, but a pass can lie: the log shows that something broke.

    What a failing test of a known suspect provokes is part of that suspect.
    """
    suspects = {result.test for result in _bad(results) if result.suspect}
    for finding in findings:
        if finding.environment or finding.test in suspects:
            continue
        own = finding.driver and finding.severity in BAD_SEVERITIES
        warned = finding.driver and finding.klass == "oops"
        unasked = finding.driver and finding.test is None and finding.severity in UNASKED_SEVERITIES
        if own or warned or unasked:
            head = clean(finding.text.split("\n", 1)[0], 300)
            return Judgement(
                RunVerdict.FAIL,
                f"{_apart_from(suspects)}, but the kernel reported {finding.signature}: {head}",
                (_place(finding),),
            )
    return None


def _apart_from(suspects: Collection[str]) -> str:
    if not suspects:
        return "no test failed"
    return f"no test failed but {len(suspects)} that show suspected defects"


def _nothing_ran(results: Sequence[CaseResult]) -> Judgement | None:
    if any(result.outcome == "passed" for result in results):
        return None
    shown = tuple(result.test for result in _bad(results))
    if shown:  # only tests of suspected defects were asked for, and they show them
        return Judgement(RunVerdict.FAIL, f"{len(shown)} show a suspected defect, and nothing passed", shown)
    reasons = [result.message for result in results if result.outcome == "skipped"]
    told = next((reason for reason in reasons if reason.startswith(ENVIRONMENT_PREFIX)), None)
    if told is not None:
        return Judgement(RunVerdict.ENVIRONMENT, clean(told.removeprefix(ENVIRONMENT_PREFIX), 400))
    why = reasons[0] if reasons else next((r.message for r in results), "")
    return Judgement(RunVerdict.INFRASTRUCTURE, clean(f"no test ran: {why}", 400))


def _passed(results: Sequence[CaseResult]) -> Judgement:
    passed = sum(result.outcome == "passed" for result in results)
    skipped = sum(result.outcome == "skipped" for result in results)
    reason = f"{passed} tests passed" + (f", {skipped} could not run here" if skipped else "")
    suspects = tuple(result.test for result in _bad(results) if result.suspect)
    if suspects:
        reason += f"; {len(suspects)} show a suspected defect that is already known"
    return Judgement(RunVerdict.PASS, reason, suspects)


def _bad(results: Sequence[CaseResult]) -> list[CaseResult]:
    return [result for result in results if result.outcome in BAD_OUTCOMES]


def _ours(journal: Journal) -> bool:
    return journal.header.release is not None


def _place(finding: LogFinding) -> str:
    return f"{finding.log}:{finding.line}"


def log_is_whole(journal: Journal) -> bool:
    """Whether the kernel log of every boot was captured to its end."""
    stops = [record for record in journal.records if isinstance(record, LogStopped)]
    return bool(stops) and all(record.problem is None and not record.dropped for record in stops)
