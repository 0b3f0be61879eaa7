"""One answer of the firmware that comes late, and the device serves nobody as long as anybody asks.

A management message is not answered within 5 s. The driver gives the management channel up, and every call
that needs the firmware is answered ENODEV from then on, for every client. Nothing but sleep brings the
channel back, and each refused call puts the sleep off by 5 s.
Needs a firmware that is late once: on the virtual NPU --fault late:message=GET_TELEMETRY,nth=1,ms=6000.
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
TELEMETRY = 10  # GET_INFO; its answer is 6 KiB at most here
ASKING = 8  # seconds, longer than the 5 s after which an idle device sleeps
SILENCE = 9  # seconds, enough for it to fall asleep


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


def destroy_context(fd: int, context: int) -> None:
    """AMDXDNA_DESTROY_HWCTX."""
    call(fd, 0x41, "II", context, 0)


def asked(fd: int) -> str:
    """How the wish for a context ends; one that is granted is given back."""
    try:
        destroy_context(fd, create_context(fd)[0])
    except OSError as error:
        return str(error)
    return "granted"


def show(node: str) -> str:
    """Ask for telemetry as one client, for contexts as another, then nobody, then again."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    other = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    map_heap(other, create_bo(other, 2, CHUNK))
    answer = ctypes.create_string_buffer(6144)
    began = time.monotonic()
    try:
        call(fd, 0x47, "IIQ", TELEMETRY, len(answer), ctypes.addressof(answer))
    except OSError as error:
        print(f"telemetry: {error} after {time.monotonic() - began:.1f} s", flush=True)
    if time.monotonic() - began < 4.0:
        print("the firmware answered in time: nothing to see here", flush=True)
        return ""
    answers = []
    for _second in range(ASKING):
        answers.append(asked(other))
        time.sleep(1.0)
    print("another client asked for a context:", answers, flush=True)
    if "granted" in answers:
        return ""
    time.sleep(SILENCE)
    print(f"after {SILENCE} s of silence:", asked(other), flush=True)
    return f"for {ASKING} s another client was answered {answers[-1]}"


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("asks for telemetry, which a late firmware does not answer, and for contexts as another client")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
