"""Runs on the machine: what the driver itself says of the NPU, through sysfs and ioctls.

This is the truth that user space's reports are compared with. ``on_machine`` imports it: starting another
Python for each look would cost more than the look.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from harness.suite import guard, uapi
from harness.suite.device import Device


def refused(call: Any, *arguments: Any) -> Any:
    """The call's value, None when the kernel refuses it: older drivers know less."""
    try:
        return call(*arguments)
    except OSError:
        return None


def clocks(device: Device) -> list[dict[str, Any]]:
    """Names and MHz of both clocks."""
    found = device.info(uapi.Info.CLOCK_METADATA, uapi.QueryClockMetadata())
    return [
        {"name": clock.name.decode("ascii", "replace"), "mhz": int(clock.freq_mhz)}
        for clock in (found.mp_npu_clock, found.h_clock)
    ]


def firmware(device: Device) -> str:
    """ "1.1.2.64"."""
    found = device.info(uapi.Info.FIRMWARE_VERSION, uapi.QueryFirmwareVersion())
    return f"{found.major}.{found.minor}.{found.patch}.{found.build}"


def preemption(device: Device) -> int:
    """Whether preemption is forced."""
    return int(device.info(uapi.Info.FORCE_PREEMPT, uapi.AttributeState()).state)


def state(node: str | None) -> dict[str, Any]:
    """Everything, as far as the driver says it."""
    found = guard.look(node=node)
    answer: dict[str, Any] = {
        "missing": [{"kind": item.kind, "message": item.message} for item in found.missing],
        "bdf": found.pci.address if found.pci else None,
        "device": found.pci.device if found.pci else None,
        "revision": found.pci.revision if found.pci else None,
        "generation": found.pci.generation if found.pci else None,
        "node": found.node,
        "sysfs": found.attributes,
        "uid": os.getuid(),
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip(),
        "python": platform.python_version(),
        "time": time.time(),
    }
    if found.node is None or found.missing:
        return answer
    with Device(found.node) as device:
        metadata = refused(device.metadata)
        answer |= {
            "driver_version": list(device.version()[1:]),
            "columns": metadata and int(metadata.cols),
            "rows": metadata and int(metadata.rows),
            "firmware": refused(firmware, device),
            "power_mode": refused(device.power_mode),
            "clocks": refused(clocks, device),
            "force_preemption": refused(preemption, device),
            "contexts": refused(lambda: len(device.contexts())),
        }
    return answer


def own_commands(node: str | None) -> dict[str, int] | None:
    """What the driver counts for the contexts of this very process, None when it cannot be read.

    Asked while the contexts live it misses nothing, unlike a look from outside now and then.
    """
    if not node:
        return None
    try:
        with Device(node) as device:
            mine = [entry for entry in device.contexts() if entry.pid == os.getpid()]
    except OSError:
        return None
    return {
        "contexts": len(mine),
        "submissions": sum(int(entry.command_submissions) for entry in mine),
        "completions": sum(int(entry.command_completions) for entry in mine),
    }
