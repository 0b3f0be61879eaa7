"""What a test left behind on the device and in the kernel. A pass that changed either is no pass.

Looked at after every test: the contexts, buffers and pinned memory of this process, the power mode, the
device's runtime power management, the kernel's taint, and its log, which tells of warnings and of every
recovery of the device (the driver has no counter of its own for resets).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from harness.suite import guard, kmsg, uapi
from harness.suite.device import Device
from harness.suite.gauge import Gauge

SETTLE = 0.5  # seconds: what the kernel gives back late (jobs are freed by a worker) is not left behind
LOOK_AGAIN = 0.02
POWER = ("control", "runtime_status", "runtime_usage")  # in the folder "power" of a PCI device


@dataclass(frozen=True)
class State:
    """What can be left behind; None where it cannot be seen. Sizes in bytes."""

    contexts: frozenset[int] = frozenset()
    buffers: int | None = None  # BO_USAGE of this process
    pinned: int = 0  # of this process, by whatever driver
    power_mode: int | None = None
    control: str = ""  # of runtime power management: auto, on
    status: str = ""
    holders: int | None = None  # of a reference that keeps the device awake
    taint: int = 0

    def left_by(self, before: State) -> list[str]:
        """What is different from ``before`` and should not be, in words."""
        found = []
        if self.contexts - before.contexts:
            found.append(f"contexts left over: {sorted(self.contexts - before.contexts)}")
        if before.buffers is not None and self.buffers is not None and self.buffers > before.buffers:
            found.append(f"buffers left over: {self.buffers - before.buffers} bytes")
        if self.pinned > before.pinned:
            found.append(f"memory left pinned: {self.pinned - before.pinned} bytes")
        if None not in (self.power_mode, before.power_mode) and self.power_mode != before.power_mode:
            found.append(f"power mode went from {before.power_mode} to {self.power_mode}")
        if self.control != before.control:
            found.append(f"runtime power management went from {before.control} to {self.control}")
        if self.status == "error" != before.status:
            found.append("runtime power management ended in an error")
        if before.holders is not None and self.holders is not None and self.holders > before.holders:
            found.append(f"the device is kept awake: {self.holders - before.holders} references left over")
        if self.taint != before.taint:
            found.append(f"kernel taint went from {before.taint} to {self.taint}")
        return found


class Witness:
    """Looks at the device and the kernel between tests, through a client of its own."""

    def __init__(self, found: guard.Found, log: kmsg.KernelLog | None, root: Path = Path("/")) -> None:
        usable = not found.missing and found.node and found.driver and found.driver[2] >= 1
        if found.pci and found.pci.generation in guard.AIE4_VF:
            usable = False
        # before 6.18, and of AIE4, the driver cannot list contexts by GET_ARRAY
        self._device = Device(found.node) if usable and found.node else None
        self._log = log
        self._root = root
        power = root / f"sys/bus/pci/devices/{found.pci.address}/power" if found.pci else None
        self._power = {name: Gauge(power / name) for name in POWER} if power else {}
        self._status = Gauge(root / "proc/self/status")
        self._pid = os.getpid()
        self._before = self.look()

    def look(self) -> State:
        """How everything is now."""
        contexts, buffers, mode, alone = frozenset[int](), None, None, False
        if self._device is not None:
            entries = self._device.contexts()
            own = [int(entry.context_id) for entry in entries if entry.pid == self._pid]
            contexts, alone = frozenset(own), len(own) == len(entries)
            buffers, mode = _usage(self._device, self._pid), _power_mode(self._device)
        power = self._power
        return State(
            contexts,
            buffers,
            _pinned(self._status),
            mode,
            power["control"].text() if power else "",
            power["runtime_status"].text() if power else "",
            power["runtime_usage"].number() if power and alone else None,
            guard.taint(self._root),
        )

    def forget(self) -> None:
        """Drop what the log says up to now, which belongs to no test; arm warnings that come once a boot."""
        guard.arm_warnings()
        if self._log:
            self._log.lines()

    def accept(self) -> None:
        """Buffers made a moment ago stay for the whole session."""
        self._before = self.look()

    def changes(self) -> list[str]:
        """What is different from the last time asked, in words; nothing when all is as it was."""
        until = time.monotonic() + SETTLE
        while True:
            now = self.look()
            found = now.left_by(self._before)
            settling = [text for text in found if not text.startswith("kernel taint")]
            if not settling or time.monotonic() > until:
                break
            time.sleep(LOOK_AGAIN)
        if self._log:
            found += [f"kernel log: {text}" for text in kmsg.damage(self._log.lines())]
        self._before = now
        return found

    def close(self) -> None:
        """Look at the device no longer; the kernel's log and taint are still watched."""
        if self._device:
            self._device.close()
            self._device = None
            self._before = self.look()


def _usage(device: Device, pid: int) -> int | None:
    try:
        usage, _count = device.array(uapi.Array.BO_USAGE, uapi.BoUsage(pid=pid))
    except OSError:  # before 7.1
        return None
    return int(usage.total_usage)


def _power_mode(device: Device) -> int | None:
    try:
        return device.power_mode()
    except OSError:  # a test lost the device; that is in the log
        return None


def _pinned(status: Gauge) -> int:
    """Bytes of this process that drivers hold in memory (proc_pid_status(5), VmPin)."""
    words = status.text().partition("VmPin:")[2].split(maxsplit=1)
    return int(words[0]) * 1024 if words else 0
