"""A SYNC_BO whose buffer is exchanged meanwhile has the firmware write where no debug buffer is.

The buffer is looked up by its handle once to see that it is a debug buffer, and once more for the firmware.
Between the two the call waits for the device's locks, and the handle can be another buffer's by then, which
does not lie in the heap. Needs root, to see what the driver sends.
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
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CHUNK = 64 << 20  # bytes of a heap chunk
ROUNDS = 60
SYNC_BO = 7  # opcode (aie2_msg_priv.h)
TRACING = Path("/sys/kernel/tracing")
PROBE = (
    "p:xdnawatch/sent amdxdna:xdna_mailbox_send_msg "
    "opcode=+0(%si):u32 source=+0(+24(%si)):x64 place=+8(+24(%si)):x64"
)


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


def device_address(fd: int, handle: int) -> int:
    """AMDXDNA_GET_BO_INFO: where the device finds a buffer."""
    return call(fd, 0x44, "QQIIQQQ", 0, 0, handle, 0, 0, 0, 0)[6]


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


def destroy_context(fd: int, context: int) -> None:
    """AMDXDNA_DESTROY_HWCTX."""
    call(fd, 0x41, "II", context, 0)


def debug_buffer(fd: int, context: int, parameter: int, handle: int) -> None:
    """AMDXDNA_CONFIG_HWCTX: 1 makes a heap buffer the context's debug buffer, 2 ends that."""
    call(fd, 0x42, "IIQII", context, parameter, handle, 0, 0)


def add_probe(text: str) -> None:
    """A line for the kernel's list of probes; others' probes stay."""
    probes = os.open(TRACING / "kprobe_events", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(probes, text.encode() + bytes([10]))
    finally:
        os.close(probes)


@contextlib.contextmanager
def places() -> Iterator[Callable[[], set[int]]]:
    """Where in the heap the firmware was told to put a debug buffer's contents while the block runs."""
    if not (TRACING / "events").is_dir():
        ctypes.CDLL(None).mount(b"tracefs", str(TRACING).encode(), b"tracefs", ctypes.c_ulong(0), None)
    enable = TRACING / "events/xdnawatch/sent/enable"
    try:
        add_probe(PROBE)
        (TRACING / "trace").write_text("", "ascii")
        enable.write_text("1", "ascii")
    except OSError as error:
        raise NotHereError(f"what the driver sends cannot be traced: {error}") from None
    try:
        yield lambda: {
            int(place, 16)
            for opcode, place in re.findall(
                r"opcode=(\d+) source=0x[0-9a-f]+ place=0x([0-9a-f]+)", (TRACING / "trace").read_text("ascii")
            )
            if int(opcode) == SYNC_BO
        }
    finally:
        enable.write_text("0", "ascii")
        add_probe("-:xdnawatch/sent")


def fetch(fd: int, handle: int) -> None:
    """SYNC_BO from the device: the contents of a debug buffer."""
    with contextlib.suppress(OSError):
        call(fd, 0x45, "IIQQ", handle, 1, 0, mmap.PAGESIZE)


def keep_busy(node: str, done: threading.Event) -> None:
    """Another client that makes and destroys contexts: the device's locks are taken most of the time."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    map_heap(fd, create_bo(fd, 2, CHUNK))
    while not done.is_set():
        destroy_context(fd, create_context(fd)[0])


def attempt(node: str) -> str:
    """Exchange a debug buffer for another one while its contents are fetched, again and again."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    map_heap(fd, create_bo(fd, 2, CHUNK))
    done, wrong = threading.Event(), set[int]()
    busy = threading.Thread(target=keep_busy, args=(node, done), daemon=True)
    busy.start()
    with places() as told:
        for number in range(ROUNDS):
            context, _syncobj = create_context(fd)
            handle = create_bo(fd, 3, mmap.PAGESIZE)
            debug_buffer(fd, context, 1, handle)
            caller = threading.Thread(target=fetch, args=(fd, handle))
            caller.start()
            time.sleep(number % 6 / 1000)
            close_bo(fd, handle)
            other = create_bo(fd, 1, mmap.PAGESIZE)
            caller.join()
            close_bo(fd, other)
            destroy_context(fd, context)
            wrong = {place for place in told() if place >= CHUNK}
            if wrong:
                break
    done.set()
    busy.join()
    print(f"{number + 1} rounds, places beyond the heap: {', '.join(map(hex, wrong)) or 'none'}", flush=True)
    if not wrong:
        return ""
    return f"the firmware was told to write at {wrong.pop():#x} of a heap of {CHUNK:#x} bytes"


def show(node: str) -> str:
    """The attempt; where it cannot be made there is nothing to complain of."""
    try:
        return attempt(node)
    except NotHereError as reason:
        print("not run:", reason)
        return ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("closes a debug buffer while its contents are fetched, in several tries")
    try:
        found = attempt(options.node)
    except NotHereError as reason:
        print("not run:", reason)
        return 2
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
