"""`xdnawatch track cve|twin|firmware`: CVE records, the out-of-tree driver, firmware."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from tracker.answers import show
from tracker.cves.answers import CveAnswer, cve_answers
from tracker.cves.check import AGREE, DIFFER, UNKNOWN
from tracker.firmware.answers import firmware_answer
from tracker.firmware.needs import VERDICTS
from tracker.twin.answers import TwinAnswer, twin_answer
from tracker.twin.pairs import STATUSES
from tracker.userspace.answers import userspace_answer
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.errors import UsageError

CHECK_STYLE = {AGREE: "green", DIFFER: "bold red", UNKNOWN: "dim"}

TWIN_STYLE = {
    "upstream": "green", "applied": "cyan", "posted": "blue", "undone": "dim", "sync": "dim",
    "twin-only": "yellow",
}  # fmt: skip

NEED_STYLE = {
    "fits": "green", "late": "yellow", "never": "bold red", "withdrawn": "red", "unasked": "dim",
    "unknown": "dim",
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands to `xdnawatch track`."""
    app.command("cve")(cve_command)
    app.command("twin")(twin_command)
    app.command("firmware")(firmware_command)
    app.command("userspace")(userspace_command)


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


def twin_command(
    context: typer.Context,
    tree: Annotated[str | None, typer.Option(help="Only this tree of role twin.")] = None,
    status: Annotated[str | None, typer.Option(help="Only this status: " + ", ".join(STATUSES) + ".")] = None,
    first: Annotated[str | None, typer.Option(help="Only what was first there: upstream or twin.")] = None,
    author: Annotated[str | None, typer.Option(help="Part of the author's name.")] = None,
    title: Annotated[str | None, typer.Option(help="Part of the title.")] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Committed on or after (UTC).")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many commits.")] = None,
    lacking: Annotated[
        bool, typer.Option("--lacking", help="Instead: changes of mainline that the twin has not.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show which commits of the out-of-tree driver are upstream, which are not, and who was first.

    The out-of-tree driver is a tree of role "twin" in the settings. Statuses: upstream (mainline,
    stable or linux-next), applied (a maintainer's tree), posted (on a list only), undone (reverted there),
    sync (takes code over from the kernel and names no change), twin-only. Each pair carries its rule,
    score and evidence; days count from the first commit of the one side to that of the other.

    [bold]Example[/bold]: xdnawatch track twin --status twin-only --since 2026-07-01
    """
    here = current(context)
    for value, known in ((status, STATUSES), (first, ("upstream", "twin"))):
        if value is not None and value not in known:
            raise UsageError(f"{value!r} is not known; there are {', '.join(known)}")
    found = twin_answer(
        here.database,
        tree=tree,
        status=status,
        first=first,
        author=author,
        text=title,
        since=since.replace(tzinfo=UTC) if since else None,
        limit=limit,
    )
    if as_json:
        here.emit(found.to_json())
        return
    if lacking:
        table = _table("date", "release", "title", "change", whole=("date", "release"))
        for gap in found.lacking:
            table.add_row(f"{gap.date:%Y-%m-%d}", gap.window or "", Text(gap.title), Text(gap.change))
        here.out.print(table)
        here.note(f"{len(found.lacking)} changes of mainline are not in the twin")
        return
    table = _table(
        "date", "commit", "status", "first", "title", "why", whole=("date", "commit", "status", "first")
    )
    for one in found.lines:
        table.add_row(
            f"{one.date:%Y-%m-%d}",
            one.sha[:12],
            Text(one.status + (f" {one.window}" if one.window else ""), style=TWIN_STYLE[one.status]),
            f"{one.first} {one.days:+.1f} d" if one.first and one.days is not None else "",
            Text(one.title),
            Text(f"{one.rule} ({one.score:.2f}): {one.evidence}", style="dim"),
        )
    here.out.print(table)
    here.note(f"{len(found.lines)} shown; " + ", ".join(f"{count} {name}" for name, count in found.counts))


def firmware_command(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Part of a firmware name, as 17f0_10. Without it: all.")
    ] = None,
    verdict: Annotated[
        str | None, typer.Option(help="Only this verdict: " + ", ".join(VERDICTS) + ".")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Instead: each step of the firmware tree, the latest first.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show which firmware the kernels ask for, since which firmware release it is there, and what fails.

    Kernels are the tags of the followed mainline and stable trees, as their sources say; firmware is a
    tree of role "firmware" (linux-firmware), read from its WHENCE. Verdicts: fits, late (a kernel was
    released before its firmware), never (in no release), withdrawn, unasked, unknown.

    [bold]Example[/bold]: xdnawatch track firmware 17f0_10/npu_7.sbin --history
    """
    here = current(context)
    if verdict is not None and verdict not in VERDICTS:
        raise UsageError(f"{verdict!r} is no verdict; the verdicts are {', '.join(VERDICTS)}")
    found = firmware_answer(here.database, name, verdict=verdict)
    if as_json:
        here.emit(found.to_json())
        return
    if not found.needs and not found.steps:
        here.note(
            'nothing is known; add a [[tree]] with role = "firmware" and one of mainline, then `track sync`'
        )
    if history:
        table = _table(
            "date", "release", "name", "what", "file", "version", whole=("date", "release", "version")
        )
        for step in found.steps:
            table.add_row(
                f"{step.date:%Y-%m-%d}",
                step.tag or "-",
                Text(step.path),
                step.what,
                Text(step.file or "-", style="dim"),
                Text(step.version or "-"),
            )
        here.out.print(table)
        return
    table = _table(
        "name", "device", "for", "kernels", "version", "since", "verdict", "why",
        whole=("name", "version", "since", "verdict"),
    )  # fmt: skip
    for one in found.needs:
        span = " to ".join(dict.fromkeys(filter(None, (one.first_kernel, one.last_kernel))))
        since = f"{one.since or 'no release'} ({one.since_date:%Y-%m-%d})" if one.since_date else "-"
        table.add_row(
            Text(one.path),
            one.device or "-",
            ", ".join(one.generations) or "-",
            span or "-",
            Text(one.version or "-"),
            since,
            Text(one.verdict, style=NEED_STYLE[one.verdict]),
            Text(one.why, style="dim"),
        )
    here.out.print(table)


def userspace_command(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Part of a tree's or release's name, as 1.9. Without it: all.")
    ] = None,
    kernel: Annotated[str | None, typer.Option(help="Only the fit with this kernel release, as 7.1.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many releases.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the releases of user space (XRT, amd/xdna-driver): what they pin and which kernels they fit.

    They are the tags and version branches of trees with role "userspace" in the settings. A kernel "lacks"
    the names of its interface that the release's shim uses and the kernel does not answer; the shim may do
    without some of them.

    [bold]Example[/bold]: xdnawatch track userspace 1.9 --kernel 7.1
    """
    here = current(context)
    found = userspace_answer(here.database, name, kernel=kernel)[:limit]
    if as_json:
        here.emit([one.to_json() for one in found])
        return
    if not found:
        here.note('no such release; add a [[tree]] with role = "userspace" and run `track sync`')
    table = _table(
        "date", "tree", "release", "version", "driver", "pins", "kernels",
        whole=("date", "tree", "release", "version", "driver"),
    )  # fmt: skip
    for one in found:
        pins = ", ".join(
            f"{pin['path']} {str(pin['commit'])[:12]} ({pin.get('release') or 'no release'})"
            for pin in one.pins
            if "tree" in pin or "/" not in pin["path"]
        )
        whole = [fit.kernel for fit in one.fits if fit.verdict == "whole"]
        lacks = [f"{fit.kernel} lacks {len(fit.lacks)}" for fit in one.fits if fit.verdict == "lacks"]
        table.add_row(
            f"{one.date:%Y-%m-%d}" if one.date else "-",
            Text(one.tree),
            Text(one.name),
            Text(one.version or "-"),
            Text(one.driver_version or "-"),
            Text(pins or "-", style="dim"),
            Text("; ".join(filter(None, (", ".join(whole), ", ".join(lacks)))) or "-"),
        )
    here.out.print(table)
    for one in found if name is not None else ():
        for fit in one.fits:
            if fit.lacks:
                here.out.print(Text(f"{one.name} on {fit.kernel}: {', '.join(fit.lacks)}", style="yellow"))


def print_twins(here: AppContext, found: TwinAnswer) -> None:
    """Below `track show`: the commits of out-of-tree drivers that are this change."""
    if not found.lines:
        return
    here.out.print(Text("\nOut of tree", style="bold"))
    table = _table("date", "commit", "tree", "first", "matched by", whole=("date", "commit"))
    for one in found.lines:
        table.add_row(
            f"{one.date:%Y-%m-%d}",
            one.sha[:12],
            Text(one.tree),
            f"{one.first}, by {one.days:.1f} days" if one.first and one.days is not None else "-",
            Text(f"{one.rule} ({one.score:.2f}): {one.evidence}"),
        )
    here.out.print(table)


def _table(*columns: str, whole: tuple[str, ...] = ()) -> Table:
    """``whole``: columns whose cells are never broken."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=column in whole, overflow="fold")
    return table


def print_cve(here: AppContext, one: CveAnswer) -> None:
    """One record with its checks."""
    severity = f", {one.severity}" if one.severity else ""
    date = f", {one.published:%Y-%m-%d}" if one.published else ""
    mark = "  [sample]" if one.sample else ""
    here.out.print(Text(f"\n{one.name}{severity}{date}{mark}: {one.verdict}", style=CHECK_STYLE[one.verdict]))
    here.out.print(Text(one.title or "(no title)", style="bold"))
    tied = f"{one.change} by {one.rule} ({one.score:.2f})" if one.change else "no change that is known here"
    here.out.print(Text(f"{one.affected}; tied to {tied}", style="dim"))
    table = _table(
        "where", "verdict", "the record says", "the commits say", "why", whole=("where", "verdict")
    )
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
