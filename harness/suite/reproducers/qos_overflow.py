"""An impossible wish for quality of service is granted when it overflows 32 bits.

The driver multiplies frames per second by operations per frame in 32 bits: a wish of 2^15 by 2^15 is refused,
one of 2^16 by 2^16 is 0 and granted, at the lowest clock.
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


def granted(fd: int, gops: int, fps: int) -> bool:
    """AMDXDNA_CREATE_HWCTX with that wish; the context is destroyed again."""
    qos = ctypes.create_string_buffer(struct.pack("<6I", gops, fps, 0, 0, 0, 0x200))
    try:
        answer = call(fd, 0x40, "QQQ8I", 0, 0, ctypes.addressof(qos), 0, 0, 2048, 4, 0x10000, 0, 0, 0)
    except OSError as error:
        print(f"{gops} operations, {fps} times a second: {error}")
        return False
    call(fd, 0x41, "II", answer[9], 0)
    print(f"{gops} operations, {fps} times a second: granted")
    return True


def show(node: str) -> str:
    """Wish for much, then for four times as much."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    map_heap(fd, create_bo(fd, 2, CHUNK))
    less, more = granted(fd, 1 << 15, 1 << 15), granted(fd, 1 << 16, 1 << 16)
    return "a wish is refused and four times that wish is granted" if more and not less else ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("creates contexts with impossible wishes")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
