"""CREATE_BO of a device heap on an AIE4 raises a kernel warning each time.

AIE4 has no heap and the driver has no size for one; that the size is no power of two is a WARN_ON, before the
call is refused. Any user of the NPU can do it; with panic_on_warn the machine goes down. Needs 7.2 or later.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import struct
import sys
from collections.abc import Iterator

CHUNK = 64 << 20  # bytes of a heap on other generations


def call(fd: int, number: int, layout: str, *values: int, direction: int = 3) -> tuple[int, ...]:
    """One DRM ioctl; its argument as the kernel left it. OSError with the kernel's errno."""
    data = bytearray(struct.pack("<" + layout, *values))
    fcntl.ioctl(fd, direction << 30 | len(data) << 16 | ord("d") << 8 | number, data)
    return struct.unpack("<" + layout, data)


def create_bo(fd: int, kind: int, size: int, vaddr: int = 0) -> int:
    """AMDXDNA_CREATE_BO: 1 shared memory, 2 heap, 3 in the heap, 4 command. The handle."""
    return call(fd, 0x43, "QQQII", 0, vaddr, size, kind, 0)[4]


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
    """Ask for a heap twice and count the warnings."""
    log = KernelLog()
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    for _number in range(2):
        try:
            create_bo(fd, 2, CHUNK)
        except OSError as error:
            print("refused:", error, flush=True)
    warnings = [line for line in log.lines() if line.startswith("WARNING: ")]
    return f"{len(warnings)} calls, {len(warnings)} times: {warnings[0]}" if warnings else ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("asks for a device heap twice; the kernel may warn")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
