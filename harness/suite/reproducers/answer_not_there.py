"""A query whose answer goes to a page that is not there yet keeps the device from everybody.

GET_INFO writes its answer to the caller's memory with the lock of the device held. A page that somebody
has to bring first makes it wait there, and nobody can open the device, make a context or ask anything until
the page comes. Any user of the NPU can keep a page back: root with userfaultfd, anybody else with a file
system of their own (FUSE in a user namespace). The program tries the one and then the other.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import fcntl
import mmap
import os
import platform
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

USERFAULTFD = {"x86_64": 323}.get(platform.machine(), 282)  # the generic table has 282
API, REGISTER, ZEROPAGE = 0xC018AA3F, 0xC020AA00, 0xC020AA04  # linux/userfaultfd.h
MISSING = 1  # UFFDIO_REGISTER_MODE_MISSING
FUSE_LOOKUP, FUSE_GETATTR, FUSE_OPEN, FUSE_READ, FUSE_INIT = 1, 3, 14, 15, 26  # linux/fuse.h
FUSE_SILENT, FUSE_GRANTED = (2, 42), (18, 25)  # FORGET, BATCH_FORGET; RELEASE, FLUSH
AIE_METADATA = 1  # a GET_INFO that asks no firmware: the driver has kept the answer since probe


class NotHereError(Exception):
    """The device or the kernel cannot show this; the text says why."""


def call(fd: int, number: int, layout: str, *values: int, direction: int = 3) -> tuple[int, ...]:
    """One DRM ioctl; its argument as the kernel left it. OSError with the kernel's errno."""
    data = bytearray(struct.pack("<" + layout, *values))
    fcntl.ioctl(fd, direction << 30 | len(data) << 16 | ord("d") << 8 | number, data)
    return struct.unpack("<" + layout, data)


class AbsentPage:
    """A page of memory that is not there: whoever touches it waits until ``bring()``. For root."""

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


class OwnFilePage:
    """A page of the only file of a file system that this process serves. For anybody with user namespaces."""

    def __init__(self) -> None:
        try:
            own_namespaces()
            self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
            folder = tempfile.mkdtemp()
            mount_fuse(folder, self._fd)
        except OSError as error:
            raise NotHereError(f"no file system of one's own: {error}") from None
        self._held: list[int] = []
        self._brought = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()
        file = os.open(folder + "/file", os.O_RDWR | os.O_CLOEXEC)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
        both = mmap.PROT_READ | mmap.PROT_WRITE
        self.address = int(libc.mmap(None, mmap.PAGESIZE, both, mmap.MAP_PRIVATE, file, 0))
        os.close(file)  # now, while somebody answers: at the end of the process nobody does

    def _serve(self) -> None:
        """Answer what the kernel asks of the file system, but hold back what the file contains."""
        while True:
            message = os.read(self._fd, 1 << 20)
            _size, opcode, unique, inode = struct.unpack_from("<IIQQ", message)
            if opcode == FUSE_READ and not self._brought.is_set():
                self._held.append(unique)
            elif opcode == FUSE_READ:
                self._answer(unique, bytes(mmap.PAGESIZE))
            elif opcode in FUSE_SILENT:
                continue
            elif opcode == FUSE_INIT:
                self._answer(unique, struct.pack("<4I2H2I2H2I24x", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0, 0))
            elif opcode == FUSE_LOOKUP:
                self._answer(unique, struct.pack("<4Q2I", 2, 0, 60, 60, 0, 0) + attributes(2))
            elif opcode == FUSE_GETATTR:
                self._answer(unique, struct.pack("<QII", 60, 0, 0) + attributes(inode))
            elif opcode == FUSE_OPEN:
                self._answer(unique, struct.pack("<QIi", 1, 0, 0))
            else:
                self._answer(unique, b"", 0 if opcode in FUSE_GRANTED else -errno.ENOSYS)

    def _answer(self, unique: int, data: bytes, error: int = 0) -> None:
        os.write(self._fd, struct.pack("<IiQ", 16 + len(data), error, unique) + data)

    def bring(self) -> None:
        """Answer the reads that were held back."""
        self._brought.set()
        for unique in self._held:
            self._answer(unique, bytes(mmap.PAGESIZE))


def attributes(inode: int) -> bytes:
    """struct fuse_attr: inode 1 is the folder, 2 a file of one page."""
    mode, size = (0o40755, 0) if inode == 1 else (0o100666, mmap.PAGESIZE)
    return struct.pack("<6Q10I", inode, size, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def own_namespaces() -> None:
    """Become root of a user namespace with mounts of its own. OSError where that is not allowed."""
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x1000_0000 | 0x2_0000):  # CLONE_NEWUSER, CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "no user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path("/proc/self", name).write_text(text, "ascii")


def mount_fuse(folder: str, fd: int) -> None:
    """Mount what is served at ``fd``, without devices and set-user-id programs."""
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"own", folder.encode(), b"fuse", ctypes.c_ulong(2 | 4), options.encode()):
        raise OSError(ctypes.get_errno(), "FUSE could not be mounted")


def absent_page() -> AbsentPage | OwnFilePage:
    """The page to be waited for. NotHereError where this process can keep none back."""
    try:
        return AbsentPage()
    except NotHereError as reason:
        print(reason, flush=True)
        return OwnFilePage()


def open_once(node: str) -> float:
    """Seconds that it takes to open and close the device."""
    began = time.monotonic()
    os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC))
    return time.monotonic() - began


def show(node: str, patience: float = 1.0) -> str:
    """Ask in one thread with the page absent, open the device in another, then bring the page.

    ``patience``: seconds in which the device must be open; longer where opening it takes long anyway.
    """
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    patience = max(patience, 30 * max(open_once(node) for _ in range(3)))
    page = absent_page()
    answered, opened = threading.Event(), threading.Event()

    def ask() -> None:
        call(fd, 0x47, "IIQ", AIE_METADATA, 16, page.address)
        answered.set()

    def open_it() -> None:
        open_once(node)
        opened.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    early = answered.wait(patience / 4)
    threading.Thread(target=open_it, daemon=True).start()
    locked = not opened.wait(patience)
    page.bring()
    print("answered before the page was there:", early)
    print("answered, opened after it was brought:", answered.wait(8.0), opened.wait(8.0), flush=True)
    words = f"the device could not be opened for {patience:.1f} s, until the page was brought"
    return words if locked else ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("asks for the array's measures with a page that is not there, and opens the device meanwhile")
    try:
        found = show(options.node, 8.0)
    except NotHereError as reason:
        print("not run:", reason)
        return 2
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
