"""One run: boot, prove the boot, look at the environment, run the suite, keep the log, judge.

The runner does things in order and writes each into the journal as it happens; it decides nothing about
results (``evidence`` and ``verdict`` do, from the folder alone). Whatever the machine does - panic, hang,
never boot, lie - ends as a record, not as a traceback. A machine that died under a test is booted again for
the tests that remain; the guilty test is not tried twice.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from harness import boot_proof, environment
from harness.environment import ExamineError
from harness.errors import HarnessError, JournalError
from harness.evidence import KERNEL_LOG, SERIAL_LOG, Evidence, boot_folder, read_evidence
from harness.journal import (
    AnyRecord,
    Booted,
    BootFailed,
    EnvironmentRecord,
    JournalWriter,
    LogStopped,
    MachineLost,
    PhaseStarted,
    Proof,
    RunEnded,
    RunStarted,
    SuiteStopped,
    Trouble,
    WatchdogRecord,
)
from harness.kernel_log import bounded_lines, unfinished_test
from harness.log_capture import KernelLogCapture
from harness.suite_stream import SIGNALLED, Sitting, Suite, SuiteStream
from harness.untrusted import clean
from harness.watchdog import Watchdog, wanted
from lab.machine import (
    BootError,
    BootRequest,
    Candidate,
    Fault,
    LabError,
    Machine,
    Session,
    ShellLostError,
    ShellSilentError,
    ShellTimeoutError,
    Timeouts,
)

# Without these the suite cannot even be started.
UNSTARTABLE = frozenset({"no-python", "old-python", "no-pytest", "examine-failed"})
# Ends a suite's own process (none: it is driven from here) and says which boot this is; status 0 when it is
# gone within 3 s. A process in an uninterruptible wait stays.
KILL_SCRIPT = (
    'cat /proc/sys/kernel/random/boot_id; p=$(cat "$1/pid") || exit 0; kill -9 "$p" 2>/dev/null; n=0; '
    'while [ -d "/proc/$p" ] && [ $n -lt 30 ]; do sleep 0.1; n=$((n+1)); done; [ ! -d "/proc/$p" ]'
)
# On the machine; the nonce is random, so nobody can have put it there.
STOP_FILE = "/tmp/xdnawatch-{nonce}.stop"  # noqa: S108 - see above
Fate = Literal["done", "died", "stopped"]


@dataclass(frozen=True)
class RunRequest:
    """What to judge: a candidate kernel, or (None) whatever the machine runs now."""

    candidate: Candidate | None
    requested: str  # the user's words: "7.3.4", "running"
    faults: tuple[Fault, ...] = ()
    known_build_id: str | None = None  # GNU build id this kernel showed in an earlier run


@dataclass(frozen=True)
class RunOptions:
    """Every wait of a run by name, in seconds of the monotonic clock, and how often to try again."""

    lab: Timeouts = field(default_factory=Timeouts)
    examine: float = 30.0  # the machine's answer about itself
    suite: float = 1800.0  # the whole suite, in one boot
    silence: float = 60.0  # no event from the suite: no test may take longer
    answer: float = 15.0  # a machine that may have died, to say anything at all
    resumes: int = 3  # boots after the first, for the tests that remain
    watchdog_reset: int = 60  # until a machine that hangs is reset by its armed watchdog
    watchdog: bool = True  # arm a hardware watchdog around the suite where there is one and we are root
    stuck: int = 3  # tests that may hang in one boot before the rest is given up


def run(
    machine: Machine,
    request: RunRequest,
    suite: Suite,
    folder: Path,
    options: RunOptions | None = None,
    *,
    on_record: Callable[[AnyRecord], None] = lambda _record: None,
    on_note: Callable[[str], None] = lambda _text: None,
) -> Evidence:
    """Run ``suite`` on ``machine`` and return what the folder then shows.

    ``folder`` must be new; its name is the run's id. ``on_record`` sees each journal record as it is
    written, ``on_note`` what the lab says while it works. Ctrl-C ends the run in order (verdict
    ``interrupted``). Raises JournalError alone: when the disk refuses the journal.
    """
    nonce = secrets.token_hex(8)
    header = _header(machine, request, suite, folder, nonce)
    journal = JournalWriter(folder, header, on_record)
    interrupted = False
    try:
        try:
            _Run(machine, request, suite, folder, options or RunOptions(), journal, nonce, on_note).execute()
        except KeyboardInterrupt:
            interrupted = True
        except JournalError:
            raise
        except (LabError, HarnessError, OSError) as error:
            where = "laboratory" if isinstance(error, LabError) else "harness"
            journal.append(Trouble(where=where, message=clean(str(error), 2000)))
        journal.append(RunEnded(ended_at=datetime.now(UTC), interrupted=interrupted))
    finally:
        journal.close()
    return read_evidence(folder)


def _header(machine: Machine, request: RunRequest, suite: Suite, folder: Path, nonce: str) -> RunStarted:
    candidate = request.candidate
    return RunStarted(
        run=folder.name,
        started_at=datetime.now(UTC),
        clock=time.monotonic(),
        machine=machine.name,
        machine_kind=machine.kind,
        generation=machine.generation,
        simulated=machine.simulated,
        requested=request.requested,
        release=candidate.release if candidate else None,
        version=candidate.version if candidate else None,
        origin=candidate.origin if candidate else "running",
        module_build_id=candidate.module_build_id if candidate else None,
        candidate=dict(candidate.detail) if candidate else {},
        suite=suite.name,
        suite_digest=suite.digest,
        nonce=nonce,
        faults=tuple({"name": fault.name, "parameters": dict(fault.parameters)} for fault in request.faults),
    )


class _Run:
    """One run in progress."""

    def __init__(
        self,
        machine: Machine,
        request: RunRequest,
        suite: Suite,
        folder: Path,
        options: RunOptions,
        journal: JournalWriter,
        nonce: str,
        on_note: Callable[[str], None],
    ) -> None:
        self.machine = machine
        self.request = request
        self.suite = suite
        self.folder = folder
        self.options = options
        self.journal = journal
        self.nonce = nonce
        self.on_note = on_note
        self.stream = SuiteStream(journal.append)
        self.previous_boot_id: str | None = None
        self.reachable = True
        self.watchdog_wanted = False

    def execute(self) -> None:
        """Boot, and boot again while a machine died under a test and others remain."""
        for boot in range(1, self.options.resumes + 2):
            fate = self._one_boot(boot)
            if fate != "died" or not self.machine.boots_candidates or not self.stream.remaining():
                return
            if boot <= self.options.resumes:
                left = len(self.stream.remaining())
                self.on_note(f"the machine died; booting it again for the {left} tests that remain")

    def _one_boot(self, boot: int) -> Fate:
        folder = boot_folder(self.folder, boot)
        folder.mkdir(parents=True, exist_ok=True)
        self.journal.append(PhaseStarted(phase="boot", boot=boot))
        request = BootRequest(
            self.request.candidate,
            self.nonce,
            folder,
            self.request.faults,
            self.options.lab,
            self.on_note,
        )
        try:
            with self.machine.boot(request) as session:
                self.journal.append(
                    Booted(
                        boot=boot,
                        nonce_expected=session.nonce_expected,
                        facts={key: clean(value, 2000) for key, value in session.boot_facts().items()},
                    )
                )
                return self._booted(session, boot, folder)
        except BootError as error:
            self.journal.append(BootFailed(boot=boot, how=error.kind, message=clean(str(error), 2000)))
            return "stopped"

    def _booted(self, session: Session, boot: int, folder: Path) -> Fate:
        with self._kernel_log(session, boot, folder):
            try:
                self.journal.append(PhaseStarted(phase="prove", boot=boot))
                root = self._prove(session, boot)
                if root is None:
                    return "stopped"
                self.journal.append(PhaseStarted(phase="suite", boot=boot))
                with self._watchdog(session, boot, root):
                    return self._suite(session, boot, root)
            except (ShellLostError, ShellTimeoutError) as error:
                self._lost(boot, session, str(error))
                return "died"
            finally:
                self.journal.append(PhaseStarted(phase="collect", boot=boot))

    @contextlib.contextmanager
    def _kernel_log(self, session: Session, boot: int, folder: Path) -> Iterator[None]:
        """The kernel's words from the first line to the last, whatever happens inside."""
        longest = self.options.suite + self.options.examine + 300
        capture = KernelLogCapture(
            session.shell,
            folder / KERNEL_LOG,
            STOP_FILE.format(nonce=self.nonce),
            longest=longest,
        )
        capture.start()
        self.reachable = True
        try:
            yield
        finally:
            captured = capture.stop(reachable=self.reachable)
            self.journal.append(
                LogStopped(
                    boot=boot, lines=captured.lines, dropped=captured.dropped, problem=captured.problem
                )
            )

    @contextlib.contextmanager
    def _watchdog(self, session: Session, boot: int, root: str) -> Iterator[None]:
        """Armed while the suite runs; a machine that no longer answers is left to it."""
        if not self.watchdog_wanted:
            yield
            return
        watchdog = Watchdog(
            session.shell, f"{root}-watchdog", longest=self.options.suite, reset=self.options.watchdog_reset
        )
        armed, said = watchdog.arm()
        self.journal.append(WatchdogRecord(boot=boot, armed=armed, detail=said))
        try:
            yield
        finally:
            if not watchdog.disarm(reachable=self.reachable) and self.reachable:
                self.on_note(f"the machine's watchdog could not be disarmed ({said}): it may reset itself")

    def _prove(self, session: Session, boot: int) -> str | None:
        """Examine the machine; the folder for the suite there, None when it must not or cannot run."""
        try:
            report = environment.collect(
                session.shell, timeout=self.options.examine, bytecode=session.bytecode
            )
        except ExamineError as error:
            self.journal.append(
                EnvironmentRecord(boot=boot, digest="", facts={}, problems=(error.problem.as_json(),))
            )
            return None
        self.watchdog_wanted = self.options.watchdog and wanted(report)
        candidate = self.request.candidate
        proofs = boot_proof.prove(
            report,
            boot_proof.Expectation(
                release=candidate.release if candidate else None,
                nonce=self.nonce if session.nonce_expected else None,
                previous_boot_id=self.previous_boot_id,
                kernel_build_id=self.request.known_build_id,
                module_build_id=candidate.module_build_id if candidate else None,
                out_of_tree_allowed=candidate is None or candidate.module is not None,
            ),
        )
        for proof in proofs:
            self.journal.append(
                Proof(boot=boot, name=proof.name, expected=proof.expected, seen=proof.seen, holds=proof.holds)
            )
            if proof.name == "boot-id":
                self.previous_boot_id = proof.seen
        found = environment.assess(
            report, boot_facts=session.boot_facts(), booted_by_us=candidate is not None
        )
        problems = [problem for problem in found.problems if problem.id not in self.suite.unneeded]
        kernel = report.get("kernel", {})
        self.journal.append(
            EnvironmentRecord(
                boot=boot,
                digest=found.digest,
                facts=dict(found.facts),
                problems=tuple(problem.as_json() for problem in problems),
                uptime=_number(kernel, "uptime"),
                machine_time=_number(kernel, "time"),
            )
        )
        if not all(proof.holds for proof in proofs):
            return None
        if any(problem.id in UNSTARTABLE for problem in problems):
            return None
        home = str(report.get("user", {}).get("home") or "/tmp")  # noqa: S108 - a random name follows
        return f"{home.rstrip('/')}/.cache/xdnawatch/{self.nonce}"

    def _suite(self, session: Session, boot: int, root: str) -> Fate:
        """The suite to its end, past tests that hang or kill it, as long as the machine answers."""
        self.stream.boot = boot
        tests = self.stream.remaining() if boot > 1 else ()
        for _attempt in range(self.options.stuck + 1):
            stopped = self._stream_once(session, boot, root, tests)
            self.journal.append(stopped)
            if stopped.how != "exit" and not self._end_suite(session, root):
                self._lost(boot, session, stopped.message)
                return "died"
            guilty = self.stream.give_up_running()
            tests = self.stream.remaining()
            if guilty is None or not tests or stopped.how == "timeout":
                break
            if stopped.status is not None and stopped.status > SIGNALLED and self.machine.boots_candidates:
                # The kernel killed it, or it crashed: what runs in this kernel afterwards proves nothing.
                return "died"
            self.on_note(f"{guilty} did not end; going on with the {len(tests)} tests that remain")
        if not self.machine.boots_candidates:
            with contextlib.suppress(LabError):  # what is left behind there harms nobody
                session.shell.run(["rm", "-rf", root], timeout=self.options.answer)
        return "done"

    def _stream_once(self, session: Session, boot: int, root: str, tests: tuple[str, ...]) -> SuiteStopped:
        options = self.options
        sitting = Sitting(session.shell, root, self.nonce, options.suite, options.silence, session.bytecode)
        try:
            status, said = self.suite.run(sitting, tests, self.stream.on_line)
        except ShellTimeoutError as error:
            silent = isinstance(error, ShellSilentError)
            how: Literal["timeout", "silence"] = "silence" if silent else "timeout"
            return SuiteStopped(boot=boot, how=how, message=clean(str(error), 500))
        except ShellLostError as error:
            return SuiteStopped(boot=boot, how="lost", message=clean(str(error), 500))
        return SuiteStopped(boot=boot, how="exit", status=status, message=said)

    def _end_suite(self, session: Session, root: str) -> bool:
        """End a suite that hangs or was cut off; False when the machine is gone or does not obey.

        A machine that answers under another boot id went down and came up by itself: it is gone, too.
        """
        try:
            done = session.shell.run(["sh", "-c", KILL_SCRIPT, "end", root], timeout=self.options.answer)
        except LabError:
            return False
        return done.status == 0 and done.text.strip() == self.previous_boot_id

    def _lost(self, boot: int, session: Session, message: str) -> None:
        if self.stream.give_up_running() is None:
            self.stream.give_up_unheard(self._told_by_console(session))
        self.reachable = False
        state = "it still runs but does not answer" if session.alive() else "it went down"
        if "WATCHDOG" in session.boot_facts().get("events", ""):
            state = "its watchdog reset it"
        self.journal.append(
            MachineLost(boot=boot, message=clean(f"the machine stopped answering ({message}; {state})", 1000))
        )

    def _told_by_console(self, session: Session) -> str | None:
        """The test that a console of the machine says was running; None where there is no console."""
        console = session.logs.get(SERIAL_LOG)
        if console is None:
            return None
        try:
            with console.open("rb") as handle:
                return unfinished_test(bounded_lines(handle), self.nonce)
        except OSError:
            return None


def _number(part: Any, name: str) -> float | None:
    value = part.get(name) if isinstance(part, dict) else None
    return float(value) if isinstance(value, int | float) else None
