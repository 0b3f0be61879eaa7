"""What a result depends on besides kernel and test, and what in it keeps the suite from judging a kernel.

Half of the reports of a broken NPU are about the environment (IOMMU off, wrong firmware, no permission, a
DKMS module in the way; facts: amdxdna, section 5). Each such state has a name here, with its cause and
the next step, so that it is never taken for a kernel's fault. The facts come from harness.examine in one
round trip (``collect``); judging them (``assess``) is pure.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness import remedies
from harness.errors import HarnessError
from harness.firmware import firmware_for
from harness.untrusted import clean, clean_values
from lab.machine import Compile, Shell, uncompiled

# Starts a program that comes compiled on standard input (PEP 552: behind a header of 16 bytes).
RUN_COMPILED = "import marshal, sys; exec(marshal.loads(sys.stdin.buffer.read()[16:]))"
LEADING_DIGITS = re.compile(r"[0-9]+")  # "4+deb13-amd64" -> "4"
REPORT_LIMIT = 1 << 20  # bytes of what a machine may say about itself
MEMLOCK_WANTED = 64 << 20  # bytes: one device heap (XRT maps it locked)
MEMLOCK_NEEDED = 1 << 20  # bytes that the suite's own user-pointer buffers lock, with room
PYTHON_WANTED = (3, 11)
PYTEST_WANTED = (8,)
DIED, WARNED = 1 << 7, 1 << 9  # taint bits (Documentation/admin-guide/tainted-kernels.rst)
# What the lab chose and stays the same from boot to boot; times, ports and the command line do not.
LAB_FACTS = frozenset(
    {
        "accelerator",
        "iommu",
        "qemu",
        "guest_image",
        "npu",
        "device_model",
        "device_protocol",
        "device_version",
    }
)


class ExamineError(HarnessError):
    """The machine answered, but could not be examined; ``problem`` is what stands in the way."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.cause}; {problem.next_step}")
        self.problem = problem


@dataclass(frozen=True)
class Problem:
    """One named state. A ``blocking`` one means: no result of this run speaks about the kernel."""

    id: str
    blocking: bool
    cause: str
    next_step: str

    def as_json(self) -> dict[str, Any]:
        """For the journal."""
        return asdict(self)


def blocking(name: str, cause: str, next_step: str) -> Problem:
    """A state in which no result of the run speaks about the kernel."""
    return Problem(name, blocking=True, cause=cause, next_step=next_step)


def hint(name: str, cause: str, next_step: str) -> Problem:
    """A state that a reader of the results must know."""
    return Problem(name, blocking=False, cause=cause, next_step=next_step)


@dataclass(frozen=True)
class Environment:
    """Facts that stay the same from boot to boot of one machine, their digest, and the problems."""

    facts: Mapping[str, Any]
    digest: str
    problems: tuple[Problem, ...]

    @property
    def obstacles(self) -> tuple[Problem, ...]:
        """The problems that forbid a verdict on the kernel."""
        return tuple(problem for problem in self.problems if problem.blocking)


def collect(
    shell: Shell,
    *,
    timeout: float,
    bytecode: Compile = uncompiled,
) -> dict[str, Any]:
    """Ask the machine about itself: one command, one answer, every string cleaned.

    ``bytecode``: as of lab.machine.Session, where the machine's own Python is slow to compile.

    Raises ExamineError when it has no usable Python, ShellLostError or ShellTimeoutError when it is gone.
    """
    program = importlib.resources.files("harness").joinpath("examine.py").read_bytes()
    compiled = bytecode({"examine.py": program})
    if compiled:
        program = next(iter(compiled.values()))
    words = ["-c", RUN_COMPILED] if compiled else ["-"]
    done = shell.run(["python3", "-I", *words], timeout=timeout, stdin=program)
    if done.status == 127:
        raise ExamineError(
            blocking("no-python", "the machine has no python3", "install Python 3.11 or newer on it")
        )
    try:
        report = json.loads(done.stdout[:REPORT_LIMIT])
    except ValueError:
        report = None
    if done.status != 0 or not isinstance(report, dict):
        said = clean(done.stderr.decode("utf-8", "replace").strip() or done.text, 400)
        raise ExamineError(
            blocking(
                "examine-failed",
                f"the machine could not be examined (status {done.status}): {said}",
                "run `python3 -c 'print(1)'` on it and mend what it says",
            )
        )
    return clean_values(report, REPORT_LIMIT)


def assess(report: Mapping[str, Any], *, boot_facts: Mapping[str, str], booted_by_us: bool) -> Environment:
    """Facts, digest and problems of one machine as ``collect`` found it.

    ``boot_facts`` is what the lab chose (lab.machine.Session.boot_facts). ``booted_by_us``: a candidate
    kernel was booted, so a driver that is absent is for the verdict to explain, not the environment.
    """
    facts = stable_facts(report, boot_facts)
    return Environment(facts, digest_of_facts(facts), tuple(_problems(report, booted_by_us=booted_by_us)))


def digest_of_facts(facts: Mapping[str, Any]) -> str:
    """Equal digest, equal environment."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def stable_facts(report: Mapping[str, Any], boot_facts: Mapping[str, str]) -> dict[str, Any]:
    """What does not change from one boot to the next, nor from one kernel to the next by itself."""
    module = _part(report, "module")
    npus = _list(report, "npus")
    return {
        "machine": _part(report, "machine"),
        "npu": [{key: npu.get(key) for key in ("device", "revision", "name", "firmware")} for npu in npus],
        "firmware": {
            str(file.get("path")): str(file.get("sha256"))[:16] for file in _list(report, "firmware")
        },
        "module": {"origin": module_origin(report), "parameters": _part(module, "parameters")},
        "iommu": iommu_mode(report),
        "xrt": _part(report, "xrt"),
        "power": _part(report, "power"),
        "secure_boot": report.get("secure_boot"),
        "user": {key: _part(report, "user").get(key) for key in ("uid", "groups", "memlock_soft")},
        "python": {key: _part(report, "python").get(key) for key in ("version", "pytest")},
        "lab": {name: boot_facts[name] for name in sorted(LAB_FACTS) if name in boot_facts},
    }


def module_origin(report: Mapping[str, Any]) -> str:
    """Whose driver runs: in-tree, out-of-tree, dkms, builtin, absent."""
    module = _part(report, "module")
    if not module.get("loaded"):
        return "absent"
    if module.get("builtin"):
        return "builtin"
    if "O" not in str(module.get("taint") or ""):
        return "in-tree"
    return "dkms" if "/dkms/" in str(module.get("path") or "") else "out-of-tree"


def iommu_mode(report: Mapping[str, Any]) -> str:
    """How the device reaches memory: off, force_iova, passthrough (SVA), translated, unknown."""
    npus = _list(report, "npus")
    if npus and not npus[0].get("iommu_group"):
        return "off"  # also with force_iova, which asks the IOMMU to translate
    parameters = _part(_part(report, "module"), "parameters")
    if str(parameters.get("force_iova")) in ("Y", "1"):
        return "force_iova"
    domain = str(npus[0].get("iommu_domain") or "") if npus else ""
    if domain == "identity":
        return "passthrough"
    return "translated" if domain else "unknown"


def _problems(report: Mapping[str, Any], *, booted_by_us: bool) -> Iterator[Problem]:
    module = _part(report, "module")
    npus = _list(report, "npus")
    nodes = _list(report, "nodes")
    release = _part(report, "kernel").get("release")
    yield from _tool_problems(report)
    if not npus:
        yield blocking(
            "no-npu",
            "no AMD NPU is on the machine's PCI bus",
            "use a Ryzen AI machine, switch the NPU (IPU) on in its firmware setup, or run on virtual-npu4",
        )
        return
    if not module.get("loaded") and module.get("path") is None:
        yield blocking(
            "no-driver",
            f"the kernel {release} has no amdxdna module",
            "boot a kernel >= 6.14 built with CONFIG_DRM_ACCEL_AMDXDNA: "
            + remedies.newer_kernel(_family(report)),
        )
    elif not module.get("loaded") and not booted_by_us:
        yield blocking(
            "driver-not-loaded",
            "the amdxdna module is not loaded",
            "run `sudo modprobe amdxdna`; `xdnawatch doctor` says what keeps it away",
        )
    elif module.get("loaded") and not nodes and not booted_by_us:
        yield from _no_node_problems(report, npus[0])
    if nodes and not any(node.get("allowed") for node in nodes):
        group = nodes[0].get("group")
        may = group_may(str(nodes[0].get("mode")))
        yield blocking(
            "no-permission",
            f"the user may not open {nodes[0].get('path')}",
            f"`sudo usermod -aG {group} USER`, then log in again" if may else remedies.UDEV_RULE,
        )
    if iommu_mode(report) == "off":
        yield blocking(
            "iommu-off",
            "the NPU is behind no IOMMU",
            remedies.iommu_on(_family(report), _part(report, "kernel").get("command_line")),
        )
    yield from _firmware_problems(report, npus[0], working=bool(nodes))
    yield from _module_problems(report, booted_by_us=booted_by_us)
    if not booted_by_us:
        yield from _history_problems(report)
    yield from _comfort_problems(report)


def _no_node_problems(report: Mapping[str, Any], npu: Mapping[str, Any]) -> Iterator[Problem]:
    """No node on a machine that was set up by others: only the kernel log can say that the kernel is why."""
    if npu.get("driver") not in (None, "amdxdna"):
        yield blocking(
            "other-driver",
            f"the NPU is held by the driver {npu.get('driver')}, not by amdxdna",
            remedies.give_back(str(npu.get("address"))),
        )
    elif report.get("kernel_log") is None:
        yield blocking(
            "no-node",
            "the driver made no node, and why is in the kernel log, which the user may not read",
            "log in as root, or allow `sudo -n`; `sudo xdnawatch doctor` names more causes",
        )


def _tool_problems(report: Mapping[str, Any]) -> Iterator[Problem]:
    python = _part(report, "python")
    if version_of(python.get("version")) < PYTHON_WANTED:
        yield blocking(
            "old-python",
            f"the machine's Python is {python.get('version')}",
            "install Python 3.11 or newer on it",
        )
    pytest = python.get("pytest")
    if pytest is None or (pytest != "unknown" and version_of(pytest) < PYTEST_WANTED):
        yield blocking(
            "no-pytest",
            "the machine has no pytest" if pytest is None else f"the machine's pytest is {pytest}",
            remedies.pytest(_family(report)),
        )


def _firmware_problems(
    report: Mapping[str, Any], npu: Mapping[str, Any], *, working: bool
) -> Iterator[Problem]:
    release = version_of(_part(report, "kernel").get("release"))
    found = firmware_for(npu, _list(report, "firmware"), release)
    if found.folder is None or found.fit or working:
        return
    lacking = f"there is no firmware for this NPU below /lib/firmware/amdnpu/{found.folder}"
    if found.have:
        lacking += f" that the kernel asks for, only {', '.join(found.have)}"
    yield blocking("firmware-missing", lacking, remedies.firmware(_family(report)))


def _module_problems(report: Mapping[str, Any], *, booted_by_us: bool) -> Iterator[Problem]:
    origin = module_origin(report)
    if origin in ("dkms", "out-of-tree") and not booted_by_us:
        yield blocking(
            "foreign-module",
            f"the loaded amdxdna is an {'out-of-tree (DKMS)' if origin == 'dkms' else origin} module: "
            "results are about it, not about the kernel's own driver",
            remedies.FOREIGN_MODULE,
        )


def _history_problems(report: Mapping[str, Any]) -> Iterator[Problem]:
    """What happened to a running kernel before we came: after an oops it proves nothing about itself."""
    bits = _number(_part(report, "kernel").get("tainted"))
    if bits & DIED:
        yield blocking(
            "oops-before",
            f"the kernel reported an oops before this run began (taint {bits})",
            "keep the log for a report (`sudo dmesg >dmesg.txt`), then `sudo reboot` and run again",
        )
    elif bits & WARNED:
        yield hint(
            "warning-before",
            f"the kernel reported a warning before this run began (taint {bits})",
            "keep the log (`sudo dmesg >dmesg.txt`) and reboot when results look odd",
        )
    xrt = _part(report, "xrt")
    if not xrt_fits(xrt):
        yield hint(
            "xrt-mixed",
            f"XRT's core is {xrt.get('core')}, its NPU plug-in {xrt.get('npu')}: they do not fit",
            remedies.xrt(_family(report)),
        )


def _comfort_problems(report: Mapping[str, Any]) -> Iterator[Problem]:
    user = _part(report, "user")
    memlock = user.get("memlock_soft")
    if user.get("uid") != 0 and isinstance(memlock, int) and 0 <= memlock < MEMLOCK_WANTED:
        state = blocking if memlock < MEMLOCK_NEEDED else hint
        yield state(
            "memlock",
            f"the user may lock only {memlock} bytes of memory, a device heap needs {MEMLOCK_WANTED}",
            "raise the memlock limit in /etc/security/limits.d and log in again",
        )
    if report.get("kernel_log") is None:
        yield hint(
            "kernel-log",
            "the user may not read the kernel log: what the kernel said is missing from this run",
            "log in as root, or allow `sudo -n`",
        )
    if _part(report, "power").get("source") == "battery":
        yield hint("battery", "the machine runs on battery: measured speeds are not comparable", "plug it in")


def group_may(mode: str) -> bool:
    """Whether a node of this mode ("0o660") is its group's to read and write."""
    try:
        return int(mode, 8) & 0o060 == 0o060
    except ValueError:
        return True


def xrt_fits(xrt: Mapping[str, Any]) -> bool:
    """Whether XRT's core and its NPU plug-in are of one release, or neither is there."""
    core, shim = xrt.get("core"), xrt.get("npu")
    return bool(core) == bool(shim) and version_of(core)[:2] == version_of(shim)[:2]


def pytest_fits(python: Mapping[str, Any]) -> bool:
    """Whether the suite can run with the machine's Python and pytest."""
    pytest = python.get("pytest")
    new = pytest == "unknown" or (pytest is not None and version_of(pytest) >= PYTEST_WANTED)
    return new and version_of(python.get("version")) >= PYTHON_WANTED


def version_of(text: Any) -> tuple[int, ...]:
    """The leading numbers of a version: "7.3.4+deb13-amd64" -> (7, 3, 4); () where there is none."""
    parts = []
    for part in str(text or "").split("."):
        digits = LEADING_DIGITS.match(part)
        if digits is None:
            break
        parts.append(int(digits[0][:6]))
        if digits[0] != part:
            break
    return tuple(parts)


def _family(report: Mapping[str, Any]) -> remedies.Family:
    return remedies.family_of(_part(report, "machine"))


def _number(text: Any) -> int:
    return int(str(text)) if str(text).isdecimal() else 0


def _part(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = report.get(name)
    return part if isinstance(part, Mapping) else {}


def _list(report: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    part = report.get(name)
    return [item for item in part if isinstance(item, Mapping)] if isinstance(part, list) else []
