"""Temporary folders that do not pile up when their process is killed.

Each is locked by its process (flock on the folder itself); a later process that can take the lock knows that
nobody needs the folder any more and removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Short: a socket's path is limited to about 100 bytes.
PREFIX = "xdnw-"
#: Seconds before an unlocked folder counts as left behind: its maker may be about to lock it.
YOUNG = 60.0


@contextmanager
def work_folder(parent: Path | None = None) -> Iterator[Path]:
    """A private folder below ``parent`` (default: the system's temporary folder), removed at the end."""
    place = parent if parent is not None else Path(tempfile.gettempdir())
    sweep(place)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def sweep(place: Path) -> None:
    """Remove the folders of processes that are gone."""
    for folder in place.glob(PREFIX + "*"):
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                status = os.fstat(handle)
                if status.st_uid == os.getuid() and time.time() - status.st_mtime > YOUNG:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
