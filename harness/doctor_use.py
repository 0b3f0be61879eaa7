"""The doctor's points from the node on: may and can the user work with it? (pure)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness import remedies
from harness.doctor_facts import Check, Facts, bad, list_of, ok, skipped, warn
from harness.environment import MEMLOCK_NEEDED, MEMLOCK_WANTED, group_may, pytest_fits, xrt_fits

POWER_MODES = {0: "default", 1: "low", 2: "medium", 3: "high", 4: "turbo"}  # amdxdna_accel.h


def permission(facts: Facts) -> Check:
    """The user may open the node."""
    if not facts.nodes:
        return skipped("permission", "there is no node")
    first, name = facts.nodes[0], facts.user.get("name")
    path, mode, group = first.get("path"), str(first.get("mode")), str(first.get("group"))
    if any(one.get("allowed") for one in facts.nodes):
        return ok("permission", f"{name} may open {path} ({mode}, group {group})")
    if not group_may(mode):
        return bad(
            "permission",
            f"nobody but root may open {path} (mode {mode})",
            remedies.UDEV_RULE,
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
    if not facts.nodes:
        return skipped("ioctl", "there is no node")
    if failed is not None and failed.get("result") in ("EACCES", "EPERM"):
        return skipped("ioctl", "the user may not open the node")
    if failed is not None:
        step = "the one after" if failed.get("name") == "open" else "that"
        return bad(
            "ioctl",
            f"{failed.get('name')} fails with {failed.get('result')}",
            f"read `{remedies.LOG}` for {step}; `{remedies.RELOAD}`; if that does not help, power the "
            "machine off and on",
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
        "`echo '* - memlock unlimited' | sudo tee /etc/security/limits.d/99-npu.conf` (a service: "
        "LimitMEMLOCK=infinity), then log in again"
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
            remedies.xrt(facts.family),
        )
    if not shim or not core:
        lacking = "its NPU plug-in (libxrt_driver_xdna)" if core else "its core (libxrt_coreutil)"
        return bad("xrt", f"XRT lacks {lacking}", remedies.xrt(facts.family))
    if not xrt_fits(facts.of_report("xrt")):
        return bad(
            "xrt",
            f"XRT's core is {core}, its NPU plug-in {shim}: they do not fit",
            remedies.xrt(facts.family),
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
            remedies.pytest(facts.family),
        )
    return ok("tools", f"Python {python.get('version')}, pytest {python.get('pytest')}")


def _words(facts: Mapping[str, Any], name: str) -> list[str]:
    words = facts.get(name)
    return [str(word) for word in words] if isinstance(words, list) else []
