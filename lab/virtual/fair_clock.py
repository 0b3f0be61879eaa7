"""Seconds that a virtual machine could have used: what timeouts of a simulated machine are measured by.

On a host with more work than processors QEMU waits for its turn, and a guest that is in order seems to hang.
The kernel counts the time each thread was ready to run and did not (/proc/PID/task/TID/schedstat, second
field, nanoseconds; Documentation/scheduler/sched-stats.rst). That time is left out here. A guest that really
hangs either sleeps or spins, so that its clock goes on and its timeouts come.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from lab.leash import LeashedProcess

LOOK_AGAIN = 0.2  # seconds


class FairClock:
    """Call it as time.monotonic: seconds without those in which the watched processes were kept waiting."""

    def __init__(
        self,
        *watched: LeashedProcess,
        monotonic: Callable[[], float] = time.monotonic,
        proc: Path = Path("/proc"),
    ) -> None:
        self._watched = watched
        self._monotonic = monotonic
        self._proc = proc
        self._waited = [0.0] * len(watched)
        self._looked = -float("inf")

    def __call__(self) -> float:
        """Seconds; the waits in it are up to LOOK_AGAIN old, as looking takes a file of each thread."""
        now = self._monotonic()
        if now - self._looked >= LOOK_AGAIN:
            self._looked = now
            self.waited()
        return now - sum(self._waited)

    def waited(self) -> float:
        """Seconds kept waiting so far; it never goes down, also when a process ends.

        The processes work one after the other (a guest asks, its device answers), so their waits add up;
        the threads of one of them wait at the same time, so the longest counts.
        """
        for index, process in enumerate(self._watched):
            pid = process.child
            if pid is not None:
                self._waited[index] = max(self._waited[index], _longest_wait(self._proc / str(pid)))
        return sum(self._waited)


def _longest_wait(process: Path) -> float:
    """The longest wait among a process's threads, 0.0 where the kernel does not tell."""
    longest = 0
    try:
        for thread in (process / "task").iterdir():
            fields = (thread / "schedstat").read_text("ascii").split()
            longest = max(longest, int(fields[1]))
    except (OSError, ValueError, IndexError):
        pass  # a thread or the process ended while it was looked at
    return longest / 1e9
