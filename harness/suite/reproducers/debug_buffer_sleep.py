"""A context's debug buffer is forgotten when the device sleeps.

The device falls asleep after 5 s without work, and its firmware's contexts with it. The driver makes them
anew, with heap and compute units but without the debug buffer, and goes on believing that they have it.
Needs root, for the driver's tracepoint of mailbox messages.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import mmap
import os
import re
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CHUNK = 64 << 20  # bytes of a heap chunk
CREATE_CONTEXT, CONFIG_DEBUG_BO = 0x2, 0x14  # opcodes of the firmware's messages (aie2_msg_priv.h)
TRACING = Path("/sys/kernel/tracing")


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


def debug_buffer(fd: int, context: int, parameter: int, handle: int) -> None:
    """AMDXDNA_CONFIG_HWCTX: 1 makes a heap buffer the context's debug buffer, 2 ends that."""
    call(fd, 0x42, "IIQII", context, parameter, handle, 0, 0)


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


@contextlib.contextmanager
def messages() -> Iterator[Callable[[], list[int]]]:
    """The opcodes of the messages that the driver sends while the block runs."""
    if not (TRACING / "events").is_dir():
        ctypes.CDLL(None).mount(b"tracefs", str(TRACING).encode(), b"tracefs", ctypes.c_ulong(0), None)
    switch = TRACING / "events/amdxdna/mbox_set_tail/enable"
    try:
        (TRACING / "trace").write_text("", "ascii")
        switch.write_text("1", "ascii")
    except OSError as error:
        raise NotHereError(f"the driver's messages cannot be traced: {error}") from None
    try:
        yield lambda: [
            int(word, 16)
            for word in re.findall(
                r"mbox_set_tail: .*opcode 0x([0-9a-f]+)", (TRACING / "trace").read_text("ascii")
            )
        ]
    finally:
        switch.write_text("0", "ascii")


def show(node: str) -> str:
    """Give a context a debug buffer, let the device sleep, wake it and see what is sent."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    map_heap(fd, create_bo(fd, 2, CHUNK))
    context, _syncobj = create_context(fd)
    buffer = create_bo(fd, 3, mmap.PAGESIZE)
    with messages() as sent:
        debug_buffer(fd, context, 1, buffer)
        if CONFIG_DEBUG_BO not in sent():
            print("no message for the debug buffer was seen: the tracepoint tells nothing here", flush=True)
            return ""
    if not asleep(node, 20.0):
        return ""
    with messages() as sent:
        print("after the sleep:", tasks(fd), "context")
        seen = sent()
    print("sent at the wake:", " ".join(f"{opcode:#x}" for opcode in seen), flush=True)
    if CREATE_CONTEXT not in seen or CONFIG_DEBUG_BO in seen:
        return ""
    try:
        debug_buffer(fd, context, 1, buffer)
        again = "can be given again"
    except OSError as error:
        again = f"cannot be given again: {error}"
    return f"the context was made anew without its debug buffer, which {again}"


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("gives a context a debug buffer, lets the device sleep and looks at the messages of its wake")
    try:
        found = show(options.node)
    except NotHereError as reason:
        print("not run:", reason)
        return 2
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
