"""`xdnawatch matrix faults`: every fault of the virtual NPU on real kernels, judged."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from harness.errors import JournalError
from harness.evidence import Evidence, read_evidence
from harness.fault_matrix import NEXT_TESTS, ROWS, Cell, Row, invisible, judge_cell, page
from harness.kernels.debian import stock_kernel
from harness.suite_stream import ioctl_suite
from harness.verdict import RunVerdict
from lab.inventory import resolve
from lab.machine import Candidate, Fault, Machine
from lab.npu import MODEL_VERSION
from lab.virtual.kernels import numbers_of
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.cli.lab import open_store
from xdnawatch.cli.run import DEFAULT_MACHINE, live, plain_table, planned_faults, print_table
from xdnawatch.errors import ExitCode, UsageError
from xdnawatch.runs import Job, bring_in, perform, runs_folder

RECORD = "fault-matrix.jsonl"
"""One line for each finished cell: which two runs decide it. The runs' folders are the evidence."""


def register(app: typer.Typer) -> None:
    """Add the command to `xdnawatch matrix`."""
    app.command("faults")(faults)


def faults(
    context: typer.Context,
    version: Annotated[list[str], typer.Option("--kernel", help="A kernel to boot, e.g. 7.3.4; repeatable.")],
    machine: Annotated[str, typer.Option("--machine", "-m", help="A virtual machine.")] = DEFAULT_MACHINE,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only the faults of this name; repeatable.")
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, max=100, help="One run without a fault after so many cells with one.")
    ] = 1,
    again: Annotated[bool, typer.Option("--again", help="Run cells that are done already, too.")] = False,
    write: Annotated[
        Path | None, typer.Option("--write", help="Write the table of all finished cells as Markdown.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run each fault with the tests that make it strike, then the machine once without it, and judge both.

    With --every N one clean run stands for the N faults before it; when it is not clean, each of them is run
    again with one of its own. Killed or stopped, the same command goes on where it was. Exit code 1: a fault
    was missed, misnamed or not survived.
    """
    context_of = current(context)
    bring_in(context_of)
    rows = chosen(only or ())
    with open_store(context_of) as store:
        target = resolve(machine, context_of.settings.machine, store)
        if not (target.simulated and target.boots_candidates):
            raise UsageError(f"{target.name} has no faults to inject: name a virtual machine")
        candidates = {name: stock_kernel(store, name) for name in version}
    known = {} if again else remembered(context_of)
    cells: list[Cell] = []
    for name, candidate in candidates.items():
        place = Place(context_of, target, candidate, name)
        pending: list[tuple[Row, Evidence]] = []
        for row in rows:
            cell = known_cell(place, row, known)
            if cell is not None:
                cells.append(cell)
                continue
            pending.append((row, one_run(place, row.tests, planned_faults([row.fault]))))
            if len(pending) == every:
                cells += settle(place, pending)
                pending = []
        cells += settle(place, pending)
    if write is not None:
        write.write_text(report(context_of, target.name, candidates, write), "utf-8")
    if as_json:
        context_of.emit([plain(cell) for cell in cells])
    else:
        show(context_of, cells)
    raise typer.Exit(ExitCode.FINE if all(cell.good for cell in cells) else ExitCode.SUBJECT_FAILED)


def chosen(names: Sequence[str]) -> list[Row]:
    """The rows of these faults, all of them without names. UsageError for a name that has none."""
    known = {row.name for row in ROWS}
    for name in names:
        if name not in known:
            raise UsageError(f"no fault {name!r} in the matrix; there are {', '.join(sorted(known))}")
    return [row for row in ROWS if not names or row.name in names]


@dataclass(frozen=True)
class Finished:
    """A line of the record."""

    machine: str
    kernel: str
    fault: str
    tests: str
    model: str
    run: str
    next_run: str

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What makes two cells the same: another model or other tests make it a new one."""
        return self.machine, self.kernel, self.fault, self.tests, self.model


Known = dict[tuple[str, str, str, str, str], Finished]


def remembered(context: AppContext) -> Known:
    """Every finished cell, the newest of each; a line that was cut off by a kill is left out."""
    path = context.data / RECORD
    found: Known = {}
    if path.is_file():
        for line in path.read_text("utf-8", "replace").splitlines():
            try:
                entry = Finished(**json.loads(line))
            except (ValueError, TypeError):
                continue
            found[entry.key] = entry
    return found


def remember(context: AppContext, entry: Finished) -> None:
    """Add a finished cell; one write, so that two commands at once do not mix their lines."""
    handle = os.open(context.data / RECORD, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        os.write(handle, (json.dumps(asdict(entry)) + "\n").encode())
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Place:
    """Where cells are run."""

    context: AppContext
    machine: Machine
    candidate: Candidate
    kernel: str


def known_cell(place: Place, row: Row, known: Known) -> Cell | None:
    """The cell that needs no run: it cannot be seen here, or earlier runs decide it. None: to be run."""
    signs = row.signs_on(numbers_of(place.candidate.version))
    if not signs:
        return invisible(row, place.kernel)
    done = known.get((place.machine.name, place.kernel, row.fault, row.tests, MODEL_VERSION))
    if done is None:
        return None
    try:
        runs = [read_evidence(runs_folder(place.context) / name) for name in (done.run, done.next_run)]
    except JournalError as error:
        place.context.note(f"{row.fault} on {place.kernel} once more: {error}")
        return None
    return judge_cell(row, place.kernel, signs, runs[0], runs[1])


def settle(place: Place, pending: Sequence[tuple[Row, Evidence]]) -> list[Cell]:
    """Run the machine without a fault, once for all of ``pending``, and judge and remember each.

    A run that is not clean does not say which of them spoilt it: then each is run again with its own.
    """
    if not pending:
        return []
    after = one_run(place, NEXT_TESTS, ())
    if after.judgement.verdict is not RunVerdict.PASS and len(pending) > 1:
        place.context.note(f"{after.judgement.reason}; each of the {len(pending)} faults once more")
        again: list[Cell] = []
        for row, _before in pending:
            again += settle(place, [(row, one_run(place, row.tests, planned_faults([row.fault])))])
        return again
    cells = []
    for row, fault in pending:
        names = [evidence.journal.header.run for evidence in (fault, after)]
        entry = Finished(
            place.machine.name, place.kernel, row.fault, row.tests, MODEL_VERSION, names[0], names[1]
        )
        remember(place.context, entry)
        signs = row.signs_on(numbers_of(place.candidate.version))
        cell = judge_cell(row, place.kernel, signs, fault, after)
        place.context.note(f"{row.fault} on {place.kernel}: {cell.outcome}{'' if cell.good else ' (!)'}")
        cells.append(cell)
    return cells


def one_run(place: Place, tests: str, planned: tuple[Fault, ...]) -> Evidence:
    """One boot with a part of the suite; the command ends when the user ends it."""
    with live(place.context) as view:
        evidence = perform(
            place.context,
            Job(place.machine, place.candidate, place.kernel, ioctl_suite(tests), planned),
            on_record=view.on_record,
            on_note=view.note,
        )
    if evidence.judgement.verdict is RunVerdict.INTERRUPTED:
        raise typer.Exit(ExitCode.INTERRUPTED)
    return evidence


def report(context: AppContext, machine: str, kernels: dict[str, Candidate], path: Path) -> str:
    """The page over all rows of these kernels, from the finished cells; those not run yet are left empty."""
    known = remembered(context)
    cells: list[Cell] = []
    newest: datetime | None = None
    for row in ROWS:
        for name, candidate in kernels.items():
            signs = row.signs_on(numbers_of(candidate.version))
            done = known.get((machine, name, row.fault, row.tests, MODEL_VERSION))
            if not signs:
                cells.append(invisible(row, name))
            elif done is not None:
                runs = [read_evidence(runs_folder(context) / run) for run in (done.run, done.next_run)]
                cells.append(judge_cell(row, name, signs, runs[0], runs[1]))
                started = runs[0].journal.header.started_at
                newest = started if newest is None else max(newest, started)
    words = [f"--kernel {name}" for name in kernels]
    command = f"xdnawatch matrix faults {' '.join(words)} --machine {machine} --write docs/{path.name}"
    date = (newest or datetime.now(UTC)).date().isoformat()
    return page(cells, list(kernels), command=command, machine=machine, model=MODEL_VERSION, date=date)


def plain(cell: Cell) -> dict[str, object]:
    """One cell as plain data."""
    facts = asdict(cell)
    row = facts.pop("row")
    return {"fault": row["fault"], "tests": row["tests"], **facts, "good": cell.good}


def show(context: AppContext, cells: Sequence[Cell]) -> None:
    """The table for a person."""
    table = plain_table("kernel", "fault", "outcome", "ended", "next run", "why")
    for cell in cells:
        table.add_row(
            escape(cell.kernel),
            escape(cell.row.fault),
            cell.outcome.value,
            "yes" if cell.ended else "-",
            "clean" if cell.next_clean else "-",
            escape(f"{', '.join(cell.seen)} {cell.verdict}: {cell.reason}"[:160]),
        )
    print_table(context, table)
