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

PREFIX = "xdnw-"
#: The longest name of a socket in such a folder: ssh makes it under another name first (ssh_config(5),
#: ControlPath), QEMU's are shorter.
SOCKET = len("/xdnw-12345678/m.1234567890123456")
SOCKET_PATH = 107  # bytes (unix(7), sun_path)
SHORT = Path("/tmp")  # noqa: S108 - only folders of our own are made there
#: Seconds before an unlocked folder counts as left behind: its maker may be about to lock it.
YOUNG = 60.0


@contextmanager
def work_folder(parent: Path | None = None) -> Iterator[Path]:
    """A private folder below ``parent``, removed at the end.

    Default: the system's temporary folder, or /tmp where that one's path is too long for sockets in it.
    """
    place = parent if parent is not None else Path(tempfile.gettempdir())
    if parent is None and len(os.fsencode(place)) + SOCKET > SOCKET_PATH:
        place = SHORT
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
