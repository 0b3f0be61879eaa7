"""Breaks a guest, lets doctor and run look at it as at a laptop, mends it: the edge of harness.breakage."""

from __future__ import annotations

import importlib.resources
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness import doctor
from harness.breakage import FOLDER, HEALTHY, Boot, Breakage, Seen
from harness.runner import RunOptions, RunRequest, run
from harness.suite_stream import ShippedSuite, Suite, digest_of, ioctl_suite
from lab.machine import BootRequest, Candidate, LabError, Session
from lab.packages.store import PackageStore
from lab.virtual.laptop import GuestLaptop
from lab.virtual.machine import VirtualMachine

BREAK_TIMEOUT = 60.0  # seconds for a row's shell program; a probe that fails takes the driver some
LOOK_TIMEOUT = 60.0  # seconds for each of the doctor's two looks
GENERATION = "npu4"
RUN = "20000101T000000-000000"  # a run's folder is named by its id; here one lies in each row's own folder
OPTIONS = RunOptions(watchdog=False, examine=LOOK_TIMEOUT, silence=180.0)


SUITE_FILES = ("test_presence.py", "conftest.py", "__init__.py")


def presence_suite() -> ShippedSuite:
    """The few tests that open the device and ask who it is: enough to see whether a run blames the kernel."""
    whole = ioctl_suite("test_presence")
    files = {
        name: data
        for name, data in whole.files.items()
        if "/tests/" not in f"/{name}" or name.rpartition("/")[2] in SUITE_FILES
    }
    return ShippedSuite("presence", digest_of(files), files, whole.command)


NO_TESTS = ShippedSuite("none", digest_of({}), {"none": b""}, lambda _root, _nonce, _tests: (("true",), {}))


class BreakageError(LabError):
    """A row's shell program did not do what it is for: nothing was learnt from it."""


def go_through(
    store: PackageStore,
    candidate: Candidate,
    boot: Boot,
    suite: Suite,
    folder: Path,
    *,
    control: bool = True,
    on_note: Callable[[str], None] = lambda _text: None,
) -> Iterator[Seen]:
    """Boot once and go through the rows of ``boot``; traces and run folders go below ``folder``.

    ``control``: also look at the guest before the first row and after the last, where nothing is broken.
    Raises BreakageError, LabError when the guest cannot be had.
    """
    machine = VirtualMachine("broken-guest", GENERATION, store, append=boot.append, protocol=boot.protocol)
    request = BootRequest(candidate, secrets.token_hex(8), folder / "boot", progress=on_note)
    whole = not boot.append and boot.protocol is None
    with machine.boot(request) as session:
        tool = importlib.resources.files("harness").joinpath("foreign_module.py").read_bytes()
        session.shell.put({"foreign_module.py": tool}, FOLDER)
        rows: Sequence[Breakage] = boot.rows
        if control and whole:
            after = () if rows[-1].final else (HEALTHY,)
            rows = (HEALTHY, *rows, *after)
        for number, row in enumerate(rows):
            on_note(f"{row.name}: {row.what}")
            _program(session, row, row.do)
            yield _look(session, candidate, row, suite, folder / f"{number:02}-{row.name}")
            if not row.final:
                _program(session, row, row.undo)


def _program(session: Session, row: Breakage, program: str) -> None:
    if not program:
        return
    done = session.shell.run(["sh", "-c", program], timeout=BREAK_TIMEOUT)
    # modprobe of a module that is to be refused fails: what counts is the state that the next look finds.
    if done.status > 1 or (done.status and program == row.undo):
        said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()[-400:]
        raise BreakageError(f"{row.name}: `{program}` ended with status {done.status}: {said}")


def _look(session: Session, candidate: Candidate, row: Breakage, suite: Suite, folder: Path) -> Seen:
    laptop = GuestLaptop(session, row.user)
    folder.mkdir(parents=True)
    begin = time.monotonic()
    with laptop.boot(BootRequest(None, "none", folder)) as reached:
        checkup = doctor.examine(reached.shell, timeout=LOOK_TIMEOUT)
    between = time.monotonic()
    chosen = suite if row.tested else NO_TESTS
    evidence = run(laptop, RunRequest(None, "running"), chosen, folder / RUN, OPTIONS)
    point = next((check for check in checkup.checks if check.id == row.point), None)
    return Seen(
        row,
        candidate.version,
        checkup.cause.id if checkup.cause else None,
        point.state.value if point else "absent",
        point.said if point else "",
        point.next_step if point else "",
        evidence.judgement.verdict.value,
        evidence.judgement.reason,
        (checkup.exit_code, evidence.judgement.exit_code),
        (between - begin, time.monotonic() - between),
    )
