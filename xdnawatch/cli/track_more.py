"""`xdnawatch track stable|where|abi|digest`: stable branches, "which kernel has this?", the ABI, the week."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from tracker.abi import abi
from tracker.around_change import AroundChange, around_change
from tracker.backports import STATES, Backport
from tracker.cves.answers import cve_answers
from tracker.digest import digest
from tracker.errors import NoSuchChangeError
from tracker.stable import StableAnswer, stable
from tracker.where import where
from xdnawatch.cli.context import JsonFlag, current
from xdnawatch.cli.track_around import note_differences
from xdnawatch.errors import UsageError

BACKPORT_STYLE = {
    "present": "green", "queued": "cyan", "missing": "red", "failed": "red", "reverted": "yellow",
    "not-needed": "dim", "unknown": "dim",
}  # fmt: skip
VERDICT_STYLE = {"none": "dim", "compatible": "green", "check": "yellow", "breaking": "bold red"}
CARRY_STYLE = {"yes": "green", "queued": "cyan", "forecast": "cyan", "no": "red", "unknown": "dim"}
QUIET = frozenset({"not-needed", "unknown"})


def register(app: typer.Typer) -> None:
    """Add the commands to `xdnawatch track`."""
    app.command("stable")(stable_command)
    app.command("where")(where_command)
    app.command("abi")(abi_command)
    app.command("digest")(digest_command)


def stable_command(
    context: typer.Context,
    branch: Annotated[
        str | None, typer.Option(help="Only this branch: a tree's name, or its release as 6.18.")
    ] = None,
    change: Annotated[str | None, typer.Option(help="Only this change: its slug.")] = None,
    state: Annotated[str | None, typer.Option(help="Only this state: " + ", ".join(STATES) + ".")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what no branch needs, and branches that have ended.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what the stable branches carry, what waits, and which fixes they lack.

    A fix is missing where the branch has the commit its Fixes: names, or where Cc: stable asks for it.
    Branches are the trees of role "stable" in the settings.

    [bold]Example[/bold]: xdnawatch track stable --branch 6.18 --state missing
    """
    here = current(context)
    if state is not None and state not in STATES:
        raise UsageError(f"{state!r} is no state; the states are {', '.join(STATES)}")
    found = stable(here.database, branch=branch, change=change)
    if not found.branches:
        wanted = f"no stable branch is called {branch!r}" if branch else "no stable branch is followed"
        raise NoSuchChangeError(f'{wanted}; add a [[tree]] with role = "stable" and run `track sync`')
    names = {one.name for one in found.branches}
    cves = [
        one
        for one in cve_answers(here.database, change=change)
        if any(check.place in names for check in one.checks)
    ]
    if as_json:
        answer = {**found.to_json(), "cves": [one.to_json() for one in cves]}
        if state is not None:
            answer["backports"] = [one for one in answer["backports"] if one["state"] == state]
        here.emit(answer)
        return
    rows = _shown(found, state, everything=everything)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("branch", "state", "update", "title", "why"):
        table.add_column(column, no_wrap=column in ("branch", "state", "update"), overflow="fold")
    for one in rows:
        table.add_row(
            Text(one.branch),
            Text(one.state, style=BACKPORT_STYLE[one.state]),
            one.version or "",
            Text(one.title),
            Text(one.evidence[0] if one.evidence else one.rule, style="dim"),
        )
    here.out.print(table)
    for bug in found.only_here:
        fixed = f"fixed in {bug.fixed}" if bug.fixed else "not fixed there yet"
        text = f"\nonly in {bug.branch}: {bug.cause!r} brought a bug in {bug.since or 'no update yet'}, "
        here.out.print(Text(f"{text}{fixed} by {bug.title!r}", style="yellow"))
    note_differences(here, cves, names)
    for name in found.ended:
        here.note(f"{name} had no update for long and is taken for ended" + ("" if everything else "; --all"))
    here.note(f"{len(rows)} of {sum(not one.inherited for one in found.backports)} answers")


def where_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A commit id, a title or part of one, a slug or a message id.")],
    as_json: JsonFlag = False,
) -> None:
    """Answer "which kernel has this?": mainline, other trees, stable branches, distributions.

    Distributions are the sources of kind "debian-changelog" in the settings; the newest kernel of each
    suite is judged by the release it is made from. Where the change asks for firmware, or adds to the user
    interface, it is told which firmware release has it and which release of user space uses it.

    [bold]Example[/bold]: xdnawatch track where "Prevent ubuf size overflow"
    """
    here = current(context)
    found = where(here.database, name)
    around = around_change(here.database, found.slug) if found.slug else AroundChange()
    if as_json:
        here.emit({**found.to_json(), **around.to_json()})
        return
    here.out.print(Text(found.title, style="bold"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("where", "has it", "since", "date", "why"):
        table.add_column(column, no_wrap=column != "why", overflow="fold")
    for one in found.carriers:
        table.add_row(
            Text(one.name),
            Text(one.carries, style=CARRY_STYLE[one.carries]),
            one.since or "-",
            f"{one.date:%Y-%m-%d}" if one.date else "-",
            Text(one.why, style="dim"),
        )
    here.out.print(table)
    for asked in around.firmware:
        version = f", version {asked.version}" if asked.version else ""
        here.out.print(Text(f"firmware {asked.path}: {asked.verdict}{version}: {asked.why}"))
    for used in around.userspace:
        date = f" of {used.date:%Y-%m-%d}" if used.date else ""
        here.out.print(Text(f"user space: {used.tree} uses {used.name} since {used.release}{date}"))


def abi_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A slug, a commit id, a message id, or a title.")],
    as_json: JsonFlag = False,
) -> None:
    """Show what a change touches that others rely on, with a verdict about the user interface.

    Structs, enums and ioctls of include/uapi are compared; parameters, firmware names, PCI ids, Kconfig,
    documentation and tracepoints are listed. Verdicts: none, compatible, check, breaking.

    [bold]Example[/bold]: xdnawatch track abi 91f4da826c08
    """
    here = current(context)
    found = abi(here.database, name)
    if as_json:
        here.emit(found.to_json())
        return
    verdict = found.touches.verdict
    here.out.print(Text(found.title, style="bold"))
    here.out.print(Text(f"user interface: {verdict}", style=VERDICT_STYLE[verdict]))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("kind", "name", "what", "verdict", "why"):
        table.add_column(column, overflow="fold")
    for one in found.touches.uapi:
        style = VERDICT_STYLE[one.verdict]
        table.add_row(one.kind, Text(one.name), one.what, Text(one.verdict, style=style), Text(one.reason))
    for thing in found.touches.named:
        table.add_row(thing.kind, Text(thing.name), thing.what, "", Text(thing.file, style="dim"))
    if table.row_count:
        here.out.print(table)
    here.note(f"read from {found.source}")


def digest_command(
    context: typer.Context,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The day after the last one (UTC). Without it: now."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=366, help="How many days.")] = 7,
    as_json: JsonFlag = False,
) -> None:
    """Print what happened in a week as plain text, ready to be mailed.

    [bold]Example[/bold]: xdnawatch track digest | mail -s "amdxdna this week" me@example.org
    """
    here = current(context)
    end = until.replace(tzinfo=UTC) if until else datetime.now(UTC)
    found = digest(here.database, here.settings.driver.name, end, days=days)
    if as_json:
        here.emit(found.to_json())
        return
    typer.echo(found.text(), nl=False)


def _shown(found: StableAnswer, state: str | None, *, everything: bool) -> list[Backport]:
    return [
        one
        for one in found.backports
        if not one.inherited
        and (state is None or one.state == state)
        and (everything or state is not None or one.state not in QUIET)
        and (everything or one.branch not in found.ended)
    ]
