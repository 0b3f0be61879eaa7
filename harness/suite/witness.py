"""What a test left behind: contexts, taint, warnings. A pass that changed the device is no pass."""

from __future__ import annotations

import os

from harness.suite import guard, kmsg
from harness.suite.device import Device


class Witness:
    """Looks at the device and the kernel between tests, through a client of its own."""

    def __init__(self, found: guard.Found, log: kmsg.KernelLog | None) -> None:
        usable = not found.missing and found.node and found.driver and found.driver[2] >= 1
        if found.pci and found.pci.generation in guard.AIE4_VF:
            usable = False
        # before 6.18, and of AIE4, the driver cannot list contexts by GET_ARRAY
        self._device = Device(found.node) if usable and found.node else None
        self._log = log
        self._contexts = self._mine()
        self._taint = guard.taint()

    def _mine(self) -> set[int]:
        if self._device is None:
            return set()
        return {int(entry.context_id) for entry in self._device.contexts() if entry.pid == os.getpid()}

    def forget(self) -> None:
        """Drop what the log says up to now, which belongs to no test; arm warnings that come once a boot."""
        guard.arm_warnings()
        if self._log:
            self._log.lines()

    def changes(self) -> list[str]:
        """What is different from the last time asked, in words; nothing when all is as it was."""
        found: list[str] = []
        contexts, taint = self._mine(), guard.taint()
        if contexts - self._contexts:
            found.append(f"contexts left over: {sorted(contexts - self._contexts)}")
        if taint != self._taint:
            found.append(f"kernel taint went from {self._taint} to {taint}")
        if self._log:
            found += [f"kernel log: {text}" for text in kmsg.damage(self._log.lines())]
        self._contexts, self._taint = contexts, taint
        return found

    def close(self) -> None:
        """Look at the device no longer; the kernel's log and taint are still watched."""
        if self._device:
            self._device.close()
            self._device = None
