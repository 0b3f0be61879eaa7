"""Whoever is given an open node has its commands work on the memory of the process that opened it.

With shared virtual addresses (no amdxdna.force_iova). The opener has a page at an address; a child of its
own memory maps a buffer at the same address, makes a context, and is told that the device sees its buffer
there: in the context's address space, which is the opener's. Nothing is run, nothing is damaged.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import mmap
import os
import socket
import struct
import sys

CHUNK = 64 << 20  # bytes of a heap chunk
NO_PASID = (0, 0xFFFFFFFF)
SHARED_FIXED = mmap.MAP_SHARED | 0x10
PLACE = 0x5000_0000_0000  # a multiple of CHUNK where nothing lies


class NotHereError(Exception):
    """The device or the kernel cannot show this; the text says why."""


def call(fd: int, number: int, layout: str, *values: int, direction: int = 3) -> tuple[int, ...]:
    """One DRM ioctl; its argument as the kernel left it. OSError with the kernel's errno."""
    data = bytearray(struct.pack("<" + layout, *values))
    fcntl.ioctl(fd, direction << 30 | len(data) << 16 | ord("d") << 8 | number, data)
    return struct.unpack("<" + layout, data)


def create_bo(fd: int, kind: int, size: int, vaddr: int = 0) -> int:
    """AMDXDNA_CREATE_BO: 1 shared memory, 2 heap, 3 in the heap, 4 command. The handle."""
    return call(fd, 0x43, "QQQII", 0, vaddr, size, kind, 0)[4]


def map_at(place: int, size: int, fd: int, offset: int, flags: int) -> None:
    """Map memory at ``place`` in this process, over whatever is there. OSError when it does not."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    if libc.mmap(place, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, offset) != place:
        raise OSError(ctypes.get_errno(), f"nothing could be mapped at {place:#x}")


def map_buffer(fd: int, handle: int, place: int, size: int) -> int:
    """Map a buffer at ``place``; the address that the driver has for it then (AMDXDNA_GET_BO_INFO)."""
    map_at(place, size, fd, call(fd, 0x44, "QQIIQQQ", 0, 0, handle, 0, 0, 0, 0)[4], SHARED_FIXED)
    return call(fd, 0x44, "QQIIQQQ", 0, 0, handle, 0, 0, 0, 0)[5]


def create_context(fd: int) -> None:
    """AMDXDNA_CREATE_HWCTX over one column of four tiles; the client must have a heap."""
    qos = ctypes.create_string_buffer(struct.pack("<6I", 0, 0, 0, 0, 0, 0x200))
    call(fd, 0x40, "QQQ8I", 0, 0, ctypes.addressof(qos), 0, 0, 2048, 4, 0x10000, 0, 0, 0)


def pasid(fd: int, process: int) -> int:
    """AMDXDNA_GET_ARRAY HW_CONTEXT_ALL: the address space of a process's last context."""
    room = ctypes.create_string_buffer(96 * 64)
    count = call(fd, 0x4A, "4IQ", 0, 96, 64, 0, ctypes.addressof(room))[2]
    entries = [struct.unpack_from("<16xq68xI", room, 96 * number) for number in range(count)]
    return int([space for owner, space in entries if owner == process][-1])


def of_another(fd: int, opener: int) -> dict[str, int]:
    """In a process of its own: a buffer at PLACE, a heap behind it, a context; what the driver says."""
    seen = map_buffer(fd, create_bo(fd, 1, mmap.PAGESIZE), PLACE, mmap.PAGESIZE)
    map_buffer(fd, create_bo(fd, 2, CHUNK), PLACE + CHUNK, CHUNK)
    create_context(fd)
    return {"address": seen, "pasid": pasid(fd, opener)}


def show(node: str) -> str:
    """Open, put a page at PLACE, and let a child with other memory there make a context."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    map_at(PLACE, mmap.PAGESIZE, -1, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10)
    ctypes.memmove(PLACE, b"of the opener", 13)
    here, there = socket.socketpair()
    child = os.fork()
    if child == 0:
        here.close()
        try:
            answer: object = of_another(fd, os.getppid())
        except OSError as error:
            answer = str(error)
        there.send(json.dumps(answer).encode())
        there.recv(1)  # before 7.0 the end of a process takes the contexts of an inherited node with it
        os._exit(0)
    there.close()
    try:
        return compared(fd, json.loads(here.recv(4096) or b'"nothing"'))
    finally:
        here.close()
        os.waitpid(child, 0)


def compared(fd: int, answer: object) -> str:
    """Make a context of the opener's and hold it against what the child saw of its own."""
    if not isinstance(answer, dict):
        print("the child was answered:", answer)
        return ""
    if answer["pasid"] in NO_PASID:
        raise NotHereError("the device has addresses of its own, not the process's (force_iova)")
    print(f"the child's buffer is at {answer['address']:#x} of address space {answer['pasid']}")
    create_context(fd)
    own = pasid(fd, os.getpid())
    print(f"the opener's context has address space {own}, where {ctypes.string_at(PLACE, 13)!r} lies")
    same = own == answer["pasid"]
    return f"the context of another process has the opener's address space {own}" if same else ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("opens the node, and lets a child with memory of its own make a context on it")
    try:
        found = show(options.node)
    except NotHereError as reason:
        print("not run:", reason)
        return 2
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
