"""The tracker's progress on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import Progress as Bar
from rich.progress import TaskID

from xdnawatch.cli.context import AppContext

REDRAW = 0.1  # seconds between two steps of a bar: a mail is read in less time than Rich counts it


class RichProgress:
    """The tracker's progress on a terminal."""

    def __init__(self, bar: Bar, here: AppContext) -> None:
        self._bar = bar
        self._here = here
        self._task: TaskID | None = None
        self._waiting = 0
        self._drawn = 0.0

    def start(self, what: str, total: int | None = None) -> None:
        """A new bar."""
        self._close()
        self._task = self._bar.add_task(what.replace("[", "\\["), total=total)

    def advance(self, count: int = 1) -> None:
        """Move it on."""
        self._waiting += count
        now = time.monotonic()
        if self._task is not None and now - self._drawn >= REDRAW:
            self._bar.advance(self._task, self._waiting)
            self._waiting, self._drawn = 0, now

    def finish(self, text: str) -> None:
        """Replace the bar by a line."""
        self._close()
        self._here.note(text)

    def _close(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
            self._waiting = 0


@contextmanager
def shown_progress(here: AppContext) -> Iterator[RichProgress]:
    """A progress for `tracker.sync.sync`, on standard error."""
    with here.progress() as bar:
        yield RichProgress(bar, here)
