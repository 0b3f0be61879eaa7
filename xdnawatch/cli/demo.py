"""`xdnawatch demo`: the main job once - track, boot two kernels, compare, publish.

It uses the sources of the settings. One that cannot be reached, or does not end within its time, costs one
line; where mail or git is missing then, the offline sample (labelled as such everywhere) takes its place.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from harness.nightly import Planned, cells, past_runs, plan
from harness.settings import NightlySettings
from harness.suite_stream import SUITE
from harness.verdict import RunVerdict
from lab.machine import LabError
from lab.npu import MODEL_VERSION
from reports.catalogue import Catalogue
from reports.choosing import ChoiceError, choose_pair
from reports.compare import compare
from reports.reading import read_snapshot
from tracker import answers
from tracker.sample import write_sample
from tracker.settings import SourceSettings, TreeSettings
from tracker.sync import sync
from xdnawatch.cli.context import AppContext, current
from xdnawatch.cli.lab import open_store, prepare
from xdnawatch.cli.nightly import work_through
from xdnawatch.cli.progress import shown_progress
from xdnawatch.cli.publish import show_comparison, written
from xdnawatch.cli.track_sync import print_report
from xdnawatch.errors import ExitCode, UsageError
from xdnawatch.runs import bring_in
from xdnawatch.suites import prepared

MACHINE = "virtual-npu4"
KERNELS = ("7.0.13", "7.3.4")
SOURCE_SECONDS = 45.0  # a demo does not wait for a first clone of a whole list; `track sync` does
LISTED_WINDOWS = 6


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("demo")(demo)


def demo(
    context: typer.Context,
    mail: Annotated[
        Path | None,
        typer.Option("--mail", help="An archive of real mail: .mbox, .mbox.gz, a folder of .eml."),
    ] = None,
    repository: Annotated[
        Path | None, typer.Option("--git", help="A clone of the kernel, or of a part of it with its tags.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Boot the kernels again although both have a verdict.")
    ] = False,
) -> None:
    """Do the main job once: track, boot two kernels on the virtual NPU, compare, publish.

    Prints what differs and the path of the site. Run again it goes on where it was: a kernel that has a
    verdict of the same suite is not booted twice. Exit code 0 when every step was done, whatever the
    verdicts say (they are the answer, not a failure of the demo); 3 when a step could not be done.
    """
    app = current(context)
    track(app, context, mail, repository)
    judged = boot(app, again=again)
    tell(app)
    done = written(app, app.settings.site)
    app.out.print(f"\nthe site: {escape(str(done.front))}", soft_wrap=True)
    if not judged:
        raise typer.Exit(ExitCode.INFRASTRUCTURE)


def track(app: AppContext, context: typer.Context, mail: Path | None, repository: Path | None) -> None:
    """Mail and git into the database: what was named, else the settings' sources, else the sample."""
    sources, trees = named(mail, repository)
    missing_mail, missing_git = mail is None, repository is None
    if missing_mail and missing_git:
        listed: tuple[SourceSettings | TreeSettings, ...] = (*app.settings.source, *app.settings.tree)
        for one in listed:
            problem = synced_in_time(context, one.name)
            if problem is not None:
                app.note(f"{one.name}: {problem}")
            elif isinstance(one, SourceSettings):
                missing_mail = False
            else:
                missing_git = False
    sample_sources, sample_trees = write_sample(app.data / "sample")
    if missing_mail:
        app.note("mail: the offline sample (generated from facts, labelled as sample wherever it shows)")
        sources += sample_sources
    if missing_git:
        app.note("git: the offline sample history (generated from facts, labelled as sample)")
        trees += sample_trees
    if sources or trees:
        with shown_progress(app) as progress:
            report = sync(
                app.database, sources, trees, app.settings.driver, progress, clones=app.data / "clones"
            )
        print_report(app, report)
        problems = [f"{one.name}: {one.problem}" for one in report.sources if one.problem is not None]
        if report.failed:
            raise UsageError("; ".join(problems))


def named(mail: Path | None, repository: Path | None) -> tuple[list[SourceSettings], list[TreeSettings]]:
    """The archives of the command line as settings."""
    sources, trees = [], []
    if mail is not None:
        if not mail.exists():
            raise UsageError(f"there is no {mail}; --mail takes an .mbox, an .mbox.gz or a folder of .eml")
        kind = "mbox" if mail.is_file() else "eml" if not (mail / "git").is_dir() else "public-inbox"
        sources.append(
            SourceSettings.model_validate({"name": mail.name, "kind": kind, "location": str(mail.resolve())})
        )
    if repository is not None:
        trees.append(TreeSettings(name=repository.resolve().name, location=str(repository.resolve())))
    return sources, trees


def synced_in_time(context: typer.Context, name: str) -> str | None:
    """Sync one source of the settings in a process of its own; None, or in a few words why not.

    Killing it loses nothing: `xdnawatch track sync` goes on from its cursor.
    """
    root = context.find_root()
    words = [sys.executable, "-m", "xdnawatch", "--quiet"]
    for option in ("config", "database"):
        value = root.params.get(option)
        if value is not None:
            words += [f"--{option}", str(value)]
    words += ["track", "sync", "--json", "--only", name]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=SOURCE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return (
            f"not read whole within {SOURCE_SECONDS:.0f} s; `xdnawatch track sync` goes on where it stopped"
        )
    try:
        (report,) = json.loads(done.stdout)["sources"]
    except (ValueError, KeyError):
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return f"not reached: {lines[-1].strip()[:200] if lines else f'exit code {done.returncode}'}"
    return f"not reached: {report['problem']}" if report["problem"] is not None else None


def boot(app: AppContext, *, again: bool) -> bool:
    """Judge both kernels; whether each has a verdict now."""
    bring_in(app)
    try:
        with open_store(app) as store:
            prepare(app, store, KERNELS)
        suites = {SUITE: prepared(app, SUITE, (MACHINE,))}
    except LabError as error:
        app.note(f"no kernel was booted: {error}")
        return False
    settings = NightlySettings(machines=(MACHINE,), kernels=KERNELS)
    wanted = cells(settings, [(MACHINE, True, MODEL_VERSION)])
    with app.database.session() as session:
        past = [] if again else past_runs(session)
    planned: list[Planned] = plan(
        wanted,
        past,
        digests={SUITE: suites[SUITE].suite.digest},
        settings=settings,
        now=datetime.now(UTC),
    )
    for entry in planned:
        if entry.action != "run":
            app.note(
                f"{entry.cell.machine}, kernel {entry.cell.kernel}: {entry.reason} (--again boots it anew)"
            )
    done, problems = work_through(app, planned, suites)
    vain = {RunVerdict.INFRASTRUCTURE, RunVerdict.INTERRUPTED, RunVerdict.ENVIRONMENT}
    return not problems and all(evidence.judgement.verdict not in vain for evidence in done.values())


def tell(app: AppContext) -> None:
    """The windows, then what differs between the two kernels."""
    table = Table("release", "changes", title="amdxdna changes by release", title_justify="left")
    for name, count in answers.windows(app.database)[:LISTED_WINDOWS]:
        table.add_row(escape(name), str(count))
    app.out.print(table)
    with app.database.session() as session:
        catalogue = Catalogue(read_snapshot(session))
    try:
        left, right = choose_pair(catalogue, *KERNELS, MACHINE)
    except ChoiceError as error:
        app.note(f"nothing to compare: {error}")
        return
    show_comparison(app, compare(catalogue.side(left), catalogue.side(right)), everything=False)
