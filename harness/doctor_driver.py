"""The doctor's points up to the node: kernel, device, driver, IOMMU, firmware (pure)."""

from __future__ import annotations

import shlex

from harness import remedies
from harness.doctor_facts import Check, Facts, bad, list_of, ok, skipped, warn
from harness.environment import DIED, WARNED, iommu_mode, module_origin
from harness.firmware import FIRST_WITH_NPU_7, firmware_for
from harness.kernel_log import LogFinding
from harness.signatures import known_signatures

FIRST_KERNEL = (6, 14)  # drivers/accel/amdxdna was merged for 6.14
# What opening the node says without SVA and without force_iova: the IOMMU's own words, from 7.2 on EINVAL.
NO_ADDRESSES = ("ENODEV", "EOPNOTSUPP", "ENOSPC", "EINVAL")
FIRST_WITH_FORCE_IOVA = (7, 1)  # the IOMMU may translate in place of sharing the process's addresses
# kernel/module/signing.c and security/lockdown
UNSIGNED = ("unsigned module is rejected", "Key was rejected", "Lockdown: modprobe")


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
        remedies.newer_kernel(facts.family),
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
            remedies.modules(facts.family),
        )
    return bad(
        "driver",
        f"the kernel {facts.release} was built without the amdxdna driver"
        if config.get("value") == "n"
        else f"the kernel {facts.release} has no amdxdna module",
        f"boot a kernel with CONFIG_DRM_ACCEL_AMDXDNA: {remedies.newer_kernel(facts.family)}",
    )


def loading(facts: Facts) -> Check:
    """The module is loaded, or what keeps it away."""
    if facts.loaded:
        return ok("module", f"amdxdna is loaded ({module_origin(facts.report)})")
    if not facts.module.get("path"):
        return skipped("module", "there is no module to load")
    refused = list_of(facts.probed, "refusals")
    named = [word for word in facts.words if "blacklist=" in word and "amdxdna" in word]
    if refused:
        where = f"{refused[0].get('file')}: {refused[0].get('line')}"
        return bad(
            "module",
            f"the amdxdna module is blacklisted ({where})",
            f"remove that line: `sudo sed -i /amdxdna/d {shlex.quote(str(refused[0].get('file')))}`, then "
            "`sudo modprobe amdxdna`",
        )
    if named:
        return bad(
            "module",
            f"the amdxdna module is blacklisted on the kernel command line ({named[0]})",
            remedies.without_parameter(facts.family, named[0]),
        )
    if _unsigned(facts) is not None:
        return skipped("module", "secure boot keeps it out")
    failure = facts.failure
    if failure is not None and failure.severity == "load-fail":
        return bad("module", f"the amdxdna module could not be loaded: {_line(failure)}", _mend(failure))
    return bad(
        "module",
        "the amdxdna module is not loaded",
        f"`sudo modprobe amdxdna`; if that fails, `{remedies.LOG}` says why",
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
            f"it fits AMD's own XRT; {remedies.FOREIGN_MODULE}",
        )
    taint = str(facts.kernel.get("tainted") or "0")
    bits = int(taint) if taint.isdigit() else 0
    if bits & (DIED | WARNED):
        what = "an oops" if bits & DIED else "a warning"
        return warn(
            "origin",
            f"the kernel reported {what} since it was booted (taint {bits})",
            "keep the log for a report (`sudo dmesg >dmesg.txt`), then `sudo reboot` before judging anything",
        )
    return ok("origin", f"{whose}, kernel taint {bits}")


def secure_boot(facts: Facts) -> Check:
    """Secure boot keeps unsigned modules out."""
    refusal = _unsigned(facts)
    if refusal is not None:
        return bad(
            "secure-boot",
            f"secure boot is on and the module has no signature that the kernel accepts{refusal}",
            remedies.signing_key(facts.family),
        )
    return ok("secure-boot", "on" if facts.report.get("secure_boot") is True else "off or no UEFI")


def _unsigned(facts: Facts) -> str | None:
    """The kernel's words, in brackets, when it keeps the module out for want of a signature."""
    on = facts.report.get("secure_boot") is True or bool(facts.of_probe("signing").get("enforced"))
    if facts.loaded or not on:
        return None
    rejected = next((line for line in facts.log if any(text in line for text in UNSIGNED)), None)
    if rejected is None:
        return "" if facts.probed.get("dkms") else None
    return f" ({rejected.split('] ', 1)[-1][:160]})"


def iommu(facts: Facts) -> Check:
    """The driver shares the process's addresses with the device, or lets the IOMMU translate (7.1)."""
    if not facts.npus:
        return skipped("iommu", "there is no NPU")
    mode = iommu_mode(facts.report)
    failure = facts.failure
    if mode == "off" or (not facts.nodes and failure is not None and failure.klass == "iommu"):
        line = facts.kernel.get("command_line")
        asked = remedies.iommu_refusal(line)
        return bad(
            "iommu",
            "the NPU is behind no IOMMU" + (f" ({asked} on the kernel command line)" if asked else ""),
            remedies.iommu_on(facts.family, line),
        )
    refusal = _step(facts, "open")
    if refusal in NO_ADDRESSES:
        return bad(
            "iommu",
            f"shared virtual addressing is not available ({refusal} when the node is opened; mode {mode})",
            remedies.with_parameters(
                facts.family,
                "amdxdna.force_iova=1" if facts.version >= FIRST_WITH_FORCE_IOVA else "iommu=pt",
            ),
        )
    return ok("iommu", mode)


def firmware(facts: Facts) -> Check:
    """The file that the running kernel's driver asks for, of a protocol that it takes."""
    found = firmware_for(facts.npu, list_of(facts.report, "firmware"), facts.version)
    folder, have, fit = found.folder, found.have, found.fit
    if folder is None:
        why = "there is no NPU" if not facts.npus else "not known which firmware this NPU takes"
        return skipped("firmware", why)
    failure = facts.failure if not facts.nodes else None
    version = facts.npu.get("firmware")
    if facts.nodes:
        return ok("firmware", f"{version or 'running'} ({', '.join(fit) or 'files not seen'})")
    if failure is not None and failure.signature in ("fw-proto", "fw-proto-refused"):
        return bad(
            "firmware",
            f"the kernel {facts.release} does not take this firmware's protocol: {_line(failure)}",
            "the linux-firmware release must fit the kernel: up to 6.19 only protocol 6 (npu.sbin), from 7.0 "
            f"on npu_7.sbin. {remedies.firmware(facts.family)}",
        )
    if not have or (fit and failure is not None and failure.signature == "fw-missing"):
        return bad(
            "firmware",
            f"the firmware is missing: nothing loadable below /lib/firmware/amdnpu/{folder}",
            remedies.firmware(facts.family),
        )
    if not fit:
        asked = "npu_7.sbin or npu.sbin" if facts.version >= FIRST_WITH_NPU_7 else "npu.sbin"
        return bad(
            "firmware",
            f"the kernel {facts.release} takes {asked}, but there is only {', '.join(have)}",
            f"take a linux-firmware release that has amdnpu/{folder}/npu.sbin, or a kernel >= 7.0: "
            + remedies.firmware(facts.family),
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
    holder = facts.npu.get("driver")
    if holder not in (None, "amdxdna"):
        return bad(
            "node",
            f"the NPU is held by the driver {holder}, not by amdxdna",
            remedies.give_back(str(facts.npu.get("address"))),
        )
    failure = facts.failure
    if failure is not None:
        return bad("node", f"the driver did not take the device: {_line(failure)}", _mend(failure))
    return bad(
        "node",
        "the driver is loaded, but made no /dev/accel node"
        + ("" if holder else ": it is not bound to the device"),
        f"read `{remedies.LOG}`, then `{remedies.RELOAD}`",
    )


def _step(facts: Facts, name: str) -> str | None:
    for step in list_of(facts.of_probe("test"), "steps"):
        if step.get("name") == name:
            return str(step.get("result"))
    return None


def _line(finding: LogFinding) -> str:
    return finding.text.split("\n", 1)[0][:200]


def _mend(finding: LogFinding) -> str:
    known = next((one for one in known_signatures() if one.id == finding.signature), None)
    return known.next_step if known and known.next_step else f"read `{remedies.LOG}`"
