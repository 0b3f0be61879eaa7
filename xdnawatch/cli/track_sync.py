"""`xdnawatch track sync`: read the sources, derive the answers."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from tracker.sync import SyncReport, sync
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.cli.progress import shown_progress
from xdnawatch.errors import ExitCode, UsageError


def register(app: typer.Typer) -> None:
    """Add the command to `xdnawatch track`."""
    app.command("sync")(sync_command)


def sync_command(
    context: typer.Context,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Only this source or tree; may be given several times."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Work changes and windows out anew although nothing came.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring the sources of the settings into the database, then work out changes and windows.

    Each source goes on where it stopped (a cursor that is stored with the mails), so the command may be
    killed at any moment and run again. A source that cannot be reached costs one line; the rest goes on.
    When no source has anything new, the settings, the program and the day (UTC) are the same, the answers
    are left as they are.

    Exit code 3 when no source at all could be read.

    [bold]Example[/bold]: xdnawatch track sync --only dri-devel --only mainline
    """
    here = current(context)
    names = {one.name for one in here.settings.source} | {one.name for one in here.settings.tree}
    if only:
        unknown = sorted(set(only) - names)
        if unknown:
            raise UsageError(
                f"no source or tree is named {unknown[0]!r}; there are: {', '.join(sorted(names))}"
            )
    if not names:
        raise UsageError("the settings name no [[source]] and no [[tree]]; see docs/settings.md for both")
    sources = [one for one in here.settings.source if not only or one.name in only]
    trees = [one for one in here.settings.tree if not only or one.name in only]
    with shown_progress(here) as progress:
        report = sync(
            here.database,
            sources,
            trees,
            here.settings.driver,
            progress,
            clones=here.data / "clones",
            again=again,
        )
    if as_json:
        here.emit(report.to_json())
    else:
        print_report(here, report)
    if report.failed:
        raise typer.Exit(ExitCode.INFRASTRUCTURE)


def print_report(here: AppContext, report: SyncReport) -> None:
    """Each source in a line, then what was derived."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column, justify in (("source", "left"), ("kind", "left"), ("read", "right"), ("new", "right")):
        table.add_column(column, justify="right" if justify == "right" else "left")
    table.add_column("problem", overflow="fold", style="red")
    for one in report.sources:
        table.add_row(one.name, one.kind, str(one.scanned), str(one.new), Text(one.problem or ""))
    here.out.print(table)
    derived = report.derived
    here.out.print(
        f"{derived.changes} changes from {derived.series} series and {derived.commits} commits; "
        f"{derived.matches} matches"
    )
