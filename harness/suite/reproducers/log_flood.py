"""Each wrong call of a user is an error in the kernel's log.

A query that does not exist is refused, and the driver writes an error for everybody who reads the log,
without any limit on how many. Needs the right to read /dev/kmsg.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import struct
import sys
import time

CALLS = 100


def call(fd: int, number: int, layout: str, *values: int, direction: int = 3) -> tuple[int, ...]:
    """One DRM ioctl; its argument as the kernel left it. OSError with the kernel's errno."""
    data = bytearray(struct.pack("<" + layout, *values))
    fcntl.ioctl(fd, direction << 30 | len(data) << 16 | ord("d") << 8 | number, data)
    return struct.unpack("<" + layout, data)


def errors(fd: int) -> int:
    """How many lines the driver has written since the last time."""
    count = 0
    while True:
        try:
            count += b"amdxdna" in os.read(fd, 8192)
        except BlockingIOError:
            return count
        except BrokenPipeError:  # the log ran over
            continue


def show(node: str) -> str:
    """Make a hundred wrong calls and count the lines."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.lseek(log, 0, os.SEEK_END)
    answer = ctypes.create_string_buffer(8)
    begin = time.monotonic()
    for _number in range(CALLS):
        with contextlib.suppress(OSError):
            call(fd, 0x47, "IIQ", 999, 8, ctypes.addressof(answer))
    spent = time.monotonic() - begin
    lines = errors(log)
    print(f"{CALLS} calls in {spent:.2f} s, {lines} lines in the log")
    return f"{lines} lines in the kernel log for {CALLS} wrong calls" if lines > CALLS / 2 else ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("makes a hundred queries of a parameter that does not exist")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
