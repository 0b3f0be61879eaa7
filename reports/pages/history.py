"""A test across kernels and machines: outcomes in time, recorded values by kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite

from markupsafe import Markup

from reports.catalogue import Catalogue, path_of_test, run_path
from reports.charts import Cell, strip, value_line
from reports.marks import outcome_mark
from reports.measured import Measured, MetricChange, measured
from reports.page import Page
from reports.pages.parts import (
    Data,
    any_simulated,
    expectation_data,
    fault_text,
    kernel_data,
    machine_data,
    mark_data,
    metric_data,
)
from reports.records import MachineRecord, ResultRecord, RunRecord
from reports.values import flatten, gist, shown
from reports.verdicts import FAILING, conclusive, kernel_order

# Per machine; older ones are in the runs' own pages.
MAX_RUNS = 120
MAX_ROWS = 40
MAX_VALUES = 40
Seen = tuple[RunRecord, ResultRecord]


def results_by_test(catalogue: Catalogue) -> dict[str, list[Seen]]:
    """Test id -> its results with their runs, in one pass over everything."""
    found: dict[str, list[Seen]] = {}
    for run in catalogue.snapshot.runs:
        for result in run.results:
            found.setdefault(result.test, []).append((run, result))
    return found


def history_page(catalogue: Catalogue, test: str, seen: Sequence[Seen]) -> Page:
    """tests/<file>.<name>.html."""
    machines: list[Data] = []
    pictures: list[Callable[[], Mapping[str, Markup]]] = []
    for at, machine in enumerate(catalogue.machines):
        mine = [(run, result) for run, result in seen if run.machine.id == machine.id]
        if not mine:
            continue
        mine.sort(key=lambda s: (kernel_order(s[0].kernel) if s[0].kernel else (), s[0].started_at))
        mine = mine[-MAX_RUNS:]
        key = f"machine{at}"
        recorded = _recorded(key, mine)
        metrics = _measured(key, mine)
        pictures.append(partial(_pictures, key, test, machine, mine, [*metrics, *recorded]))
        machines.append(
            {
                "machine": machine_data(machine),
                "chart": key,
                "summary": summary(mine),
                "metrics": metrics,
                "recorded": recorded,
                "run_count": len(mine),
                "runs": [_row(run, result) for run, result in list(reversed(mine))[:MAX_ROWS]],
            }
        )
    return Page(
        path=path_of_test(test),
        kind="test",
        title=test,
        section="tests",
        data={
            "test": test,
            "title": next((r.title for _, r in reversed(seen) if r.title), ""),
            "suspect": next((r.suspect for _, r in reversed(seen) if r.suspect), None),
            "expectations": [expectation_data(e) for e in (seen[-1][1].expectations if seen else ())],
            "machines": machines,
        },
        charts=lambda: {name: chart for draw in pictures for name, chart in draw().items()},
        simulated=any_simulated(run for run, _ in seen),
    )


def summary(seen: Sequence[Seen]) -> Data:
    """How the test stands: its newest clean outcome, and how often it failed of how many times it ran."""
    clean = [(run, result) for run, result in seen if conclusive(run)]
    judged = [(run, r) for run, r in clean if r.outcome == "passed" or r.outcome in FAILING]
    last = (clean or list(seen))[-1]
    failing_since = None
    for run, result in reversed(judged):
        if result.outcome not in FAILING:
            break
        failing_since = run
    return {
        "outcome": mark_data(outcome_mark(last[1].outcome, last[1].suspect)),
        "failed": sum(r.outcome in FAILING for _, r in judged),
        "judged": len(judged),
        "failing_since": kernel_data(failing_since.kernel) if failing_since else None,
    }


def _row(run: RunRecord, result: ResultRecord) -> Data:
    return {
        "run": run.id,
        "page": run_path(run.id),
        "kernel": kernel_data(run.kernel),
        "started": run.started_at,
        "outcome": mark_data(outcome_mark(result.outcome, result.suspect)),
        "seconds": result.seconds,
        "message": result.message,
        "gist": gist(result.message),
        "faults": [fault_text(fault) for fault in run.faults],
        "bisection": run.campaign is not None,
    }


def _pictures(
    key: str, test: str, machine: MachineRecord, seen: Sequence[Seen], recorded: Sequence[Data]
) -> Mapping[str, Markup]:
    cells = []
    for run, result in seen:
        mark = outcome_mark(result.outcome, result.suspect)
        kernel = run.kernel.label if run.kernel else run.requested
        note = ", faults injected" if run.faults else ", a part of the suite" if run.partial else ""
        title = f"{kernel}, {run.started_at:%Y-%m-%d}: {mark.word}{note}"
        cells.append(Cell(mark.tone, title, f"../{run_path(run.id)}"))
    found = {
        f"{key}_strip": strip(f"{test} on {machine.name}, by kernel, the newest at the right", cells),
    }
    for row in recorded:
        if row["chart"]:
            points = [(float(v["number"]), f"{v['kernel']}: {v['value']}") for v in row["by_kernel"]]
            found[row["chart"]] = value_line(f"{row['name']} by kernel", points)
    return found


def _recorded(key: str, seen: Sequence[Seen]) -> list[Data]:
    """Each recorded value by kernel (latest clean run of each); those that vary first."""
    by_kernel: dict[str, dict[str, object]] = {}
    for run, result in seen:
        if run.comparable and run.kernel is not None and result.facts:
            by_kernel[run.kernel.label] = flatten(result.facts)
    names = list(dict.fromkeys(name for values in by_kernel.values() for name in values))
    found = []
    for at, name in enumerate(names[:MAX_VALUES]):
        points = [
            {"kernel": kernel, "value": shown(values[name]), "number": _number(values[name])}
            for kernel, values in by_kernel.items()
            if name in values
        ]
        varies = len({point["value"] for point in points}) > 1
        drawable = varies and len(points) > 2 and all(p["number"] is not None for p in points)
        found.append(
            {
                "name": name,
                "varies": varies,
                "chart": f"{key}_value{at}" if drawable else None,
                "by_kernel": points,
            }
        )
    return sorted(found, key=lambda row: not row["varies"])


def _measured(key: str, seen: Sequence[Seen]) -> list[Data]:
    """Each measured number by kernel: the median of its clean runs, noise, change since the kernel before."""
    by_kernel: dict[str, list[RunRecord]] = {}
    for run, result in seen:
        if run.comparable and run.kernel is not None and result.metrics:
            only = replace(run, results=(result,))
            by_kernel.setdefault(run.kernel.label, []).append(only)
    sides = {kernel: measured(runs) for kernel, runs in by_kernel.items()}
    found = []
    for at, name in enumerate(
        list(dict.fromkeys(name for side in sides.values() for name in side))[:MAX_VALUES]
    ):
        points: list[Data] = []
        before: Measured | None = None
        for kernel, side in sides.items():
            if (now := side.get(name)) is None:
                continue
            change = metric_data(MetricChange(*name, now.better, before, now))
            points.append(
                {"kernel": kernel, "value": f"{now.value:.6g} {name[2]}", "number": now.value, **change}
            )
            before = now
        found.append(
            {
                "name": name[1],
                "unit": name[2],
                "better": points[-1]["better"],
                "chart": f"{key}_metric{at}" if len(points) > 2 else None,
                "by_kernel": points,
            }
        )
    return found


def _number(value: object) -> float | None:
    """A number that can be drawn; booleans and what JSON cannot hold are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if isfinite(value) and abs(value) < 1e300 else None
