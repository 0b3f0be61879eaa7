"""Keeps a hardware watchdog fed. This file runs ON the machine: standard library only, Python >= 3.8.

    watchdog_keeper.py STOP_FILE SECONDS [DEVICE [SYSFS [RESET]]]

Feeds DEVICE until STOP_FILE appears, SECONDS are over, a signal comes or nobody reads its output any more
(the harness was killed), and disarms it then: only a machine that hangs is reset, RESET seconds after its
last feeding. A watchdog that could not be disarmed (nowayout), or that somebody else feeds, is left alone.
Prints one line at once: "armed ..." or "refused ...", and "." for each feeding.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import sys
import time
from pathlib import Path

TYPE_CHECKING = False  # spares the machine the import of typing; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

SET_TIMEOUT = 0xC0045706  # WDIOC_SETTIMEOUT, include/uapi/linux/watchdog.h
RESET = "60"  # seconds without food until the machine is reset
FEED_EVERY = 2.0  # seconds
DISARM = b"V"  # Documentation/watchdog/watchdog-api.rst: the magic close


class Ended(Exception):  # noqa: N818 - no error: a signal asked for the end
    """A signal came."""


def end(_signal: int, _frame: Any) -> None:
    """Leave the loop; the watchdog is disarmed on the way out."""
    raise Ended


def say(text: str) -> None:
    """One line to whoever listens; BrokenPipeError when nobody does."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def keep(stop: Path, seconds: float, device: str, sysfs: Path, reset: int) -> str:
    """Feed until it is time to stop; the last line to print."""
    try:
        nowayout = (sysfs / "nowayout").read_text().strip()
    except OSError:
        return "refused: the kernel does not say whether it could be disarmed"
    if nowayout != "0":
        return "refused: it could not be disarmed (nowayout)"
    try:
        descriptor = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        return f"refused: {error.strerror}"
    try:
        with contextlib.suppress(OSError):  # some know one timeout only
            fcntl.ioctl(descriptor, SET_TIMEOUT, struct.pack("i", reset))
        identity = (sysfs / "identity").read_text().strip() if (sysfs / "identity").exists() else device
        say(f"armed: {identity[:80]}")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not stop.exists():
            os.write(descriptor, b"\0")
            say(".")
            time.sleep(min(FEED_EVERY, max(0.0, deadline - time.monotonic())))
    except (Ended, BrokenPipeError):
        pass
    finally:
        os.write(descriptor, DISARM)
        os.close(descriptor)
    with contextlib.suppress(OSError):
        stop.unlink()
    return "disarmed"


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, end)
    words = [*sys.argv[1:], *("/dev/watchdog", "/sys/class/watchdog/watchdog0", RESET)[len(sys.argv) - 3 :]]
    with contextlib.suppress(BrokenPipeError):
        say(keep(Path(words[0]), float(words[1]), words[2], Path(words[3]), int(words[4])))
