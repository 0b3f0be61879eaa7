"""Every fault of the virtual NPU against the harness: is it seen, rightly named, survived (pure).

A row is one fault with the tests that make it strike and what the run must then show. A cell is a row on one
kernel: a run with the fault, and the next run on the same machine without it. Both are judged from their
evidence alone, so that a better rule needs no new boot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.evidence import Evidence
from harness.verdict import BAD_OUTCOMES, RunVerdict

TEST_FAILS = "a test fails"
"""A sign that is no line of a log: the selected tests see the fault themselves."""

NOTHING = "nothing"
"""The driver must cope: every selected test passes and the kernel says nothing bad."""

NEXT_TESTS = "test_presence"
"""The run after the fault: boot, proof, probe, open, identity."""

_SVA_UNTIL = (7, 1)  # before it the device works at the process's addresses, which the model cannot reach
_SHORT_TDR_SINCE = (7, 2)  # tdr_timeout_ms, 2 s; before it a test has long given up when the driver does

_EXEC = "CHAIN_EXEC_NPU"
_ONE_COMMAND = "test_start_cu"
_TELEMETRY = "test_query and test_telemetry and not errors"
_LATE_TDR = (_SHORT_TDR_SINCE, (TEST_FAILS,))
_PROBE = "test_driver_probed or test_driver_name"


@dataclass(frozen=True)
class Row:
    """One fault as ``--fault`` takes it, the pytest -k expression, and the signs of which one must be seen.

    ``older``: a release as (major, minor) and the signs before it; no signs: it cannot be seen there.
    ``environment``: it plays a wrong environment, which is what the verdict must say.
    """

    fault: str
    tests: str
    signs: tuple[str, ...]
    older: tuple[tuple[int, int], tuple[str, ...]] | None = None
    environment: bool = False

    @property
    def name(self) -> str:
        """The fault's name."""
        return self.fault.partition(":")[0]

    def signs_on(self, kernel: tuple[int, int]) -> tuple[str, ...]:
        """What must be seen on a kernel, given as (major, minor)."""
        if self.older is not None and kernel < self.older[0]:
            return self.older[1]
        return self.signs


ROWS: tuple[Row, ...] = (
    Row(f"drop:message={_EXEC},nth=1", _ONE_COMMAND, ("tdr",), older=_LATE_TDR),
    Row("drop:message=GET_TELEMETRY", _TELEMETRY, ("mbox-timeout",)),
    Row(f"late:message={_EXEC},ms=300", _ONE_COMMAND, (NOTHING,)),
    Row("late:message=GET_TELEMETRY,ms=6000", _TELEMETRY, ("mbox-timeout",)),
    Row(f"duplicate:message={_EXEC},nth=1", _ONE_COMMAND, ("mbox-bad",)),
    Row("wrong-size:message=GET_TELEMETRY", _TELEMETRY, ("mbox-bad",)),
    Row(f"malformed:message={_EXEC},nth=1", _ONE_COMMAND, ("mbox-bad",)),
    Row(f"reorder:message={_EXEC},nth=1", "test_several_in_flight", (NOTHING,)),
    Row("fail:message=CREATE_CONTEXT,status=0x2000003", "test_create_and_destroy", ("ctx-noavail",)),
    Row(f"fail:message={_EXEC},nth=1", _ONE_COMMAND, (TEST_FAILS,)),
    Row("hung-command", _ONE_COMMAND, ("tdr", "tdr-report"), older=_LATE_TDR),
    Row("wrong-result", "test_work and test_copy", (TEST_FAILS,), older=(_SVA_UNTIL, ())),
    Row("skipped-work", "test_work and test_copy", (TEST_FAILS,), older=(_SVA_UNTIL, ())),
    Row("firmware-not-alive", _PROBE, ("fw-not-alive",)),
    Row("slow-boot", _PROBE, (NOTHING,)),
    Row("bad-magic", _PROBE, ("mbox-magic",)),
    Row("unsupported-protocol", _PROBE, ("fw-proto-refused", "fw-proto"), environment=True),
    Row("psp-error", _PROBE, ("psp",)),
    Row("psp-hang", _PROBE, ("psp",)),
    Row("smu-error", _PROBE, ("smu-failed",)),
    Row("smu-hang", _PROBE, ("smu-timeout",)),
    # The first time is during the probe.
    Row("suspend-stuck:nth=2", "test_sleeps_when_idle", ("suspend",)),
    Row("failed-suspend:nth=2", "test_sleeps_when_idle", ("suspend",)),
    Row("failed-resume:nth=2", "test_sleeps_when_idle", ("resume",)),
    Row(f"lost-interrupt:message={_EXEC},nth=1", _ONE_COMMAND, ("tdr",), older=_LATE_TDR),
    Row(f"spurious-interrupt:message={_EXEC},times=100", _ONE_COMMAND, (NOTHING,)),
    Row(f"interrupt-storm:message={_EXEC}", _ONE_COMMAND, (NOTHING,)),
    Row(f"garbage:message={_EXEC},nth=1", _ONE_COMMAND, ("mbox-bad",)),
    Row("garbage", _PROBE, ("mbox-bad", "fw-not-alive")),
    Row(f"ring-corruption:message={_EXEC},nth=1", _ONE_COMMAND, ("mbox-bad",)),
    Row("async-error", _ONE_COMMAND, ("async-error",)),
    # Behind the guest's memory: up to 7.0 the IOMMU lets every address through.
    Row(
        "dma-out-of-range:address=0xdead00000",
        _ONE_COMMAND,
        ("io-page-fault",),
        older=(_SVA_UNTIL, ("dma-error",)),
    ),
)


class Outcome(StrEnum):
    """What a cell says. The first two are as it should be."""

    DETECTED = "detected"
    TOLERATED = "tolerated"
    INVISIBLE = "cannot be seen here"
    NOT_STRUCK = "did not strike"
    MISSED = "missed"
    WRONG_CLASS = "wrong class"
    UNJUDGED = "not judged"


GOOD = frozenset({Outcome.DETECTED, Outcome.TOLERATED, Outcome.INVISIBLE})


@dataclass(frozen=True)
class Cell:
    """A judged row on one kernel. ``seen`` are the signs of the row that showed; seconds of the two runs."""

    row: Row
    kernel: str
    outcome: Outcome
    verdict: str
    reason: str
    seen: tuple[str, ...] = ()
    ended: bool = False
    next_clean: bool = False
    run: str | None = None
    next_run: str | None = None
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Detected in the right class, ended by itself, and the machine is as good as before."""
        return self.outcome is Outcome.INVISIBLE or (self.outcome in GOOD and self.ended and self.next_clean)


def invisible(row: Row, kernel: str) -> Cell:
    """The cell of a fault that no run on this kernel could show."""
    reason = "the commands' memory is at the process's addresses (SVA), which the model cannot reach"
    return Cell(row, kernel, Outcome.INVISIBLE, "none", reason)


def judge_cell(row: Row, kernel: str, wanted: Sequence[str], fault: Evidence, after: Evidence) -> Cell:
    """Judge the run with the fault and the one that followed; ``wanted`` are the signs on this kernel."""
    outcome, seen = _outcome(row, wanted, fault)
    ended = fault.journal.ended
    return Cell(
        row,
        kernel,
        outcome,
        fault.judgement.verdict.value,
        fault.judgement.reason,
        seen=seen,
        ended=ended is not None and not ended.interrupted,
        next_clean=after.judgement.verdict is RunVerdict.PASS,
        run=fault.journal.header.run,
        next_run=after.journal.header.run,
        seconds=_seconds(fault) + _seconds(after),
    )


def _outcome(row: Row, wanted: Sequence[str], fault: Evidence) -> tuple[Outcome, tuple[str, ...]]:
    verdict = fault.judgement.verdict
    if verdict is RunVerdict.INTERRUPTED or verdict is RunVerdict.WRONG_KERNEL:
        return Outcome.UNJUDGED, ()
    if not any(finding.signature == "fault" for finding in fault.findings):
        return Outcome.NOT_STRUCK, ()
    if tuple(wanted) == (NOTHING,):
        return (Outcome.TOLERATED, (NOTHING,)) if verdict is RunVerdict.PASS else (Outcome.WRONG_CLASS, ())
    signatures = {finding.signature for finding in fault.findings}
    failed = any(case.outcome in BAD_OUTCOMES for case in fault.results)
    seen = tuple(sign for sign in wanted if sign in signatures or (sign == TEST_FAILS and failed))
    if not seen:
        return Outcome.MISSED, ()
    # A fault of the device must never be taken for a broken environment, the lab or a gap of the model, and a
    # wrong environment for nothing else.
    blamed = verdict in (RunVerdict.ENVIRONMENT, RunVerdict.INFRASTRUCTURE, RunVerdict.MODEL_GAP)
    right = verdict is RunVerdict.ENVIRONMENT if row.environment else not blamed
    return (Outcome.DETECTED if right else Outcome.WRONG_CLASS), seen


def _seconds(evidence: Evidence) -> float:
    return evidence.journal.records[-1].t


def page(
    cells: Iterable[Cell], kernels: Sequence[str], *, command: str, machine: str, model: str, date: str
) -> str:
    """The table as Markdown, a column for each kernel; everything in it comes from the cells."""
    found = list(cells)
    good = sum(cell.good for cell in found)
    left = len(ROWS) * len(kernels) - len(found)
    lines = [
        "# The fault matrix",
        "",
        "Every fault of the [virtual NPU](virtual-npu.md#faults) on real kernels: does a run show it, in the "
        "right class, does the run end by itself, and is the next run on the same machine clean? "
        "This page is written by the command:",
        "",
        "```",
        command,
        "```",
        "",
        f"Machine {machine}, device model {model}, {date}. "
        f"{good} of {len(found)} cells are as they should be" + (f"; {left} were not run." if left else "."),
        "",
        "A cell: the outcome, the sign that showed (an id of the kernel-log signatures, or what the tests "
        "saw), the run's verdict, and the seconds of both runs; one clean run may stand for several faults "
        "before it. *Tolerated*: the driver must cope, and did. "
        "Where a cell is not as it should be, the reason stands below.",
        "",
        "| fault | tests (`-k`) | " + " | ".join(f"kernel {kernel}" for kernel in kernels) + " |",
        "| --- | --- |" + " --- |" * len(kernels),
    ]
    by_place = {(cell.row.fault, cell.kernel): cell for cell in found}
    for row in ROWS:
        shown = [_shown(by_place.get((row.fault, kernel))) for kernel in kernels]
        lines.append(f"| `{row.fault}` | `{row.tests}` | " + " | ".join(shown) + " |")
    bad = [cell for cell in found if not cell.good]
    if bad:
        lines += ["", "## Not as it should be", ""]
        lines += [f"- `{cell.row.fault}` on {cell.kernel}: {_complaint(cell)}" for cell in bad]
    return "\n".join(lines) + "\n"


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return "not run"
    if cell.outcome is Outcome.INVISIBLE:
        return cell.outcome.value
    signs = "" if cell.outcome is Outcome.TOLERATED else f": {', '.join(cell.seen)}" if cell.seen else ""
    tail = "" if cell.good else " **(!)**"
    return f"{cell.outcome.value}{signs}; {cell.verdict}; {cell.seconds:.0f} s{tail}"


def _complaint(cell: Cell) -> str:
    words = [cell.outcome.value]
    if not cell.ended:
        words.append("did not end by itself")
    if not cell.next_clean:
        words.append(f"the next run ({cell.next_run}) is not clean")
    reason = cell.reason.replace("|", "/").replace("\n", " ")[:200]
    return f"{'; '.join(words)}. Verdict {cell.verdict}: {reason}"
