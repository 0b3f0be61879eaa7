"""A debug buffer that is closed stays with the firmware, and its place is given away.

The handle of a context's debug buffer is closed, which nothing refuses. The firmware is not told, and the
client's next buffer lies where it goes on to write.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import mmap
import os
import struct
import sys
import time
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


def device_address(fd: int, handle: int) -> int:
    """AMDXDNA_GET_BO_INFO: where the device finds a buffer."""
    return call(fd, 0x44, "QQIIQQQ", 0, 0, handle, 0, 0, 0, 0)[6]


def close_bo(fd: int, handle: int) -> None:
    """GEM_CLOSE."""
    call(fd, 0x09, "II", handle, 0, direction=1)


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


def create_context(fd: int) -> tuple[int, int]:
    """AMDXDNA_CREATE_HWCTX over one column of four tiles: (handle, sync object)."""
    qos = ctypes.create_string_buffer(struct.pack("<6I", 0, 0, 0, 0, 0, 0x200))
    argument = (0, 0, ctypes.addressof(qos), 0, 0, 2048, 4, 0x10000, 0, 0, 0)
    answer = call(fd, 0x40, "QQQ8I", *argument)
    return answer[9], answer[10]


def debug_buffer(fd: int, context: int, parameter: int, handle: int) -> None:
    """AMDXDNA_CONFIG_HWCTX: 1 makes a heap buffer the context's debug buffer, 2 ends that."""
    call(fd, 0x42, "IIQII", context, parameter, handle, 0, 0)


def show(node: str) -> str:
    """Close a debug buffer, make another buffer, and see where it lies and what can be done with it."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    map_heap(fd, create_bo(fd, 2, CHUNK))
    context, _syncobj = create_context(fd)
    first = create_bo(fd, 3, mmap.PAGESIZE)
    debug_buffer(fd, context, 1, first)
    place = device_address(fd, first)
    close_bo(fd, first)
    until = time.monotonic() + 1
    second = create_bo(fd, 3, mmap.PAGESIZE)
    while (again := device_address(fd, second)) != place and time.monotonic() < until:
        close_bo(fd, second)
        time.sleep(0.05)  # the attaching command may hold the first for a moment
        second = create_bo(fd, 3, mmap.PAGESIZE)
    print(f"debug buffer at {place:#x}, closed; the next buffer at {again:#x}")
    if again != place:
        return ""
    try:
        debug_buffer(fd, context, 2, second)
    except OSError as error:
        return (
            f"a new buffer lies at {place:#x}, the debug buffer's place; taking that away: {error.strerror}"
        )
    return ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("gives a context a debug buffer, closes it and makes another buffer")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
