"""The front page: the cycle, what is new, what waits, what stable lacks, verdicts, windows, runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from reports.catalogue import Catalogue, branch_path, line_path, path_of_test, run_path, window_path
from reports.marks import STATES, state_mark
from reports.page import Page
from reports.pages.coming import milestone_data, on_their_way
from reports.pages.parts import (
    Data,
    any_simulated,
    brief_change,
    campaign_data,
    kernel_data,
    machine_data,
    mark_data,
    outcome_counts,
    run_data,
)
from reports.pages.stable import matrix
from reports.records import ChangeRecord, KernelRecord
from reports.regressions import open_regressions
from reports.versions import sort_key

NEWEST_RUNS = 12
NEWEST_CAMPAIGNS = 6
PANEL = 6  # lines of one panel
WAITING = ("reviewed", "changes-requested", "posted")


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
            "cycle": cycle(catalogue),
            "news": news(catalogue),
            "waiting": waiting(catalogue),
            "coming": coming_panel(catalogue),
            "stable": stable_panel(catalogue),
            "regressions": regressions(catalogue),
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


def cycle(catalogue: Catalogue) -> Data | None:
    """The release that is being made, its coming tag and its end."""
    dates = catalogue.answers.dates
    if dates is None or dates.window is None:
        return None
    return {
        "window": dates.window,
        "page": window_path(dates.window) if dates.window in catalogue.windows else None,
        "today": dates.today,
        "newest": dates.newest,
        "next": milestone_data(dates.following[0]),
        "release": milestone_data(catalogue.coming_tags.get(f"v{dates.window}")),
    }


def news(catalogue: Catalogue) -> Data:
    """What the newest mainline tag with changes brought, and what was posted last."""
    mainline = [kernel for kernel in catalogue.answers.kernels if kernel.kind == "mainline" and kernel.added]
    newest = max(mainline, key=lambda kernel: sort_key(kernel.version), default=None)
    entered = [catalogue.changes[key] for key in newest.added if key in catalogue.changes] if newest else []
    posted = sorted(
        (c for c in catalogue.snapshot.changes if c.last_posted is not None),
        key=lambda c: (c.last_posted, c.title),
        reverse=True,
    )
    return {
        "tag": newest.version if newest else None,
        "date": newest.date if newest else None,
        "line_page": line_path(newest.line) if newest else None,
        "entered": [brief_change(change) for change in entered[:PANEL]],
        "entered_count": len(entered),
        "posted": [_waiting(change) for change in posted[:PANEL]],
    }


def waiting(catalogue: Catalogue) -> Data:
    """Patches on the list that nobody took yet, those that were posted last first."""
    found = [change for change in catalogue.snapshot.changes if change.state in WAITING]
    found.sort(key=lambda c: (c.last_posted.timestamp() if c.last_posted else 0.0, c.title), reverse=True)
    counts = Counter(change.state for change in found)
    return {
        "count": len(found),
        "by_state": [
            {"state": mark_data(state_mark(state)), "count": counts[state]}
            for state in WAITING
            if counts[state]
        ],
        "changes": [_waiting(change) for change in found[:PANEL]],
    }


def _waiting(change: ChangeRecord) -> Data:
    return {
        **brief_change(change),
        "state": mark_data(state_mark(change.state)),
        "author": change.author_name,
        "posted": change.last_posted,
        "version": change.versions[-1].version if change.versions else None,
    }


def coming_panel(catalogue: Catalogue) -> Data:
    """What maintainers have and no release yet."""
    rows = on_their_way(catalogue)
    counts = Counter(row["window"] for row in rows)
    return {
        "count": len(rows),
        "windows": [
            {"window": window, "page": window_path(window), "count": counts[window]}
            for window in sorted((w for w in counts if w), key=sort_key)
        ],
        "changes": rows[:PANEL],
    }


def stable_panel(catalogue: Catalogue) -> Data:
    """What the living stable branches lack."""
    rows = matrix(catalogue, lacking_only=True)
    alive = [branch for branch in catalogue.answers.branches if not branch.ended]
    return {
        "followed": len(catalogue.answers.branches),
        "branches": [
            {
                "name": branch.name,
                "page": branch_path(branch.name),
                "lacking": sum(branch.name in row["lacking"] for row in rows),
            }
            for branch in alive
        ],
        "count": len(rows),
        "changes": rows[:PANEL],
    }


def regressions(catalogue: Catalogue) -> list[Data]:
    """Tests that fail on a machine's newest kernel and passed on an older one, by test."""
    found: dict[str, list[Data]] = {}
    for machine in catalogue.machines:
        for one in chain.from_iterable(map(open_regressions, catalogue.chains[machine.id])):
            found.setdefault(one.test, []).append(
                {
                    "machine": machine_data(machine),
                    "good": kernel_data(one.good.kernel),
                    "bad": kernel_data(one.bad.kernel),
                    "latest": kernel_data(one.latest.kernel),
                    "run": run_path(one.latest.id),
                    "suspect": one.suspect,
                }
            )
    return [
        {
            "test": test,
            "page": path_of_test(test),
            "suspected": all(place["suspect"] for place in places),
            "places": places,
        }
        for test, places in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


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
