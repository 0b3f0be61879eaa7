"""A leashed child ends with its user, whatever happens to either."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from lab.leash import LeashedProcess


def running(mark: str) -> list[int]:
    """The processes whose command line holds ``mark``, zombies and this test aside."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if mark.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def gone(mark: str, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not running(mark):
            return True
        time.sleep(0.05)
    return False


SLEEPER = "import sys, time; print('up', flush=True); time.sleep(600)"


def test_the_childs_own_status_is_given() -> None:
    with LeashedProcess([sys.executable, "-c", "raise SystemExit(7)"]) as process:
        assert process.wait(20) == 7
    with LeashedProcess([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) as process:
        assert process.wait(20) == 128 + signal.SIGKILL
    with LeashedProcess(["/no/such/program"], stderr=subprocess.DEVNULL) as process:
        assert process.wait(20) == 127


def test_end_stops_a_child_that_ignores_sigterm(tmp_path: Path) -> None:
    mark = str(tmp_path / "stubborn")
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEPER
    process = LeashedProcess([sys.executable, "-c", code, mark], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    assert process.poll() is None
    assert process.end() == 128 + signal.SIGKILL
    assert gone(mark, 0.5)


def test_a_thread_that_started_a_child_may_end(tmp_path: Path) -> None:
    """PDEATHSIG alone would kill the child with the thread."""
    made: list[LeashedProcess] = []
    code = "import time; print('up', flush=True); time.sleep(1.0); raise SystemExit(3)"
    starter = threading.Thread(
        target=lambda: made.append(LeashedProcess([sys.executable, "-c", code], stdout=subprocess.PIPE))
    )
    starter.start()
    starter.join()
    with made[0] as process:
        assert process.wait(20) == 3


@pytest.mark.parametrize("victim", ["user", "leash"])
def test_kill_9_of_the_user_or_of_the_leash_ends_the_child(tmp_path: Path, victim: str) -> None:
    mark = str(tmp_path / "child-mark")
    code = textwrap.dedent(
        """
        import sys, time
        from lab.leash import LeashedProcess
        with LeashedProcess([sys.executable, "-c", sys.argv[1], sys.argv[2]]) as process:
            time.sleep(600)
        """
    )
    user = subprocess.Popen([sys.executable, "-c", code, SLEEPER, mark], stdout=subprocess.PIPE)
    try:
        assert user.stdout is not None
        assert user.stdout.readline() == b"up\n"
        if victim == "user":
            user.kill()
        else:
            leash = next(
                pid for pid in running(mark) if b"leash.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
            )
            os.kill(leash, signal.SIGKILL)
        # the user's own command line holds the mark too, so it must be gone or ended by us
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and set(running(mark)) - {user.pid}:
            time.sleep(0.05)
        assert set(running(mark)) - {user.pid} == set()
    finally:
        user.kill()
        user.communicate()
