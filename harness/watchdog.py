"""A hardware watchdog in the machine, armed while the suite runs: a machine that hangs resets itself.

Without it a laptop that a driver's defect froze waits for its owner. The watchdog is fed by a process on the
machine (``watchdog_keeper``), which disarms it when the suite is over and also when the connection or this
program is gone, so only a machine that no longer runs programs is reset.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import threading
from collections.abc import Mapping
from typing import Any

from harness.untrusted import clean
from lab.machine import LabError, Shell

FILE = "watchdog_keeper.py"
ARM_TIMEOUT = 10.0  # seconds until the machine says whether it is armed
STOP_TIMEOUT = 10.0  # seconds until it is disarmed
DEVICE = ("/dev/watchdog", "/sys/class/watchdog/watchdog0")
SILENCE = 60.0  # seconds without a feeding until the stream counts as lost


def wanted(report: Mapping[str, Any]) -> bool:
    """Whether harness.examine saw a watchdog that this user may arm (only root may)."""
    user = report.get("user")
    return bool(report.get("watchdogs")) and isinstance(user, Mapping) and user.get("uid") == 0


class Watchdog:
    """One arming, from ``arm`` to ``disarm``."""

    def __init__(
        self, shell: Shell, folder: str, *, longest: float, reset: int = 60, keeper: tuple[str, ...] = DEVICE
    ) -> None:
        """``folder``: a path of our own on the machine; ``reset``: seconds until a machine that hangs resets
        itself; ``keeper``: the device and its folder in sysfs.
        """
        self._shell = shell
        self._folder = folder
        self._stop_file = f"{folder}/watchdog.stop"
        self._longest = longest
        self._keeper = (*keeper, str(reset))
        self._said = threading.Event()
        self._first = ""
        self._thread = threading.Thread(target=self._stream, name="watchdog", daemon=True)

    def arm(self) -> tuple[bool, str]:
        """Start feeding: whether it is armed, and what the machine says about it."""
        program = importlib.resources.files("harness").joinpath(FILE).read_bytes()
        self._shell.put({FILE: program}, self._folder)
        self._thread.start()
        self._said.wait(ARM_TIMEOUT)
        return self._first.startswith("armed"), self._first or "it did not answer"

    def disarm(self, *, reachable: bool) -> bool:
        """Whether it was disarmed; a machine that does not answer is left to its watchdog."""
        if reachable and self._thread.is_alive():
            try:
                self._shell.run(["touch", self._stop_file], timeout=STOP_TIMEOUT)
            except LabError:
                return False
            self._thread.join(STOP_TIMEOUT)
        if reachable and not self._thread.is_alive():
            with contextlib.suppress(LabError):  # what stays behind harms nobody
                self._shell.run(["rm", "-rf", self._folder], timeout=STOP_TIMEOUT)
        return not self._thread.is_alive()

    def _stream(self) -> None:
        command = ["python3", "-I", f"{self._folder}/{FILE}", self._stop_file, str(self._longest)]
        try:
            self._shell.stream(
                [*command, *self._keeper],
                timeout=self._longest + SILENCE,
                silence=SILENCE,
                on_line=self._take,
            )
        except (LabError, OSError) as error:
            self._first = self._first or clean(str(error), 200)
        finally:
            self._said.set()

    def _take(self, raw: bytes) -> None:
        if not self._said.is_set():
            self._first = clean(raw.decode("utf-8", "replace"), 200)
            self._said.set()
