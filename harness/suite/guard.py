"""Can this machine be tested? What is missing, exactly, and what to do about it.

An environment fault (no NPU, IOMMU off, no permission, module absent) is no verdict about a kernel: every
test is then skipped with the missing piece as its reason. What cannot be told apart from a kernel's failure,
a driver that is loaded and made no node although nothing is known to be missing, is for ``test_presence.py``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from harness.suite import uapi
from harness.suite.device import Device, error_name
from harness.suite.gauge import Gauge

VENDOR = 0x1022
# (device, revision) -> generation, devices.json of the facts; None: any revision
GENERATIONS: dict[tuple[int, int], str] = {
    (0x1502, 0x00): "npu1",
    (0x17F0, 0x10): "npu4",
    (0x17F0, 0x11): "npu5",
    (0x17F0, 0x20): "npu6",
    (0x17F2, 0x10): "npu3-pf",
    (0x17F3, 0x10): "npu3-vf",
    (0x1B0B, 0x10): "npu3a-pf",
    (0x1B0C, 0x10): "npu3a-vf",
}
FIRMWARE = {"npu1": "1502_00", "npu4": "17f0_10", "npu5": "17f0_11", "npu6": "17f0_10"}
AIE2 = frozenset(FIRMWARE)  # the generations with mailbox contexts
AIE4_VF = frozenset({"npu3-vf", "npu3a-vf"})  # with host queues: commands bypass the driver


@dataclass(frozen=True)
class Missing:
    """One thing the machine lacks. ``kind``: pci-device, iommu, module, firmware, node, permission, open."""

    kind: str
    message: str


@dataclass(frozen=True)
class PciDevice:
    """An NPU on the bus."""

    address: str
    device: int
    revision: int

    @property
    def generation(self) -> str:
        """ "npu4", or "unknown"."""
        return GENERATIONS.get((self.device, self.revision), "unknown")


@dataclass(frozen=True)
class Found:
    """What there is and what there is not."""

    pci: PciDevice | None
    node: str | None
    missing: tuple[Missing, ...]
    driver: tuple[str, int, int, int] | None = None  # name, major, minor, patch level
    attributes: dict[str, str] = field(default_factory=dict)  # vbnv, fw_version, device_type


def look(root: Path = Path("/"), node: str | None = None) -> Found:
    """Examine the machine. ``root`` stands for / in tests; ``node`` overrides the search for the node."""
    pci = next(iter(_npus(root)), None)
    missing = list(_lacking(root, pci))
    path = node or (_node(root, pci) if pci else None)
    if missing or path is None:
        if not missing:
            missing = [
                Missing(
                    "node",
                    "amdxdna is loaded but made no node: its probe failed (see dmesg), or it was unbound",
                )
            ]
        return Found(pci, path, tuple(missing))
    return _opened(root, pci, path)


def _opened(root: Path, pci: PciDevice | None, path: str) -> Found:
    attributes = {
        name: text(root / f"sys/bus/pci/devices/{pci.address if pci else ''}/{name}")
        for name in ("vbnv", "fw_version", "device_type")
    }
    try:
        with Device(path) as device:
            driver = device.version()
    except PermissionError:
        message = f"uid {os.getuid()} may not open {path}: join its group (render) or run as root"
        return Found(pci, path, (Missing("permission", message),), None, attributes)
    except OSError as error:
        hint = "IOMMU without PASID or SVA (boot with the IOMMU on, or amdxdna.force_iova=1 from 7.1)"
        message = f"{path} cannot be opened: {error_name(error)}; usual cause: {hint}"
        return Found(pci, path, (Missing("open", message),), None, attributes)
    if driver[0] != uapi.DRIVER_NAME:
        message = f"{path} belongs to the driver {driver[0]!r}, not to {uapi.DRIVER_NAME}"
        return Found(pci, path, (Missing("node", message),), driver, attributes)
    return Found(pci, path, (), driver, attributes)


def _lacking(root: Path, pci: PciDevice | None) -> Iterator[Missing]:
    if pci is None:
        yield Missing(
            "pci-device",
            "no AMD NPU on the PCI bus (1022:1502, 1022:17f0, ...); it can be off in the firmware setup",
        )
        return
    if not any((root / "sys/kernel/iommu_groups").glob("*")):
        yield Missing("iommu", "the IOMMU is off; boot without amd_iommu=off")
    if not (root / "sys/module/amdxdna").is_dir():
        yield Missing("module", "amdxdna is not loaded; modprobe amdxdna (CONFIG_DRM_ACCEL_AMDXDNA)")
    folder = FIRMWARE.get(pci.generation)
    if folder and not any((root / "lib/firmware/amdnpu" / folder).glob("npu*.sbin*")):
        yield Missing("firmware", f"no firmware amdnpu/{folder}/npu*.sbin; install firmware-amd-graphics")


def _npus(root: Path) -> Iterator[PciDevice]:
    known = {device for device, _revision in GENERATIONS}
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        if _number(folder / "vendor") == VENDOR and _number(folder / "device") in known:
            yield PciDevice(folder.name, _number(folder / "device"), _number(folder / "revision"))


def _node(root: Path, pci: PciDevice) -> str | None:
    names = sorted(path.name for path in (root / f"sys/bus/pci/devices/{pci.address}/accel").glob("accel*"))
    return f"/dev/accel/{names[0]}" if names else None


def slept(pci: PciDevice, root: Path = Path("/")) -> bool:
    """Whether the device was runtime suspended since its driver was bound."""
    return text(root / f"sys/bus/pci/devices/{pci.address}/power/runtime_suspended_time") not in ("0", "")


def virtual(root: Path = Path("/")) -> bool:
    """Whether this is a QEMU machine: its NPU is simulated and may be treated as such."""
    return text(root / "sys/class/dmi/id/sys_vendor") == "QEMU"


def rebind(pci: PciDevice, root: Path = Path("/")) -> None:
    """Take the driver from the device and give it back: a probe as after boot. OSError when refused."""
    driver = root / "sys/bus/pci/drivers/amdxdna"
    (driver / "unbind").write_text(pci.address, "ascii")
    (driver / "bind").write_text(pci.address, "ascii")


def arm_warnings(root: Path = Path("/")) -> None:
    """Let a warning that the kernel gives once a boot come again: each test is to see its own.

    Needs root and debugfs (lib/once.c of 4.15); without them a test behind another may see no warning.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(f"{root}/sys/kernel/debug/clear_warn_once", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"1")
        finally:
            os.close(descriptor)


def huge_heaps(root: Path = Path("/")) -> bool:
    """Let a simulated machine back a heap by 2 MiB pages; whether it does.

    QEMU tells the model of every page that the IOMMU maps: a heap of 64 MiB is 16384 messages, or 32. Buffers
    below 2 MiB stay as they are; "always" would give each of them a whole huge page.
    """
    choice = root / "sys/kernel/mm/transparent_hugepage/shmem_enabled"
    with contextlib.suppress(OSError):
        choice.write_text("within_size", "ascii")
    return "[within_size]" in text(choice)


def facts(root: Path = Path("/")) -> dict[str, object]:
    """What else a result depends on, as far as this machine tells."""
    taint = text(root / "proc/sys/kernel/tainted")
    parameters = root / "sys/module/amdxdna/parameters"
    return {
        "taint": int(taint) if taint.isdigit() else None,
        "module_srcversion": text(root / "sys/module/amdxdna/srcversion") or None,
        "module_parameters": {path.name: text(path) for path in sorted(parameters.glob("*"))},
        "iommu_groups": len(list((root / "sys/kernel/iommu_groups").glob("*"))),
        "uid": os.getuid(),
    }


def patience(normal: float, tainted: float, root: Path = Path("/")) -> float:
    """Seconds to wait for a test: ``tainted`` once the kernel died or warned (tainted-kernels.rst, D and W).

    What hangs behind an oops hangs for ever, and every test behind it would take its whole time.
    """
    return min(normal, tainted) if taint(root) & (1 << 7 | 1 << 9) else normal


def taint(root: Path = Path("/")) -> int:
    """The kernel's taint bits, 0 when they cannot be read."""
    return _tainted(root).number() or 0


@cache
def _tainted(root: Path) -> Gauge:
    return Gauge(root / "proc/sys/kernel/tainted")


def text(path: Path, *, limit: int = 200) -> str:
    """The beginning of a small file, "" when it cannot be read."""
    gauge = Gauge(path)
    found = gauge.text()[:limit]
    gauge.close()
    return found


def _number(path: Path) -> int:
    number = text(path)
    return int(number, 16) if number.startswith("0x") else -1
