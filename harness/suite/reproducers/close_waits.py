"""Closing a buffer waits for another client's command.

Who takes memory away from the device waits until the commands on it are done. Meanwhile a worker that all
clients share waits for him, and everybody who closes a buffer waits for that worker, in a sleep that no
signal ends. Needs a device that uses the process's addresses (SVA) and on which the first command hangs: in
the virtual NPU ``--fault hung-command`` and a kernel before 7.1.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import mmap
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

CHUNK = 64 << 20  # bytes of a heap chunk
STATES = {1: "NEW", 4: "COMPLETED", 5: "ERROR", 6: "ABORT", 8: "TIMEOUT"}
PATIENCE = 4.0  # seconds
FORCE_IOVA = Path("/sys/module/amdxdna/parameters/force_iova")


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


def execute(fd: int, context: int, handle: int, *buffers: int) -> None:
    """AMDXDNA_EXEC_CMD of a command that works on these buffers."""
    words = (ctypes.c_uint32 * max(1, len(buffers)))(*buffers)
    arguments = (handle, ctypes.addressof(words), 1, len(buffers), 0)
    call(fd, 0x46, "QQIIQQIIQ", 0, 0, context, 0, *arguments)


def state(memory: mmap.mmap) -> str:
    """The state the driver left in a command's header."""
    number = int(struct.unpack("<I", memory[:4])[0]) & 0xF
    return STATES.get(number, str(number))


def client(node: str) -> tuple[int, int]:
    """A client with a heap and a context with one unit: (node, context)."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    map_heap(fd, create_bo(fd, 2, CHUNK))
    context, _syncobj = create_context(fd)
    configure(fd, context, create_bo(fd, 3, mmap.PAGESIZE))
    return fd, context


def map_pair(fd: int, first: int, second: int) -> Callable[[], int]:
    """Map two buffers of a page side by side. The way to unmap both at once."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    size, access = mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE
    place = int(libc.mmap(None, 2 * size, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0))
    for at, handle in ((place, first), (place + size, second)):
        if libc.mmap(at, size, access, mmap.MAP_SHARED | 0x10, fd, map_offset(fd, handle)) != at:
            raise OSError(ctypes.get_errno(), "a buffer could not be mapped")
    return lambda: int(libc.munmap(ctypes.c_void_p(place), ctypes.c_size_t(2 * size)))


def hang_and_unmap(node: str, answer: int) -> None:
    """Let a command hang on a buffer, say whether it does, and unmap the buffer with another one."""
    fd, context = client(node)
    other, used = create_bo(fd, 1, mmap.PAGESIZE), create_bo(fd, 1, mmap.PAGESIZE)
    unmap = map_pair(fd, other, used)
    handle, memory = command(fd)
    execute(fd, context, handle, used)
    time.sleep(0.3)
    os.write(answer, state(memory).encode())
    unmap()


def compute(node: str, seconds: float) -> None:
    """Another client at work, so that the hang is not noticed."""
    fd, context = client(node)
    handle, _memory = command(fd)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        execute(fd, context, handle)
        time.sleep(0.25)


def child(work: Callable[[], None]) -> int:
    """Do it in a process of its own: its id."""
    number = os.fork()
    if not number:
        try:
            work()
        finally:
            os._exit(0)
    return number


def show(node: str) -> str:
    """Let one process unmap what its hung command works on, and close a buffer of another client."""
    if FORCE_IOVA.exists() and FORCE_IOVA.read_text("ascii").strip() == "Y":
        print("the device has addresses of its own: amdxdna.force_iova is on")
        return ""
    reader, writer = os.pipe()
    hanging = child(lambda: hang_and_unmap(node, writer))
    os.close(writer)
    first = os.read(reader, 16).decode()
    if first != "NEW":
        print("state", first, ": nothing hangs here")
        os.waitpid(hanging, 0)
        return ""
    working = child(lambda: compute(node, PATIENCE + 2))
    time.sleep(0.5)
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    buffer = create_bo(fd, 1, mmap.PAGESIZE)
    closed = threading.Event()

    def close() -> None:
        close_bo(fd, buffer)
        closed.set()

    threading.Thread(target=close, daemon=True).start()
    waits = not closed.wait(PATIENCE)
    os.kill(hanging, signal.SIGKILL)  # its wait can be ended so; that of who closes cannot
    freed = closed.wait(10)
    print(f"closed at once: {not waits}; after the stranger was killed: {freed}", flush=True)
    for number in (working, hanging):
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
    return f"a buffer could not be closed for {PATIENCE:.0f} s, until a stranger was killed" if waits else ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("closes a buffer while another process unmaps memory that its hung command works on")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
