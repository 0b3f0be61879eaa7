"""A machine: every test on every kernel, its environment now, its runs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from markupsafe import Markup

from reports.catalogue import Catalogue, machine_path, path_of_test, run_path
from reports.charts import Cell, grid
from reports.marks import outcome_mark
from reports.page import Page
from reports.pages.parts import Data, kernel_data, machine_data, mark_data, outcome_counts, run_data
from reports.records import KernelRecord, MachineRecord, ResultRecord
from reports.values import flatten, short_test, shown

MAX_RUNS = 200
MAX_KERNELS = 24


def machine_page(catalogue: Catalogue, machine: MachineRecord) -> Page:
    """machines/<name>.html."""
    runs = list(reversed(catalogue.runs_by_machine[machine.id]))
    kernels = [k for k in catalogue.kernels if catalogue.cell(k, machine)]
    latest_run = next((run for run in runs if run.environment), None)
    return Page(
        path=machine_path(machine.name),
        kind="machine",
        title=machine.name,
        section="machines",
        data={
            **machine_data(machine),
            "kernels": [_kernel(catalogue, machine, kernel) for kernel in kernels],
            "environment_of": run_data(latest_run) if latest_run else None,
            "environment": [
                {"name": name, "value": shown(value)}
                for name, value in flatten(latest_run.environment).items()
            ]
            if latest_run
            else [],
            "runs": [run_data(run) for run in runs[:MAX_RUNS]],
            "run_count": len(runs),
            "grid": _grid_data(catalogue, machine, kernels),
        },
        charts=partial(_charts, catalogue, machine, kernels),
        simulated=machine.simulated,
    )


def _kernel(catalogue: Catalogue, machine: MachineRecord, kernel: KernelRecord) -> Data:
    cell = catalogue.cell(kernel, machine)
    assert cell is not None, "only kernels with a cell are asked for"
    return {
        "kernel": kernel_data(kernel),
        "verdict": mark_data(catalogue.mark(cell)),
        "run": run_path(cell.run.id),
        "tests": outcome_counts(cell.run),
        "started": cell.run.started_at,
        "new_failures": len(catalogue.judgements[cell.run.id].tests("new failure")),
    }


def _outcomes(
    catalogue: Catalogue, machine: MachineRecord, kernels: list[KernelRecord]
) -> tuple[list[str], list[KernelRecord], dict[tuple[str, int], tuple[str, ResultRecord]]]:
    shown_kernels = list(reversed(kernels[:MAX_KERNELS]))
    found: dict[tuple[str, int], tuple[str, ResultRecord]] = {}
    for kernel in shown_kernels:
        cell = catalogue.cell(kernel, machine)
        for result in cell.run.results if cell else ():
            found[result.test, kernel.id] = (cell.run.id if cell else "", result)
    return sorted({test for test, _ in found}), shown_kernels, found


def _charts(
    catalogue: Catalogue, machine: MachineRecord, kernels: list[KernelRecord]
) -> Mapping[str, Markup]:
    chart = grid_of_tests(catalogue, machine, kernels)
    return {"grid": chart} if chart is not None else {}


def grid_of_tests(catalogue: Catalogue, machine: MachineRecord, kernels: list[KernelRecord]) -> Markup | None:
    """Tests (rows) x kernels (columns, newest at the right) as a picture.

    Only tests that did something else than pass somewhere; None without any.
    """
    tests, columns, found = _outcomes(catalogue, machine, kernels)
    tests = [test for test in tests if _is_news(test, columns, found)]
    if not tests:
        return None
    cells = {}
    for row, test in enumerate(tests):
        for column, kernel in enumerate(columns):
            seen = found.get((test, kernel.id))
            if seen:
                mark = outcome_mark(seen[1].outcome, seen[1].suspect)
                title = f"{test} under {kernel.label}: {mark.word}"
                cells[row, column] = Cell(mark.tone, title, f"../{run_path(seen[0])}")
    return grid(
        f"Tests that did not pass on every kernel of {machine.name}",
        [(short_test(test), f"../{path_of_test(test)}") for test in tests],
        [(kernel.label, None) for kernel in columns],
        cells,
    )


def _is_news(
    test: str, kernels: list[KernelRecord], found: Mapping[tuple[str, int], tuple[str, ResultRecord]]
) -> bool:
    seen = [found.get((test, kernel.id)) for kernel in kernels]
    return any(one is None or one[1].outcome != "passed" for one in seen)


def _grid_data(catalogue: Catalogue, machine: MachineRecord, kernels: list[KernelRecord]) -> Data:
    tests, columns, found = _outcomes(catalogue, machine, kernels)
    return {
        "kernels": [kernel.label for kernel in columns],
        "passed_everywhere": sum(not _is_news(test, columns, found) for test in tests),
        "tests": [
            {
                "test": test,
                "page": path_of_test(test),
                "outcomes": [
                    seen[1].outcome if (seen := found.get((test, kernel.id))) else None for kernel in columns
                ],
            }
            for test in tests
        ],
    }
