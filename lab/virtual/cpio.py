"""The initramfs container: cpio "newc" archives (Documentation/driver-api/early-userspace/buffer-format.rst).

Written here, not by a tool, so that owners and device nodes need no root.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO

Owner = tuple[int, int]


class CpioWriter:
    """Writes one archive to a stream. Directories must be added before what they hold."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._inode = 0

    def add(
        self,
        name: str,
        mode: int,
        data: bytes = b"",
        *,
        owner: Owner = (0, 0),
        device: tuple[int, int] = (0, 0),
    ) -> None:
        """Add one entry: ``mode`` with its type bits, ``data`` the content or a link's target."""
        self._inode += 1
        encoded = name.encode() + b"\0"
        uid, gid = owner
        fields = (self._inode, mode, uid, gid, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        header = b"070701" + "".join(f"{value:08X}" for value in fields).encode() + encoded
        self._out.write(header + bytes(-len(header) % 4))
        self._out.write(data)
        self._out.write(bytes(-len(data) % 4))

    def add_tree(self, root: Path, owner: Callable[[str], Owner] = lambda _name: (0, 0)) -> None:
        """Add everything below ``root`` in a fixed order; ``owner`` names each path's owner."""
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            status = path.lstat()
            permissions = stat.S_IMODE(status.st_mode)
            if path.is_symlink():
                self.add(name, stat.S_IFLNK | 0o777, str(path.readlink()).encode(), owner=owner(name))
            elif path.is_dir():
                self.add(name, stat.S_IFDIR | permissions, owner=owner(name))
            elif path.is_file():
                self.add(name, stat.S_IFREG | permissions, path.read_bytes(), owner=owner(name))

    def finish(self) -> None:
        """Write the trailer; the archive ends on a multiple of four bytes, so another may follow."""
        self.add("TRAILER!!!", 0)
