"""Several runs at once, each in a process of its own, or one after the other with a live view.

A run uses one processor nearly whole: an emulated kernel has one. A host with more gets through a matrix in
less time, not through a run. Ctrl-C and SIGTERM reach every process, and each ends its run in order.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from types import FrameType
from typing import Annotated

import typer

from harness.errors import JournalError
from harness.evidence import Evidence, read_evidence
from harness.verdict import RunVerdict
from lab.machine import LabError
from xdnawatch.cli.context import AppContext
from xdnawatch.cli.run import live
from xdnawatch.runs import Job, perform, runs_folder

FORK = multiprocessing.get_context("fork")  # a machine and a suite are handed over as they are


@dataclass(frozen=True)
class Errand:
    """One run to make. ``job`` prepares it (downloads, LabError when it cannot be had); ``exclusive``: what
    no other errand may use meanwhile, a real machine's name, None for a virtual machine, which is made anew;
    ``why``: it is made, said once."""

    name: str
    job: Callable[[AppContext], Job]
    exclusive: str | None = None
    why: str = ""

    @property
    def announced(self) -> str:
        """Its name and its reason."""
        return f"{self.name}: {self.why}" if self.why else self.name


Ended = Evidence | LabError
JobsOption = Annotated[
    int,
    typer.Option("--jobs", "-j", min=1, max=64, help="Runs at once, of virtual machines; one a processor."),
]


def perform_all(
    app: AppContext, errands: Sequence[Errand], *, at_once: int, on_end: Callable[[int, Ended], None]
) -> bool:
    """Make every run; ``on_end`` hears of each by its place in ``errands`` as it ends. False: interrupted."""
    if at_once > 1:
        return _in_processes(app, errands, at_once, on_end)
    for number, errand in enumerate(errands):
        app.note(f"[{number + 1}/{len(errands)}] {errand.announced}")
        ended = _one_after_another(app, errand)
        on_end(number, ended)
        if _interrupted(ended):
            return False
    return True


def _one_after_another(app: AppContext, errand: Errand) -> Ended:
    try:
        job = errand.job(app)
    except LabError as error:
        return error
    with live(app) as view:
        return perform(app, job, on_record=view.on_record, on_note=view.note)


@dataclass(frozen=True)
class _Child:
    number: int
    process: ForkProcess
    answer: Connection


def _in_processes(
    app: AppContext, errands: Sequence[Errand], at_once: int, on_end: Callable[[int, Ended], None]
) -> bool:
    waiting = list(range(len(errands)))
    children: list[_Child] = []
    going_on = True
    with app.progress() as bar, _signals_to(children) as stopped, _ended(children):
        task = bar.add_task("runs", total=len(errands))
        while (waiting and going_on) or children:
            while waiting and going_on and len(children) < at_once:
                number = _next_free(errands, waiting, children)
                if number is None:
                    break
                waiting.remove(number)
                app.note(f"[{number + 1}/{len(errands)}] {errands[number].announced}")
                children.append(_start(app, errands[number], number))
            for ready in wait([child.answer for child in children]):
                child = next(one for one in children if one.answer is ready)
                ended = _answer_of(app, child)
                children.remove(child)
                bar.advance(task)
                on_end(child.number, ended)
                going_on = going_on and not _interrupted(ended)
            going_on = going_on and not stopped()
    return going_on


def _next_free(errands: Sequence[Errand], waiting: Sequence[int], children: Sequence[_Child]) -> int | None:
    """The first errand that waits for no machine in use."""
    used = {errands[child.number].exclusive for child in children} - {None}
    return next((number for number in waiting if errands[number].exclusive not in used), None)


def _start(app: AppContext, errand: Errand, number: int) -> _Child:
    answer, tell = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_work, args=(app, errand, tell), name=errand.name)
    process.start()
    tell.close()  # the child's end: when it dies, ours says so
    return _Child(number, process, answer)


def _work(app: AppContext, errand: Errand, tell: Connection) -> None:
    """In the child: make the run and tell its folder's name, or why there is none."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setpgid(0, 0)  # a terminal's Ctrl-C comes from the parent, and once
    # A context of its own: neither an open database nor a console that a thread of the parent draws on.
    own = AppContext(app.config, app.database_url, app.quiet)

    def note(text: str) -> None:
        own.note(f"{errand.name}: {text}")

    try:
        evidence = perform(own, errand.job(own), on_note=note)
    except LabError as error:
        tell.send((None, str(error)))
    except KeyboardInterrupt:  # before the run had begun
        tell.send((None, "interrupted"))
    else:
        tell.send((evidence.folder.name, ""))


def _answer_of(app: AppContext, child: _Child) -> Ended:
    try:
        run, problem = child.answer.recv()
    except EOFError:
        run, problem = None, ""
    child.process.join()
    child.answer.close()
    if run is None:
        return LabError(problem or f"the process of this run ended by itself ({child.process.exitcode})")
    try:
        return read_evidence(runs_folder(app) / str(run))
    except JournalError as error:
        return LabError(str(error))


def _interrupted(ended: Ended) -> bool:
    return isinstance(ended, Evidence) and ended.judgement.verdict is RunVerdict.INTERRUPTED


@contextmanager
def _signals_to(children: Sequence[_Child]) -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM end the children's runs in order; whether one came."""
    came: list[int] = []

    def hand_on(number: int, _frame: FrameType | None) -> None:
        first = not came
        came.append(number)
        if first:
            _interrupt(children)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _ended(children: Sequence[_Child]) -> Iterator[None]:
    """No child outlives the block, whatever ended it."""
    try:
        yield
    finally:
        _interrupt(children)
        for child in children:
            child.process.join()


def _interrupt(children: Sequence[_Child]) -> None:
    for child in children:
        if child.process.pid is not None and child.process.is_alive():
            os.kill(child.process.pid, signal.SIGINT)
