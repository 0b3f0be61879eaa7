"""A debug buffer asked for behind a hung command locks opening and closing the device for everybody.

CONFIG_HWCTX waits for its turn without limit, in a sleep that no signal ends, with the lock that every open,
every close and every DESTROY_HWCTX takes. While another client computes the hang is not noticed. Needs a
device on which a command hangs, and what is asked behind it: in the virtual NPU ``--fault hung-command
--fault drop:message=CONFIG_DEBUG_BO``.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import mmap
import os
import struct
import sys
import threading
import time
from collections.abc import Callable

CHUNK = 64 << 20  # bytes of a heap chunk
STATES = {1: "NEW", 4: "COMPLETED", 5: "ERROR", 6: "ABORT", 8: "TIMEOUT"}
WATCH = 6.0  # seconds; the limit of a command is 2


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


def debug_buffer(fd: int, context: int, parameter: int, handle: int) -> None:
    """AMDXDNA_CONFIG_HWCTX: 1 makes a heap buffer the context's debug buffer, 2 ends that."""
    call(fd, 0x42, "IIQII", context, parameter, handle, 0, 0)


def command(fd: int) -> tuple[int, mmap.mmap]:
    """A command buffer with START_CU, unit 0 and two words: (handle, memory)."""
    handle = create_bo(fd, 4, mmap.PAGESIZE)
    memory = mmap.mmap(fd, mmap.PAGESIZE, offset=map_offset(fd, handle))
    memory[:16] = struct.pack("<4I", 1 | 3 << 12, 1, 3, 0x44)
    return handle, memory


def execute(fd: int, context: int, handle: int) -> int:
    """AMDXDNA_EXEC_CMD: the sequence number to wait for."""
    return call(fd, 0x46, "QQIIQQIIQ", 0, 0, context, 0, handle, 0, 1, 0, 0)[8]


def state(memory: mmap.mmap) -> str:
    """The state the driver left in a command's header."""
    number = int(struct.unpack("<I", memory[:4])[0]) & 0xF
    return STATES.get(number, str(number))


def client(node: str) -> tuple[int, int, int]:
    """A client with a heap and a context with one unit: (node, context, the unit's buffer)."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    map_heap(fd, create_bo(fd, 2, CHUNK))
    context, _syncobj = create_context(fd)
    unit = create_bo(fd, 3, mmap.PAGESIZE)
    configure(fd, context, unit)
    return fd, context, unit


def show(node: str) -> str:
    """Ask for a debug buffer behind a hung command while another client computes, and open the device."""
    first, hanging, buffer = client(node)
    second, working, _unit = client(node)
    handle, memory = command(first)
    execute(first, hanging, handle)
    time.sleep(0.3)
    if state(memory) != "NEW":
        print("state", state(memory), ": nothing hangs here")
        return ""
    other, its_memory = command(second)
    opened = threading.Event()

    def ask() -> None:
        with contextlib.suppress(OSError):
            debug_buffer(first, hanging, 1, buffer)

    def visit() -> None:
        os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC))
        opened.set()

    threading.Thread(target=ask, daemon=True).start()
    time.sleep(0.2)
    begin, done = time.monotonic(), 0
    threading.Thread(target=visit, daemon=True).start()
    while not opened.is_set() and time.monotonic() < begin + WATCH:
        execute(second, working, other)
        opened.wait(0.25)
        done += state(its_memory) == "COMPLETED"
    spent, locked = time.monotonic() - begin, not opened.is_set()
    print(f"{spent:.1f} s, opened: {not locked}, {done} commands of the other client", flush=True)
    opened.wait(8)  # without the other client's commands the hang is noticed
    print(f"opened {time.monotonic() - begin - spent:.1f} s after the other client's last command")
    return f"nobody could open the device for {spent:.0f} s while another client computed" if locked else ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("asks for a debug buffer behind a command that is expected to hang, with another client computing")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
