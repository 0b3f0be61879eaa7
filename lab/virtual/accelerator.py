"""Whether KVM can be used: only a guest that really booted under it proves that.

A /dev/kvm that opens, and even a virtual CPU that can be made, prove nothing: under some hosts (PVM) stock
guests die in the kernel's decompressor, and ``-accel kvm -accel tcg`` does not fall back. So a kernel is
booted once with a short timeout, and the answer is kept until the host is rebooted.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from lab.cache import locked, write_atomically
from lab.machine import Candidate, LabError
from lab.virtual import qemu
from lab.virtual.guest import INIT_SPEAKS
from lab.virtual.qemu_install import Qemu
from lab.virtual.qmp import Qmp
from lab.workfolder import work_folder

PROBE_TIMEOUT = 10.0  # seconds; a KVM guest speaks within one
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
KVM_DEVICE = Path("/dev/kvm")


def choose_accelerator(cache: Path, program: Qemu, candidate: Candidate, initramfs: Path) -> qemu.Accelerator:
    """KVM after a probe boot of ``candidate`` that reached our init, else TCG."""
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        return qemu.TCG
    record = cache / "accelerator.json"
    known = _known(record)
    if known is None:
        with locked(cache, "accelerator"):
            known = _known(record)
            if known is None:
                known = _probe(program, candidate, initramfs)
                answer = {"boot_id": BOOT_ID.read_text().strip(), "kvm": known}
                write_atomically(record, json.dumps(answer).encode())
    return qemu.KVM if known else qemu.TCG


def _known(record: Path) -> bool | None:
    """The answer of this boot of the host, None when it was not asked yet."""
    try:
        answer = json.loads(record.read_text())
        return bool(answer["kvm"]) if answer["boot_id"] == BOOT_ID.read_text().strip() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _probe(program: Qemu, candidate: Candidate, initramfs: Path) -> bool:
    """Boot without NPU and network expectations until the guest's init speaks."""
    with work_folder() as folder:
        serial, control = folder / "serial", folder / "qmp"
        serial.write_bytes(b"")
        layout = qemu.VmLayout(
            candidate.vmlinuz, initramfs, "console=ttyS0 panic=-1", serial, control, None, None
        )
        deadline = time.monotonic() + PROBE_TIMEOUT
        with qemu.start(program, qemu.command(program, qemu.KVM, layout), folder / "log") as process:
            channel: Qmp | None = None
            try:
                while time.monotonic() < deadline and process.poll() is None:
                    if channel is None and control.exists():
                        channel = Qmp(control)
                    if INIT_SPEAKS in serial.read_bytes():
                        return True
                    # "KVM internal error" stops the machine; waiting longer would change nothing
                    if channel is not None and any(event.name == "STOP" for event in channel.events()):
                        return False
                    time.sleep(0.05)
            except LabError:
                return False
            finally:
                if channel is not None:
                    channel.close()
    return False
