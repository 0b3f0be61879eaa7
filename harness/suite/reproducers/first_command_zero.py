"""The first command of a context has the number 0, which a time line does not have.

A time line's payload is 0 before anything was done, and stays so when the first command is done. Whoever
waits for point 0 waits for whatever is on the time line by then.
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
STATES = {1: "NEW", 4: "COMPLETED", 5: "ERROR", 6: "ABORT", 8: "TIMEOUT"}


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


def create_context(fd: int) -> tuple[int, int]:
    """AMDXDNA_CREATE_HWCTX over one column of four tiles: (handle, sync object)."""
    qos = ctypes.create_string_buffer(struct.pack("<6I", 0, 0, 0, 0, 0, 0x200))
    argument = (0, 0, ctypes.addressof(qos), 0, 0, 2048, 4, 0x10000, 0, 0, 0)
    answer = call(fd, 0x40, "QQQ8I", *argument)
    return answer[9], answer[10]


def configure(fd: int, context: int, unit: int) -> None:
    """AMDXDNA_CONFIG_HWCTX: one compute unit, its code in the heap buffer ``unit``."""
    data = struct.pack("<H6xI4x", 1, unit)
    block = ctypes.create_string_buffer(data, len(data))
    call(fd, 0x42, "IIQII", context, 0, ctypes.addressof(block), len(data), 0)


def command(fd: int) -> tuple[int, mmap.mmap]:
    """A command buffer with START_CU, unit 0 and two words: (handle, memory)."""
    handle = create_bo(fd, 4, mmap.PAGESIZE)
    memory = mmap.mmap(fd, mmap.PAGESIZE, offset=map_offset(fd, handle))
    memory[:16] = struct.pack("<4I", 1 | 3 << 12, 1, 3, 0x44)
    return handle, memory


def execute(fd: int, context: int, handle: int) -> int:
    """AMDXDNA_EXEC_CMD: the sequence number to wait for."""
    return call(fd, 0x46, "QQIIQQIIQ", 0, 0, context, 0, handle, 0, 1, 0, 0)[8]


def payload(fd: int, syncobj: int) -> int:
    """SYNCOBJ_QUERY: the last point of a time line that was reached."""
    handle, point = ctypes.c_uint32(syncobj), ctypes.c_uint64(1 << 63)
    call(fd, 0xCB, "QQII", ctypes.addressof(handle), ctypes.addressof(point), 1, 0)
    return point.value


def state(memory: mmap.mmap) -> str:
    """The state the driver left in a command's header."""
    number = int(struct.unpack("<I", memory[:4])[0]) & 0xF
    return STATES.get(number, str(number))


def show(node: str) -> str:
    """Read the time line before the first command and after it."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    map_heap(fd, create_bo(fd, 2, CHUNK))
    context, syncobj = create_context(fd)
    configure(fd, context, create_bo(fd, 3, mmap.PAGESIZE))
    before = payload(fd, syncobj)
    handle, memory = command(fd)
    number = execute(fd, context, handle)
    until = time.monotonic() + 5
    while state(memory) == "NEW" and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)  # the fence is signalled behind the state
    after = payload(fd, syncobj)
    print(f"payload {before}; command {number} {state(memory)}; payload {after}")
    if state(memory) != "COMPLETED" or after != before:
        return ""
    return f"command {number} is completed and the time line says {after}, as before it was submitted"


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("runs one command and reads the context's time line before and after")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
