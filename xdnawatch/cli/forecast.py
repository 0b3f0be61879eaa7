"""`xdnawatch track forecast|next|backtest`: what comes, when, and how good such forecasts were."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from db.database import WriterBusyError
from tracker import outlook
from tracker.archive_cases import archive_cases
from tracker.backtest import (
    Calibration,
    DateBacktest,
    DateScore,
    WindowBacktest,
    backtest_dates,
    backtest_windows,
)
from tracker.forecast import DateForecast, Milestone
from tracker.outlook import Coming
from tracker.release_facts import release_facts
from tracker.stored_answers import store_backtest
from tracker.window_forecast import shipped_cases
from xdnawatch.cli.context import AppContext, JsonFlag, current

Day = Annotated[
    datetime | None,
    typer.Option("--on", formats=["%Y-%m-%d"], help="As it looked at the end of this day (UTC)."),
]
Since = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="Score only what was applied on or after this day."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `xdnawatch track`."""
    app.command("forecast")(forecast_command)
    app.command("next")(next_command)
    app.command("backtest")(backtest_command)


def forecast_command(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="A change: slug, commit id, message id or title. Without it: the coming tags."),
    ] = None,
    on: Day = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the dates of the coming -rc and release with their ranges, or when one change will be in them.

    A probability is that of the tag being made within the range, or of the release carrying the change;
    `track backtest` says how such probabilities held in the past.

    [bold]Example[/bold]: xdnawatch track forecast --on 2026-04-20
    """
    here = current(context)
    if name is not None:
        found = outlook.coming(here.database, _moment(on), name)
        if as_json:
            here.emit(found[0].to_json())
            return
        _print_coming(here, found)
        here.out.print(Text(found[0].line.rule))
        for text in outlook.waits(found[0].line.notes):
            here.out.print(Text(text, style="yellow"))
        return
    dates = outlook.dates(here.database, _moment(on))
    if as_json:
        here.emit(outlook.dates_json(dates))
        return
    _print_dates(here, dates)


def next_command(context: typer.Context, on: Day = None, as_json: JsonFlag = False) -> None:
    """List what is applied, queued or landed and not yet released: in which release it will be, and when.

    Then what is on the list and blocked by other work, as mails say.

    [bold]Example[/bold]: xdnawatch track next --json
    """
    here = current(context)
    found = outlook.coming(here.database, _moment(on))
    blocked = outlook.blocked(here.database)
    if as_json:
        here.emit([one.to_json() for one in (*found, *(Coming(line, None, None) for line in blocked))])
        return
    _print_coming(here, found)
    for line in blocked:
        here.out.print(Text(f"\n{line.title} ({line.state})" + ("  [sample]" if line.sample else "")))
        for text in outlook.waits(line.notes):
            here.out.print(Text(f"  {text}", style="yellow"))
    here.note(f"{len(found)} changes on their way, {len(blocked)} blocked")


def backtest_command(
    context: typer.Context,
    archive: Annotated[
        Path | None,
        typer.Option(
            help="Take the cases from this mail archive (mbox, mbox.gz or public-inbox v2) "
            "instead of the shipped ones."
        ),
    ] = None,
    since: Since = None,
    as_json: JsonFlag = False,
) -> None:
    """Replay the past day by day: how often the forecasts were right, and how honest the probabilities.

    Each day sees only what was known at its end. The dates are compared with the plain calendar rule of
    kernel-tea-leaves; the releases are forecast on the day a patch was applied. The scores of the shipped
    cases are kept for the site's page of what comes next.

    [bold]Example[/bold]: xdnawatch track backtest --archive pdx86.mbox.gz --since 2025-10-01
    """
    here = current(context)
    facts = release_facts()
    first = since.date() if since else None
    with here.progress() as bar:
        task = bar.add_task("replaying the days", total=None)
        dates = backtest_dates(facts.tags, facts.holidays)
        bar.update(task, description="reading the cases", completed=0)
        cases = (
            archive_cases(archive, facts.tags, lambda count: bar.advance(task, count))
            if archive is not None
            else list(shipped_cases())
        )
    windows = backtest_windows(cases, facts.tags, first, shipped_cases() if archive is not None else ())
    if archive is None and since is None:
        try:
            store_backtest(here.database, dates, windows, datetime.now(UTC))
        except WriterBusyError as error:
            here.note(f"the scores are not kept for the site: {error}")
    if as_json:
        here.emit({"dates": asdict(dates), "windows": asdict(windows)})
        return
    _print_date_scores(here, dates)
    _print_window_scores(here, windows)


def _moment(day: datetime | None) -> datetime:
    return day.replace(tzinfo=UTC, hour=23, minute=59) if day else datetime.now(UTC)


def _print_dates(here: AppContext, dates: DateForecast) -> None:
    newest = dates.newest
    when = _range(newest.earliest, newest.latest)
    here.out.print(f"On {dates.today} the newest known tag is {newest.name} ({when}).")
    if dates.stale:
        here.note("tags since then are not known here: their days follow the rule; `track sync` brings them")
    table = _table("tag", ">in the range", "range", "likely")
    for stone in dates.following:
        table.add_row(
            stone.name, f"{stone.probability:.0%}", _range(stone.earliest, stone.latest), str(stone.likely)
        )
    here.out.print(table)
    here.out.print(f"An -rc8 in this cycle: {dates.rc8:.0%}.")
    if dates.next_is_final:
        here.out.print(f"The next tag is the release: {dates.next_is_final:.0%}.")


def _print_coming(here: AppContext, found: list[Coming]) -> None:
    table = _table("state", "release", ">sure", "first tag", "expected", "release on", "title")
    for one in found:
        first = one.line.first_tag or (one.first.name if one.first else "-")
        table.add_row(
            one.line.state,
            one.line.window or "-",
            f"{one.line.probability:.0%}" if one.line.window else "-",
            first,
            "tagged" if one.line.first_tag else _stone(one.first),
            _stone(one.release),
            Text(one.line.title + ("  [sample]" if one.line.sample else "")),
        )
    here.out.print(table)


def _print_date_scores(here: AppContext, dates: DateBacktest) -> None:
    here.out.print(Text(f"Dates, every day from {dates.first} to {dates.last}", style="bold"))
    table = _table(
        "date of", ">days", ">in range", ">width (days)", ">tea-leaves", ">its width", ">first forecasts"
    )
    for score in dates.scores:
        table.add_row(*_date_cells(score))
    here.out.print(table)
    for calibration in (dates.inside, dates.rc8):
        _print_calibration(here, calibration)


def _date_cells(score: DateScore) -> tuple[str, ...]:
    return (
        score.target, str(score.days), f"{score.rate:.1%}", f"{score.width:.2f}",
        f"{score.peer_rate:.1%}", f"{score.peer_width:.2f}", f"{score.event_hits}/{score.events}",
    )  # fmt: skip


def _print_window_scores(here: AppContext, windows: WindowBacktest) -> None:
    here.out.print(Text("\nReleases, forecast on the day of applying", style="bold"))
    table = _table("trees", ">cases", ">right", ">branch named", ">right of these")
    for score in windows.scores:
        table.add_row(
            score.family, str(score.cases), _share(score.hits, score.cases),
            str(score.named), _share(score.named_hits, score.named),
        )  # fmt: skip
    here.out.print(table)
    _print_calibration(here, windows.right)
    if windows.misses:
        here.out.print(Text(f"\nWrong: {len(windows.misses)}", style="bold"))
        misses = _table("applied", "branch", "said", "came in", "why", "title")
        for miss in windows.misses:
            said = f"{miss.said} ({miss.probability:.0%})"
            misses.add_row(
                str(miss.case.applied), Text(miss.case.tree), said, miss.case.window, Text(miss.why),
                Text(miss.case.title),
            )  # fmt: skip
        here.out.print(misses)


def _print_calibration(here: AppContext, one: Calibration) -> None:
    here.out.print(
        Text(f"\n{one.what}: {one.count} forecasts, Brier score {one.brier:.4f} (base rate {one.base:.4f})")
    )
    table = _table("said", ">forecasts", ">mean said", ">happened")
    for row in one.table:
        span = f"{row.low:.1f}-{row.high:.1f}"
        table.add_row(span, str(row.count), f"{row.said:.3f}", f"{row.happened:.3f}")
    here.out.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        justify = "right" if column.startswith(">") else "left"
        table.add_column(column.lstrip(">"), justify=justify, overflow="fold")  # type: ignore[arg-type]  # two of rich's words
    return table


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _range(first: date, last: date) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _stone(stone: Milestone | None) -> str:
    return _range(stone.earliest, stone.latest) if stone else "-"
