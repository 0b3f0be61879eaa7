"""An array error reported while the firmware falls silent dereferences a null pointer in the driver.

The worker that handles the report waits for the lock of a call that gets no answer. When that call gives
up it takes the channel down, and the worker sends through what is no longer there, with the lock held. Needs
both at once: in the virtual NPU ``--fault drop:message=QUERY_COL_STATUS,nth=1 --fault
async-error:message=QUERY_COL_STATUS,nth=1``.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import struct
import sys
import threading


def call(fd: int, number: int, layout: str, *values: int, direction: int = 3) -> tuple[int, ...]:
    """One DRM ioctl; its argument as the kernel left it. OSError with the kernel's errno."""
    data = bytearray(struct.pack("<" + layout, *values))
    fcntl.ioctl(fd, direction << 30 | len(data) << 16 | ord("d") << 8 | number, data)
    return struct.unpack("<" + layout, data)


def status(fd: int) -> str:
    """QUERY_AIE_STATUS: "ok" or what was refused."""
    data = ctypes.create_string_buffer(4096)
    query = ctypes.create_string_buffer(struct.pack("<QII", ctypes.addressof(data), len(data), 0))
    try:
        call(fd, 0x47, "IIQ", 0, 16, ctypes.addressof(query))
    except OSError as error:
        return str(error)
    return "ok"


def show(node: str) -> str:
    """Ask for the array's state, and when that fails see whether the device answers anybody."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    first = status(fd)
    print("asked:", first, flush=True)
    if first == "ok":
        return ""
    answered = threading.Event()

    def ask() -> None:
        print("asked again:", status(fd), flush=True)
        answered.set()

    threading.Thread(target=ask, daemon=True).start()
    if answered.wait(8):
        return ""
    return "the worker of array errors has died with the lock, and the device answers nobody"


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    parser.add_argument("--yes", action="store_true", help="do it although it may take the kernel down")
    options = parser.parse_args()
    print("asks for the array's state; where the firmware falls silent then, the device may be lost")
    if not options.yes:
        print("not done: this can make the machine unusable; add --yes on one you can reset")
        return 2
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
