"""A doorbell stays mapped after its context is gone, and rings for the next owner.

AIE4 only (7.2 and later). A client maps its context's doorbell and destroys the context; nothing takes the
page away. The next context, of any client, has the same doorbell.
The command in the second client's queue is a test kernel of the virtual NPU; on silicon the first part,
that the page can still be written, says it all.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import mmap
import os
import struct
import sys

ETIME = 62


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


def queue_nothing(fd: int, memory: mmap.mmap) -> None:
    """Put one test kernel that does nothing into the queue, without ringing."""
    handle = create_bo(fd, 1, mmap.PAGESIZE)
    work = mmap.mmap(fd, mmap.PAGESIZE, offset=map_offset(fd, handle))
    base = address(fd, handle)
    work[:16] = struct.pack("<4sHHII", b"XDNW", 1, 0, 0, 0)
    work[0x100:0x104] = struct.pack("<I", 1)
    packet = struct.pack("<HBBHBBQ", 0, 1, 0, 24, 0, 0, base + 0x100)
    packet += struct.pack("<IIIHHII", 0, base & 0xFFFFFFFF, base >> 32, 0, 0, 0, 0)
    memory[0x100:0x140] = packet.ljust(64, b"\0")
    memory[16:24] = struct.pack("<Q", 1)


def ended(fd: int, context: int) -> bool:
    """Whether the first command of a queue has ended within half a second."""
    try:
        wait_command(fd, context, 0, 500)
    except OSError as error:
        if error.errno != ETIME:
            raise
        return False
    return True


def written(page: mmap.mmap) -> bool:
    """Whether a page can be written; asked in a child, as it may be killed for it."""
    child = os.fork()
    if child == 0:
        page[:4] = struct.pack("<I", 1)
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0


def show(node: str) -> str:
    """Keep the doorbell of a destroyed context and ring it under the queue of another client."""
    old = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    context, _memory, doorbell = queue_context(old)
    page = mmap.mmap(old, mmap.PAGESIZE, offset=doorbell)
    destroy_context(old, context)
    if not written(page):
        return ""
    new = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    other, memory, rung = queue_context(new)
    print(f"doorbell of the destroyed context: {doorbell:#x}, of the other client's: {rung:#x}")
    queue_nothing(new, memory)
    if ended(new, other):
        return "the page of a destroyed context can still be written"
    page[:4] = struct.pack("<I", 1)
    ran = ended(new, other)
    if ran:
        return "the doorbell of a destroyed context ran the command of another client"
    return "the page of a destroyed context can still be written"


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("keeps the doorbell page of a context that it destroys")
    try:
        found = show(options.node)
    except NotHereError as reason:
        print("not run:", reason)
        return 2
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
