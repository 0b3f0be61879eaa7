"""The lists behind the navigation: windows, runs, tests, comparisons, bisections, machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reports.catalogue import Catalogue, compare_path, path_of_test
from reports.charts import Cell, strip
from reports.compare import QUIET_LABELS, compare
from reports.marks import outcome_mark
from reports.page import Page
from reports.pages.comparison import comparison_title, counts_data
from reports.pages.front import windows_data
from reports.pages.history import Seen, summary
from reports.pages.parts import (
    Data,
    any_simulated,
    campaign_data,
    change_data,
    machine_data,
    mark_data,
    run_data,
)
from reports.records import RunRecord
from reports.verdicts import conclusive, kernel_order

MAX_RUNS = 1_000
STRIP = 12


def list_pages(catalogue: Catalogue, seen: Mapping[str, Sequence[Seen]]) -> Iterator[Page]:
    """One index.html in each folder of the site."""
    yield _windows(catalogue)
    yield _runs(catalogue)
    yield _tests(catalogue, seen)
    yield _comparisons(catalogue)
    yield Page(
        path="campaigns/index.html",
        kind="campaigns",
        title="Bisections",
        section="campaigns",
        data={"campaigns": [campaign_data(c) for c in reversed(catalogue.snapshot.campaigns)]},
        simulated=any(m.simulated for m in catalogue.machines) and bool(catalogue.snapshot.campaigns),
    )
    yield Page(
        path="machines/index.html",
        kind="machines",
        title="Machines",
        section="machines",
        data={
            "machines": [
                {
                    **machine_data(machine),
                    "runs": len(catalogue.runs_by_machine[machine.id]),
                    "latest": run_data(catalogue.runs_by_machine[machine.id][-1]),
                    "verdict": mark_data(
                        catalogue.mark(
                            next((c for k in catalogue.kernels if (c := catalogue.cell(k, machine))), None)
                        )
                    ),
                }
                for machine in catalogue.machines
            ]
        },
        simulated=any(m.simulated for m in catalogue.machines),
    )


def _windows(catalogue: Catalogue) -> Page:
    homeless = [change for change in catalogue.snapshot.changes if not change.window]
    return Page(
        path="windows/index.html",
        kind="windows",
        title="Release windows",
        section="windows",
        data={
            "windows": windows_data(catalogue),
            "homeless": [change_data(change) for change in reversed(homeless)],
        },
        sample=catalogue.has_sample,
    )


def _runs(catalogue: Catalogue) -> Page:
    runs = catalogue.snapshot.runs
    return Page(
        path="runs/index.html",
        kind="runs",
        title="Runs",
        section="runs",
        data={"runs": [run_data(run) for run in reversed(runs[-MAX_RUNS:])], "run_count": len(runs)},
        simulated=any_simulated(runs),
    )


def _tests(catalogue: Catalogue, seen: Mapping[str, Sequence[Seen]]) -> Page:
    rows: list[Data] = []
    drawn: dict[str, tuple[str, list[Seen]]] = {}
    for at, test in enumerate(catalogue.tests):
        machines: list[Data | None] = []
        for number, machine in enumerate(catalogue.machines):
            mine = [s for s in seen[test] if s[0].machine.id == machine.id and conclusive(s[0])]
            mine.sort(key=lambda s: (kernel_order(s[0].kernel) if s[0].kernel else (), s[0].started_at))
            if not mine:
                machines.append(None)
                continue
            key = f"t{at}m{number}"
            drawn[key] = (f"{test} on {machine.name}", mine[-STRIP:])
            machines.append({"chart": key, **summary(mine)})
        rows.append({"test": test, "page": path_of_test(test), "machines": machines})
    rows.sort(
        key=lambda r: (
            not any(m and m["failing_since"] for m in r["machines"]),
            not any(m and m["failed"] for m in r["machines"]),
        )
    )
    return Page(
        path="tests/index.html",
        kind="tests",
        title="Tests",
        section="tests",
        data={"machines": [machine_data(m) for m in catalogue.machines], "tests": rows},
        charts=lambda: {key: strip(label, [_cell(s) for s in mine]) for key, (label, mine) in drawn.items()},
        simulated=any_simulated(catalogue.snapshot.runs),
    )


def _cell(seen: Seen) -> Cell:
    run, result = seen
    mark = outcome_mark(result.outcome, result.suspect)
    return Cell(mark.tone, f"{run.kernel.label if run.kernel else run.requested}: {mark.word}")


def compared(catalogue: Catalogue) -> list[tuple[RunRecord, RunRecord]]:
    """Every pair that has a page: consecutive kernels, the widest span of each machine, machine pairs."""
    pairs = list(catalogue.neighbours)
    for machine in catalogue.machines:
        for suite in catalogue.suites:
            chain = [
                pair
                for pair in catalogue.neighbours
                if pair[1].machine.id == machine.id and pair[1].suite_family == suite
            ]
            if len(chain) > 1:
                pairs.append((chain[0][0], chain[-1][1]))
    return [*pairs, *catalogue.machine_pairs]


def _comparisons(catalogue: Catalogue) -> Page:
    rows = []
    for before, after in compared(catalogue):
        found = compare(catalogue.side(before), catalogue.side(after))
        rows.append(
            {
                "title": comparison_title(before, after),
                "page": compare_path(before, after),
                "headline": found.headline,
                "regressed": found.regressed,
                "same_machine": before.machine.id == after.machine.id,
                "machine": machine_data(after.machine),
                "counts": counts_data({k: n for k, n in found.counts.items() if k not in QUIET_LABELS}),
            }
        )
    rows.reverse()
    return Page(
        path="compare/index.html",
        kind="compares",
        title="Comparisons",
        section="compare",
        data={"comparisons": rows},
        simulated=any_simulated(run for pair in compared(catalogue) for run in pair),
    )
