"""A run folder -> everything it shows: results, findings, verdict. A pure function of the files in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import journal as journals
from harness.device_log import scan_trace, trace_clock
from harness.environment import digest_of_facts
from harness.journal import EnvironmentRecord, Journal, PhaseStarted, SuiteEvent
from harness.kernel_log import LogFinding, Window, bounded_lines, only_new, scan
from harness.results import CaseResult, results
from harness.signatures import known_signatures
from harness.verdict import Judgement, judge

KERNEL_LOG = "kernel.log"
SERIAL_LOG = "serial.log"
DEVICE_TRACE = "device.jsonl"


@dataclass(frozen=True)
class Evidence:
    """One run as its folder tells it. ``alive``: some process is still at it, the judgement is of so far."""

    folder: Path
    journal: Journal
    results: tuple[CaseResult, ...]
    findings: tuple[LogFinding, ...]
    judgement: Judgement
    alive: bool = False

    def count(self, outcome: str) -> int:
        """How many tests ended so."""
        return sum(result.outcome == outcome for result in self.results)


def read_evidence(folder: Path) -> Evidence:
    """Read and judge a run folder in any state. Raises JournalError when it has no readable journal."""
    alive = journals.is_alive(folder)
    journal = journals.read(folder)
    cases = results(journal)
    findings: list[LogFinding] = []
    for boot in boots(journal):
        findings += _boot_findings(folder, boot, journal, cases)
    findings += _suspect_findings(cases)
    return Evidence(folder, journal, cases, tuple(findings), judge(journal, cases, findings), alive)


def environment_of(journal: Journal) -> tuple[str, dict[str, Any]] | None:
    """Digest and facts of what the results depend on, as first seen; None when nobody could look.

    The machine as it was examined, and under ``suite`` what the suite adds (contract: ``depends``).
    """
    examined = next((r for r in journal.records if isinstance(r, EnvironmentRecord) and r.digest), None)
    if examined is None:
        return None
    for record in journal.records:
        if isinstance(record, SuiteEvent) and record.event.get("event") == "environment":
            depends = record.event.get("depends")
            if isinstance(depends, dict) and depends:
                facts = {**examined.facts, "suite": depends}
                return digest_of_facts(facts), facts
            break
    return examined.digest, examined.facts


def boot_folder(folder: Path, boot: int) -> Path:
    """Where the logs of the nth boot of a run lie: the first in the run's own folder."""
    return folder if boot == 1 else folder / f"boot-{boot}"


def boots(journal: Journal) -> list[int]:
    """The numbers of the boots that were begun."""
    found = {record.boot for record in journal.records if isinstance(record, PhaseStarted)}
    return sorted(found) or [1]


def _boot_findings(
    folder: Path, boot: int, journal: Journal, cases: Sequence[CaseResult]
) -> list[LogFinding]:
    where = boot_folder(folder, boot)
    header = journal.header
    signatures = known_signatures()
    since = None
    if header.release is None:  # a machine that was running: its log is older than our run
        uptimes = [r.uptime for r in journal.records if isinstance(r, EnvironmentRecord)]
        since = next((uptime for uptime in uptimes if uptime is not None), None)
    windows = kernel_windows(journal, cases, boot)
    found: list[LogFinding] = []
    kernel_log = where / KERNEL_LOG
    if kernel_log.is_file():
        with kernel_log.open("rb") as handle:
            found += scan(
                bounded_lines(handle), KERNEL_LOG, signatures,
                nonce=header.nonce, windows=windows, since=since,
            ).findings  # fmt: skip
    serial_log = where / SERIAL_LOG
    if serial_log.is_file():
        with serial_log.open("rb") as handle:
            serial = scan(
                bounded_lines(handle), SERIAL_LOG, signatures, nonce=header.nonce, windows=windows
            ).findings
        found += only_new(serial, found)
    trace = where / DEVICE_TRACE
    if trace.is_file():
        with trace.open("rb") as handle:
            clock = trace_clock(bounded_lines(handle))
        with trace.open("rb") as handle:
            spans = host_windows(journal, cases, boot, clock)
            found += scan_trace(bounded_lines(handle), DEVICE_TRACE, spans)
    return found if boot == 1 else [_moved(finding, boot) for finding in found]


def _moved(finding: LogFinding, boot: int) -> LogFinding:
    return replace(finding, log=f"boot-{boot}/{finding.log}")


def host_windows(
    journal: Journal, cases: Iterable[CaseResult], boot: int, clock: float | None
) -> list[Window]:
    """The tests of one boot on a clock whose zero is at ``clock`` of the host's monotonic clock."""
    if clock is None:
        return []
    offset = journal.header.clock - clock
    last = journal.records[-1].t
    return [
        Window(case.test, case.began + offset, (last if case.ended is None else case.ended) + offset)
        for case in cases
        if case.boot == boot and case.began is not None
    ]


def kernel_windows(journal: Journal, cases: Iterable[CaseResult], boot: int) -> list[Window]:
    """The tests of one boot on the kernel's clock, for logs without the suite's marks (it is not root).

    The suite says when it began by the machine's wall clock, the examination ties that clock to the uptime.
    """
    tie = next(
        (
            record.machine_time - record.uptime
            for record in journal.records
            if isinstance(record, EnvironmentRecord)
            and record.boot == boot
            and record.machine_time is not None
            and record.uptime is not None
        ),
        None,
    )
    if tie is None:
        return []
    windows: list[Window] = []
    begin = 0.0
    started: dict[str, float] = {}
    known = {case.test for case in cases}
    for record in journal.records:
        if not isinstance(record, SuiteEvent) or record.boot != boot:
            continue
        event = record.event
        at, name, test = event.get("t"), event.get("event"), str(event.get("id"))
        if name == "begin" and isinstance(event.get("time"), int | float):
            begin = float(event["time"]) - tie
        elif name == "start" and isinstance(at, int | float):
            started[test] = begin + at
        elif name == "result" and isinstance(at, int | float) and test in started and test in known:
            windows.append(Window(test, started.pop(test), begin + at))
    windows += [Window(test, at, float("inf")) for test, at in started.items()]
    return windows


def _suspect_findings(cases: Iterable[CaseResult]) -> list[LogFinding]:
    """A failed test of a known candidate defect is kept as a finding."""
    return [
        LogFinding(
            journals.FILE_NAME, 0, "suspect", "suspect", "info", f"{case.suspect}: {case.message}"[:2000],
            test=case.test, driver=True,
        )
        for case in cases
        if case.suspect and case.outcome in ("failed", "error")
    ]  # fmt: skip
