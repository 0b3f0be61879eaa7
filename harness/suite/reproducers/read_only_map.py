"""Mapping a buffer for reading only raises a kernel warning.

Any user of the NPU can do it; with panic_on_warn it takes the machine down.
The warning is raised once a boot; writing 1 to /sys/kernel/debug/clear_warn_once arms it again.
"""

from __future__ import annotations

import argparse
import fcntl
import mmap
import os
import struct
import sys


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


class KernelLog:
    """The kernel's messages from now on; none when they may not be read."""

    def __init__(self) -> None:
        try:
            self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(self.fd, 0, os.SEEK_END)
        except OSError:
            self.fd = -1
            print("the kernel log cannot be read (not root): look for a WARNING with dmesg yourself")

    def warning(self) -> str:
        """The first warning since the start, or nothing."""
        while self.fd >= 0:
            try:
                text = os.read(self.fd, 8192).split(b";", 1)[-1].split(b"\n")[0].decode("utf-8", "replace")
            except BlockingIOError:
                break
            if "WARNING: " in text or "BUG: " in text:
                return text
        return ""


def show(node: str) -> str:
    """Map one page PROT_READ and look at the kernel log."""
    log = KernelLog()
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    handle = create_bo(fd, 1, mmap.PAGESIZE)
    with mmap.mmap(fd, mmap.PAGESIZE, prot=mmap.PROT_READ, offset=map_offset(fd, handle)) as memory:
        print("mapped, first byte", memory[0])
    return log.warning()


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("makes a buffer of one page and maps it for reading only; the kernel may print one warning")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
