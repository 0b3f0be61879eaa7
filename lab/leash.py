"""Processes that end when we end, even by kill -9.

``PR_SET_PDEATHSIG`` alone is tied to the *thread* that forked, so a worker thread's end would kill a healthy
QEMU. Therefore a small process stands between: it holds the read end of a pipe from us and ends its one
child as soon as the pipe closes, for whatever reason; the child in turn gets PDEATHSIG on that process. This
file is both the library and, run as a script with ``python -I -S``, that process: it imports nothing of the
project at run time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

PR_SET_PDEATHSIG = 1  # linux/prctl.h
GRACE = 3.0  # seconds between SIGTERM and SIGKILL
NOT_STARTED = 127


class LeashedProcess:
    """A child with standard input from /dev/null that never outlives this process.

    ``stdout`` is None (inherit), a file, or subprocess.PIPE; standard error goes to ``stderr``, a file.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._leash = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *argv],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            env=env,
            start_new_session=True,  # Ctrl-C is ours to translate into an orderly end
        )

    @property
    def stdout(self) -> IO[bytes] | None:
        """The child's standard output when it was asked for as a pipe."""
        return self._leash.stdout

    @property
    def child(self) -> int | None:
        """The child's process id, None before it runs, when it is gone, or where /proc does not tell."""
        try:
            words = (
                Path(f"/proc/{self._leash.pid}/task/{self._leash.pid}/children").read_text("ascii").split()
            )
        except OSError:
            return None
        return int(words[0]) if words else None

    def poll(self) -> int | None:
        """The child's exit status, 128 + signal when it was killed, None while it runs."""
        return self._leash.poll()

    def wait(self, timeout: float) -> int | None:
        """Wait for the child's own end; None when ``timeout`` seconds pass."""
        try:
            return self._leash.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> int:
        """End the child (SIGTERM, after GRACE seconds SIGKILL) and reap it."""
        if self._leash.stdin is not None:
            with contextlib.suppress(OSError):
                self._leash.stdin.close()
        status = self.wait(GRACE + 5)
        if status is None:  # the leash itself hangs: its death takes the child with it (PDEATHSIG)
            self._leash.kill()
            status = self._leash.wait()
        if self._leash.stdout is not None:
            self._leash.stdout.close()
        return status

    def __enter__(self) -> LeashedProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def _hold(argv: list[str]) -> int:
    """Run ``argv`` and end it when standard input closes. Returns the status for our own exit."""
    libc = ctypes.CDLL(None, use_errno=True)
    me = os.getpid()
    null = os.open(os.devnull, os.O_RDONLY)
    child = os.fork()
    if child == 0:
        try:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != me:  # the leash died between fork and prctl
                os._exit(NOT_STARTED)
            os.dup2(null, 0)
            os.execvp(argv[0], argv)  # noqa: S606 - the caller's argument list, no shell
        except OSError as error:
            os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(NOT_STARTED)
    handle = os.pidfd_open(child)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: os.kill(child, signal.SIGTERM))
    while True:
        readable, _, _ = select.select([0, handle], [], [])
        if handle in readable:
            break
        if not os.read(0, 4096):  # the pipe closed: our user is gone or wants the end
            _end(child, handle)
            break
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _end(child: int, handle: int) -> None:
    deadline = time.monotonic() + GRACE
    os.kill(child, signal.SIGTERM)
    select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(_hold(sys.argv[1:]))
