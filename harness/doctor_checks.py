"""The points of the doctor's checklist, each a pure function of what the machine told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.doctor_facts import Check, Facts, bad, list_of, ok, skipped, warn
from harness.environment import (
    FIRMWARE_FOLDERS,
    MEMLOCK_NEEDED,
    MEMLOCK_WANTED,
    iommu_mode,
    module_origin,
    pytest_fits,
    version_of,
)
from harness.kernel_log import LogFinding
from harness.signatures import known_signatures

FIRST_KERNEL = (6, 14)  # drivers/accel/amdxdna was merged for 6.14
FIRST_WITH_NPU_7 = (7, 0)  # takes npu_7.sbin before npu.sbin; earlier ones take protocol 6 only
POWER_MODES = {0: "default", 1: "low", 2: "medium", 3: "high", 4: "turbo"}  # amdxdna_accel.h
# kernel/module/signing.c and security/lockdown
UNSIGNED = ("unsigned module is rejected", "Key was rejected", "Lockdown: modprobe")
DIED, WARNED = 1 << 7, 1 << 9  # Documentation/admin-guide/tainted-kernels.rst


def kernel(facts: Facts) -> Check:
    """The driver is in the kernel since 6.14."""
    if not facts.version:
        return warn("kernel", "the machine does not say which kernel runs", "run `uname -r` on it")
    if facts.version >= FIRST_KERNEL:
        return ok("kernel", facts.release)
    if facts.loaded:
        return warn(
            "kernel",
            f"the kernel {facts.release} is older than 6.14: its driver comes from elsewhere",
            "use a kernel >= 6.14, better >= 7.0, to have the kernel's own driver",
        )
    return bad(
        "kernel",
        f"the kernel {facts.release} is older than 6.14, the first with the amdxdna driver",
        "install a kernel >= 6.14, better >= 7.0 (Debian: from backports)",
    )


def device(facts: Facts) -> Check:
    """An NPU on the PCI bus."""
    if not facts.npus:
        return bad(
            "device",
            "no AMD NPU is on the PCI bus",
            "switch the NPU (IPU) on in the firmware setup and power the machine off once; without a Ryzen "
            "AI processor there is none (`lspci -d 1022:` lists AMD's devices)",
        )
    npu = facts.npu
    name = f", {npu['name']}" if npu.get("name") else ""
    return ok("device", f"{npu.get('address')} 1022:{npu.get('device')} rev {npu.get('revision')}{name}")


def driver(facts: Facts) -> Check:
    """The module exists for the running kernel."""
    if facts.loaded:
        built = "built into the kernel" if facts.module.get("builtin") else str(facts.module.get("path"))
        return ok("driver", built)
    if facts.module.get("path"):
        return ok("driver", str(facts.module["path"]))
    config = facts.of_probe("config")
    if config.get("value") in ("y", "m"):
        return bad(
            "driver",
            f"the kernel {facts.release} is configured with the driver, but its module is not installed",
            "install the kernel's extra modules (Ubuntu: linux-modules-extra-$(uname -r)), run `depmod -a`",
        )
    return bad(
        "driver",
        f"the kernel {facts.release} was built without the amdxdna driver"
        if config.get("value") == "n"
        else f"the kernel {facts.release} has no amdxdna module",
        "boot a kernel with CONFIG_DRM_ACCEL_AMDXDNA (Debian: 6.18 and later)",
    )


def loading(facts: Facts) -> Check:
    """The module is loaded, or what keeps it away."""
    if facts.loaded:
        return ok("module", f"amdxdna is loaded ({module_origin(facts.report)})")
    if not facts.module.get("path"):
        return skipped("module", "there is no module to load")
    refused = list_of(facts.probed, "refusals")
    words = str(facts.kernel.get("command_line") or "").split()
    named = [word for word in words if "blacklist=" in word and "amdxdna" in word]
    if refused:
        where = f"{refused[0].get('file')}: {refused[0].get('line')}"
        return bad(
            "module",
            f"the amdxdna module is blacklisted ({where})",
            f"remove that line from {refused[0].get('file')}, then `modprobe amdxdna`",
        )
    if named:
        return bad(
            "module",
            f"the amdxdna module is blacklisted on the kernel command line ({named[0]})",
            "remove it from the boot loader's configuration and reboot",
        )
    failure = facts.failure
    if failure is not None and failure.severity == "load-fail":
        return bad("module", f"the amdxdna module could not be loaded: {_line(failure)}", _mend(failure))
    return bad(
        "module",
        "the amdxdna module is not loaded",
        "run `sudo modprobe amdxdna` and read `sudo dmesg | grep -i xdna`",
    )


def origin(facts: Facts) -> Check:
    """Whose driver runs, and in a kernel in which state."""
    if not facts.loaded:
        return skipped("origin", "no driver is loaded")
    whose = module_origin(facts.report)
    if whose in ("dkms", "out-of-tree"):
        kind = "a DKMS" if whose == "dkms" else "an out-of-tree"
        return warn(
            "origin",
            f"the loaded amdxdna is {kind} module, not the kernel's own: it explains differences to reports "
            "about this kernel",
            "fits AMD's own XRT; to judge the kernel, remove the package that brought it and reboot",
        )
    taint = str(facts.kernel.get("tainted") or "0")
    bits = int(taint) if taint.isdigit() else 0
    if bits & (DIED | WARNED):
        what = "an oops" if bits & DIED else "a warning"
        return warn(
            "origin",
            f"the kernel reported {what} since it was booted (taint {bits})",
            "read `sudo dmesg`, keep it for a report, and reboot before judging anything",
        )
    return ok("origin", f"{whose}, kernel taint {bits}")


def secure_boot(facts: Facts) -> Check:
    """Secure boot keeps unsigned modules out."""
    on = facts.report.get("secure_boot") is True or bool(facts.of_probe("signing").get("enforced"))
    rejected = next((line for line in facts.log if any(text in line for text in UNSIGNED)), None)
    if on and not facts.loaded and (rejected or facts.probed.get("dkms")):
        return bad(
            "secure-boot",
            "secure boot is on and the module has no signature that the kernel accepts"
            + (f" ({rejected.split('] ', 1)[-1][:160]})" if rejected else ""),
            "enrol the DKMS key (`sudo mokutil --import /var/lib/dkms/mok.pub`, reboot, confirm), or use the "
            "kernel's own signed module",
        )
    return ok("secure-boot", "on" if on else "off" if facts.report.get("secure_boot") is False else "no UEFI")


def iommu(facts: Facts) -> Check:
    """The driver shares the process's addresses with the device, or lets the IOMMU translate (7.1)."""
    if not facts.npus:
        return skipped("iommu", "there is no NPU")
    mode = iommu_mode(facts.report)
    failure = facts.failure
    if mode == "off" or (not facts.nodes and failure is not None and failure.klass == "iommu"):
        asked = next(
            (w for w in str(facts.kernel.get("command_line") or "").split() if w.endswith("iommu=off")), None
        )
        return bad(
            "iommu",
            "the NPU is behind no IOMMU" + (f" ({asked} on the kernel command line)" if asked else ""),
            f"remove {asked} and reboot" if asked else "switch the IOMMU (AMD-Vi) on in the firmware setup",
        )
    refusal = _step(facts, "open")
    if refusal in ("ENODEV", "EOPNOTSUPP", "ENOSPC"):
        return bad(
            "iommu",
            f"shared virtual addressing is not available ({refusal} when the node is opened; mode {mode})",
            "boot with amd_iommu=on iommu=pt; from 7.1 on amdxdna.force_iova=1 works, too",
        )
    return ok("iommu", mode)


def firmware(facts: Facts) -> Check:
    """The file that the running kernel's driver asks for, of a protocol that it takes."""
    folder = FIRMWARE_FOLDERS.get((str(facts.npu.get("device")), str(facts.npu.get("revision"))))
    if folder is None:
        why = "there is no NPU" if not facts.npus else "not known which firmware this NPU takes"
        return skipped("firmware", why)
    files = [str(file.get("path")) for file in list_of(facts.report, "firmware")]
    have = sorted(path for path in files if f"/amdnpu/{folder}/" in path)
    failure = facts.failure if not facts.nodes else None
    fit = _fitting(have, new=facts.version >= FIRST_WITH_NPU_7)
    version = facts.npu.get("firmware")
    if facts.nodes:
        return ok("firmware", f"{version or 'running'} ({', '.join(fit) or 'files not seen'})")
    if failure is not None and failure.signature == "fw-proto":
        return bad(
            "firmware",
            f"the kernel {facts.release} does not take this firmware's protocol: {_line(failure)}",
            "install the linux-firmware release that fits the kernel: up to 6.19 only protocol 6 (npu.sbin), "
            "from 7.0 on npu_7.sbin; then load the driver again",
        )
    if not have or (failure is not None and failure.signature == "fw-missing"):
        return bad(
            "firmware",
            f"the firmware is missing: nothing loadable below /lib/firmware/amdnpu/{folder}",
            "install linux-firmware (Debian: firmware-amd-graphics), rebuild the initramfs "
            "(`update-initramfs -u`), then `modprobe -r amdxdna && modprobe amdxdna`",
        )
    if not fit:
        return bad(
            "firmware",
            f"the kernel {facts.release} takes npu.sbin, but there is only {', '.join(have)}",
            "install a linux-firmware release that has amdnpu/" + folder + "/npu.sbin, or a kernel >= 7.0",
        )
    if failure is not None and failure.klass == "firmware":
        return bad("firmware", f"the firmware did not start: {_line(failure)}", _mend(failure))
    return ok("firmware", ", ".join(fit))


def node(facts: Facts) -> Check:
    """The driver took the device and made /dev/accel/accel0."""
    if facts.nodes:
        return ok("node", ", ".join(str(one.get("path")) for one in facts.nodes))
    if not facts.npus or not facts.loaded:
        return skipped("node", "there is no NPU" if not facts.npus else "no driver is loaded")
    failure = facts.failure
    if failure is not None:
        return bad("node", f"the driver did not take the device: {_line(failure)}", _mend(failure))
    return bad(
        "node",
        "the driver is loaded, but made no /dev/accel node",
        "read `sudo dmesg | grep -i xdna`, then `modprobe -r amdxdna && modprobe amdxdna`",
    )


def permission(facts: Facts) -> Check:
    """The user may open the node."""
    if not facts.nodes:
        return skipped("permission", "there is no node")
    first, name = facts.nodes[0], facts.user.get("name")
    path, mode, group = first.get("path"), str(first.get("mode")), str(first.get("group"))
    if any(one.get("allowed") for one in facts.nodes):
        return ok("permission", f"{name} may open {path} ({mode}, group {group})")
    if not _group_may(mode):
        return bad(
            "permission",
            f"nobody but root may open {path} (mode {mode})",
            'give it to its group by a udev rule: SUBSYSTEM=="accel", GROUP="render", MODE="0660"',
        )
    if group in _words(facts.probed, "groups"):
        return bad(
            "permission",
            f"{name} was added to the group {group} after this login",
            "log out of every session and in again (or reboot)",
        )
    return bad(
        "permission",
        f"{name} is not in the group {group} that may open {path}",
        f"`sudo usermod -aG {group} {name}`, then log in again",
    )


def trial(facts: Facts) -> Check:
    """A few harmless ioctls."""
    steps = list_of(facts.of_probe("test"), "steps")
    failed = next((step for step in steps if step.get("result") != "ok"), None)
    if not facts.nodes or (failed is not None and failed.get("result") in ("EACCES", "EPERM")):
        return skipped("ioctl", "the node cannot be opened")
    if failed is not None:
        step = "the one after" if failed.get("name") == "open" else "that"
        return bad(
            "ioctl",
            f"{failed.get('name')} fails with {failed.get('result')}",
            f"read `sudo dmesg | grep -i xdna` for {step}; reload the driver (`modprobe -r amdxdna && "
            "modprobe amdxdna`), else power the machine off and on",
        )
    if not steps:
        return warn(
            "ioctl", "the small test did not run", "run `xdnawatch doctor --json` and read its errors"
        )
    told = facts.of_probe("test").get("driver")
    name = f"{told[0]} {'.'.join(map(str, told[1:]))}, " if isinstance(told, list) and len(told) == 4 else ""
    return ok("ioctl", f"{name}{len(steps)} calls answered")


def memlock(facts: Facts) -> Check:
    """Buffers are locked memory."""
    limit = facts.user.get("memlock_soft")
    if facts.user.get("uid") == 0 or not isinstance(limit, int) or limit < 0:
        return ok("memlock", "root" if facts.user.get("uid") == 0 else "unlimited")
    step = (
        "write `* - memlock unlimited` to /etc/security/limits.d/99-npu.conf (a service: LimitMEMLOCK=), "
        "then log in again"
    )
    if limit < MEMLOCK_NEEDED:
        return bad("memlock", f"the user may lock only {limit} bytes of memory", step)
    if limit < MEMLOCK_WANTED:
        return warn("memlock", f"the user may lock only {limit >> 20} MiB; XRT locks 64 MiB and more", step)
    return ok("memlock", f"{limit >> 20} MiB")


def xrt(facts: Facts) -> Check:
    """XRT's core and its NPU plug-in are of one release."""
    core, shim = facts.of_report("xrt").get("core"), facts.of_report("xrt").get("npu")
    if not core and not shim:
        return warn(
            "xrt",
            "XRT is not installed: only programs that call the driver directly can use the NPU",
            "Debian: apt install libxrt-npu2 libxrt-utils-npu; else AMD's xrt packages",
        )
    if not shim or not core:
        lacking = "its NPU plug-in (libxrt_driver_xdna)" if core else "its core (libxrt_coreutil)"
        return bad("xrt", f"XRT lacks {lacking}", "install both from one source and release")
    if version_of(core)[:2] != version_of(shim)[:2]:
        return bad(
            "xrt",
            f"XRT's core is {core}, its NPU plug-in {shim}: they do not fit",
            "install both from one source and release",
        )
    return ok("xrt", str(core))


def power(facts: Facts) -> Check:
    """What changes measured speeds."""
    told = facts.of_probe("test").get("power_mode")
    mode = POWER_MODES.get(told, str(told)) if isinstance(told, int) else "unknown"
    profile = facts.of_report("power").get("profile")
    words = f"NPU power mode {mode}" + (f", platform profile {profile}" if profile else "")
    if facts.of_report("power").get("source") == "battery":
        return warn("power", f"the machine runs on battery ({words})", "plug it in before measuring")
    if mode in ("low", "medium") or profile in ("low-power", "quiet", "power-saver"):
        return warn("power", f"power is saved: {words}", "`xrt-smi configure --pmode default`, as root")
    return ok("power", words)


def log(facts: Facts) -> Check:
    """Without the kernel log half of the causes stay unknown."""
    if facts.of_probe("log").get("readable"):
        return ok("log", "the kernel log can be read")
    return warn(
        "log",
        "the user may not read the kernel log: what the driver said stays unknown",
        "run again as root, or allow `sudo -n`",
    )


def tools(facts: Facts) -> Check:
    """What `xdnawatch run` needs on the machine."""
    python = facts.of_report("python")
    if not pytest_fits(python):
        return warn(
            "tools",
            f"`xdnawatch run` cannot test here: Python {python.get('version')}, "
            f"pytest {python.get('pytest') or 'missing'}",
            "install Python >= 3.11 and pytest >= 8 (python3-pytest, or pip install --user pytest)",
        )
    return ok("tools", f"Python {python.get('version')}, pytest {python.get('pytest')}")


CHECKS: Sequence[Callable[[Facts], Check]] = (
    kernel, device, driver, loading, origin, secure_boot, iommu, firmware, node, permission, trial, memlock,
    xrt, power, log, tools,
)  # fmt: skip


def _fitting(files: Sequence[str], *, new: bool) -> list[str]:
    """Files that a kernel asks for by name; a compressed one has one more suffix."""
    names = ("npu_7.sbin", "npu.sbin") if new else ("npu.sbin",)
    return [path for name in names for path in files if path.rpartition("/")[2].startswith(name)]


def _step(facts: Facts, name: str) -> str | None:
    for step in list_of(facts.of_probe("test"), "steps"):
        if step.get("name") == name:
            return str(step.get("result"))
    return None


def _group_may(mode: str) -> bool:
    try:
        return int(mode, 8) & 0o060 == 0o060
    except ValueError:
        return True


def _line(finding: LogFinding) -> str:
    return finding.text.split("\n", 1)[0][:200]


def _mend(finding: LogFinding) -> str:
    known = next((one for one in known_signatures() if one.id == finding.signature), None)
    return known.next_step if known and known.next_step else "read `sudo dmesg | grep -i xdna`"


def _words(facts: Mapping[str, Any], name: str) -> list[str]:
    words = facts.get(name)
    return [str(word) for word in words] if isinstance(words, list) else []
