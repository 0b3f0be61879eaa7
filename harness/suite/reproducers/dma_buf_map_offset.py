"""Mapping an exported buffer at an offset shows its first pages instead.

Reads and writes go silently to the wrong place. Any user of the NPU can do it; nothing is damaged.
"""

from __future__ import annotations

import argparse
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


def map_offset(fd: int, handle: int) -> int:
    """AMDXDNA_GET_BO_INFO: where mmap(2) finds a buffer."""
    return call(fd, 0x44, "QQIIQQQ", 0, 0, handle, 0, 0, 0, 0)[4]


def export(fd: int, handle: int) -> int:
    """DRM_IOCTL_PRIME_HANDLE_TO_FD: a dma-buf of a buffer."""
    return call(fd, 0x2D, "IIi", handle, os.O_RDWR | os.O_CLOEXEC, -1)[2]


def show(node: str) -> str:
    """Mark two pages, export the buffer, map the second page of the dma-buf."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    size = 2 * mmap.PAGESIZE
    handle = create_bo(fd, 1, size)
    memory = mmap.mmap(fd, size, offset=map_offset(fd, handle))
    memory[0:5], memory[mmap.PAGESIZE : mmap.PAGESIZE + 6] = b"first", b"second"
    second = mmap.mmap(export(fd, handle), mmap.PAGESIZE, offset=mmap.PAGESIZE)
    seen = bytes(second[:6])
    print("at the offset of the second page there is", seen)
    return "" if seen == b"second" else "the mapping of page 1 shows page 0"


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("makes a buffer of two pages, exports it and maps its second page")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
