"""One run as the command line makes it: a folder, the run, its rows; and runs that were left behind."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from db.database import WriterBusyError
from harness.evidence import Evidence
from harness.journal import AnyRecord, new_run_id
from harness.runner import RunOptions, RunRequest, run
from harness.store import Stored, known_build_id, store_missing, store_run
from harness.suite_stream import Suite
from lab.machine import Candidate, Fault, Machine
from xdnawatch.cli.context import AppContext

WRITER_WAIT = 30.0  # seconds to wait for another writer before the rows are left to the next command
WRITER_POLL = 0.5


@dataclass(frozen=True)
class Job:
    """What to run where. ``candidate`` None: whatever the machine runs now."""

    machine: Machine
    candidate: Candidate | None
    requested: str
    suite: Suite
    faults: tuple[Fault, ...] = ()
    options: RunOptions = field(default_factory=RunOptions)


def runs_folder(app: AppContext) -> Path:
    """Where run folders lie."""
    return app.data / "runs"


def perform(
    app: AppContext,
    job: Job,
    *,
    on_record: Callable[[AnyRecord], None] = lambda _record: None,
    on_note: Callable[[str], None] | None = None,
) -> Evidence:
    """Do one run and store it. The evidence is complete on disk whatever happens to the database."""
    build_id = None
    if job.candidate is not None:
        with app.database.session() as session:
            build_id = known_build_id(session, job.candidate.release, job.candidate.origin)
    folder = runs_folder(app) / new_run_id(datetime.now(UTC), secrets.token_hex(3))
    with ended_in_order():
        evidence = run(
            job.machine,
            RunRequest(job.candidate, job.requested, job.faults, build_id),
            job.suite,
            folder,
            replace(job.options, watchdog=job.options.watchdog and app.settings.run.watchdog == "auto"),
            on_record=on_record,
            on_note=on_note or app.note,
        )
    keep(app, evidence)
    return evidence


def keep(app: AppContext, evidence: Evidence) -> None:
    """Store a run's rows; if another command writes for long, leave that to the next one and say so."""
    deadline = time.monotonic() + WRITER_WAIT
    while True:
        try:
            with app.database.writer("run"), app.database.session(alone=True) as session:
                store_run(session, evidence)
                session.commit()
        except WriterBusyError as error:
            if time.monotonic() > deadline:
                app.note(f"{error}; the run is kept in {evidence.folder} and stored by the next command")
                return
            time.sleep(WRITER_POLL)
        else:
            return


def bring_in(app: AppContext) -> Stored:
    """Store what earlier commands left on disk: runs that were killed, runs that found the database busy.

    Says one line for each interrupted run. Does nothing while another command writes.
    """
    if not runs_folder(app).is_dir():
        return Stored()
    try:
        with app.database.writer("bring in runs"), app.database.session() as session:
            done = store_missing(session, runs_folder(app))
            session.commit()
    except WriterBusyError:
        return Stored()
    for run_id in done.interrupted:
        app.note(f"run {run_id} was interrupted; its results so far are kept (xdnawatch runs show {run_id})")
    for problem in done.unreadable:
        app.note(f"left out: {problem}")
    return done


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Let SIGTERM (systemd, a shutdown) end a run as Ctrl-C does: machines down, journal closed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
