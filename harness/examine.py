"""What a machine says about itself. This file runs ON the machine: standard library only, Python >= 3.8.

It is sent through the shell as text and prints one JSON object, so that the proof of the boot and the
environment of a result cost one round trip. Nothing is judged here (``boot_proof`` and ``environment`` do
that on the host); what cannot be read is absent or null. It changes nothing on the machine.
"""

from __future__ import annotations

import grp
import hashlib
import importlib.util
import json
import os
import platform
import pwd
import resource
import stat
import struct
import sys
import time
from pathlib import Path

TYPE_CHECKING = False  # spares the machine the import of typing; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

# PCI ids of every NPU that amdxdna of 6.14 to 7.3 knows (drivers/accel/amdxdna/amdxdna_pci_drv.c).
VENDOR = "0x1022"
DEVICES = frozenset({"0x1502", "0x17f0", "0x17f2", "0x17f3", "0x1b0b", "0x1b0c"})
FIRMWARE_LIMIT = 32 << 20  # bytes of one firmware file that are hashed
NT_GNU_BUILD_ID = 3  # include/uapi/linux/elf.h


def content(path: Path, limit: int = 65536) -> bytes | None:
    """The beginning of a file, None when it cannot be read."""
    try:
        with path.open("rb") as handle:
            return handle.read(limit)
    except OSError:
        return None


def text(path: Path) -> str | None:
    """A small file as stripped text, None when it cannot be read."""
    data = content(path)
    return None if data is None else data.decode("utf-8", "replace").strip("\0\n ")


def listed(folder: str, pattern: str) -> list[Path]:
    """What matches below a folder, sorted and bounded; nothing where the folder is absent."""
    return sorted(Path(folder).glob(pattern))[:1024]


def build_id_of_notes(data: bytes | None) -> str | None:
    """The GNU build id in ELF notes: u32 name size, u32 description size, u32 type, padded to 4 bytes."""
    at = 0
    while data and at + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("<III", data, at)
        at += 12
        name = data[at : at + name_size]
        at += (name_size + 3) & ~3
        if kind == NT_GNU_BUILD_ID and name == b"GNU\0":
            return data[at : at + size].hex() or None
        at += (size + 3) & ~3
    return None


def kernel() -> dict[str, Any]:
    """Which kernel runs, and how it was started."""
    return {
        "release": platform.release(),
        "build": platform.version(),
        "architecture": platform.machine(),
        "boot_id": text(Path("/proc/sys/kernel/random/boot_id")),
        "command_line": text(Path("/proc/cmdline")),
        "build_id": build_id_of_notes(content(Path("/sys/kernel/notes"))),
        "tainted": text(Path("/proc/sys/kernel/tainted")),
        "uptime": float((text(Path("/proc/uptime")) or "0").split()[0]),
        "time": time.time(),
    }


def module() -> dict[str, Any]:
    """The amdxdna module: loaded or not, whose it is, and where it lies on disk."""
    base = Path("/sys/module/amdxdna")
    return {
        "loaded": base.is_dir(),
        "builtin": base.is_dir() and not (base / "initstate").exists(),
        "srcversion": text(base / "srcversion"),
        "version": text(base / "version"),
        "taint": text(base / "taint"),
        "build_id": build_id_of_notes(content(base / "notes/.note.gnu.build-id")),
        "parameters": {path.name: text(path) for path in sorted(base.glob("parameters/*"))},
        "path": module_path(Path("/lib/modules") / platform.release()),
    }


def module_path(folder: Path) -> str | None:
    """Where modprobe would take the module from, by the modules.dep of ``folder``."""
    try:
        with (folder / "modules.dep").open(encoding="utf-8", errors="replace") as handle:
            for line in handle:
                name = line.split(":", 1)[0]
                if Path(name).name.split(".", 1)[0] == "amdxdna":
                    return str(folder / name)
    except OSError:
        return None
    return None


def npus() -> list[dict[str, Any]]:
    """Every NPU on the PCI bus, with its driver, its IOMMU group and what the driver says of it."""
    found = []
    for path in listed("/sys/bus/pci/devices", "*"):
        if text(path / "vendor") != VENDOR or text(path / "device") not in DEVICES:
            continue
        driver = path / "driver"
        found.append(
            {
                "address": path.name,
                "device": text(path / "device"),
                "revision": text(path / "revision"),
                "driver": driver.resolve().name if driver.exists() else None,
                "iommu_group": (path / "iommu_group").exists(),
                "iommu_domain": text(path / "iommu_group/type"),
                "firmware": text(path / "fw_version"),
                "name": text(path / "vbnv"),
                "type": text(path / "device_type"),
            }
        )
    return found


def nodes() -> list[dict[str, Any]]:
    """The device nodes, and whether this user may open them."""
    found = []
    for path in listed("/dev/accel", "accel*"):
        status = path.stat()
        found.append(
            {
                "path": str(path),
                "mode": oct(stat.S_IMODE(status.st_mode)),
                "group": group_name(status.st_gid),
                "allowed": os.access(path, os.R_OK | os.W_OK),
            }
        )
    return found


def group_name(gid: int) -> str:
    """A group's name, or its number where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def user() -> dict[str, Any]:
    """Who runs the tests and what the limits are; memlock in bytes, -1 for unlimited."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return {
        "uid": uid,
        "name": name,
        "home": str(Path.home()),
        "groups": sorted(group_name(gid) for gid in os.getgroups()),
        "memlock_soft": soft if soft != resource.RLIM_INFINITY else -1,
        "memlock_hard": hard if hard != resource.RLIM_INFINITY else -1,
    }


def firmware() -> list[dict[str, Any]]:
    """Firmware files of the driver, with a digest: their versions cannot be read from the files."""
    found = []
    for root in ("/lib/firmware/updates", "/lib/firmware"):
        for path in listed(root, "amdnpu/*/*")[:64]:
            data = content(path, FIRMWARE_LIMIT)
            if data is not None:
                digest = hashlib.sha256(data).hexdigest()
                found.append({"path": str(path), "size": path.stat().st_size, "sha256": digest})
    return found


def iommu() -> dict[str, Any]:
    """Which IOMMU the kernel uses."""
    return {"units": [path.name for path in listed("/sys/class/iommu", "*")][:64]}


def xrt() -> dict[str, Any]:
    """The user-space runtime, by the version in its libraries' names; None where it is not installed."""

    def version(name: str) -> str | None:
        for place in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/opt/xilinx/xrt/lib"):
            found = sorted(listed(place, name + ".so.*"), key=lambda path: len(path.name))
            if found:
                return found[-1].name.split(".so.", 1)[1]
        return None

    return {"core": version("libxrt_coreutil"), "npu": version("libxrt_driver_xdna")}


def power() -> dict[str, Any]:
    """Battery or mains, and which profile: both change what is measured."""
    supplied = False
    battery = False
    for path in listed("/sys/class/power_supply", "*"):
        kind = text(path / "type")
        supplied = supplied or (kind in ("Mains", "USB") and text(path / "online") == "1")
        battery = battery or (kind == "Battery" and text(path / "scope") != "Device")
    return {
        "source": "battery" if battery and not supplied else "mains",
        "profile": text(Path("/sys/firmware/acpi/platform_profile")),
        "governor": text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
    }


def secure_boot() -> bool | None:
    """Whether it is on; None where the firmware does not say (no UEFI)."""
    for path in listed("/sys/firmware/efi/efivars", "SecureBoot-*"):
        data = content(path, 16)
        return None if not data else data[-1:] == b"\x01"
    return None


def watchdogs() -> list[dict[str, Any]]:
    """Hardware watchdogs; they are not opened here, that would start them."""
    return [
        {"name": path.name, "identity": text(path / "identity"), "nowayout": text(path / "nowayout")}
        for path in listed("/sys/class/watchdog", "watchdog*")[:8]
    ]


def machine() -> dict[str, Any]:
    """Names of product, firmware, processor and system."""
    processor = [
        line.split(":", 1)[1].strip()
        for line in (text(Path("/proc/cpuinfo")) or "").splitlines()
        if line.startswith("model name")
    ]
    release = dict(
        line.split("=", 1) for line in (text(Path("/etc/os-release")) or "").splitlines() if "=" in line
    )
    return {
        "product": text(Path("/sys/class/dmi/id/product_name")),
        "bios": text(Path("/sys/class/dmi/id/bios_version")),
        "processor": processor[0] if processor else None,
        "system": release.get("PRETTY_NAME", "").strip('"') or None,
        "distribution": release.get("ID", "").strip('"') or None,
        "like": release.get("ID_LIKE", "").strip('"') or None,
        "lockdown": text(Path("/sys/kernel/security/lockdown")),
    }


def python() -> dict[str, Any]:
    """What the suite needs here."""
    return {
        "version": platform.python_version(),
        "executable": sys.executable,
        "pytest": pytest_version(),
    }


def pytest_version() -> str | None:
    """The version of the pytest that `python3 -m pytest` would start, None without one.

    Read from the name of its dist-info folder: importlib.metadata costs a slow machine a third of a second.
    """
    spec = importlib.util.find_spec("pytest")
    if spec is None or spec.origin is None:
        return None
    installed = sorted(Path(spec.origin).parent.parent.glob("pytest-*.dist-info"))
    return installed[-1].name[len("pytest-") : -len(".dist-info")] if installed else "unknown"


def kernel_log() -> str | None:
    """How this user can read the kernel log: "direct", "sudo" (without a password), or not at all."""
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        pass
    else:
        return "direct"
    import subprocess  # only machines without that right pay for the import

    try:
        answer = subprocess.run(
            ["sudo", "-n", "true"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return "sudo" if answer.returncode == 0 else None


PARTS = (
    kernel,
    module,
    npus,
    nodes,
    user,
    firmware,
    iommu,
    xrt,
    power,
    secure_boot,
    watchdogs,
    machine,
    python,
    kernel_log,
)


def examine() -> dict[str, Any]:
    """Every part by its name; a part that fails says so under "errors" and hides no other."""
    facts: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for part in PARTS:
        try:
            facts[part.__name__] = part()
        except Exception as error:  # noqa: BLE001 - an odd machine may break one part; the rest is still wanted
            errors[part.__name__] = repr(error)[:300]
    return {**facts, "errors": errors}


if __name__ == "__main__":
    json.dump(examine(), sys.stdout)
    sys.stdout.write("\n")
