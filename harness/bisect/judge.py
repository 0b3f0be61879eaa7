"""From a subject to a verdict: make its kernel, boot it, run the one test, read what came out.

The rule of the verdict is ``look``: only the test itself can make a candidate good or bad. A kernel that does
not build, boot or reach the test, an environment that does not fit, a gap in the device model: all of these
say nothing about the test, so they are skips (facts module-build.md section 6: three wrong culprits were
near).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import select

from db.database import Database
from db.run_tables import Environment, Finding, Kernel, Result, Run
from db.run_tables import Machine as MachineRow
from harness.bisect.locks import writing
from harness.bisect.record import Judgement, Subject
from harness.bisect.search import Verdict
from harness.errors import HarnessError
from harness.evidence import Evidence
from harness.journal import EnvironmentRecord, new_run_id
from harness.results import phases
from harness.runner import RunOptions, RunRequest, run
from harness.store import known_build_id, store_run
from harness.suite_stream import ShippedSuite, Suite, ioctl_suite
from harness.untrusted import clean
from harness.verdict import RunVerdict
from lab.machine import Candidate, Machine

#: Runs of one test are kept apart from whole runs of a kernel: pages and the nightly matrix want the latter.
SUITE_NAME = "bisect"
REASON_LIMIT = 500  # characters
NOBODYS_FAULT = frozenset({RunVerdict.INFRASTRUCTURE, RunVerdict.WRONG_KERNEL, RunVerdict.INTERRUPTED})


class UnusableSubjectError(HarnessError):
    """This subject gives no kernel to boot; the reason is its own."""


class KernelSource(Protocol):
    """Makes a candidate kernel of a subject."""

    def candidate(
        self, subject: Subject, say: Callable[[str], None]
    ) -> tuple[Candidate, Mapping[str, float]]:
        """The kernel, and the seconds its making took by phase. Raises UnusableSubjectError."""
        ...


@dataclass(frozen=True)
class Look:
    """What one run says that matters for one test."""

    run_verdict: RunVerdict
    run_reason: str
    outcome: str | None  # of the test; None when it was not even collected
    message: str
    gap: str | None  # what the simulated device did not know, before or during the test


def verdict_of(look: Look) -> tuple[Verdict, str]:
    """Good, bad or skip, and why in one sentence."""
    said = telling_line(look.message)
    if look.outcome == "passed":
        return Verdict.GOOD, "passed"
    hampered = look.run_verdict in NOBODYS_FAULT or look.run_verdict is RunVerdict.ENVIRONMENT
    # A test that failed in its own words did run: a run of one test that is a known suspect has nothing that
    # passed, and calls itself infrastructure for that.
    ran = look.outcome == "failed" and look.run_verdict is RunVerdict.INFRASTRUCTURE
    if hampered and not ran:
        return Verdict.SKIP, f"{look.run_verdict}: {look.run_reason}"
    if look.outcome in ("failed", "incomplete"):
        if look.gap is not None:
            return Verdict.SKIP, f"model-gap: {look.gap}"
        return Verdict.BAD, said or look.run_reason
    if look.outcome == "error":
        return Verdict.SKIP, f"the test could not be prepared: {said}"
    if look.outcome == "skipped":
        return Verdict.SKIP, f"the test was skipped: {said}"
    return Verdict.SKIP, f"the kernel did not get as far as the test: {look.run_reason}"


def look(evidence: Evidence, test: str) -> Look:
    """What a run just made says about a test."""
    case = next((result for result in evidence.results if result.test == test), None)
    gaps = (f.text for f in evidence.findings if f.klass == "model-gap" and f.test in (None, test))
    return Look(
        evidence.judgement.verdict,
        evidence.judgement.reason,
        case.outcome if case else None,
        case.message if case else "",
        next(gaps, None),
    )


def one_test(test: str) -> ShippedSuite:
    """The project's suite, narrowed to a test by its exact id."""
    whole = ioctl_suite()

    def command(root: str, nonce: str, tests: Sequence[str]) -> tuple[Sequence[str], Mapping[str, bytes]]:
        return whole.command(root, nonce, tests or (test,))

    return replace(whole, name=SUITE_NAME, command=command)


@dataclass
class RunJudge:
    """Judges by running; every run is stored in the database before its verdict is used.

    A verdict is remembered only from runs in the same laboratory (QEMU, guest, device model) as a run that
    this judge made itself: its first look is always a real one.
    """

    machine: Machine
    test: str
    source: KernelSource
    runs: Path
    database: Database
    options: RunOptions = field(default_factory=RunOptions)
    _laboratory: Mapping[str, Any] | None = None

    def judge(self, subject: Subject, *, again: bool, say: Callable[[str], None]) -> Judgement:
        """Make, boot, run; or remember. See harness.bisect.campaign.Judge."""
        try:
            candidate, making = self.source.candidate(subject, say)
        except UnusableSubjectError as error:
            return Judgement(Verdict.SKIP, clean(str(error), REASON_LIMIT))
        suite = one_test(self.test)
        if not again:
            known = self._remembered(candidate, suite)
            if known is not None:
                return known
        folder = self.runs / new_run_id(datetime.now(UTC), secrets.token_hex(3))
        with self.database.session() as session:
            build_id = known_build_id(session, candidate.release, "debian")
        request = RunRequest(candidate, requested=subject.id, known_build_id=build_id)
        evidence = run(self.machine, request, suite, folder, self.options, on_note=say)
        with writing(self.database) as session:
            store_run(session, evidence)
        self._laboratory = _laboratory_of(_environment_facts(evidence)) or self._laboratory
        if evidence.judgement.verdict is RunVerdict.INTERRUPTED:
            raise KeyboardInterrupt  # the runner ended the run in order; now the campaign ends in order
        seen = look(evidence, self.test)
        verdict, reason = verdict_of(seen)
        spent = phases(evidence.journal)
        return Judgement(
            verdict,
            clean(reason, REASON_LIMIT),
            run_id=folder.name,
            seconds={
                **making,
                "boot": spent.get("boot", 0.0),
                "test": spent["total"] - spent.get("boot", 0.0),
            },
            infrastructure=verdict is Verdict.SKIP and seen.run_verdict in NOBODYS_FAULT,
            error=clean(telling_line(seen.message), REASON_LIMIT) if seen.outcome == "error" else None,
        )

    def _remembered(self, candidate: Candidate, suite: Suite) -> Judgement | None:
        """The verdict of the newest run of the same kernel, module, test files and machine, if it had one."""
        if self._laboratory is None:
            return None
        query = (
            select(Run, Environment.facts)
            .join(Environment)
            .join(Kernel)
            .join(MachineRow)
            .where(
                Kernel.release == candidate.release,
                Kernel.origin == candidate.origin,
                MachineRow.name == self.machine.name,
                Run.suite_digest == suite.digest,
                Run.state == "finished",
            )
            .order_by(Run.started_at.desc())
        )
        with self.database.session() as session:
            for row, facts in session.execute(query):
                if row.faults or row.verdict is None or _laboratory_of(facts) != self._laboratory:
                    continue
                case = session.scalar(select(Result).where(Result.run_id == row.id, Result.test == self.test))
                gap = session.scalar(
                    select(Finding.text).where(
                        Finding.run_id == row.id,
                        Finding.klass == "model-gap",
                        (Finding.test.is_(None)) | (Finding.test == self.test),
                    )
                )
                seen = Look(
                    RunVerdict(row.verdict),
                    row.reason,
                    case.outcome if case else None,
                    case.message if case else "",
                    gap,
                )
                verdict, reason = verdict_of(seen)
                if verdict is not Verdict.SKIP:
                    return Judgement(verdict, f"{reason} (known from run {row.id})", run_id=row.id)
        return None


def _environment_facts(evidence: Evidence) -> Mapping[str, Any] | None:
    return next((r.facts for r in evidence.journal.records if isinstance(r, EnvironmentRecord)), None)


def _laboratory_of(facts: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What the lab was, without what it chooses by kernel (the IOMMU)."""
    lab = (facts or {}).get("lab")
    return {name: value for name, value in lab.items() if name != "iommu"} if isinstance(lab, dict) else None


def telling_line(message: str) -> str:
    """The line of a pytest report that says what went wrong: its first "E   ..." line, else the last one."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    errors = [line[1:].strip() for line in lines if line.startswith("E ")]
    return (errors or lines[-1:] or [""])[0]
