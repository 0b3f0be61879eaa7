"""After a second mapping of the heap, buffers in it are said to lie where nothing is mapped.

With addresses made by the driver (amdxdna.force_iova=1 or carveout) the last mmap of the heap sets the
address from which GET_BO_INFO reckons a buffer's, and unmapping does not take it back. With shared virtual
addresses the first mapping counts.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import mmap
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

CHUNK = 64 << 20  # bytes of a heap chunk


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


def map_heap(fd: int, handle: int) -> Callable[[], int]:
    """Map a heap chunk where the driver wants it: aligned to its 64 MiB. The way to unmap it."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    room = libc.mmap(None, 2 * CHUNK, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, -1, 0)
    place = (int(room) + CHUNK - 1) & ~(CHUNK - 1)
    fixed = mmap.MAP_SHARED | 0x10
    got = libc.mmap(place, CHUNK, mmap.PROT_READ | mmap.PROT_WRITE, fixed, fd, map_offset(fd, handle))
    if got != place:
        raise OSError(ctypes.get_errno(), "the heap could not be mapped")
    return lambda: int(libc.munmap(ctypes.c_void_p(place), ctypes.c_size_t(CHUNK)))


def mapped(address: int) -> bool:
    """Whether something of this process is mapped there."""
    lines = Path("/proc/self/maps").read_text("ascii").splitlines()
    ranges = [line.split()[0].split("-") for line in lines]
    return any(int(begin, 16) <= address < int(end, 16) for begin, end in ranges)


def user_address(fd: int, handle: int) -> int:
    """AMDXDNA_GET_BO_INFO: where the process finds a buffer."""
    return call(fd, 0x44, "QQIIQQQ", 0, 0, handle, 0, 0, 0, 0)[5]


def show(node: str) -> str:
    """Map the heap, map it once more and unmap that, make a buffer in it."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    heap = create_bo(fd, 2, CHUNK)
    map_heap(fd, heap)
    first = user_address(fd, create_bo(fd, 3, mmap.PAGESIZE))
    map_heap(fd, heap)()
    second = user_address(fd, create_bo(fd, 3, mmap.PAGESIZE))
    print(f"first buffer at {first:#x}, mapped: {mapped(first)}")
    print(f"second buffer at {second:#x}, mapped: {mapped(second)}")
    return "" if mapped(second) else "a buffer is said to lie where nothing is mapped"


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("maps a heap twice and unmaps it once")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
