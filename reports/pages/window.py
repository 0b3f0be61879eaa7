"""A release window: its changes with state and evidence, what the hardware said, who is suspect."""

from __future__ import annotations

from collections import Counter

from reports.catalogue import Catalogue, compare_path, path_of_test, run_path, window_path
from reports.marks import STATES, abi_mark, state_mark
from reports.page import Page
from reports.pages.coming import milestone_data
from reports.pages.front import matrix_data
from reports.pages.parts import (
    Data,
    any_simulated,
    change_data,
    evidence_data,
    hardware_data,
    kernel_data,
    machine_data,
    mail_data,
    mark_data,
)
from reports.records import ChangeRecord
from reports.verdicts import LANDED, entered_between
from reports.versions import kernel_version, sort_key

MAX_SUSPECTS = 60
# A part of a release's changes -> how the page calls it.
PARTS = {
    "merge-window": "In the merge window",
    "fixes": "Fixes of the cycle",
    "untagged": "In mainline, in no tag yet",
    "forecast": "Expected, not in mainline yet",
}


def window_page(catalogue: Catalogue, window: str) -> Page:
    """windows/<window>.html."""
    changes = catalogue.changes_by_window.get(window, ())
    kernels = [kernel for kernel in catalogue.kernels if kernel.window == window]
    counts = Counter(change.state for change in changes)
    runs = [cell.run for k in kernels for m in catalogue.machines if (cell := catalogue.cell(k, m))]
    order = list(catalogue.windows)
    at = order.index(window)
    rows = []
    for change in changes:
        touched = catalogue.answers.touched.get(change.id)
        rows.append(
            {
                **change_data(change),
                "part": _part(change),
                "abi": mark_data(abi_mark(touched.verdict)) if touched and touched.uapi else None,
                "mails": [{"version": v.version, **mail_data(v.mail)} for v in change.versions],
                "evidence": evidence_data(change),
                "hardware": hardware_data(catalogue, change),
            }
        )
    return Page(
        path=window_path(window),
        kind="window",
        title=f"Window {window}",
        section="windows",
        data={
            "window": window,
            "newer": window_path(order[at - 1]) if at else None,
            "newer_window": order[at - 1] if at else None,
            "older": window_path(order[at + 1]) if at + 1 < len(order) else None,
            "older_window": order[at + 1] if at + 1 < len(order) else None,
            "dates": _dates(catalogue, window, order[at + 1] if at + 1 < len(order) else None),
            "by_state": [
                {"state": mark_data(state_mark(state)), "count": counts[state]}
                for state in sorted(counts, key=lambda s: list(STATES).index(s) if s in STATES else 99)
            ],
            "matrix": matrix_data(catalogue, kernels),
            "suspects": _suspects(catalogue, window),
            "forecast": [
                milestone_data(stone)
                for stone in catalogue.coming_tags.values()
                if stone.name == f"v{window}" or stone.name.startswith(f"v{window}-rc")
            ],
            "forecast_day": catalogue.answers.dates.today if catalogue.answers.dates else None,
            "parts": [{"name": name, "words": words} for name, words in PARTS.items()],
            "changes": rows,
        },
        sample=any(change.sample for change in changes),
        simulated=any_simulated(runs)
        or any(h["kernel"] and h["machine"]["simulated"] for row in rows for h in row["hardware"]),
    )


def _part(change: ChangeRecord) -> str:
    """Where in the release's cycle a change came in; one of PARTS."""
    if change.state not in LANDED:
        return "forecast"
    version = kernel_version(change.first_tag or "")
    if version is None:
        return "untagged"
    return "merge-window" if version.rc == 1 else "fixes"


def _dates(catalogue: Catalogue, window: str, older: str | None) -> list[Data]:
    names = [f"v{older}"] if older else []
    mainline = {tag.name for tag in catalogue.snapshot.tags if tag.role == "mainline"}
    names += sorted((t for t in mainline if t.startswith(f"v{window}-rc")), key=sort_key)
    names.append(f"v{window}")
    return [{"tag": name, "date": date} for name in names if (date := catalogue.tag_date(name))]


def _suspects(catalogue: Catalogue, window: str) -> list[Data]:
    """New failures of this window's kernels, each with the changes that entered since the baseline."""
    found = []
    for kernel in reversed(catalogue.kernels):
        if kernel.window != window or not kernel.stock:
            continue
        for machine in catalogue.machines:
            cell = catalogue.cell(kernel, machine)
            judgement = catalogue.judgements[cell.run.id] if cell else None
            if cell is None or judgement is None or not judgement.regressed or judgement.baseline is None:
                continue
            older = judgement.baseline.kernel
            assert older is not None, "a baseline has a kernel"
            changes = entered_between(catalogue.snapshot.changes, older, kernel)
            found.append(
                {
                    "machine": machine_data(machine),
                    "kernel": kernel_data(kernel),
                    "baseline": kernel_data(older),
                    "run": run_path(cell.run.id),
                    "verdict": mark_data(catalogue.mark(cell)),
                    "compare": compare_path(judgement.baseline, cell.run),
                    "tests": [
                        {"test": test, "page": path_of_test(test)} for test in judgement.tests("new failure")
                    ],
                    "changes": [change_data(change) for change in changes[:MAX_SUSPECTS]],
                    "change_count": len(changes),
                }
            )
    return found
