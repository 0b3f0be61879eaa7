"""`xdnawatch matrix repeat`: one cell many times, compared test by test."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from harness.errors import JournalError
from harness.evidence import Evidence, read_evidence
from harness.kernels.debian import stock_kernel
from harness.nightly import past_runs
from harness.repeats import Repeats, compare_repeats, repeats_page
from harness.suite_stream import SUITE, ioctl_suite
from harness.verdict import RunVerdict
from lab.inventory import resolve
from lab.machine import LabError
from lab.npu import MODEL_VERSION
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.cli.lab import open_store
from xdnawatch.cli.run import DEFAULT_MACHINE, plain_table, print_table
from xdnawatch.errors import ExitCode, UsageError
from xdnawatch.runs import Job, bring_in, runs_folder
from xdnawatch.side_by_side import Ended, Errand, JobsOption, perform_all


def register(app: typer.Typer) -> None:
    """Add the command to `xdnawatch matrix`."""
    app.command("repeat")(repeat)


def repeat(
    context: typer.Context,
    version: Annotated[str, typer.Option("--kernel", help="The kernel to boot, e.g. 7.3.4.")],
    machine: Annotated[str, typer.Option("--machine", "-m", help="A virtual machine.")] = DEFAULT_MACHINE,
    times: Annotated[int, typer.Option(min=2, max=1000, help="How many runs to compare.")] = 50,
    write: Annotated[Path | None, typer.Option("--write", help="Write the answer as Markdown.")] = None,
    jobs: JobsOption = 1,
    as_json: JsonFlag = False,
) -> None:
    """Run the whole suite again and again and say which verdicts and which tests did not stay the same.

    Whole runs of the same suite and device model that are there already count, so that a command that was
    killed goes on where it was. Exit code 0: every run said the same; 1: some did not.
    """
    app = current(context)
    bring_in(app)
    with open_store(app) as store:
        target = resolve(machine, app.settings.machine, store)
        if not (target.simulated and target.boots_candidates):
            raise UsageError(f"{target.name} boots no candidates: name a virtual machine")
        candidate = stock_kernel(store, version)
    suite = ioctl_suite()
    done = earlier(app, target.name, version, suite.digest)[-times:]

    def on_end(_number: int, ended: Ended) -> None:
        if isinstance(ended, LabError):
            raise ended
        if ended.judgement.verdict is not RunVerdict.INTERRUPTED:
            done.append(ended)

    wanted = Errand(f"{target.name}, kernel {version}", lambda _app: Job(target, candidate, version, suite))
    if not perform_all(app, [wanted] * (times - len(done)), at_once=jobs, on_end=on_end):
        raise typer.Exit(ExitCode.INTERRUPTED)
    found = compare_repeats(done)
    if write is not None:
        command = f"xdnawatch matrix repeat --kernel {version} -m {target.name} --times {times}"
        page = repeats_page(
            found,
            asked=times,
            command=f"{command} --write docs/{write.name}",
            machine=target.name,
            kernel=version,
            model=MODEL_VERSION,
        )
        write.write_text(page, "utf-8")
    if as_json:
        app.emit({**asdict(found), "odd_verdicts": found.odd_verdicts, "same": found.same})
    else:
        show(app, found)
    raise typer.Exit(ExitCode.FINE if found.same else ExitCode.SUBJECT_FAILED)


def earlier(app: AppContext, machine: str, kernel: str, digest: str) -> list[Evidence]:
    """The whole runs of this cell that are there, oldest first; a folder that is gone does not count."""
    with app.database.session() as session:
        past = [
            run
            for run in past_runs(session, (SUITE,))
            if (run.machine, run.kernel, run.model, run.suite_digest)
            == (machine, kernel, MODEL_VERSION, digest)
            and run.verdict not in (None, RunVerdict.INTERRUPTED)
        ]
    found = []
    for run in sorted(past, key=lambda run: run.started_at):
        try:
            found.append(read_evidence(runs_folder(app) / run.run))
        except JournalError as error:
            app.note(f"left out: {error}")
    return found


def show(app: AppContext, found: Repeats) -> None:
    """The answer for a person."""
    table = plain_table("test", "outcomes", "what it said", title=f"{len(found.runs)} runs")
    for entry in found.differing:
        counted = ", ".join(f"{len(runs)} {outcome}" for outcome, runs in entry.outcomes.items())
        table.add_row(escape(entry.test), counted, escape(entry.why[:120]))
    if not table.rows:
        table.add_row("every test", "the same each time", "")
    print_table(app, table)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(found.verdicts.items()))
    app.out.print(f"verdicts: {verdicts}; {found.odd_verdicts} differ")
