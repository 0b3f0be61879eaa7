"""A QEMU that has the ``vfio-user-pci`` device: the machine's own if it does, else a private one from Debian.

Debian's QEMU has it from 11.1 (trixie-backports); 10.0 of trixie and bookworm-backports has not. A private
one is unpacked, never installed, and runs through its own dynamic loader, so neither root nor a matching
host is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab.machine import LabError
from lab.packages.store import PackageStore

PROGRAM = "qemu-system-x86_64"
SUITES = ("trixie-backports", "trixie")
ROOTS = ("qemu-system-x86", "seabios")
#: Not needed to run: debconf and tools, firmware for other boot ways, sound and desktop libraries' data.
EXCLUDE = (
    "adduser", "debconf", "init-system-helpers", "ovmf", "qemu-utils", "acl", "tzdata", "ucf",
    "sensible-utils",
    "systemd", "udev", "kmod", "perl-base", "media-types", "netbase", "passwd", "login",
    "libpam-runtime",
)  # fmt: skip
PROBE_TIMEOUT = 60.0  # seconds for `qemu -device help`
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True)
class Qemu:
    """How to start QEMU: the first words of its command line and what its environment needs."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    private: bool = False


def find_qemu(store: PackageStore) -> Qemu:
    """A usable QEMU; downloads a private one into the cache when the machine's own will not do."""
    own = shutil.which(PROGRAM)
    if own is not None:
        qemu = Qemu((own,))
        version = probe(qemu)
        if version is not None:
            return Qemu((own,), version=version)
    tree = store.tree("qemu", SUITES, ROOTS, exclude=EXCLUDE)
    qemu = private_qemu(tree)
    version = _private_version(tree)
    if version:
        return Qemu(qemu.command, qemu.environment, version, private=True)
    version = probe(qemu)
    if version is None:
        raise LabError(
            f"the QEMU unpacked in {tree} does not run or has no vfio-user-pci; "
            "remove the folder and try again"
        )
    (tree / "qemu-version").write_text(version + "\n")
    return Qemu(qemu.command, qemu.environment, version, private=True)


def _private_version(tree: Path) -> str:
    """The version noted when this tree's QEMU passed its probe; empty before."""
    note = tree / "qemu-version"
    return note.read_text().strip() if note.is_file() else ""


def private_qemu(tree: Path) -> Qemu:
    """The command line for a QEMU unpacked in ``tree``."""
    libraries = tree / LIBRARIES
    command = (
        str(tree / "usr/lib64/ld-linux-x86-64.so.2"),
        "--library-path",
        f"{libraries}:{libraries}/systemd",
        str(tree / "usr/bin" / PROGRAM),
        "-L",
        str(tree / "usr/share/qemu"),
        "-L",
        str(tree / "usr/share/seabios"),
    )
    return Qemu(command, {"QEMU_MODULE_DIR": str(libraries / "qemu")}, private=True)


def probe(qemu: Qemu) -> str | None:
    """The version of a QEMU that runs and knows vfio-user-pci; None for any other."""
    devices = _output(qemu, "-device", "help")
    if devices is None or '"vfio-user-pci"' not in devices:
        return None
    words = (_output(qemu, "--version") or "").split()
    return words[3] if len(words) > 3 else "unknown"


def _output(qemu: Qemu, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            [*qemu.command, *arguments],
            env={**os.environ, **qemu.environment},
            capture_output=True,
            timeout=PROBE_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.decode("utf-8", "replace") if result.returncode == 0 else None
