"""`xdnawatch track`: follow mail and git, and answer which release carries a change."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from tracker import answers
from tracker.answers import ChangeLine
from tracker.cves.answers import cve_answers
from tracker.sync import SyncReport, sync
from tracker.twin.answers import twin_answer
from xdnawatch.cli import forecast, track_around, track_more, track_study
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.cli.progress import shown_progress
from xdnawatch.errors import ExitCode, UsageError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Follow mail and git: which kernel release carries which change, and why.",
    epilog="States: posted, reviewed, changes-requested, superseded, applied (in a maintainer's tree), "
    "queued (linux-next or pulled), landed (mainline), released, reverted, dropped.",
)
track_more.register(app)
track_around.register(app)

STATE_STYLE = {
    "released": "green", "landed": "green", "queued": "cyan", "applied": "cyan", "reviewed": "blue",
    "reverted": "red", "changes-requested": "yellow", "dropped": "dim", "superseded": "dim",
}  # fmt: skip
forecast.register(app)
track_study.register(app)


@app.command("sync")
def sync_command(
    context: typer.Context,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Only this source or tree; may be given several times."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring the sources of the settings into the database, then work out changes and windows.

    Each source goes on where it stopped (a cursor that is stored with the mails), so the command may be
    killed at any moment and run again. A source that cannot be reached costs one line; the rest goes on.

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
            here.database, sources, trees, here.settings.driver, progress, clones=here.data / "clones"
        )
    if as_json:
        here.emit(report.to_json())
    else:
        print_report(here, report)
    if report.failed:
        raise typer.Exit(ExitCode.INFRASTRUCTURE)


@app.command("changes")
def changes_command(
    context: typer.Context,
    state: Annotated[
        str | None, typer.Option(help="Only this state: " + ", ".join(answers.STATES) + ".")
    ] = None,
    window: Annotated[str | None, typer.Option(help="Only this release, as 7.1.")] = None,
    author: Annotated[str | None, typer.Option(help="Part of the author's name or address.")] = None,
    title: Annotated[str | None, typer.Option(help="Part of the title.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Last posted or committed on or after (UTC)."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List changes: state, release, title. The latest first.

    A release in brackets is a forecast with its probability; without brackets git says so.

    [bold]Example[/bold]: xdnawatch track changes --state reviewed --author lizhi --json
    """
    here = current(context)
    if state is not None and state not in answers.STATES:
        raise UsageError(f"{state!r} is no state; the states are {', '.join(answers.STATES)}")
    found = answers.changes(
        here.database,
        state=state,
        window=window,
        author=author,
        text=title,
        since=since.replace(tzinfo=UTC) if since else None,
        limit=limit,
    )
    if as_json:
        here.emit([line.to_json() for line in found])
        return
    here.out.print(change_table(found))
    here.note(f"{len(found)} changes")


@app.command("show")
def show_command(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="A slug, a commit id, a message id, or a title or part of one.")
    ],
    as_json: JsonFlag = False,
) -> None:
    """Show one change whole: its answer, the evidence, every posting, every commit.

    [bold]Example[/bold]: xdnawatch track show f2b7d9c3
    """
    here = current(context)
    found = answers.show(here.database, name)
    cves = cve_answers(here.database, change=found.line.slug)
    twins = twin_answer(here.database, change=found.line.slug)
    if as_json:
        here.emit(
            {
                **found.to_json(),
                "cves": [one.to_json() for one in cves],
                "out_of_tree": [one.to_json() for one in twins.lines],
            }
        )
        return
    line = found.line
    here.out.print(Text(line.title, style="bold"))
    if line.sample:
        here.out.print(Text("sample: generated by xdnawatch from facts, not a record", style="yellow"))
    facts = Table.grid(padding=(0, 2))
    for key, value in (
        ("state", f"{line.state}   ({line.rule})"),
        ("release", _release(line) or "unknown"),
        ("first tag", line.first_tag or "-"),
        ("author", line.author),
        ("slug", line.slug),
        *((key, _note(value)) for key, value in line.notes.items()),
    ):
        facts.add_row(Text(key, style="dim"), Text(value))
    here.out.print(facts)
    _section(here, "Evidence", ("rule", "score", "what", "reference"), map(_evidence_cells, found.evidence))
    _section(
        here,
        "Postings",
        ("date", "version", "subject", "message id", "belongs by"),
        map(_version_cells, found.versions),
    )
    _section(
        here,
        "Commits",
        ("commit", "tree", "first tag", "committed", "matched by"),
        map(_commit_cells, found.commits),
    )
    track_around.print_twins(here, twins)
    for one in cves:
        track_around.print_cve(here, one)


@app.command("window")
def window_command(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A release, as 7.1. Without it: all releases.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what one release carries: merge window, fixes, reverts, and what is forecast for it.

    [bold]Example[/bold]: xdnawatch track window 7.1 --json
    """
    here = current(context)
    if name is None:
        _all_windows(here, as_json=as_json)
        return
    found = answers.window(here.database, name)
    if as_json:
        here.emit(found.to_json())
        return
    for text, lines in (
        ("in the merge window (-rc1)", found.merge_window),
        ("fixes of the cycle", found.fixes),
        ("in mainline, no tag yet", found.untagged),
        ("forecast, not in mainline", found.forecast),
    ):
        if lines:
            here.out.print(Text(f"\n{found.window}: {text}: {len(lines)}", style="bold"))
            here.out.print(change_table(lines))
    if not found.total and not found.forecast:
        known = ", ".join(release for release, _ in answers.windows(here.database)[:8])
        here.note(f"nothing is known for {found.window}; known releases: {known or 'none, run `track sync`'}")
    for line in found.reverted:
        undone = line.notes.get("reverted", {})
        here.out.print(
            Text(f"reverted: {line.title} (by {str(undone.get('commit'))[:12]}, {undone.get('tag')})")
        )


def change_table(lines: list[ChangeLine] | tuple[ChangeLine, ...]) -> Table:
    """Changes as a table."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("state", "release", "first tag", "commit", "title"):
        table.add_column(column, no_wrap=column != "title", overflow="fold")
    for line in lines:
        table.add_row(
            Text(line.state, style=STATE_STYLE.get(line.state, "")),
            _release(line),
            line.first_tag or "",
            (line.commit or "")[:12],
            Text(line.title + ("  [sample]" if line.sample else "")),
        )
    return table


def _all_windows(here: AppContext, *, as_json: bool) -> None:
    found = answers.windows(here.database)
    if as_json:
        here.emit([{"window": release, "changes": count} for release, count in found])
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("release")
    table.add_column("changes", justify="right")
    for release, count in found:
        table.add_row(release, str(count))
    here.out.print(table)


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


def _release(line: ChangeLine) -> str:
    if line.window is None:
        return ""
    return line.window if line.probability == 1.0 else f"({line.window}, {line.probability:.0%})"


def _note(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "\n".join(str(entry.get("text", entry)) for entry in value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _day(date: datetime | None) -> str:
    return date.strftime("%Y-%m-%d") if date else "-"


def _evidence_cells(one: dict[str, Any]) -> tuple[str, ...]:
    score = f"{float(one.get('score', 0)):.2f}"
    return str(one.get("rule", "")), score, str(one["text"]), str(one.get("ref", ""))


def _version_cells(one: answers.Version) -> tuple[str, ...]:
    why = f"{one.link_rule} ({one.link_score:.2f})" if one.link_score is not None else "first"
    return _day(one.date), f"v{one.version} {one.number}/{one.total}", one.subject, one.message_id, why


def _commit_cells(one: answers.CommitLine) -> tuple[str, ...]:
    why = f"{one.rule} ({one.score:.2f})"
    return one.sha[:12], one.tree or "-", one.tag or "-", _day(one.commit_date), why


def _section(
    here: AppContext, title: str, columns: tuple[str, ...], cells: Iterable[tuple[str, ...]]
) -> None:
    rows = list(cells)
    if not rows:
        return
    here.out.print(Text(f"\n{title}", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    here.out.print(table)
