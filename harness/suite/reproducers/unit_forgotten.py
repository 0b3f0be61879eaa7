"""A client that closed the buffer of its compute unit makes the device unusable for everybody.

After CONFIG_HWCTX the buffer's handle is closed, which looks harmless. When the device wakes up from its
sleep (5 s without work), the driver looks the handle up again, fails, and with it fails the resume: every
call of every client is EINVAL for as long as the first client lives. Each call leaves a context in the
firmware.
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
from pathlib import Path

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


def close_bo(fd: int, handle: int) -> None:
    """DRM_IOCTL_GEM_CLOSE."""
    call(fd, 0x09, "II", handle, 0, direction=1)


def tasks(fd: int) -> int:
    """QUERY_RESOURCE_INFO: how many contexts the driver believes to exist."""
    answer = ctypes.create_string_buffer(40)
    call(fd, 0x47, "IIQ", 12, 40, ctypes.addressof(answer))
    return int(struct.unpack("<5Q", answer.raw)[4])


def asleep(node: str, seconds: float) -> bool:
    """Whether the device goes to sleep within that time."""
    status = Path("/sys/class/accel") / Path(node).name / "device/power/runtime_status"
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if status.read_text().strip() == "suspended":
            return True
        time.sleep(0.2)
    print("the device does not sleep:", status.read_text().strip())
    return False


def asked(fd: int) -> str:
    """How a harmless question of another client ends."""
    try:
        return f"{tasks(fd)} contexts"
    except OSError as error:
        return str(error)


def show(node: str) -> str:
    """Close the unit's buffer, let the device sleep, and ask as another client."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    other = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    map_heap(fd, create_bo(fd, 2, CHUNK))
    context, _syncobj = create_context(fd)
    unit = create_bo(fd, 3, mmap.PAGESIZE)
    configure(fd, context, unit)
    print("before:", asked(other), flush=True)
    close_bo(fd, unit)
    if not asleep(node, 20.0):
        return ""
    answers = [asked(other) for _number in range(3)]
    print("after the sleep:", answers, flush=True)
    if not any("Errno" in answer for answer in answers):
        return ""
    return f"after the sleep another client is answered {answers[0]}"


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("configures a unit, closes its buffer and lets the device sleep")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
