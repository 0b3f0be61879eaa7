"""The next step as a command of the machine's own distribution (pure).

A cause is the same everywhere; the command that mends it is not. Package names: Debian trixie with
backports, Ubuntu 24.04 and later, Fedora, Arch. A machine that does not say what it runs gets the
distribution's words left out rather than a command that it may not have.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Family(StrEnum):
    """Distributions whose commands are known; the id, else the ID_LIKE, of os-release(5)."""

    DEBIAN = "debian"
    UBUNTU = "ubuntu"
    FEDORA = "fedora"
    ARCH = "arch"
    OTHER = "other"


def family_of(machine: Mapping[str, Any]) -> Family:
    """The family by harness.examine's ``machine``: its id first, then what it says to be like."""
    words = f"{machine.get('distribution') or ''} {machine.get('like') or ''}".lower().split()
    for word in words:
        if word in (Family.DEBIAN, Family.UBUNTU, Family.FEDORA, Family.ARCH):
            return Family(word)
        if word in ("rhel", "centos"):
            return Family.FEDORA
    return Family.OTHER


RELOAD = "sudo modprobe -r amdxdna; sudo modprobe amdxdna"
UDEV_RULE = (
    'give the node to the group render by a udev rule: `echo \'SUBSYSTEM=="accel", GROUP="render", '
    'MODE="0660"\' | sudo tee /etc/udev/rules.d/99-npu.rules && sudo udevadm control --reload && '
    "sudo udevadm trigger --subsystem-match=accel`"
)
FOREIGN_MODULE = (
    "to judge the kernel's own: `dkms status` names it, `sudo dkms remove NAME/VERSION --all` (or remove its "
    "package), then reboot"
)
LOG = "sudo dmesg | grep -iE 'xdna|npu'"

_FIRMWARE = {
    Family.DEBIAN: "sudo apt install firmware-amd-graphics && sudo update-initramfs -u",
    Family.UBUNTU: "sudo apt install --reinstall linux-firmware && sudo update-initramfs -u",
    Family.FEDORA: "sudo dnf reinstall linux-firmware && sudo dracut --force",
    Family.ARCH: "sudo pacman -S linux-firmware && sudo mkinitcpio -P",
}
_NEWER_KERNEL = {
    Family.DEBIAN: (
        "sudo apt install -t $(. /etc/os-release; echo $VERSION_CODENAME)-backports linux-image-amd64"
    ),
    Family.UBUNTU: "sudo apt install linux-generic-hwe-$(. /etc/os-release; echo $VERSION_ID)",
    Family.FEDORA: "sudo dnf upgrade kernel",
    Family.ARCH: "sudo pacman -Syu linux",
}
_MODULES = {
    Family.DEBIAN: "sudo apt install --reinstall linux-image-$(uname -r)",
    Family.UBUNTU: "sudo apt install linux-modules-extra-$(uname -r)",
    Family.FEDORA: "sudo dnf install kernel-modules-$(uname -r) kernel-modules-extra-$(uname -r)",
    Family.ARCH: "sudo pacman -S linux",
}
_PYTEST = {
    Family.DEBIAN: "sudo apt install python3-pytest",
    Family.UBUNTU: "sudo apt install python3-pytest",
    Family.FEDORA: "sudo dnf install python3-pytest",
    Family.ARCH: "sudo pacman -S python-pytest",
}
_XRT = {
    Family.DEBIAN: "sudo apt install libxrt-npu2 libxrt-utils-npu",
    Family.UBUNTU: "sudo apt install libxrt-npu2 libxrt-utils-npu",
}
_SIGN = {
    Family.DEBIAN: "sudo mokutil --import /var/lib/dkms/mok.pub",
    Family.UBUNTU: "sudo mokutil --import /var/lib/shim-signed/mok/MOK.der",
    Family.FEDORA: "sudo mokutil --import /var/lib/dkms/mok.pub",
}
_BOOT_LOADER = {
    Family.DEBIAN: "edit GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub, `sudo update-grub`",
    Family.UBUNTU: "edit GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub, `sudo update-grub`",
    Family.ARCH: (
        "edit GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub, `sudo grub-mkconfig -o /boot/grub/grub.cfg` "
        "(systemd-boot: the options line in /boot/loader/entries)"
    ),
}


def firmware(family: Family) -> str:
    """Bring the firmware back, also into the initramfs, and load the driver again."""
    known = _FIRMWARE.get(family)
    first = f"`{known}`" if known else "install the distribution's linux-firmware and rebuild the initramfs"
    return f"{first}, then `{RELOAD}`"


def give_back(address: str) -> str:
    """Take the device at a PCI address from whoever holds it, for amdxdna."""
    unbind = f"/sys/bus/pci/devices/{shlex.quote(address)}/driver/unbind"
    return f"give it back: `echo {shlex.quote(address)} | sudo tee {unbind}`, then `{RELOAD}`"


def newer_kernel(family: Family) -> str:
    """A kernel with the driver."""
    known = _NEWER_KERNEL.get(family)
    return f"`{known}`, then reboot" if known else "install a kernel >= 6.14, better >= 7.0, and reboot"


def modules(family: Family) -> str:
    """The running kernel's modules."""
    known = _MODULES.get(family)
    first = f"`{known}`" if known else "install all modules of the running kernel"
    return f"{first}, then `sudo depmod -a; sudo modprobe amdxdna`"


def pytest(family: Family) -> str:
    """What `xdnawatch run` needs on the machine."""
    known = _PYTEST.get(family)
    return f"`{known}`" if known else "install Python >= 3.11 and pytest >= 8 (`pip install --user pytest`)"


def xrt(family: Family) -> str:
    """AMD's run time, core and plug-in from one source."""
    known = _XRT.get(family)
    return f"`{known}`" if known else "install AMD's xrt and xrt_plugin-amdxdna packages, both of one release"


def signing_key(family: Family) -> str:
    """Let the firmware accept the modules that DKMS builds here."""
    key = _SIGN.get(family, "sudo mokutil --import KEY (the public key that DKMS signs with)")
    return f"`{key}`, reboot and confirm; or remove the DKMS package to use the kernel's own signed module"


def without_parameter(family: Family, parameter: str) -> str:
    """Take a word off the kernel command line for good."""
    if family is Family.FEDORA:
        return f"`sudo grubby --update-kernel=ALL --remove-args={parameter}`, then reboot"
    how = _BOOT_LOADER.get(family, "edit the boot loader's configuration")
    return f"remove {parameter} from the kernel command line: {how}, then reboot"


def with_parameters(family: Family, parameters: str) -> str:
    """Add words to the kernel command line for good."""
    if family is Family.FEDORA:
        return f"`sudo grubby --update-kernel=ALL --args='{parameters}'`, then reboot"
    how = _BOOT_LOADER.get(family, "edit the boot loader's configuration")
    return f"add {parameters} to the kernel command line: {how}, then reboot"


def iommu_refusal(command_line: Any) -> str | None:
    """The word on a kernel command line that switches the IOMMU off, such as ``amd_iommu=off``."""
    words = str(command_line or "").split()
    return next((word for word in words if word.endswith("iommu=off")), None)


def iommu_on(family: Family, command_line: Any) -> str:
    """Give the NPU an IOMMU: off by the kernel command line, else by the firmware."""
    asked = iommu_refusal(command_line)
    if asked is not None:
        return without_parameter(family, asked)
    return "switch the IOMMU (AMD-Vi) on in the firmware setup (`systemctl reboot --firmware-setup`)"
