"""The next step is a command of the machine's own distribution."""

from __future__ import annotations

from typing import Any

import pytest

from harness.remedies import Family, family_of
from tests.doctor.test_doctor_checks import GONE, look

MACHINES: dict[Family, dict[str, Any]] = {
    Family.DEBIAN: {"distribution": "debian", "like": None},
    Family.UBUNTU: {"distribution": "ubuntu", "like": "debian"},
    Family.FEDORA: {"distribution": "fedora", "like": None},
    Family.ARCH: {"distribution": "arch", "like": None},
    Family.OTHER: {"distribution": "nixos", "like": None},
}
FIRMWARE = {
    Family.DEBIAN: "sudo apt install firmware-amd-graphics && sudo update-initramfs -u",
    Family.UBUNTU: "sudo apt install --reinstall linux-firmware",
    Family.FEDORA: "sudo dracut --force",
    Family.ARCH: "sudo mkinitcpio -P",
    Family.OTHER: "rebuild the initramfs",
}
KERNEL = {
    Family.DEBIAN: "-backports linux-image-amd64",
    Family.UBUNTU: "linux-generic-hwe-",
    Family.FEDORA: "sudo dnf upgrade kernel",
    Family.ARCH: "sudo pacman -Syu linux",
    Family.OTHER: "install a kernel >= 6.14",
}
PARAMETER = {
    Family.DEBIAN: "sudo update-grub",
    Family.UBUNTU: "sudo update-grub",
    Family.FEDORA: "sudo grubby --update-kernel=ALL --remove-args=amd_iommu=off",
    Family.ARCH: "sudo grub-mkconfig -o /boot/grub/grub.cfg",
    Family.OTHER: "boot loader's configuration",
}


@pytest.mark.parametrize("family", list(Family))
def test_each_distribution_gets_its_own_command(family: Family) -> None:
    machine = MACHINES[family]
    none = look(machine=machine, firmware=[], nodes=[]).cause
    assert none is not None
    assert FIRMWARE[family] in none.next_step
    old = look(machine=machine, kernel={"release": "6.8.0"}, module=GONE, nodes=[]).cause
    assert old is not None
    assert KERNEL[family] in old.next_step
    off = look(
        machine=machine,
        npus={"iommu_group": False, "iommu_domain": None},
        module={"parameters": {}},
        nodes=[],
        kernel={"command_line": "quiet amd_iommu=off"},
    ).cause
    assert off is not None
    assert PARAMETER[family] in off.next_step


@pytest.mark.parametrize(
    ("words", "family"),
    [
        (("linuxmint", "ubuntu debian"), Family.UBUNTU),
        (("pop", "ubuntu debian"), Family.UBUNTU),
        (("raspbian", "debian"), Family.DEBIAN),
        (("bazzite", "fedora"), Family.FEDORA),
        (("rocky", "rhel centos fedora"), Family.FEDORA),
        (("cachyos", "arch"), Family.ARCH),
        (("nixos", None), Family.OTHER),
        ((None, None), Family.OTHER),
        ((7, [1]), Family.OTHER),
    ],
)
def test_a_derivative_is_what_it_says_to_be_like(words: tuple[Any, Any], family: Family) -> None:
    assert family_of({"distribution": words[0], "like": words[1]}) is family


def test_a_hostile_path_is_no_command() -> None:
    """The file's name comes from the machine that is looked at, the command is run by its reader."""
    refusal = {"file": "/etc/modprobe.d/$(reboot).conf", "line": "blacklist amdxdna"}
    found = look(module=GONE, nodes=[], probe={"refusals": [refusal]}).cause
    assert found is not None
    assert "'/etc/modprobe.d/$(reboot).conf'" in found.next_step
