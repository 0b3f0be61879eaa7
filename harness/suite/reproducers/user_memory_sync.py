"""Memory of the process that became a buffer can no longer be flushed.

AMDXDNA_SYNC_BO answers EOPNOTSUPP since 7.3-rc2 and 7.2.7, as if another driver had exported the memory.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import mmap
import os
import struct
import sys


def call(fd: int, number: int, layout: str, *values: int, direction: int = 3) -> tuple[int, ...]:
    """One DRM ioctl; its argument as the kernel left it. OSError with the kernel's errno."""
    data = bytearray(struct.pack("<" + layout, *values))
    fcntl.ioctl(fd, direction << 30 | len(data) << 16 | ord("d") << 8 | number, data)
    return struct.unpack("<" + layout, data)


def create_bo(fd: int, kind: int, size: int, vaddr: int = 0) -> int:
    """AMDXDNA_CREATE_BO: 1 shared memory, 2 heap, 3 in the heap, 4 command. The handle."""
    return call(fd, 0x43, "QQQII", 0, vaddr, size, kind, 0)[4]


def table(*entries: tuple[int, int], count: int | None = None) -> ctypes.Array[ctypes.c_char]:
    """A table of user memory: (address, bytes) each; ``count`` lies about their number."""
    data = struct.pack("<iI", 0, len(entries) if count is None else count)
    data += b"".join(struct.pack("<QQ", *entry) for entry in entries)
    return ctypes.create_string_buffer(data, len(data))


def show(node: str) -> str:
    """Make a buffer of own memory and flush it."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    block = table((ctypes.addressof(ctypes.c_char.from_buffer(memory)), mmap.PAGESIZE))
    handle = create_bo(fd, 1, mmap.PAGESIZE, ctypes.addressof(block))
    try:
        call(fd, 0x45, "IIQQ", handle, 0, 0, mmap.PAGESIZE)
    except OSError as error:
        return f"own memory cannot be flushed: {error}"
    return ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("makes a page of its own memory a buffer and flushes it; the kernel may print a warning")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
