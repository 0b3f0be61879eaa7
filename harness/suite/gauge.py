"""A small file of the kernel that is read after every test: opened once, read from its beginning each time.

A simulated machine pays for every system call and every object; the suite looks at half a dozen such files
around each of its tests.
"""

from __future__ import annotations

import os
from pathlib import Path

READ_LIMIT = 16384  # bytes of one small file


class Gauge:
    """What a file of procfs or sysfs says now. It is opened at the first look, and anew when that one is
    gone: the files of a device end with its binding to a driver."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._descriptor = -1

    def text(self) -> str:
        """The file's text without white space around it, "" when it cannot be read."""
        for _once_more in range(2):
            try:
                if self._descriptor < 0:
                    self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                return os.pread(self._descriptor, READ_LIMIT, 0).decode("utf-8", "replace").strip()
            except OSError:
                self.close()
        return ""

    def number(self) -> int | None:
        """The file's text as a number of decimal digits, None when it is none."""
        found = self.text()
        return int(found) if found.isdecimal() else None

    def close(self) -> None:
        """Let the file go; the next look opens it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
