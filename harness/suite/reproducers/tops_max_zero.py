"""npu_tops_max is 0 from the driver's probe until the first change of the power level.

GET_INFO QUERY_RESOURCE_INFO, before anything else was done with the device.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import struct
import sys


def call(fd: int, number: int, layout: str, *values: int, direction: int = 3) -> tuple[int, ...]:
    """One DRM ioctl; its argument as the kernel left it. OSError with the kernel's errno."""
    data = bytearray(struct.pack("<" + layout, *values))
    fcntl.ioctl(fd, direction << 30 | len(data) << 16 | ord("d") << 8 | number, data)
    return struct.unpack("<" + layout, data)


def show(node: str) -> str:
    """Read the resources of a device that was just probed."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    answer = ctypes.create_string_buffer(40)
    call(fd, 0x47, "IIQ", 12, 40, ctypes.addressof(answer))
    clock, most, tasks, now, running = struct.unpack("<5Q", answer.raw)
    print(f"npu_clk_max {clock}, npu_tops_max {most}, npu_tops_curr {now}, tasks {running} of {tasks}")
    return "" if most else "the most tops the NPU can do are 0"


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("reads the resource information; run it right after the driver was loaded")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
