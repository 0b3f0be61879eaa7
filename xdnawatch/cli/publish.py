"""`xdnawatch publish` and `xdnawatch compare`: what the database says, as a site and as a table."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from reports.catalogue import Catalogue
from reports.choosing import choose_pair
from reports.compare import QUIET_LABELS, Comparison, compare, plural
from reports.measured import MetricChange
from reports.pages.comparison import TONES, comparison_data, comparison_title
from reports.printable import one_line, visible
from reports.reading import read_snapshot
from reports.rendering import twin_json
from reports.site import Published
from reports.site import publish as publish_site
from reports.values import short_test
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.errors import ExitCode

EDGES = ("measured", "unit", "reading")  # columns that are words
STYLES = {"bad": "red", "good": "green", "doubt": "yellow", "busy": "blue"}


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(publish)
    app.command("compare")(compare_runs)


def publish(
    context: typer.Context,
    to: Annotated[
        Path | None, typer.Option("--to", help="The folder to write; default: the settings' site.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write everything that is known as a static site, and print the path of its front page.

    Only pages whose data changed are written anew, each by replacing it whole: the folder can be served or
    copied at any moment. Every page has its data beside it as JSON.
    """
    app = current(context)
    done = written(app, (to or app.settings.site).expanduser())
    if as_json:
        app.emit(
            {
                "front": str(done.front),
                "written": done.written,
                "kept": done.kept,
                "removed": done.removed,
            }
        )
        return
    app.note(f"{done.written} pages written, {done.kept} unchanged, {done.removed} removed")
    typer.echo(str(done.front))


def written(app: AppContext, folder: Path) -> Published:
    """Publish to ``folder`` with a progress bar."""
    with app.progress() as bar:
        task = bar.add_task("reading the database", total=None)
        return publish_site(
            app.database,
            folder,
            version=importlib.metadata.version("xdnawatch"),
            runs=app.data / "runs",
            progress=lambda at, total, what: bar.update(
                task, completed=at, total=total, description=f"publishing {visible(what, 40)}"
            ),
        )


def compare_runs(
    context: typer.Context,
    before: Annotated[str, typer.Argument(help="A kernel that was run (7.0.13), or a run id.")],
    after: Annotated[str, typer.Argument(help="Another one.")],
    machine: Annotated[
        str | None, typer.Option("--machine", "-m", help="Needed when several machines ran both.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", help="Runs of this suite: ioctl or inference.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what the environment explains, and timing.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """What differs between two kernels on one machine: results, recorded values, log findings, figures.

    Exits with 1 when something got worse that the environment does not explain.
    """
    app = current(context)
    with app.database.session() as session:
        catalogue = Catalogue(read_snapshot(session))
    left, right = choose_pair(catalogue, before, after, machine, suite)
    found = compare(catalogue.side(left), catalogue.side(right))
    if as_json:
        app.emit(json.loads(twin_json(comparison_data(catalogue, found))))
    else:
        show_comparison(app, found, everything=everything)
    if found.regressed:
        raise typer.Exit(ExitCode.SUBJECT_FAILED)


def show_comparison(app: AppContext, found: Comparison, *, everything: bool) -> None:
    """A comparison for a person."""
    app.out.print(Text(visible(comparison_title(found.before, found.after)), style="bold"))
    app.out.print(Text(visible(found.headline)))
    shown = [d for d in found.differences if everything or d.label not in QUIET_LABELS]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("where", "what", "before", "after"):
        table.add_column(column, overflow="fold")
    label = ""
    for difference in shown:
        if difference.label != label:
            label = difference.label
            if table.row_count:
                table.add_section()
            style = f"bold {STYLES.get(TONES.get(label, 'calm'), '')}".strip()
            table.add_row(Text(plural(sum(d.label == label for d in shown), label), style=style))
        where = difference.subject if difference.kind == "finding" else short_test(difference.subject)
        cells = (where, difference.detail, difference.before, difference.after)
        table.add_row(*(Text(one_line(text, 70)) for text in cells))
    if shown:
        app.out.print(table)
    if found.metrics:
        app.out.print(metrics_table(found.metrics))
    for caveat in found.caveats:
        app.note(visible(caveat))
    if len(shown) < len(found.differences):
        app.note(
            f"{len(found.differences) - len(shown)} more by environment, wording, timing or by itself: "
            "--all shows them"
        )


def metrics_table(metrics: Sequence[MetricChange]) -> Table:
    """Measured numbers of both sides, with what their change says."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("measured", "before", "after", "unit", "change", "noise", "reading"):
        table.add_column(column, overflow="fold", justify="left" if column in EDGES else "right")
    for metric in metrics:
        cells = (
            f"{short_test(metric.test)} {metric.name}",
            f"{metric.before.value:.6g}" if metric.before else "-",
            f"{metric.after.value:.6g}" if metric.after else "-",
            f"{metric.unit}, {metric.better} is better",
            "-" if metric.percent is None else f"{metric.percent:+.1f} %",
            "-" if metric.noise is None else f"± {metric.noise:.1f} %",
            metric.reading,
        )
        table.add_row(*(Text(one_line(text, 90)) for text in cells))
    return table
