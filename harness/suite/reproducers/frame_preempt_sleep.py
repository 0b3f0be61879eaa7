"""Frame boundary preemption is forgotten when the device sleeps.

It is switched on, the device falls asleep and wakes, and its firmware is set up anew without it, while the
query goes on to say that it is on. Needs root, to switch it and to see what the driver sends.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import re
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FRAME_BOUNDARY = 14  # type of a runtime configuration (npu4_regs.c)
TRACING = Path("/sys/kernel/tracing")
PROBE = "p:xdnawatch/runtime amdxdna:aie2_set_runtime_cfg type=%si:u32 value=%dx:u64"


class NotHereError(Exception):
    """The device or the kernel cannot show this; the text says why."""


def call(fd: int, number: int, layout: str, *values: int, direction: int = 3) -> tuple[int, ...]:
    """One DRM ioctl; its argument as the kernel left it. OSError with the kernel's errno."""
    data = bytearray(struct.pack("<" + layout, *values))
    fcntl.ioctl(fd, direction << 30 | len(data) << 16 | ord("d") << 8 | number, data)
    return struct.unpack("<" + layout, data)


def switch(fd: int, on: int) -> None:
    """SET_STATE: frame boundary preemption. OSError(EOPNOTSUPP) where the driver has none."""
    value = ctypes.create_string_buffer(bytes([on]), 8)
    call(fd, 0x48, "IIQ", 4, 8, ctypes.addressof(value))


def is_on(fd: int) -> bool:
    """GET_INFO: what the driver says of it."""
    value = ctypes.create_string_buffer(8)
    call(fd, 0x47, "IIQ", 13, 8, ctypes.addressof(value))
    return bool(value.raw[0])


@contextlib.contextmanager
def soon_asleep(node: str) -> Iterator[Path]:
    """Let the device fall asleep after 0.2 s; where its power state is read."""
    power = Path("/sys/class/accel") / Path(node).name / "device/power"
    delay = power / "autosuspend_delay_ms"
    before = delay.read_text("ascii")
    delay.write_text("200", "ascii")
    try:
        yield power / "runtime_status"
    finally:
        delay.write_text(before, "ascii")


def add_probe(text: str) -> None:
    """A line for the kernel's list of probes; others' probes stay."""
    probes = os.open(TRACING / "kprobe_events", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(probes, text.encode() + bytes([10]))
    finally:
        os.close(probes)


@contextlib.contextmanager
def configurations() -> Iterator[Callable[[], list[tuple[int, int]]]]:
    """Type and value of each runtime configuration that the driver sends while the block runs."""
    if not (TRACING / "events").is_dir():
        ctypes.CDLL(None).mount(b"tracefs", str(TRACING).encode(), b"tracefs", ctypes.c_ulong(0), None)
    enable = TRACING / "events/xdnawatch/runtime/enable"
    try:
        add_probe(PROBE)
        (TRACING / "trace").write_text("", "ascii")
        enable.write_text("1", "ascii")
    except OSError as error:
        raise NotHereError(f"what the driver sends cannot be traced: {error}") from None
    try:
        yield lambda: [
            (int(kind), int(value))
            for kind, value in re.findall(
                r"runtime: .*type=(\d+) value=(\d+)", (TRACING / "trace").read_text("ascii")
            )
        ]
    finally:
        enable.write_text("0", "ascii")
        add_probe("-:xdnawatch/runtime")


def attempt(node: str) -> str:
    """Switch it on, let the device sleep, wake it and see what is sent."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    with configurations() as sent, soon_asleep(node) as status:
        switch(fd, 1)
        if (FRAME_BOUNDARY, 1) not in sent():
            raise NotHereError("the driver sent nothing when it was switched on")
        until = time.monotonic() + 20
        while status.read_text("ascii").strip() != "suspended":
            if time.monotonic() > until:
                raise NotHereError(f"the device does not sleep: {status.read_text('ascii').strip()}")
            time.sleep(0.05)
        before = len(sent())
        on = is_on(fd)
        woken = sent()[before:]
    switch(fd, 0)
    print("sent at the wake (type, value):", *woken, "; said to be on:", on, flush=True)
    if not woken or not on or (FRAME_BOUNDARY, 1) in woken:
        return ""
    return "the firmware was set up anew without it, and the query says that it is on"


def show(node: str) -> str:
    """The attempt; where it cannot be made there is nothing to complain of."""
    try:
        return attempt(node)
    except NotHereError as reason:
        print("not run:", reason)
        return ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("switches frame boundary preemption on, lets the device sleep and looks at what its wake sends")
    try:
        found = attempt(options.node)
    except NotHereError as reason:
        print("not run:", reason)
        return 2
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
