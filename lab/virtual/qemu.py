"""The command line of the virtual machine and its running process."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.leash import LeashedProcess
from lab.virtual.iommu import IommuMode
from lab.virtual.qemu_install import Qemu

MEMORY = "1G"  # the guest needs 150 MB, its device heap 64 MB


@dataclass(frozen=True)
class Accelerator:
    """How QEMU runs guest code. ``cpu`` hides the hypervisor: from 7.0 on the driver refuses a recognised one
    (aie2_init, "Running under hypervisor not supported")."""

    name: str  # "kvm" or "tcg"
    cpu: str
    machine: str = ""
    arguments: tuple[str, ...] = ()


#: Without fast string instructions the kernel moves eight bytes a step, not one, where a step is emulated;
#: without five-level tables a miss of the translation cache walks four. A clock that counts instructions
#: (-icount) would spare the guest's time limits a loaded host, and takes half as much time again.
TCG = Accelerator("tcg", "max,-hypervisor,-la57,-erms,-fsrm,-fsrs,-fzrm")
#: intel-iommu with interrupt remapping wants the interrupt controller split from KVM's.
KVM = Accelerator("kvm", "host,kvm=off,-hypervisor", ",kernel-irqchip=split")


@dataclass(frozen=True)
class VmLayout:
    """Everything that is on the command line besides the accelerator."""

    vmlinuz: Path
    initramfs: Path
    command_line: str
    serial: Path
    qmp: Path
    device_socket: Path | None
    iommu: IommuMode | None
    further: tuple[str, ...] = ()  # arguments for other hardware
    shared_memory: bool = True  # False: QEMU's own, reached by the device model by messages alone


def command(qemu: Qemu, accelerator: Accelerator, layout: VmLayout) -> list[str]:
    """The full argument list. Guest memory is a shared memfd so that the device model can map it."""
    memory = "memory-backend-memfd,share=on" if layout.shared_memory else "memory-backend-ram,share=off"
    arguments = [
        *qemu.command,
        *("-machine", f"q35,i8042=off,memory-backend=mem{accelerator.machine}"),
        *("-accel", accelerator.name),
        *accelerator.arguments,
        *("-cpu", accelerator.cpu + (layout.iommu.cpu if layout.iommu else "")),
        *("-m", MEMORY, "-smp", "1"),
        *("-object", f"{memory},id=mem,size={MEMORY}"),
        *("-display", "none", "-vga", "none", "-monitor", "none", "-nodefaults", "-no-reboot"),
        *("-serial", f"file:{_escaped(layout.serial)}"),
        *("-qmp", f"unix:{_escaped(layout.qmp)},server=on,wait=off"),
    ]
    if layout.iommu is not None:  # must precede the device that it serves
        arguments += ["-device", layout.iommu.device]
    if layout.device_socket is not None:
        device = {
            "driver": "vfio-user-pci",
            "rombar": 0,
            "socket": {"path": str(layout.device_socket), "type": "unix"},
            "bus": "pcie.0",
            "addr": "0x8",
        }
        arguments += ["-device", json.dumps(device)]
    # restrict=on keeps the guest off the network; the forward works all the same. Port 0: QEMU picks a free
    # one.
    arguments += ["-netdev", "user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"]
    arguments += ["-device", "virtio-net-pci,netdev=n0,romfile=", *layout.further]
    return [
        *arguments,
        *("-kernel", str(layout.vmlinuz)),
        *("-initrd", str(layout.initramfs)),
        *("-append", layout.command_line),
    ]


def start(qemu: Qemu, arguments: list[str], log: Path) -> LeashedProcess:
    """Run QEMU; what it says goes to ``log``."""
    with log.open("ab") as out:
        return LeashedProcess(
            arguments, stdout=subprocess.DEVNULL, stderr=out, env={**os.environ, **qemu.environment}
        )


def _escaped(path: Path) -> str:
    """QEMU's option syntax doubles commas."""
    return str(path).replace(",", ",,")
