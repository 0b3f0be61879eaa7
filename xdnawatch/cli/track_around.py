"""`xdnawatch track cve`: what surrounds a change: CVE records."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from tracker.answers import show
from tracker.cves.answers import CveAnswer, cve_answers
from tracker.cves.check import AGREE, DIFFER, UNKNOWN
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.errors import UsageError

CHECK_STYLE = {AGREE: "green", DIFFER: "bold red", UNKNOWN: "dim"}


def register(app: typer.Typer) -> None:
    """Add the commands to `xdnawatch track`."""
    app.command("cve")(cve_command)


def cve_command(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="A CVE's name or part of it, or a change. Without it: all records.")
    ] = None,
    verdict: Annotated[
        str | None, typer.Option(help=f"Only records whose checks {AGREE}, {DIFFER} or are {UNKNOWN}.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the driver's CVE records, and whether they agree with what the branches carry.

    Records are the sources of kind "cve" in the settings (kernel.org's vulns.git, or a folder of
    CVE-*.json). Each is tied to a change by the ids of its commits. Both statements are printed where they
    differ: neither side is taken for the truth.

    [bold]Example[/bold]: xdnawatch track cve --verdict differ
    """
    here = current(context)
    if verdict is not None and verdict not in CHECK_STYLE:
        raise UsageError(f"{verdict!r} is no verdict; the verdicts are {', '.join(CHECK_STYLE)}")
    slug = None
    if name is not None and not name.upper().startswith("CVE-"):
        slug, name = show(here.database, name).line.slug, None
    found = cve_answers(here.database, change=slug, name=name, verdict=verdict)
    if as_json:
        here.emit([one.to_json() for one in found])
        return
    for one in found:
        print_cve(here, one)
    if not found:
        here.note('no such record; add a [[source]] with kind = "cve" and run `track sync`')
    here.note(f"{len(found)} records")


def print_cve(here: AppContext, one: CveAnswer) -> None:
    """One record with its checks."""
    severity = f", {one.severity}" if one.severity else ""
    date = f", {one.published:%Y-%m-%d}" if one.published else ""
    mark = "  [sample]" if one.sample else ""
    here.out.print(Text(f"\n{one.name}{severity}{date}{mark}: {one.verdict}", style=CHECK_STYLE[one.verdict]))
    here.out.print(Text(one.title or "(no title)", style="bold"))
    tied = f"{one.change} by {one.rule} ({one.score:.2f})" if one.change else "no change that is known here"
    here.out.print(Text(f"{one.affected}; tied to {tied}", style="dim"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("where", "verdict", "the record says", "the commits say", "why"):
        table.add_column(column, no_wrap=column in ("where", "verdict"), overflow="fold")
    for check in one.checks:
        table.add_row(
            Text(check.place),
            Text(check.verdict, style=CHECK_STYLE[check.verdict]),
            Text(check.says),
            Text(check.found),
            Text(check.why, style="dim"),
        )
    here.out.print(table)


def note_differences(here: AppContext, found: list[CveAnswer], branches: set[str]) -> None:
    """Below `track stable`: one line for each record and branch that do not agree, and how many do."""
    agreed = 0
    for one in found:
        for check in one.checks:
            if check.place not in branches:
                continue
            agreed += check.verdict == AGREE
            if check.verdict == DIFFER:
                here.out.print(
                    Text(f"{one.name} differs in {check.place}: {one.title!r}: {check.why}", style="red")
                )
    if found:
        here.note(f"CVE records and branches agree in {agreed} answers; see `track cve`")
