"""The front page: kernels x machines with the latest verdicts, windows, newest runs, bisections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reports.catalogue import Catalogue, run_path, window_path
from reports.marks import STATES, state_mark
from reports.page import Page
from reports.pages.parts import (
    Data,
    any_simulated,
    campaign_data,
    kernel_data,
    machine_data,
    mark_data,
    outcome_counts,
    run_data,
)
from reports.records import KernelRecord

NEWEST_RUNS = 12
NEWEST_CAMPAIGNS = 6


def front_page(catalogue: Catalogue) -> Page:
    """index.html."""
    snapshot = catalogue.snapshot
    campaigns = sorted(snapshot.campaigns, key=lambda c: (c.state != "running", -c.started_at.timestamp()))
    return Page(
        path="index.html",
        kind="front",
        title="Overview",
        section="overview",
        data={
            "matrix": matrix_data(catalogue, catalogue.kernels),
            "windows": windows_data(catalogue),
            "homeless": sum(not change.window for change in snapshot.changes),
            "runs": [run_data(run) for run in reversed(snapshot.runs[-NEWEST_RUNS:])],
            "run_count": len(snapshot.runs),
            "campaigns": [campaign_data(c) for c in campaigns[:NEWEST_CAMPAIGNS]],
            "sources": [
                {
                    "name": source.name,
                    "kind": source.kind,
                    "sample": source.sample,
                    "synced": source.synced_at,
                    "problem": source.problem,
                }
                for source in snapshot.sources
            ],
        },
        sample=catalogue.has_sample,
        simulated=any_simulated(snapshot.runs),
    )


def matrix_data(catalogue: Catalogue, kernels: Sequence[KernelRecord]) -> Data:
    """Kernels (rows) x machines (columns): the run that speaks for each pair."""
    rows = []
    for kernel in kernels:
        cells = []
        for machine in catalogue.machines:
            found = catalogue.cell(kernel, machine)
            judgement = catalogue.judgements[found.run.id] if found else None
            cells.append(
                {
                    "verdict": mark_data(catalogue.mark(found)),
                    "run": run_path(found.run.id) if found else None,
                    "tests": outcome_counts(found.run) if found else None,
                    "new_failures": len(judgement.tests("new failure")) if judgement else 0,
                    "fixed": len(judgement.tests("fixed")) if judgement else 0,
                    "newer": run_path(found.newer_inconclusive.id)
                    if found and found.newer_inconclusive
                    else None,
                }
            )
        rows.append({"kernel": kernel_data(kernel), "cells": cells})
    return {"machines": [machine_data(machine) for machine in catalogue.machines], "rows": rows}


def windows_data(catalogue: Catalogue) -> list[Data]:
    """Each window with its dates and its changes counted by state."""
    found = []
    for window in catalogue.windows:
        changes = catalogue.changes_by_window.get(window, ())
        counts = Counter(change.state for change in changes)
        found.append(
            {
                "window": window,
                "page": window_path(window),
                "first_candidate": catalogue.tag_date(f"v{window}-rc1"),
                "released": catalogue.tag_date(f"v{window}"),
                "changes": len(changes),
                "by_state": [
                    {"state": mark_data(state_mark(state)), "count": counts[state]}
                    for state in sorted(counts, key=lambda s: list(STATES).index(s) if s in STATES else 99)
                ],
                "sample": any(change.sample for change in changes),
            }
        )
    return found
