"""A queue whose read index is not below its write index makes WAIT_CMD fill the kernel log without end.

AIE4 only (7.2 and later). Both indices lie in memory of the process. While they do not fit, the wait does not
sleep: it says so twice, looks again, and so on for as long as the caller wants to wait.
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
from collections.abc import Iterator


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


class KernelLog:
    """The kernel's messages from now on; none when they may not be read."""

    def __init__(self) -> None:
        try:
            self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(self.fd, 0, os.SEEK_END)
        except OSError:
            self.fd = -1
            print("the kernel log cannot be read (not root): look with dmesg yourself")

    def lines(self) -> Iterator[str]:
        """What was said since the last look."""
        while self.fd >= 0:
            try:
                text = os.read(self.fd, 8192)
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue  # messages were overwritten before they were read
            yield text.split(b";", 1)[-1].split(b"\n")[0].decode("utf-8", "replace")


def show(node: str) -> str:
    """Wait one second with a read index of 100 and a write index of 0, and count what the kernel says."""
    log = KernelLog()
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    context, memory, _doorbell = queue_context(fd)
    memory[:8] = struct.pack("<Q", 100)
    busy = time.thread_time()
    try:
        wait_command(fd, context, 0, 1000)
    except OSError as error:
        print("ended:", error)
    busy = time.thread_time() - busy
    memory[:8] = struct.pack("<Q", 0)
    said = sum("Invalid index" in line for line in log.lines())
    print(f"{said} messages are still in the log, {busy:.2f} s of processor time", flush=True)
    return f"at least {said} messages in the kernel log in one second of waiting" if said > 20 else ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("waits one second on a queue with impossible indices; the kernel log may be flooded")
    try:
        found = show(options.node)
    except NotHereError as reason:
        print("not run:", reason)
        return 2
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
