"""Is the driver there, bound, and the one we think it is?"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from harness.suite import contract, guard, releases, uapi
from harness.suite.device import Device
from harness.suite.tests.conftest import FOUND, Expect, Record


@pytest.mark.bare
def test_driver_probed(request: pytest.FixtureRequest, record: Record) -> None:
    """A driver with an NPU, an IOMMU and firmware makes a node: else the kernel failed, not the lab."""
    found = request.config.stash[FOUND]
    kinds = {piece.kind for piece in found.missing}
    record("missing", sorted(kinds))
    lacking = [piece for piece in found.missing if piece.kind not in ("node", "open")]
    if lacking:
        pytest.skip(contract.ENVIRONMENT_PREFIX + "; ".join(f"{p.kind}: {p.message}" for p in lacking))
    assert "node" not in kinds, found.missing[0].message


@pytest.mark.bare
def test_node_opens(request: pytest.FixtureRequest) -> None:
    """A node can be opened: else the IOMMU lacks PASID, or the kernel lost the way to use it."""
    found = request.config.stash[FOUND]
    reasons = {piece.kind: piece.message for piece in found.missing}
    if found.node is None or set(reasons) - {"open"}:
        pytest.skip(contract.ENVIRONMENT_PREFIX + "; ".join(f"{k}: {v}" for k, v in reasons.items()))
    assert "open" not in reasons, reasons["open"]


def test_driver_name(device: Device) -> None:
    """The node belongs to amdxdna."""
    assert device.version()[0] == uapi.DRIVER_NAME


def test_driver_version(device: Device, expect: Expect, record: Record) -> None:
    """The driver's minor version is the one of this release."""
    _name, major, minor, patch = device.version()
    record("version", f"{major}.{minor}.{patch}")
    assert (major, minor) == (0, expect("driver-minor"))


def test_driver_bound_to_device(pci: guard.PciDevice) -> None:
    """The PCI device is driven by amdxdna and by nothing else."""
    driver = Path(f"/sys/bus/pci/devices/{pci.address}/driver").resolve()
    assert driver.name == "amdxdna"


def test_generation_is_known(pci: guard.PciDevice, record: Record) -> None:
    """Device and revision are in the suite's table."""
    record("device", f"{pci.device:04x}:{pci.revision:02x}")
    assert pci.generation != "unknown"


def test_node_is_accel(node: str) -> None:
    """The node is a character device of the accel class, major 261."""
    status = Path(node).stat()
    assert stat.S_ISCHR(status.st_mode)
    assert os.major(status.st_rdev) == 261


def test_release_is_known(level: releases.Level, record: Record) -> None:
    """The running release is within what the suite's table describes."""
    record("release", str(level.release))
    assert level.release.key >= releases.parse("6.14").key


def test_open_close_repeats(node: str) -> None:
    """Twenty opens and closes leave nothing behind."""
    for _turn in range(20):
        with Device(node) as device:
            assert device.version()[0] == uapi.DRIVER_NAME


def test_open_twice(device: Device, own: Device) -> None:
    """Two clients of one process work side by side (flm validate once got EBUSY from the second)."""
    assert device.version() == own.version()
    assert own.metadata().cols == device.metadata().cols


def test_open_read_only(node: str) -> None:
    """A read-only open may query."""
    descriptor = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
    os.close(descriptor)


@pytest.mark.last
def test_end_of_the_client(device: Device) -> None:
    """The client that all tests used is closed, and everything it made with it, without a trace."""
    device.close()


def test_unknown_ioctl(device: Device, record: Record) -> None:
    """A command number behind the table is refused by the DRM core with EINVAL."""
    request = uapi.request(uapi.READ_WRITE, 0x40 + 0x20, uapi.GetInfo)
    with pytest.raises(OSError, match="Invalid argument") as caught:
        device.ioctl(request, uapi.GetInfo())
    record("errno", caught.value.errno)
