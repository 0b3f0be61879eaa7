"""A context that has gone keeps the clock up for as long as another one lives.

A context without a wish gets the highest clock; one that needs little beside it is noted down with the
neighbour's level instead of its own, and when the neighbour goes the clock stays.
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


def create_context(fd: int, gops: int, fps: int) -> int:
    """AMDXDNA_CREATE_HWCTX over one column of four tiles with that wish: the handle."""
    qos = ctypes.create_string_buffer(struct.pack("<6I", gops, fps, 0, 0, 0, 0x200))
    argument = (0, 0, ctypes.addressof(qos), 0, 0, 2048, 4, 0x10000, 0, 0, 0)
    return call(fd, 0x40, "QQQ8I", *argument)[9]


def destroy_context(fd: int, context: int) -> None:
    """AMDXDNA_DESTROY_HWCTX."""
    call(fd, 0x41, "II", context, 0)


def clock(fd: int) -> int:
    """QUERY_CLOCK_METADATA: the array's clock in MHz."""
    answer = ctypes.create_string_buffer(48)
    call(fd, 0x47, "IIQ", 3, 48, ctypes.addressof(answer))
    return int(struct.unpack("<16sI4x16sI4x", answer.raw)[3])


def show(node: str) -> str:
    """Let a demanding context come and go beside a modest one, and compare with the modest one alone."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    map_heap(fd, create_bo(fd, 2, CHUNK))
    modest = create_context(fd, 1, 1)
    alone = clock(fd)
    destroy_context(fd, modest)
    demanding = create_context(fd, 0, 0)
    both = clock(fd)
    modest = create_context(fd, 1, 1)
    destroy_context(fd, demanding)
    left = clock(fd)
    destroy_context(fd, modest)
    print(f"the modest context alone {alone} MHz, beside the other {both} MHz, after it {left} MHz")
    if left <= alone:
        return ""
    return f"{left} MHz for a context that alone gets {alone} MHz, after its neighbour has gone"


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("creates and destroys contexts of different wishes and reads the clock")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
