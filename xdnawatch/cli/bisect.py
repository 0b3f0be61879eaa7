"""`xdnawatch bisect`: which kernel, or which commit of the driver, changed the answer of a test?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from harness.bisect.campaign import Watch, run_campaign
from harness.bisect.judge import KernelSource, RunJudge
from harness.bisect.locks import leading
from harness.bisect.record import (
    CampaignError,
    Question,
    Report,
    Step,
    Subject,
    list_reports,
    load_question,
    load_report,
    open_campaign,
    settle_dead,
)
from harness.bisect.search import Ask, Halving, Outcome, steps_bound
from harness.bisect.subjects import DriverCommits, ReleasedKernels, check_test, commit_range, kernel_range
from harness.kernels.build_root import BuildRoot, open_build_root
from harness.kernels.debian import stock_kernel
from harness.kernels.history import DriverHistory
from harness.kernels.module import ModuleBuilder
from lab.inventory import resolve
from lab.machine import Candidate, Machine
from lab.packages.store import PackageStore
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.cli.lab import open_store
from xdnawatch.errors import ExitCode, UsageError
from xdnawatch.runs import bring_in, ended_in_order, runs_folder

app = typer.Typer(help="Find the kernel or the driver commit that broke (or mended) a test.")

DEFAULT_MACHINE = "virtual-npu4"
DEFAULT_KERNEL = "7.3.4"  # what `fetch` prepares when none is named
#: What a shell is told: the culprit was found; it was not, because of the subject; nobody can judge.
EXIT_CODES = {
    Outcome.CULPRIT: ExitCode.FINE,
    Outcome.RANGE: ExitCode.SUBJECT_FAILED,
    Outcome.NOT_CONFIRMED: ExitCode.SUBJECT_FAILED,
    Outcome.NOT_REPRODUCED: ExitCode.SUBJECT_FAILED,
    Outcome.ALREADY_BAD: ExitCode.SUBJECT_FAILED,
    Outcome.UNRESOLVED: ExitCode.INFRASTRUCTURE,
}


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    program.add_typer(app, name="bisect")


@app.callback(invoke_without_command=True)
def bisect(
    context: typer.Context,
    test: Annotated[
        str | None, typer.Option("--test", help="The test's id, e.g. test_query.py::test_aie_status.")
    ] = None,
    good: Annotated[
        str | None, typer.Option("--good", help="Where it passes: a kernel's version, or a commit.")
    ] = None,
    bad: Annotated[
        str | None,
        typer.Option("--bad", help="Where it fails. When this is the older end, the fix is found."),
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option("--history", help="Search the driver's commits in this git repository, not kernels."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--kernel", "-k", help="With --history: the stock kernel that modules are built for."),
    ] = None,
    machine: Annotated[str, typer.Option("--machine", "-m", help="Where to run.")] = DEFAULT_MACHINE,
    as_json: JsonFlag = False,
) -> None:
    """Find the kernel or the driver commit that broke (or mended) a test.

    Each step makes one candidate, boots it once and runs the one test. Both ends are verified first, the
    culprit and its parent are run a second time. Interrupted, the same command goes on where it was.
    """
    settle_dead(current(context).database, current(context).data / "campaigns")
    if context.invoked_subcommand is not None:
        return
    if test is None or good is None or bad is None:
        raise UsageError("name --test, --good and --bad; see `xdnawatch bisect --help`")
    if (history is None) != (base is None):
        raise UsageError("--history and --kernel go together: the repository, and the kernel to build for")
    check_test(test)
    session = current(context)
    bring_in(session)
    with open_store(session) as store:
        target = _target(session, machine, store)
        question = _question(target.name, test, good, bad, history, base, store)
        campaign_id, resumed = open_campaign(session.database, question, Halving())
        if resumed:
            session.note(f"going on with campaign {campaign_id}")
        _lead(session, campaign_id, question, target, store)
    _tell(session, load_report(session.database, campaign_id), as_json=as_json)


@app.command("resume")
def resume(
    context: typer.Context,
    campaign: Annotated[str, typer.Argument(help="Its id, as `bisect list` shows it.")],
    as_json: JsonFlag = False,
) -> None:
    """Go on with a campaign that was interrupted or killed."""
    session = current(context)
    report = load_report(session.database, campaign)
    if report.outcome is None:
        bring_in(session)
        with open_store(session) as store:
            target = _target(session, report.question.machine, store)
            _lead(session, campaign, load_question(session.database, campaign), target, store)
    _tell(session, load_report(session.database, campaign), as_json=as_json)


@app.command("show")
def show(
    context: typer.Context,
    campaign: Annotated[str, typer.Argument(help="Its id, as `bisect list` shows it.")],
    as_json: JsonFlag = False,
) -> None:
    """Show a campaign with all its steps."""
    session = current(context)
    report = load_report(session.database, campaign)
    if as_json:
        session.emit(report_json(report))
    else:
        _print(session, report)


@app.command("list")
def list_campaigns(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List all campaigns, the newest first."""
    session = current(context)
    reports = list_reports(session.database)
    if as_json:
        session.emit([report_json(report) for report in reports])
        return
    table = Table()
    table.add_column("campaign", no_wrap=True)  # its id is typed again, so it is never cut
    for name in ("test, from good to bad", "state", "answer"):
        table.add_column(name, overflow="fold")
    for report in reports:
        question = report.question
        asked = f"{question.test}\n{question.good} .. {question.bad}"
        state = f"{report.state}, {len(report.steps)} steps"
        table.add_row(*map(escape, (report.id, asked, state, report.reason)))
    session.out.print(table)


@app.command("fetch")
def fetch(
    context: typer.Context,
    kernels: Annotated[
        list[str] | None,
        typer.Option("--kernel", "-k", help="Stock kernels to build modules for; repeatable."),
    ] = None,
) -> None:
    """Download and prepare the compiler and the headers for building modules (about 100 MB)."""
    session = current(context)
    with open_store(session) as store:
        for version in kernels or [DEFAULT_KERNEL]:
            root = _build_root(store, stock_kernel(store, version))
            session.note(f"modules for {root.release}: {root.folder} (entered by {root.launcher.name})")


def report_json(report: Report) -> dict[str, Any]:
    """A campaign as plain JSON data."""
    question = asdict(report.question)
    subjects = question.pop("subjects")
    return {
        "campaign": report.id,
        **question,
        "candidates": len(subjects),
        "state": report.state,
        "outcome": report.outcome,
        "culprit": asdict(report.culprit) if report.culprit else None,
        "suspects": [subject.id for subject in report.suspects],
        "probability": report.probability,
        "rule": report.rule,
        "reason": report.reason,
        "change": dict(zip(("slug", "title", "rule"), report.change, strict=True)) if report.change else None,
        "started_at": report.started_at,
        "ended_at": report.ended_at,
        "steps": [
            {
                "number": step.number,
                "candidate": step.subject.id,
                "title": step.subject.title,
                "verdict": step.verdict.value,
                "reason": step.reason,
                "run": step.run_id,
                "seconds": dict(step.seconds),
            }
            for step in report.steps
        ],
    }


def _target(session: AppContext, name: str, store: PackageStore) -> Machine:
    machine = resolve(name, session.settings.machine, store)
    if not machine.boots_candidates:
        raise UsageError(f"{name} runs what it runs: a bisection needs a machine that boots what it is given")
    return machine


def _question(
    machine: str, test: str, good: str, bad: str, history: Path | None, base: str | None, store: PackageStore
) -> Question:
    if history is None:
        found = kernel_range(store, good, bad)
        return Question("kernels", machine, test, good, bad, found.subjects, mended=found.mended)
    repository = history.expanduser().resolve()
    found = commit_range(DriverHistory(repository), good, bad)
    return Question(
        "driver-history", machine, test, good, bad, found.subjects, base, str(repository), found.mended
    )


def _source(question: Question, store: PackageStore) -> KernelSource:
    if question.kind == "kernels":
        return ReleasedKernels(store)
    if question.repository is None or question.base_kernel is None:
        raise CampaignError(
            "this campaign does not say which repository and kernel it is about; start it anew"
        )
    history = DriverHistory(Path(question.repository))
    base = stock_kernel(store, question.base_kernel)
    return DriverCommits(ModuleBuilder(_build_root(store, base), history, base))


def _build_root(store: PackageStore, base: Candidate) -> BuildRoot:
    """The compiler and headers of a stock kernel; the lab notes its package as "name version"."""
    return open_build_root(store, base.detail.get("package", "").rpartition(" ")[2], base.release)


def _lead(
    session: AppContext, campaign_id: str, question: Question, machine: Machine, store: PackageStore
) -> None:
    """Run the campaign with one line a step for a person."""
    older, newer = question.subjects[0], question.subjects[-1]
    session.note(
        f"{question.test} on {question.machine}: {len(question.subjects) - 1} candidates after "
        f"{_short(older)} up to {_short(newer)}, at most about {steps_bound(len(question.subjects))} steps"
    )
    with leading(session.data / "campaigns", campaign_id), ended_in_order(), _watched(session) as watch:
        source = _source(question, store)
        judge = RunJudge(machine, question.test, source, runs_folder(session), session.database)
        run_campaign(session.database, campaign_id, judge, Halving(), watch)


@contextmanager
def _watched(session: AppContext) -> Iterator[Watch]:
    """A line that moves while a step is taken, and one that stays for each step taken."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=session.err,
        transient=True,
        disable=session.quiet or not session.err.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None)
        now = [""]

        def asked(number: int, subject: Subject, ask: Ask) -> None:
            now[0] = f"step {number} ({ask.why}, {ask.suspects} suspects): {_short(subject)}"
            bar.reset(task, description=escape(now[0]))

        def said(text: str) -> None:
            bar.update(task, description=escape(f"{now[0]} - {text}"))

        def stepped(step: Step) -> None:
            spent = _seconds(step.seconds)
            session.note(
                f"{step.number:3} {step.verdict:5} {_short(step.subject)} {step.subject.title[:60]!r}"
                f"{f' ({spent})' if spent else ''}: {step.reason}"
            )

        yield Watch(asked, said, stepped)


def _tell(session: AppContext, report: Report, *, as_json: bool) -> None:
    """Print the answer and end with its exit code."""
    if as_json:
        session.emit(report_json(report))
    else:
        _print(session, report)
    code = EXIT_CODES[Outcome(report.outcome)] if report.outcome else ExitCode.INFRASTRUCTURE
    if code is not ExitCode.FINE:
        raise typer.Exit(code)


def _print(session: AppContext, report: Report) -> None:
    table = Table(title=escape(report.id))
    for name in ("step", "verdict", "candidate", "s"):
        table.add_column(name, no_wrap=True, justify="right" if name == "s" else "left")
    table.add_column("title, and what the test said", overflow="fold")
    for step in report.steps:
        spent = f"{sum(step.seconds.values()):.0f}" if step.seconds else ""
        told = step.subject.title if step.reason == "passed" else f"{step.subject.title}\n{step.reason}"
        cells = (step.verdict.value, _short(step.subject), spent, told)
        table.add_row(str(step.number), *map(escape, cells))
    session.out.print(table)
    for line in _answer(report):
        session.out.print(line, markup=False, soft_wrap=True)


def _answer(report: Report) -> Sequence[str]:
    lines = [f"{report.outcome or report.state}: {report.reason}" if report.reason else report.state]
    if report.culprit is not None:
        culprit = report.culprit
        lines.append(f"culprit: {culprit.id}" + (f" by {culprit.author}" if culprit.author else ""))
        lines.append(f"probability: {report.probability} ({report.rule})")
        if report.change is not None:
            slug, title, rule = report.change
            lines.append(f"change: {title} ({slug}; {rule})")
    elif report.suspects:
        lines += [f"suspect: {subject.id[:12]} {subject.title}" for subject in report.suspects]
    total = sum(sum(step.seconds.values()) for step in report.steps)
    if report.steps:
        lines.append(f"{len(report.steps)} steps, {total:.0f} s, {total / len(report.steps):.1f} s a step")
    return lines


def _short(subject: Subject) -> str:
    return subject.id[:12]


def _seconds(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
