"""`xdnawatch run`: boot a kernel, run the suite, judge it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from harness.evidence import Evidence
from harness.journal import (
    AnyRecord,
    BootFailed,
    EnvironmentRecord,
    MachineLost,
    PhaseStarted,
    Proof,
    SuiteEvent,
    Trouble,
)
from harness.kernels.named import named_kernel
from harness.results import headline, phases
from harness.store import counts, run_facts
from harness.suite_stream import ioctl_suite
from harness.verdict import RunVerdict
from lab.inventory import resolve
from lab.machine import Fault
from lab.npu.faults import FaultError
from lab.npu.faults import parse_fault as plan_fault
from lab.virtual.device import fault_argument
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.cli.lab import open_store, parse_fault
from xdnawatch.errors import ExitCode, UsageError
from xdnawatch.runs import Job, bring_in, perform

DEFAULT_MACHINE = "virtual-npu4"
PIPE_WIDTH = 180  # characters of a table line where there is no terminal
SHARDS_LIMIT = 100
LISTED = 20  # failed tests and findings shown after a run; the rest is on the page and in --json
QUIET_SEVERITIES = frozenset({"ok", "info", "reject", "unsupported"})
PHASES = {
    "boot": "booting",
    "prove": "proving the boot, examining the machine",
    "suite": "running the suite",
    "collect": "collecting logs",
}
STYLES = {
    RunVerdict.PASS: "green",
    RunVerdict.FAIL: "red",
    RunVerdict.PANIC: "red",
    RunVerdict.HANG: "red",
    RunVerdict.NO_BOOT: "red",
}


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("run")(run_command)


def run_command(
    context: typer.Context,
    machine: Annotated[
        str,
        typer.Option("--machine", "-m", help="virtual-npu1, virtual-npu4 ..., a listed name, or user@host."),
    ] = DEFAULT_MACHINE,
    version: Annotated[
        str | None,
        typer.Option(
            "--kernel",
            help="The kernel to boot: a Debian version (7.3.4, 7.3-rc7), or the path of a bzImage or of a "
            "folder with one and its modules. A real machine runs what it runs.",
        ),
    ] = None,
    select_expression: Annotated[
        str | None, typer.Option("--tests", "-k", help="Only tests that match this pytest -k expression.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault", help="Inject a fault into the virtual NPU: NAME[:key=value,...]; repeatable."
        ),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, max=1000, help="Boot and run this many times.")] = 1,
    pm: Annotated[bool, typer.Option("--pm/--no-pm", help="Let the device sleep and wake, too.")] = True,
    crash: Annotated[
        bool, typer.Option("--crash", help="Also the tests known to kill some kernels.")
    ] = False,
    stress: Annotated[
        bool, typer.Option("--stress", help="Also races, unbinding, reloading and resets.")
    ] = False,
    fuzz: Annotated[
        float, typer.Option("--fuzz", min=0, max=86_400, help="Random programs for so many seconds.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="What --fuzz and --stress begin with.")] = 1,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only the Ith of N parts, the same ones every time.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Boot a kernel on a machine, prove that it is that kernel, run the ioctl suite, judge it.

    Exit code 0: every test passed; 1: the kernel failed; 3: nobody can judge (no NPU, wrong kernel, the
    environment, the laboratory).
    """
    app = current(context)
    bring_in(app)
    faults = planned_faults(fault or ())
    with open_store(app) as store:
        target = resolve(machine, app.settings.machine, store)
        candidate = None
        if target.boots_candidates:
            if version is None:
                raise UsageError(
                    f"{target.name} boots what it is given: name a kernel, e.g. --kernel 7.3.4 "
                    "(`xdnawatch lab kernels` lists them)"
                )
            candidate = named_kernel(store, version)
        elif version is not None:
            raise UsageError(f"{target.name} is judged on the kernel it runs now: leave out --kernel")
    suite = ioctl_suite(
        select_expression, pm=pm, crash=crash, stress=stress, fuzz=fuzz, seed=seed, shard=planned_shard(shard)
    )
    job = Job(target, candidate, version or "running", suite, faults)
    done: list[Evidence] = []
    for _number in range(repeat):
        with live(app) as view:
            evidence = perform(app, job, on_record=view.on_record, on_note=view.note)
        done.append(evidence)
        if not as_json:
            show(app, evidence)
        if evidence.judgement.verdict is RunVerdict.INTERRUPTED:
            break
    if as_json:
        facts = [run_facts(evidence) for evidence in done]
        app.emit(facts[0] if repeat == 1 else facts)
    elif repeat > 1:
        print_table(app, summary(done))
    raise typer.Exit(exit_code(done))


def planned_shard(text: str | None) -> tuple[int, int] | None:
    """ "2/3" -> (2, 3); UsageError for a part that cannot be."""
    if text is None:
        return None
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts) <= SHARDS_LIMIT):
        raise UsageError(
            f"--shard {text!r} is no part like 2/3 (the second of three; at most {SHARDS_LIMIT})"
        )
    return int(part), int(parts)


def planned_faults(texts: Sequence[str]) -> tuple[Fault, ...]:
    """Faults as the user wrote them; UsageError for one that the virtual NPU does not know."""
    faults = tuple(parse_fault(text) for text in texts)
    for fault in faults:
        try:
            plan_fault(fault_argument(fault))
        except FaultError as error:
            raise UsageError(f"{error} (`python -m lab.npu --list-faults` lists them)") from error
    return faults


def exit_code(done: Sequence[Evidence]) -> int:
    """Of several runs: interrupted, else the kernel failed in one, else nobody could judge one, else fine."""
    verdicts = [evidence.judgement for evidence in done]
    if any(judgement.verdict is RunVerdict.INTERRUPTED for judgement in verdicts):
        return ExitCode.INTERRUPTED
    codes = {judgement.exit_code for judgement in verdicts}
    for code in (ExitCode.SUBJECT_FAILED, ExitCode.INFRASTRUCTURE):
        if code in codes:
            return code
    return ExitCode.FINE


class LiveView:
    """What a person sees while a run goes on: the phase, and how many tests are done."""

    def __init__(self, app: AppContext, bar: Progress) -> None:
        self._app = app
        self._bar = bar
        self._task: TaskID = bar.add_task("starting", total=None)
        self._bad = 0

    def on_record(self, record: AnyRecord) -> None:
        """Follow the journal."""
        if isinstance(record, PhaseStarted):
            again = f" (boot {record.boot})" if record.boot > 1 else ""
            self._describe(PHASES.get(record.phase, record.phase) + again)
        elif isinstance(record, SuiteEvent):
            self._event(record)
        elif isinstance(record, Proof) and not record.holds:
            self.note(f"not what was asked: {record.name} is {record.seen}, expected {record.expected}")
        elif isinstance(record, EnvironmentRecord):
            for problem in record.problems:
                self.note(f"{problem.get('cause')}: {problem.get('next_step')}")
        elif isinstance(record, BootFailed | MachineLost | Trouble):
            self.note(record.message)

    def note(self, text: str) -> None:
        """One line above the bar."""
        self._app.note(text)

    def _event(self, record: SuiteEvent) -> None:
        event = record.event
        if event.get("event") == "collected" and record.boot == 1:
            tests = event.get("tests")
            if isinstance(tests, list):
                total = self._bar.tasks[0].total or 0
                self._bar.update(self._task, total=total + len(tests))
        elif event.get("event") == "result":
            self._bad += event.get("outcome") in ("failed", "error")
            self._bar.advance(self._task)
            failed = f", {self._bad} failed" if self._bad else ""
            self._describe(f"{PHASES['suite']}{failed}: {str(event.get('id'))[:60]}")

    def _describe(self, text: str) -> None:
        self._bar.update(self._task, description=escape(text))


@contextmanager
def live(app: AppContext) -> Iterator[LiveView]:
    """A progress bar on standard error for one run."""
    with app.progress() as bar:
        yield LiveView(app, bar)


def show(app: AppContext, evidence: Evidence) -> None:
    """The outcome for a person: what failed, what the log says, the verdict, where everything lies."""
    bad = [case for case in evidence.results if case.outcome in ("failed", "error", "incomplete")]
    if bad:
        table = plain_table("test", "outcome", "why", title="tests that did not pass")
        for case in bad[:LISTED]:
            why = f"known suspect: {case.suspect}" if case.suspect else headline(case.message)
            table.add_row(escape(case.test), case.outcome, escape(why[:200]))
        print_table(app, table)
        if len(bad) > LISTED:
            app.out.print(f"... and {len(bad) - LISTED} more")
    loud = [finding for finding in evidence.findings if finding.severity not in QUIET_SEVERITIES]
    if loud:
        table = plain_table("log line", "class", "finding", "during", "text", title="findings")
        for finding in loud[:LISTED]:
            table.add_row(
                f"{finding.log}:{finding.line}",
                finding.klass,
                finding.signature,
                escape((finding.test or "").split("::")[-1]),
                escape(finding.text.split("\n", 1)[0][:100]),
            )
        print_table(app, table)
        if len(loud) > LISTED:
            app.out.print(f"... and {len(loud) - LISTED} more")
    judgement = evidence.judgement
    style = STYLES.get(judgement.verdict, "yellow")
    parts = ", ".join(f"{number} {name}" for name, number in sorted(counts(evidence.results).items()))
    times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in phases(evidence.journal).items())
    header = evidence.journal.header
    app.out.print(
        f"[{style} bold]{judgement.verdict}[/] {escape(header.machine)}, kernel {escape(header.requested)}: "
        f"{escape(judgement.reason)}",
        soft_wrap=True,
    )
    app.out.print(f"  {parts or 'no tests'}; {times}", soft_wrap=True)
    app.out.print(f"  {escape(str(evidence.folder))}", soft_wrap=True)


def plain_table(*columns: str, title: str | None = None) -> Table:
    """A table without frames; only the last column gives way where the line is too short."""
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1], overflow="fold")
    return table


def print_table(app: AppContext, table: Table) -> None:
    """Print it as wide as the terminal; into a file or a pipe, wide enough to read."""
    out = app.out if app.out.is_terminal else Console(file=app.out.file, width=PIPE_WIDTH, highlight=False)
    out.print(table)


def summary(done: Sequence[Evidence]) -> Table:
    """Of repeated runs: which tests did not end the same way each time."""
    table = plain_table("test", "outcomes", title=f"{len(done)} runs")
    outcomes: dict[str, list[str]] = {}
    for evidence in done:
        for case in evidence.results:
            outcomes.setdefault(case.test, []).append(case.outcome)
    for test, seen in outcomes.items():
        if len(set(seen)) > 1:
            text = ", ".join(f"{seen.count(outcome)} {outcome}" for outcome in sorted(set(seen)))
            table.add_row(escape(test), text)
    if not table.rows:
        table.add_row("every test", "the same each time")
    return table
