"""What the driver shows in files: sysfs, debugfs, fdinfo, module parameters."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from harness.suite import contract, guard, uapi
from harness.suite.device import Buffer, Device
from harness.suite.tests.conftest import Expect, Record

ATTRIBUTES = {
    "vbnv": re.compile(r"^\S.*$"),
    "device_type": re.compile(r"^[012]$"),
    "fw_version": re.compile(r"^\d+\.\d+\.\d+\.\d+$"),
}


@pytest.mark.parametrize("name", sorted(ATTRIBUTES))
def test_attribute(pci: guard.PciDevice, name: str, record: Record) -> None:
    """The PCI device's own attributes are readable and well formed."""
    text = Path(f"/sys/bus/pci/devices/{pci.address}/{name}").read_text("ascii").strip()
    record("value", text)
    assert ATTRIBUTES[name].match(text)


def test_firmware_version_agrees(pci: guard.PciDevice, device: Device) -> None:
    """The firmware's version is the same in sysfs and by ioctl."""
    text = Path(f"/sys/bus/pci/devices/{pci.address}/fw_version").read_text("ascii").strip()
    version = device.info(uapi.Info.FIRMWARE_VERSION, uapi.QueryFirmwareVersion())
    assert text == f"{version.major}.{version.minor}.{version.patch}.{version.build}"


def test_attributes_are_read_only(pci: guard.PciDevice) -> None:
    """Nobody writes the device's attributes."""
    for name in ATTRIBUTES:
        mode = Path(f"/sys/bus/pci/devices/{pci.address}/{name}").stat().st_mode
        assert mode & 0o222 == 0, name


def _fdinfo(device: Device) -> dict[str, str]:
    lines = Path(f"/proc/self/fdinfo/{device.fd}").read_text("ascii").splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_fdinfo_names_the_driver(device: Device, pci: guard.PciDevice, record: Record) -> None:
    """fdinfo tells driver, client and device as every DRM driver does."""
    info = _fdinfo(device)
    record("keys", sorted(key for key in info if key.startswith(("drm-", "amdxdna"))))
    if "drm-driver" not in info:
        pytest.skip("the driver shows no fdinfo on this kernel")
    assert info["drm-driver"] == uapi.DRIVER_NAME
    assert info.get("drm-pdev", pci.address) == pci.address


def test_fdinfo_memory(device: Device, heap: Buffer, expect: Expect, record: Record) -> None:
    """fdinfo counts a client's memory (7.2 and later): the heap is in it."""
    info = _fdinfo(device)
    total = info.get("drm-total-memory")
    record("drm-total-memory", total)
    assert ("ok" if total is not None else "missing") == expect("fdinfo-memory")
    if total is not None:
        assert _bytes(total) >= heap.size


def test_fdinfo_memory_grows(device: Device, heap: Buffer, expect: Expect) -> None:
    """A new buffer is counted in fdinfo while it exists."""
    assert heap.size
    if expect("fdinfo-memory") != "ok":
        pytest.skip("no memory in fdinfo on this kernel")
    before = _bytes(_fdinfo(device)["drm-total-memory"])
    buffer = device.buffer(uapi.Bo.SHARE, 1 << 20)
    during = _bytes(_fdinfo(device)["drm-total-memory"])
    device.free(buffer)
    assert during - before == 1 << 20
    assert _bytes(_fdinfo(device)["drm-total-memory"]) == before


def _bytes(text: str) -> int:
    """ "65536 KiB" or "64 MiB" or "12" as bytes."""
    number, _, scale = text.partition(" ")
    return int(number) * {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[scale]


PARAMETERS = {
    "force_cmdlist": r"[YN]",
    "aie2_max_col": r"\d+",
    "force_iova": r"[YN]",
    "tdr_timeout_ms": r"-?\d+",
}


@pytest.mark.root
@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_module_parameter(name: str, expect: Expect, record: Record) -> None:
    """The module's parameters are there from their release on."""
    path = Path("/sys/module/amdxdna/parameters") / name
    expected = expect(f"parameter-{name}") if name in ("force_iova", "tdr_timeout_ms") else "ok"
    assert ("ok" if path.exists() else "missing") == expected
    if path.exists():
        text = path.read_text("ascii").strip()
        record("value", text)
        assert re.fullmatch(PARAMETERS[name], text)


@pytest.mark.root
def test_debugfs_carveout(node: str, expect: Expect, record: Record) -> None:
    """The carveout file exists from 7.2 on and is root's alone."""
    folder = Path("/sys/kernel/debug/accel")
    if not folder.is_dir():
        pytest.skip(contract.ENVIRONMENT_PREFIX + "debugfs: not mounted at /sys/kernel/debug")
    files = sorted(folder.glob("*/carveout"))
    record("files", [str(path) for path in files])
    assert ("ok" if files else "missing") == expect("carveout")
    assert node
    for path in files:
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.root
def test_debugfs_lists_clients(device: Device, record: Record) -> None:
    """The DRM core lists this process as a client of the node."""
    files = sorted(Path("/sys/kernel/debug/accel").glob("*/clients"))
    if not files:
        pytest.skip(contract.ENVIRONMENT_PREFIX + "debugfs: no list of clients")
    text = files[0].read_text("ascii", "replace")
    record("lines", len(text.splitlines()))
    assert str(os.getpid()) in text
    assert device.fd >= 0


def test_runtime_power_files(pci: guard.PciDevice, record: Record) -> None:
    """Runtime power management is on, with the driver's delay of five seconds."""
    folder = Path(f"/sys/bus/pci/devices/{pci.address}/power")
    control = (folder / "control").read_text("ascii").strip()
    record("control", control)
    record("status", (folder / "runtime_status").read_text("ascii").strip())
    delay = (folder / "autosuspend_delay_ms").read_text("ascii").strip()
    record("autosuspend_delay_ms", delay)
    assert control == "auto"
    assert delay == "5000"
