"""The nightly matrix: which cells still need a run (pure), from the settings and what was run before.

A cell is one machine with one kernel and one suite. It is done when a run of the whole suite, of the same
test files and the same device model, gave a verdict on the kernel. A run that nobody could judge
(infrastructure, a broken environment, the wrong kernel) is tried again, but only so many times over all
nights; a run that was interrupted costs nothing. So the command can be killed at any time and started again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import run_tables as tables
from harness.settings import NightlySettings
from harness.suite_stream import SUITE
from harness.verdict import JUDGED, RunVerdict

RUNNING = "running"  # the kernel of a machine that shows only what it runs now

Action = Literal["run", "done", "given-up", "not-applicable"]
TRIED_IN_VAIN = frozenset({RunVerdict.INFRASTRUCTURE, RunVerdict.ENVIRONMENT, RunVerdict.WRONG_KERNEL})


# The first release whose driver knows a generation, where that is later than the oldest kernel of the lab:
# AIE4 functions came with c02697cb9388 (7.2).
DRIVER_SINCE = {"npu3vf": (7, 2)}
LEADING_NUMBERS = re.compile(r"^(\d+)\.(\d+)")  # "7.0.13", "7.3~rc7"


@dataclass(frozen=True)
class Cell:
    """One machine with one kernel and one suite. ``model``: the version of a simulated device, None for a
    real one; ``generation``: of its NPU, None where nobody knows."""

    machine: str
    kernel: str
    model: str | None = None
    generation: str | None = None
    suite: str = SUITE


@dataclass(frozen=True)
class PastRun:
    """A run that was stored, as far as the matrix needs it."""

    run: str
    machine: str
    kernel: str
    model: str | None
    suite_digest: str
    verdict: RunVerdict | None
    started_at: datetime
    suite: str = SUITE


@dataclass(frozen=True)
class Planned:
    """What to do with a cell, and why."""

    cell: Cell
    action: Action
    reason: str
    run: str | None = None  # the run that decided


def cells(
    settings: NightlySettings,
    boots: Iterable[tuple[str, bool, str | None]],
    generations: Mapping[str, str | None] = MappingProxyType({}),
) -> list[Cell]:
    """Every cell of the matrix: machine by machine, suites and kernels in the order of the settings.

    ``boots``: for each machine its name, whether it boots candidates, and its device model's version.
    ``generations``: of the machines' NPUs, by the machines' names.
    """
    found = []
    for name, boots_candidates, model in boots:
        kernels = settings.kernels if boots_candidates else (RUNNING,)
        found += [
            Cell(name, kernel, model, generations.get(name), suite)
            for suite in dict.fromkeys(settings.suites)
            for kernel in kernels
        ]
    return found


def driver_too_old(cell: Cell) -> str | None:
    """Why this kernel's driver cannot know this machine's NPU, None when it may."""
    first = DRIVER_SINCE.get(cell.generation or "")
    numbers = LEADING_NUMBERS.match(cell.kernel)
    if first is None or numbers is None or (int(numbers[1]), int(numbers[2])) >= first:
        return None
    return f"amdxdna knows {cell.generation} since {first[0]}.{first[1]}"


def plan(
    wanted: Sequence[Cell],
    past: Sequence[PastRun],
    *,
    digests: Mapping[str, str],
    settings: NightlySettings,
    now: datetime,
) -> list[Planned]:
    """What to do with each cell, in order. ``digests``: of each suite's files, as they are now."""
    return [_plan_cell(cell, past, digests[cell.suite], settings, now) for cell in wanted]


def _plan_cell(
    cell: Cell, past: Sequence[PastRun], suite_digest: str, settings: NightlySettings, now: datetime
) -> Planned:
    too_old = driver_too_old(cell)
    if too_old is not None:
        return Planned(cell, "not-applicable", too_old)
    same = sorted(
        (
            run
            for run in past
            if (run.machine, run.kernel, run.model, run.suite)
            == (cell.machine, cell.kernel, cell.model, cell.suite)
            and run.suite_digest == suite_digest
        ),
        key=lambda run: run.started_at,
    )
    judged = [run for run in same if run.verdict in JUDGED or run.verdict is RunVerdict.MODEL_GAP]
    if judged:
        last = judged[-1]
        why_again = _why_again(cell, last, settings, now)
        if why_again is None:
            return Planned(cell, "done", f"{last.verdict} in {last.run}", last.run)
        same = [run for run in same if run.started_at > last.started_at]
    else:
        why_again = "no verdict yet"
    vain = [run for run in same if run.verdict in TRIED_IN_VAIN]
    if len(vain) >= settings.attempts:
        last = vain[-1]
        return Planned(
            cell, "given-up", f"{last.verdict} {len(vain)} times, last in {last.run}; mend it, then use "
            "`xdnawatch run`", last.run
        )  # fmt: skip
    again = f"{why_again}; tried in vain {len(vain)} of {settings.attempts} times" if vain else why_again
    return Planned(cell, "run", again)


def _why_again(cell: Cell, last: PastRun, settings: NightlySettings, now: datetime) -> str | None:
    """Why a judged cell is due once more, None when it is not."""
    if settings.retest_after_days is not None and now - last.started_at >= timedelta(
        days=settings.retest_after_days
    ):
        return f"the last verdict is older than {settings.retest_after_days} days"
    if cell.kernel == RUNNING and last.started_at.date() < now.date():
        return "its kernel may have changed since yesterday"
    return None


def past_runs(session: Session, suites: Iterable[str] = (SUITE,)) -> list[PastRun]:
    """Every stored run of one of these suites, as a whole and without injected faults."""
    query = (
        select(tables.Run, tables.Machine, tables.Environment.facts)
        .join(tables.Machine, tables.Run.machine_id == tables.Machine.id)
        .outerjoin(tables.Environment, tables.Run.environment_id == tables.Environment.id)
        .where(tables.Run.suite.in_(tuple(suites)))
    )
    found = []
    for run, machine, facts in session.execute(query):
        if run.faults:
            continue
        lab = (facts or {}).get("lab") or {}
        found.append(
            PastRun(
                run.id,
                machine.name,
                run.requested,
                lab.get("device_model") if machine.simulated else None,
                run.suite_digest,
                RunVerdict(run.verdict) if run.verdict else None,
                run.started_at,
                run.suite,
            )
        )
    return found
