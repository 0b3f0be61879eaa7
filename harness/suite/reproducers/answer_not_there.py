"""A query whose answer goes to a page that is not there yet keeps the device from everybody.

GET_INFO writes its answer to the caller's memory with the lock of the device held. A page that somebody
has to bring first (userfaultfd here; a file on FUSE or on a dead network server does the same) makes it
wait there, and nobody can open the device, make a context or ask anything until the page comes.
The program may answer for its own pages as root, or with vm.unprivileged_userfaultfd=1.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import mmap
import os
import platform
import struct
import sys
import threading

USERFAULTFD = {"x86_64": 323}.get(platform.machine(), 282)  # the generic table has 282
API, REGISTER, ZEROPAGE = 0xC018AA3F, 0xC020AA00, 0xC020AA04  # linux/userfaultfd.h
MISSING = 1  # UFFDIO_REGISTER_MODE_MISSING
AIE_METADATA = 1  # a GET_INFO that asks no firmware: the driver has kept the answer since probe


class NotHereError(Exception):
    """The device or the kernel cannot show this; the text says why."""


def call(fd: int, number: int, layout: str, *values: int, direction: int = 3) -> tuple[int, ...]:
    """One DRM ioctl; its argument as the kernel left it. OSError with the kernel's errno."""
    data = bytearray(struct.pack("<" + layout, *values))
    fcntl.ioctl(fd, direction << 30 | len(data) << 16 | ord("d") << 8 | number, data)
    return struct.unpack("<" + layout, data)


class AbsentPage:
    """A page of memory that is not there: whoever touches it waits until ``bring()``."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.syscall(USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise NotHereError("no userfaultfd for faults of the kernel: " + os.strerror(ctypes.get_errno()))
        fcntl.ioctl(self._fd, API, bytearray(struct.pack("<QQQ", 0xAA, 0, 0)))
        self._memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        wish = struct.pack("<QQQQ", self.address, mmap.PAGESIZE, MISSING, 0)
        fcntl.ioctl(self._fd, REGISTER, bytearray(wish))

    def bring(self) -> None:
        """Let a page of zeros be there, and those who wait go on."""
        wish = struct.pack("<QQQQ", self.address, mmap.PAGESIZE, 0, 0)
        fcntl.ioctl(self._fd, ZEROPAGE, bytearray(wish))


def show(node: str) -> str:
    """Ask in one thread with the page absent, open the device in another, then bring the page."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    page = AbsentPage()
    answered, opened = threading.Event(), threading.Event()

    def ask() -> None:
        call(fd, 0x47, "IIQ", AIE_METADATA, 16, page.address)
        answered.set()

    def open_it() -> None:
        os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC))
        opened.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    early = answered.wait(1.0)
    threading.Thread(target=open_it, daemon=True).start()
    locked = not opened.wait(8.0)
    page.bring()
    print("answered before the page was there:", early)
    print("answered, opened after it was brought:", answered.wait(8.0), opened.wait(8.0), flush=True)
    return "the device could not be opened for 8 s, until the page was brought" if locked else ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("asks for the array's measures with a page that is not there, and opens the device meanwhile")
    try:
        found = show(options.node)
    except NotHereError as reason:
        print("not run:", reason)
        return 2
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
