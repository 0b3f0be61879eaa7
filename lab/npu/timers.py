"""Work for later, in one thread: the server runs what is due between two messages of its client."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable


class Timers:
    """A queue of callbacks ordered by due time, then by the order they were asked for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def call_at(self, due: float, callback: Callable[[], None]) -> None:
        """Run ``callback`` once when the clock has reached ``due`` seconds."""
        heapq.heappush(self._queue, (due, next(self._numbers), callback))

    def wait(self) -> float | None:
        """Seconds until something is due (0 when it already is), None when nothing is planned."""
        return max(0.0, self._queue[0][0] - self.clock()) if self._queue else None

    def run_due(self) -> None:
        """Run everything due now; what a callback plans for now runs at the next call."""
        now = self.clock()
        due = []
        while self._queue and self._queue[0][0] <= now:
            due.append(heapq.heappop(self._queue)[2])
        for callback in due:
            callback()

    def clear(self) -> None:
        """Forget everything planned: the device was reset."""
        self._queue.clear()
