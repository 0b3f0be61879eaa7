"""`xdnawatch runs`: look at what was run."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from sqlalchemy import func, select

from db import run_tables as tables
from harness.evidence import read_evidence
from harness.store import run_facts
from harness.verdict import RunVerdict
from xdnawatch.cli.context import JsonFlag, current
from xdnawatch.cli.run import plain_table, print_table, show
from xdnawatch.errors import UsageError
from xdnawatch.runs import bring_in, runs_folder


def register(app: typer.Typer) -> None:
    """Add the commands to `xdnawatch runs`."""
    app.command("list")(list_runs)
    app.command("show")(show_run)


def list_runs(
    context: typer.Context,
    machine: Annotated[str | None, typer.Option("--machine", "-m", help="Only this machine.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Only this verdict.")] = None,
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="At most this many, newest first.")] = 30,
    as_json: JsonFlag = False,
) -> None:
    """List runs, newest first."""
    app = current(context)
    bring_in(app)
    if verdict is not None and verdict not in list(RunVerdict):
        raise UsageError(f"no verdict {verdict!r}; there are {', '.join(RunVerdict)}")
    passed = (
        select(func.count())
        .select_from(tables.Result)
        .where(tables.Result.run_id == tables.Run.id, tables.Result.outcome == "passed")
        .scalar_subquery()
    )
    total = (
        select(func.count())
        .select_from(tables.Result)
        .where(tables.Result.run_id == tables.Run.id)
        .scalar_subquery()
    )
    query = select(tables.Run, tables.Machine.name, passed, total).join(tables.Machine)
    if machine is not None:
        query = query.where(tables.Machine.name == machine)
    if verdict is not None:
        query = query.where(tables.Run.verdict == verdict)
    with app.database.session() as session:
        rows = session.execute(query.order_by(tables.Run.id.desc()).limit(last)).all()
    if as_json:
        app.emit(
            [
                {
                    "run": run.id,
                    "machine": name,
                    "kernel": run.requested,
                    "started_at": run.started_at,
                    "state": run.state,
                    "verdict": run.verdict,
                    "reason": run.reason,
                    "passed": good,
                    "tests": count,
                    "folder": run.folder,
                }
                for run, name, good, count in rows
            ]
        )
        return
    table = plain_table("run", "machine", "kernel", "verdict", "passed", "reason")
    for run, name, good, count in rows:
        table.add_row(
            run.id,
            escape(name),
            escape(run.requested),
            run.verdict or run.state,
            f"{good}/{count}",
            escape(run.reason[:100]),
        )
    print_table(app, table)


def show_run(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its beginning.")],
    as_json: JsonFlag = False,
) -> None:
    """Show one run again, from its folder."""
    app = current(context)
    bring_in(app)
    folder = runs_folder(app)
    found = (
        sorted(path for path in folder.glob("*") if path.name.startswith(run_id)) if folder.is_dir() else []
    )
    if not found:
        raise UsageError(f"no run {run_id!r} in {folder} (`xdnawatch runs list` lists them)")
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:5])
        raise UsageError(f"{run_id!r} is the beginning of {len(found)} runs: {names}")
    evidence = read_evidence(found[0])
    if as_json:
        app.emit(run_facts(evidence))
    else:
        show(app, evidence)
