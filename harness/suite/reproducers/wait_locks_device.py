"""A WAIT_CMD for a command that does not end and a DESTROY_HWCTX beside it lock the device for everybody.

AIE4 only (7.2 and later). One thread waits without limit for a command that was never queued, another
destroys the context: it takes the locks of the device and waits for the first. Nobody can open the device
any more until a signal reaches the waiting thread. The program ends its own child, which releases all.
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


def address(fd: int, handle: int) -> int:
    """AMDXDNA_GET_BO_INFO: where the device sees a buffer."""
    return call(fd, 0x44, "QQIIQQQ", 0, 0, handle, 0, 0, 0, 0)[6]


def queue_context(fd: int) -> tuple[int, mmap.mmap, int]:
    """An AIE4 context with an empty queue of 32: (handle, the queue's memory, offset of its doorbell)."""
    handle = create_bo(fd, 1, mmap.PAGESIZE)
    memory = mmap.mmap(fd, mmap.PAGESIZE, offset=map_offset(fd, handle))
    memory[:32] = struct.pack("<QHHIQQ", 0, 1, 0, 32, 0, address(fd, handle) + 0x100)
    qos = ctypes.create_string_buffer(struct.pack("<6I", 0, 0, 0, 0, 0, 0x200))
    try:
        answer = call(fd, 0x40, "QQQ8I", 0, 0, ctypes.addressof(qos), handle, 0, 2048, 4, 0, 0, 0, 0)
    except FileNotFoundError:
        raise NotHereError("the device has no host queues: it is not an AIE4") from None
    return answer[9], memory, answer[8]


def wait_command(fd: int, context: int, number: int, milliseconds: int) -> None:
    """AMDXDNA_WAIT_CMD; 0 ms is for ever. OSError(ETIME) when the command has not ended."""
    call(fd, 0x49, "IIQ", context, milliseconds, number, direction=1)


def destroy_context(fd: int, context: int) -> None:
    """AMDXDNA_DESTROY_HWCTX."""
    call(fd, 0x41, "II", context, 0)


def lock(node: str, ready: int) -> None:
    """In a process of its own: wait in one thread, destroy in the other, say when both were begun."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    try:
        context, _memory, _doorbell = queue_context(fd)
    except NotHereError:
        os.write(ready, b"n")
        os._exit(0)
    waiting = threading.Thread(target=wait_command, args=(fd, context, 0, 0), daemon=True)
    waiting.start()
    time.sleep(0.5)
    threading.Thread(target=destroy_context, args=(fd, context), daemon=True).start()
    time.sleep(0.5)
    os.write(ready, b"y")
    waiting.join()
    os._exit(0)


def show(node: str) -> str:
    """Lock in a child, open the device in a thread here, end the child."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        lock(node, told)
    os.close(told)
    answer = os.read(ready, 1)
    opened = threading.Event()

    def open_it() -> None:
        os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC))
        opened.set()

    if answer == b"y":
        threading.Thread(target=open_it, daemon=True).start()
    locked = answer == b"y" and not opened.wait(8.0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if answer != b"y":
        raise NotHereError("the device has no host queues: it is not an AIE4")
    print("opened after the child was killed:", opened.wait(8.0), flush=True)
    return "the device could not be opened for 8 s, until the waiting process was killed" if locked else ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("waits in one thread, destroys the context in another, and opens the device from a second process")
    try:
        found = show(options.node)
    except NotHereError as reason:
        print("not run:", reason)
        return 2
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
