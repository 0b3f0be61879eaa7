"""The same run many times: did each say the same, and if not, which test differs in which run (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from harness.evidence import Evidence
from harness.results import headline, phases
from harness.verdict import BAD_OUTCOMES

ABSENT = "absent"


@dataclass(frozen=True)
class Differing:
    """A test that did not end the same way each time. ``outcomes``: the runs of each outcome."""

    test: str
    outcomes: Mapping[str, tuple[str, ...]]
    why: str  # what it said where it ended otherwise than in most runs


@dataclass(frozen=True)
class Repeats:
    """What ``runs`` have in common. ``verdicts``: how often each; ``seconds``: of one run, the median."""

    runs: tuple[str, ...]
    verdicts: Mapping[str, int]
    tests: int
    differing: tuple[Differing, ...]
    seconds: float

    @property
    def odd_verdicts(self) -> int:
        """Runs whose verdict is not the most frequent one."""
        return len(self.runs) - max(self.verdicts.values(), default=0)

    @property
    def same(self) -> bool:
        """Whether every run says the same of the kernel and of each test."""
        return not self.odd_verdicts and not self.differing


def compare_repeats(done: Sequence[Evidence]) -> Repeats:
    """Compare runs of one suite on one machine and kernel, verdict by verdict and test by test."""
    outcomes: dict[str, dict[str, str]] = {}
    messages: dict[tuple[str, str], str] = {}
    for evidence in done:
        run = evidence.journal.header.run
        for case in evidence.results:
            outcomes.setdefault(case.test, {})[run] = case.outcome
            messages[case.test, run] = headline(case.message) if case.outcome in BAD_OUTCOMES else ""
    runs = tuple(evidence.journal.header.run for evidence in done)
    differing = []
    for test, by_run in outcomes.items():
        ended = [by_run.get(run, ABSENT) for run in runs]
        if len(set(ended)) > 1:
            usual = Counter(ended).most_common(1)[0][0]
            odd = [run for run, outcome in zip(runs, ended, strict=True) if outcome != usual]
            why = next((said for run in odd if (said := messages.get((test, run), ""))), "")
            sorted_runs = {
                outcome: tuple(run for run, other in zip(runs, ended, strict=True) if other == outcome)
                for outcome in sorted(set(ended))
            }
            differing.append(Differing(test, sorted_runs, why))
    return Repeats(
        runs,
        dict(Counter(evidence.judgement.verdict.value for evidence in done)),
        len(outcomes),
        tuple(differing),
        round(median(phases(evidence.journal)["total"] for evidence in done), 1) if done else 0.0,
    )


def repeats_page(found: Repeats, *, asked: int, command: str, machine: str, kernel: str, model: str) -> str:
    """The answer as Markdown."""
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(found.verdicts.items()))
    lines = [
        "# One cell, many times",
        "",
        "The same kernel, machine and suite again and again: a verdict that changes by itself is worth "
        "nothing. This page is written by the command:",
        "",
        "```",
        command,
        "```",
        "",
        f"Machine {machine}, kernel {kernel}, device model {model}. {len(found.runs)} of {asked} runs were "
        f"made, {found.tests} tests each, {found.seconds:.0f} s a run (median). Verdicts: "
        f"{verdicts or 'none'}; {found.odd_verdicts} differ. Tests that did not end the same way each time: "
        f"{len(found.differing)}.",
    ]
    if found.differing:
        lines += ["", "| test | outcomes | what it said | runs |", "| --- | --- | --- | --- |"]
        for entry in found.differing:
            counted = ", ".join(f"{len(runs)} {outcome}" for outcome, runs in entry.outcomes.items())
            few = min(entry.outcomes.values(), key=len)
            said = entry.why.replace("|", "/")
            lines.append(f"| `{entry.test}` | {counted} | {said} | {', '.join(few[:5])} |")
    return "\n".join(lines) + "\n"
