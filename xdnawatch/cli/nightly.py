"""`xdnawatch nightly`: machines x suites x kernels, one cell after the other, until each has a verdict."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from harness.errors import JournalError
from harness.evidence import Evidence, read_evidence
from harness.kernels.debian import stock_kernel
from harness.matrix_page import MatrixCell, matrix_page
from harness.nightly import RUNNING, Cell, Planned, cells, past_runs, plan
from harness.settings import NightlySettings
from harness.suite_stream import SUITE
from harness.verdict import RunVerdict
from lab.machine import LabError
from lab.npu import MODEL_VERSION
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.cli.lab import open_store
from xdnawatch.cli.run import exit_code, plain_table, print_table
from xdnawatch.errors import ExitCode, UsageError
from xdnawatch.runs import Job, bring_in, runs_folder
from xdnawatch.side_by_side import Ended, Errand, JobsOption, perform_all
from xdnawatch.suites import Prepared, prepared


def register(app: typer.Typer) -> None:
    """Add the command of this module to the program."""
    app.command("nightly")(nightly)


def nightly(
    context: typer.Context,
    machine: Annotated[
        list[str] | None,
        typer.Option("--machine", "-m", help="Instead of the settings' machines; repeatable."),
    ] = None,
    version: Annotated[
        list[str] | None, typer.Option("--kernel", help="Instead of the settings' kernels; repeatable.")
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option("--write", help="Write all cells, and what differs between kernels, as Markdown."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done; --write shows what is there.")
    ] = False,
    jobs: JobsOption = 1,
    as_json: JsonFlag = False,
) -> None:
    r"""Run every cell of the \[nightly] matrix without a verdict, one after the other or --jobs at once.

    Killed or stopped, the same command goes on where it was. Exit code 1: a kernel failed tonight; 3: a
    cell could not be judged.
    """
    app = current(context)
    settings = app.settings.nightly.model_copy(
        update={
            **({"machines": tuple(machine)} if machine else {}),
            **({"kernels": tuple(version)} if version else {}),
        }
    )
    if not settings.machines:
        raise UsageError("the matrix is empty: name machines and kernels in [nightly] of xdnawatch.toml")
    with alone(app.data / "nightly.lock"):
        bring_in(app)
        suites: dict[str, Prepared] = {
            name: prepared(app, name, settings.machines) for name in dict.fromkeys(settings.suites)
        }
        machines = next(iter(suites.values())).machines
        wanted = cells(
            settings,
            [
                (name, found.boots_candidates, MODEL_VERSION if found.simulated else None)
                for name, found in machines.items()
            ],
            {name: found.generation for name, found in machines.items()},
        )
        if not wanted:
            raise UsageError("the matrix has no kernels: name some in [nightly] of xdnawatch.toml")
        with app.database.session() as session:
            past = past_runs(session, suites)
        digests = {name: found.suite.digest for name, found in suites.items()}
        planned = plan(wanted, past, digests=digests, settings=settings, now=datetime.now(UTC))
        if dry_run:
            if write is not None:
                write.write_text(page(app, settings, planned, {}, {}, digests, write.name), "utf-8")
            tell_plan(app, planned, as_json=as_json)
            return
        done, problems = work_through(app, planned, suites, at_once=jobs)
        if write is not None:
            write.write_text(page(app, settings, planned, done, problems, digests, write.name), "utf-8")
    if as_json:
        app.emit([row(entry, done.get(entry.cell), problems.get(entry.cell)) for entry in planned])
    else:
        print_table(app, outcome_table(planned, done, problems))
    code = exit_code(list(done.values()))
    unjudged = problems or any(entry.action == "given-up" for entry in planned)
    raise typer.Exit(ExitCode.INFRASTRUCTURE if code == ExitCode.FINE and unjudged else code)


def page(
    app: AppContext,
    settings: NightlySettings,
    planned: Sequence[Planned],
    done: Mapping[Cell, Evidence],
    problems: Mapping[Cell, str],
    digests: Mapping[str, str],
    name: str,
) -> str:
    """The matrix as Markdown; ``name``: of the file it is for, in docs."""
    words = [f"-m {one}" for one in settings.machines] + [f"--kernel {one}" for one in settings.kernels]
    return matrix_page(
        shown_cells(app, planned, done, problems),
        command=f"xdnawatch nightly {' '.join(words)} --write docs/{name}",
        model=MODEL_VERSION,
        digest=digests.get(SUITE, ""),
    )


def shown_cells(
    app: AppContext, planned: Sequence[Planned], done: Mapping[Cell, Evidence], problems: Mapping[Cell, str]
) -> list[MatrixCell]:
    """The cells of the ioctl suite with the run that speaks for each."""
    found = []
    for entry in planned:
        cell, evidence, reason = entry.cell, done.get(entry.cell), problems.get(entry.cell, entry.reason)
        if cell.suite != SUITE:
            continue
        if evidence is None and entry.run is not None:
            try:
                evidence = read_evidence(runs_folder(app) / entry.run)
            except JournalError as error:
                reason = str(error)
        if evidence is not None and evidence.judgement.verdict is RunVerdict.INTERRUPTED:
            reason, evidence = evidence.judgement.reason, None
        found.append(
            MatrixCell(cell.machine, cell.kernel, evidence, reason, entry.action != "not-applicable")
        )
    return found


def work_through(
    app: AppContext, planned: Sequence[Planned], suites: Mapping[str, Prepared], *, at_once: int = 1
) -> tuple[dict[Cell, Evidence], dict[Cell, str]]:
    """Run what is due; ``suites`` by their names. A kernel that cannot be had costs its cell alone."""
    done: dict[Cell, Evidence] = {}
    problems: dict[Cell, str] = {}
    due = [entry for entry in planned if entry.action == "run"]

    def on_end(number: int, ended: Ended) -> None:
        cell = due[number].cell
        if isinstance(ended, LabError):
            problems[cell] = str(ended)
            app.note(f"{cell.machine}, kernel {cell.kernel}: {ended}")
        else:
            done[cell] = ended
            judgement = ended.judgement
            app.note(f"{cell.machine}, kernel {cell.kernel}: {judgement.verdict}: {judgement.reason}")

    perform_all(
        app, [errand(entry, suites[entry.cell.suite]) for entry in due], at_once=at_once, on_end=on_end
    )
    return done, problems


def errand(entry: Planned, found: Prepared) -> Errand:
    """The run of one cell."""
    cell = entry.cell
    machine = found.machines[cell.machine]

    def job(app: AppContext) -> Job:
        with open_store(app) as store:
            candidate = None if cell.kernel == RUNNING else stock_kernel(store, cell.kernel)
        return Job(machine, candidate, cell.kernel, found.suite, options=found.options)

    name = f"{cell.machine}, kernel {cell.kernel}, {cell.suite}"
    return Errand(name, job, None if machine.simulated else cell.machine, entry.reason)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the night's lock; a second nightly is told so at once. The lock dies with its process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError(
                "another `xdnawatch nightly` is at work; it does the same, leave it alone"
            ) from error
        yield
    finally:
        os.close(handle)


def tell_plan(app: AppContext, planned: Sequence[Planned], *, as_json: bool) -> None:
    """What would be done."""
    if as_json:
        app.emit([row(entry, None, None) for entry in planned])
        return
    table = plain_table("machine", "kernel", "suite", "action", "why")
    for entry in planned:
        cell = entry.cell
        table.add_row(
            escape(cell.machine), escape(cell.kernel), cell.suite, entry.action, escape(entry.reason)
        )
    print_table(app, table)


def outcome_table(planned: Sequence[Planned], done: dict[Cell, Evidence], problems: dict[Cell, str]) -> Table:
    """Every cell with its newest verdict."""
    table = plain_table("machine", "kernel", "suite", "tonight", "verdict")
    for entry in planned:
        facts = row(entry, done.get(entry.cell), problems.get(entry.cell))
        table.add_row(
            escape(entry.cell.machine),
            escape(entry.cell.kernel),
            entry.cell.suite,
            str(facts["action"]),
            escape(f"{facts['verdict']}: {facts['reason']}"[:160]),
        )
    return table


def row(entry: Planned, evidence: Evidence | None, problem: str | None) -> dict[str, Any]:
    """One cell as plain data."""
    cell = entry.cell
    facts = {"machine": cell.machine, "kernel": cell.kernel, "suite": cell.suite, "action": entry.action}
    if evidence is not None:
        judgement = evidence.judgement
        return {
            **facts,
            "verdict": judgement.verdict.value,
            "reason": judgement.reason,
            "run": evidence.journal.header.run,
        }
    if problem is not None:
        return {**facts, "verdict": "none", "reason": problem, "run": None}
    verdict: str = entry.action if entry.action == "not-applicable" else "none"
    if entry.action == "done":
        verdict = entry.reason.split(" ", 1)[0]
    return {**facts, "verdict": verdict, "reason": entry.reason, "run": entry.run}
