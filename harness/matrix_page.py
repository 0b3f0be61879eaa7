"""The matrix of kernels and machines as a page: every cell, and what differs between the releases (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.evidence import Evidence
from harness.release_differences import Difference, differences, reason_of_failure
from harness.results import CaseResult, headline, phases
from harness.verdict import BAD_OUTCOMES, JUDGED, RunVerdict

TESTS_SHOWN = 4
QUIET = frozenset({"ok", "info", "reject", "unsupported"})


@dataclass(frozen=True)
class MatrixCell:
    """One machine with one kernel. ``evidence`` None: not run, for the reason given."""

    machine: str
    kernel: str
    evidence: Evidence | None
    reason: str = ""
    applicable: bool = True


def matrix_page(cells: Sequence[MatrixCell], *, command: str, model: str, digest: str) -> str:
    """The page as Markdown. Everything in it comes from the cells; ``digest`` is the suite's."""
    judged = [cell for cell in cells if cell.evidence is not None]
    apart = sum(not cell.applicable for cell in cells)
    left = len(cells) - len(judged) - apart
    starts = [cell.evidence.journal.header.started_at for cell in judged if cell.evidence]
    days = sorted({start.date().isoformat() for start in starts})
    when = f"{days[0]} to {days[-1]}" if len(days) > 1 else (days[0] if days else "never")
    lines = [
        "# The matrix",
        "",
        "The whole ioctl suite on stock kernels and [virtual NPUs](virtual-npu.md): no hardware took part. "
        "This page is written by the command below; killed, it goes on where it was, and `nightly` runs only "
        "what has no verdict yet.",
        "",
        "```",
        command,
        "```",
        "",
        f"Device model {model}, suite {digest}, {when}. {len(judged)} of {len(cells)} cells were run, "
        f"{apart} are not applicable, {left} were not run.",
        "",
        "A test that failed shows a *suspected* defect ([defects](defects/index.md)), lacks a *fix* that a "
        "later release carries, or has no explanation (*?*). Findings are lines of the kernel log that are "
        "more than notes. Seconds: boot, proof of the boot, the suite, the tests that let the device sleep, "
        "and all.",
        "",
        "| machine | kernel | verdict | passed | failed: suspect, fix, ? | skipped | findings | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_row(cell) for cell in cells),
        "",
        *_unexplained(judged),
        *_differences(judged),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _row(cell: MatrixCell) -> str:
    head = f"| {cell.machine} | {cell.kernel} |"
    if cell.evidence is None:
        word = "not run" if cell.applicable else "not applicable"
        return f"{head} {word}: {_plain(cell.reason)} | | | | | |"
    evidence = cell.evidence
    why = Counter(reason_of_failure(case) for case in evidence.results if case.outcome in BAD_OUTCOMES)
    loud = sum(finding.severity not in QUIET for finding in evidence.findings)
    spent = phases(evidence.journal)
    seconds = ", ".join(f"{spent.get(part, 0.0):.0f}" for part in ("boot", "prove", "suite", "pm", "total"))
    verdict = evidence.judgement.verdict
    said = verdict.value if verdict in JUDGED else f"{verdict.value}: {_plain(evidence.judgement.reason)}"
    skipped = evidence.count("skipped") + evidence.count("not-run")
    return (
        f"{head} {said} | {evidence.count('passed')} | {why['suspect']}, {why['fix']}, {why['unexplained']} "
        f"| {skipped} | {loud} | {seconds} |"
    )


def _unexplained(judged: Iterable[MatrixCell]) -> list[str]:
    lines = []
    for cell in judged:
        if cell.evidence is None:
            continue
        if cell.evidence.judgement.verdict in (RunVerdict.PANIC, RunVerdict.HANG, RunVerdict.NO_BOOT):
            lines.append(f"- {cell.machine}, {cell.kernel}: {_plain(cell.evidence.judgement.reason)}")
        lines += [
            f"- {cell.machine}, {cell.kernel}: `{case.test}` {case.outcome}: {_plain(headline(case.message))}"
            for case in cell.evidence.results
            if case.outcome in BAD_OUTCOMES and reason_of_failure(case) == "unexplained"
        ]
    return ["## Without explanation", "", *lines, ""] if lines else []


def _differences(judged: Iterable[MatrixCell]) -> list[str]:
    runs: dict[str, list[tuple[str, Sequence[CaseResult]]]] = {}
    for cell in judged:
        if cell.evidence is not None and cell.evidence.judgement.verdict in JUDGED:
            runs.setdefault(cell.machine, []).append((cell.kernel, cell.evidence.results))
    found = differences(runs)
    if not found:
        return []
    return [
        "## What differs between the releases",
        "",
        "Neighbouring kernels of one machine, test by test. *feature*: new or changed on purpose; *fix*: "
        "right on every kernel, and carried from there on; *suspect*: a suspected defect of the driver.",
        "",
        "| from | to | label | what | source, or what is seen | tests | machines |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_difference(difference) for difference in found),
        "",
    ]


def _difference(difference: Difference) -> str:
    tests = ", ".join(f"`{test.split('::')[-1]}`" for test in difference.tests[:TESTS_SHOWN])
    more = len(difference.tests) - TESTS_SHOWN
    tests += f" and {more} more" if more > 0 else ""
    machines = ", ".join(name.removeprefix("virtual-") for name in difference.machines)
    return (
        f"| {difference.older} | {difference.newer} | {difference.label} | {_plain(difference.what)} "
        f"| {_plain(difference.source)} | {tests} | {machines} |"
    )


def _plain(text: str, limit: int = 160) -> str:
    """A text that stays within its cell."""
    return text.replace("|", "/").replace("\n", " ")[:limit]
