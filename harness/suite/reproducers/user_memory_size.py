"""The size of a buffer over user memory is not compared with the memory.

AMDXDNA_CREATE_BO with 1 MiB as size and a table of one page succeeds, and the buffer has one page: the caller
believes in 1 MiB that the device cannot reach.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import mmap
import os
import struct
import sys
from pathlib import Path


def call(fd: int, number: int, layout: str, *values: int, direction: int = 3) -> tuple[int, ...]:
    """One DRM ioctl; its argument as the kernel left it. OSError with the kernel's errno."""
    data = bytearray(struct.pack("<" + layout, *values))
    fcntl.ioctl(fd, direction << 30 | len(data) << 16 | ord("d") << 8 | number, data)
    return struct.unpack("<" + layout, data)


def create_bo(fd: int, kind: int, size: int, vaddr: int = 0) -> int:
    """AMDXDNA_CREATE_BO: 1 shared memory, 2 heap, 3 in the heap, 4 command. The handle."""
    return call(fd, 0x43, "QQQII", 0, vaddr, size, kind, 0)[4]


def map_offset(fd: int, handle: int) -> int:
    """AMDXDNA_GET_BO_INFO: where mmap(2) finds a buffer."""
    return call(fd, 0x44, "QQIIQQQ", 0, 0, handle, 0, 0, 0, 0)[4]


def table(*entries: tuple[int, int], count: int | None = None) -> ctypes.Array[ctypes.c_char]:
    """A table of user memory: (address, bytes) each; ``count`` lies about their number."""
    data = struct.pack("<iI", 0, len(entries) if count is None else count)
    data += b"".join(struct.pack("<QQ", *entry) for entry in entries)
    return ctypes.create_string_buffer(data, len(data))


def export(fd: int, handle: int) -> int:
    """DRM_IOCTL_PRIME_HANDLE_TO_FD: a dma-buf of a buffer."""
    return call(fd, 0x2D, "IIi", handle, os.O_RDWR | os.O_CLOEXEC, -1)[2]


def show(node: str) -> str:
    """Ask for 1 MiB over one page; what was made is found in the client's fdinfo (7.2 and later)."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    block = table((ctypes.addressof(ctypes.c_char.from_buffer(memory)), mmap.PAGESIZE))
    try:
        create_bo(fd, 1, 1 << 20, ctypes.addressof(block))
    except OSError as error:
        print("refused:", error)
        return ""
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text("ascii").splitlines():
        if "external" in line or "drm-total" in line:
            print(line)
    return "a buffer of 1 MiB was made of 4 KiB"


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("asks for a buffer of 1 MiB over one page of its own memory")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
