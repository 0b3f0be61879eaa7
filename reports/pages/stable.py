"""Stable branches: what they lack, what they took, the bugs that only a backport has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from reports.answer_records import BackportRecord, BranchRecord, BugRecord
from reports.catalogue import Catalogue, branch_path
from reports.marks import BACKPORTS, backport_mark
from reports.page import Page
from reports.pages.parts import Data, brief_change, mark_data
from reports.records import ChangeRecord
from reports.slugs import slug

ORDER = tuple(BACKPORTS)  # the loud ones first
LACKING = ("missing", "failed")
# Left out of the overview of all branches: true of most changes, and said on each branch's own page.
QUIET = ("not-needed",)


def stable_pages(catalogue: Catalogue) -> Iterator[Page]:
    """stable/index.html, and stable/<branch>.html for each followed branch."""
    for branch in catalogue.answers.branches:
        yield _branch_page(catalogue, branch)
    yield Page(
        path="stable/index.html",
        kind="stables",
        title="Stable branches",
        section="stable",
        data={
            "branches": [branch_data(catalogue, one) for one in catalogue.answers.branches],
            "changes": matrix(catalogue),
            "bugs": [bug_data(catalogue, bug) for bug in catalogue.answers.bugs],
        },
        sample=any(one.sample for one in catalogue.answers.branches),
    )


def branch_data(catalogue: Catalogue, branch: BranchRecord) -> Data:
    """A branch in brief: its newest update and how many changes are in which state."""
    ports = [port for port in catalogue.answers.backports if port.branch == branch.name]
    counts = Counter(port.state for port in ports if not port.inherited)
    return {
        "name": branch.name,
        "page": branch_path(branch.name),
        "base": branch.base,
        "newest": branch.newest,
        "newest_date": branch.newest_date,
        "ended": branch.ended,
        "sample": branch.sample,
        "inherited": sum(port.inherited for port in ports),
        "counts": {state: counts[state] for state in ORDER},
    }


def matrix(catalogue: Catalogue, *, lacking_only: bool = False) -> list[Data]:
    """Changes (rows) with their answer in each branch that lives on; what is lacking comes first.

    A row is shown when a branch lacks the change, took it, tried it, or has it queued; inherited and
    not-needed answers fill its other cells. ``lacking_only``: only rows with something missing or failed.
    """
    alive = [one.name for one in catalogue.answers.branches if not one.ended]
    rows = []
    for change in catalogue.snapshot.changes:
        ports = {p.branch: p for p in catalogue.backports_by_change.get(change.id, ()) if p.branch in alive}
        said = [port for port in ports.values() if not port.inherited and port.state not in QUIET]
        lacks = [port for port in said if port.state in LACKING]
        if not said or (lacking_only and not lacks):
            continue
        weight = (-len(lacks), -max((port.score for port in lacks), default=0.0))
        rows.append((weight, change, ports))
    rows.sort(key=lambda row: (*row[0], row[1].title))
    return [
        {
            **brief_change(change),
            "lacking": [name for name in alive if name in ports and ports[name].state in LACKING],
            "cells": [_cell(change, name, ports.get(name)) for name in alive],
        }
        for _, change, ports in rows
    ]


def _cell(change: ChangeRecord, branch: str, port: BackportRecord | None) -> Data:
    return {
        "branch": branch,
        "page": f"{branch_path(branch)}#{_anchor(change)}" if port and not port.inherited else None,
        "inherited": bool(port and port.inherited),
        "state": mark_data(backport_mark(port.state)) if port else None,
        "version": port.version if port else None,
    }


def port_data(port: BackportRecord) -> Data:
    """One answer whole, with its evidence."""
    return {
        "branch": port.branch,
        "page": branch_path(port.branch),
        "state": mark_data(backport_mark(port.state)),
        "version": port.version,
        "rule": port.rule,
        "score": port.score,
        "evidence": list(port.evidence),
        "inherited": port.inherited,
    }


def bug_data(catalogue: Catalogue, bug: BugRecord) -> Data:
    """A bug that only a backport has."""
    fix = catalogue.changes.get(bug.fix)
    return {
        "branch": bug.branch,
        "branch_page": branch_path(bug.branch),
        "cause": bug.cause,
        "fix": brief_change(fix) if fix else None,
        "since": bug.since,
        "fixed": bug.fixed,
    }


def _branch_page(catalogue: Catalogue, branch: BranchRecord) -> Page:
    ports = [port for port in catalogue.answers.backports if port.branch == branch.name]
    rows: dict[str, list[Data]] = {state: [] for state in ORDER}
    for port in ports:
        change = catalogue.changes.get(port.change)
        if change is None or port.inherited:
            continue
        rows.setdefault(port.state, []).append(
            {**brief_change(change), "anchor": _anchor(change), **port_data(port)}
        )
    for found in rows.values():
        found.sort(key=lambda row: (-row["score"], row["title"]))
    return Page(
        path=branch_path(branch.name),
        kind="stable",
        title=f"Stable branch {branch.name}",
        section="stable",
        data={
            **branch_data(catalogue, branch),
            "groups": [
                {"state": mark_data(backport_mark(state)), "changes": found}
                for state, found in rows.items()
                if found
            ],
            "bugs": [bug_data(catalogue, bug) for bug in catalogue.answers.bugs if bug.branch == branch.name],
        },
        sample=branch.sample,
    )


def _anchor(change: ChangeRecord) -> str:
    return f"c-{slug(change.slug)}"
