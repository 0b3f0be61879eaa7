"""A heap that the firmware cannot use grows all the same, and then nothing can be made of it.

Firmware before protocol 6.18 (NPU4 to NPU6) knows no further heap chunk. The driver takes one nevertheless;
from then on the client gets no context and, beside a context it has, no buffer in the heap.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import mmap
import os
import struct
import sys

CHUNK = 64 << 20  # bytes of a heap chunk
SHARED_FIXED = mmap.MAP_SHARED | 0x10


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


class Room:
    """Places for heap chunks, one behind the other and aligned to their 64 MiB, as the driver wants them."""

    def __init__(self, chunks: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000
        room = self._libc.mmap(None, (chunks + 1) * CHUNK, 0, flags, -1, 0)
        self._place = (int(room) + CHUNK - 1) & ~(CHUNK - 1)

    def add_chunk(self, fd: int) -> None:
        """One more chunk of heap for a client, mapped behind the last. OSError where it is refused."""
        offset = map_offset(fd, create_bo(fd, 2, CHUNK))
        both = mmap.PROT_READ | mmap.PROT_WRITE
        if self._libc.mmap(self._place, CHUNK, both, SHARED_FIXED, fd, offset) != self._place:
            raise OSError(ctypes.get_errno(), "the chunk could not be mapped")
        self._place += CHUNK


def create_context(fd: int) -> tuple[int, int]:
    """AMDXDNA_CREATE_HWCTX over one column of four tiles: (handle, sync object)."""
    qos = ctypes.create_string_buffer(struct.pack("<6I", 0, 0, 0, 0, 0, 0x200))
    argument = (0, 0, ctypes.addressof(qos), 0, 0, 2048, 4, 0x10000, 0, 0, 0)
    answer = call(fd, 0x40, "QQQ8I", *argument)
    return answer[9], answer[10]


def show(node: str) -> str:
    """Make a context, add a chunk, and see what the client can still make."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    room = Room(2)
    room.add_chunk(fd)
    create_context(fd)
    create_bo(fd, 3, mmap.PAGESIZE)
    try:
        room.add_chunk(fd)
    except OSError as error:
        print("a second chunk is refused:", error, flush=True)
        return ""
    try:
        create_bo(fd, 3, mmap.PAGESIZE)
        create_context(fd)
    except OSError as error:
        return f"a second chunk was taken, and what is made after it is refused: {error}"
    return ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("makes a context, adds a heap chunk, and makes a heap buffer and another context")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
