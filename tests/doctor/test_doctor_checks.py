"""The doctor's rules, one broken machine at a time, and the probe held against the suite's own ioctls."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from harness import doctor_probe
from harness.doctor import Checkup, diagnose, examine
from harness.doctor_facts import State
from harness.environment import version_of
from harness.suite import drm, uapi
from lab.machine import BootRequest, Fault, LabError, ShellTimeoutError
from lab.physical.local import LocalMachine, LocalShell
from tests.harness.fakes import healthy_report

ERROR = "<3>[   {time}] amdxdna 0000:c5:00.1: [drm] *ERROR* "
PROTOCOL = (
    ERROR.format(time="5.000000") + "aie2_check_protocol: Incompatible firmware protocol major 7 minor 2"
)
NOT_ALIVE = ERROR.format(time="5.100000") + "aie2_hw_start: firmware is not alive"
POWER_OFF = ERROR.format(time="5.200000") + "aie2_smu_exec: smu cmd 4 failed, 0xff"
READY = "<6>[    4.000000] [drm] Initialized amdxdna_accel_driver 0.10.0 for 0000:c5:00.1 on minor 0"


def probed(**parts: Any) -> dict[str, Any]:
    """What the probe says where everything is right."""
    names = (
        "open", "DRM_IOCTL_VERSION", "GET_INFO AIE_VERSION", "GET_INFO FIRMWARE_VERSION",
        "GET_INFO POWER_MODE", "CREATE_BO, mmap, write, close",
    )  # fmt: skip
    found: dict[str, Any] = {
        "config": {"source": "/proc/config.gz", "value": "m"},
        "refusals": [],
        "dkms": [],
        "signing": {"enforced": False},
        "groups": [],
        "log": {"readable": True, "way": "direct", "lines": [READY]},
        "test": {
            "node": "/dev/accel/accel0",
            "driver": ["amdxdna_accel_driver", 0, 10, 0],
            "power_mode": 0,
            "steps": [{"name": name, "result": "ok"} for name in names],
        },
        "errors": {},
    }
    return {**found, **parts}


def failing(step: str, result: str) -> dict[str, Any]:
    return {"node": "/dev/accel/accel0", "steps": [{"name": step, "result": result}]}


def look(probe: dict[str, Any] | None = None, **changes: Any) -> Checkup:
    """A machine that differs from a healthy one; a dict changes single words of a part."""
    report = healthy_report("n0nce")
    report["xrt"] = {"core": "2.25.0", "npu": "2.25.0"}
    for name, value in changes.items():
        first = report[name][0] if isinstance(report[name], list) and report[name] else None
        if isinstance(value, dict) and first is not None:
            report[name] = [{**first, **value}]
        else:
            report[name] = {**report[name], **value} if isinstance(value, dict) else value
    return diagnose(report, probed(**(probe or {})))


GONE: dict[str, Any] = {"loaded": False, "taint": None}
USER = {"uid": 1000, "name": "me", "memlock_soft": -1}
REFUSED = {"allowed": False}
LINES = {"lines": [PROTOCOL, NOT_ALIVE, POWER_OFF], "readable": True}
UNSIGNED = "<3>[    3.000000] Loading of unsigned module is rejected"
OLD = [{"path": "/lib/firmware/amdnpu/17f0_10/npu_7.sbin.zst", "size": 1, "sha256": ""}]

BROKEN: list[tuple[str, str, str, dict[str, Any]]] = [
    ("kernel", "older than 6.14", ">= 6.14",
     {"kernel": {"release": "6.12.9-amd64"}, "module": GONE, "nodes": []}),
    ("device", "no AMD NPU", "firmware setup", {"npus": [], "nodes": []}),
    ("driver", "built without", "CONFIG_DRM_ACCEL_AMDXDNA",
     {"module": {**GONE, "path": None}, "nodes": [], "probe": {"config": {"value": "n"}}}),
    ("driver", "is not installed", "depmod -a", {"module": {**GONE, "path": None}, "nodes": []}),
    ("module", "is not loaded", "modprobe amdxdna", {"module": GONE, "nodes": []}),
    ("module", "blacklisted (/etc/modprobe.d/x.conf", "remove that line",
     {"module": GONE, "nodes": [],
      "probe": {"refusals": [{"file": "/etc/modprobe.d/x.conf", "line": "blacklist"}]}}),
    ("module", "module_blacklist=amdxdna", "boot loader",
     {"module": GONE, "nodes": [], "kernel": {"command_line": "quiet module_blacklist=amdxdna"}}),
    ("iommu", "amd_iommu=off on the kernel", "remove amd_iommu=off",
     {"npus": {"iommu_group": False, "iommu_domain": None}, "module": {"parameters": {}}, "nodes": [],
      "kernel": {"command_line": "quiet amd_iommu=off"}}),
    ("iommu", "AMD-Vi", "",
     {"npus": {"iommu_group": False, "iommu_domain": None}, "module": {"parameters": {}}, "nodes": []}),
    ("iommu", "EOPNOTSUPP", "force_iova=1", {"probe": {"test": failing("open", "EOPNOTSUPP")}}),
    ("firmware", "missing", "linux-firmware", {"firmware": [], "nodes": []}),
    ("firmware", "does not take this firmware's protocol", "protocol 6",
     {"nodes": [], "probe": {"log": LINES}}),
    ("firmware", "takes npu.sbin", "npu.sbin",
     {"nodes": [], "firmware": OLD, "kernel": {"release": "6.18.15+deb13-amd64"}}),
    ("firmware", "is not alive", "cold boot",
     {"nodes": [], "probe": {"log": {"lines": [NOT_ALIVE, POWER_OFF], "readable": True}}}),
    ("node", "made no /dev/accel node", "dmesg",
     {"nodes": [], "probe": {"log": {"lines": [], "readable": False}}}),
    ("permission", "nobody but root", "udev rule", {"user": USER, "nodes": {**REFUSED, "mode": "0o600"}}),
    ("permission", "is not in the group render", "usermod -aG render me", {"user": USER, "nodes": REFUSED}),
    ("permission", "after this login", "log out",
     {"user": USER, "nodes": REFUSED, "probe": {"groups": ["render"]}}),
    ("ioctl", "GET_INFO POWER_MODE fails with ETIME", "power the machine off",
     {"probe": {"test": failing("GET_INFO POWER_MODE", "ETIME")}}),
    ("memlock", "lock only 65536 bytes", "memlock unlimited", {"user": {**USER, "memlock_soft": 65536}}),
    ("xrt", "do not fit", "of one release", {"xrt": {"core": "2.25.0", "npu": "2.19.0"}}),
    ("xrt", "lacks its NPU plug-in", "of one release", {"xrt": {"core": "2.25.0", "npu": None}}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "cause", "step", "changes"), BROKEN, ids=[f"{row[0]}-{at}" for at, row in enumerate(BROKEN)]
)
def test_a_broken_machine_has_its_cause_and_next_step(
    check: str, cause: str, step: str, changes: dict[str, Any]
) -> None:
    found = look(**changes)
    assert found.cause is not None
    assert found.cause.id == check, found.cause
    assert cause in f"{found.cause.cause} {found.cause.next_step}"
    assert step in found.cause.next_step
    assert found.exit_code == 3
    assert found.as_json()["cause"] == check


def test_secure_boot_that_keeps_a_dkms_module_out_is_named() -> None:
    log = {"lines": [UNSIGNED], "readable": True}
    found = look(module=GONE, nodes=[], secure_boot=True, probe={"dkms": ["/x"], "log": log})
    check = next(one for one in found.checks if one.id == "secure-boot")
    assert check.state is State.BAD
    assert "unsigned module is rejected" in check.cause
    assert "mokutil" in check.next_step


WARNED: list[tuple[str, str, dict[str, Any]]] = [
    ("origin", "DKMS", {"module": {"taint": "OE", "path": "/lib/modules/x/updates/dkms/amdxdna.ko"}}),
    ("origin", "reported a warning", {"kernel": {"tainted": "512"}}),
    ("memlock", "only 8 MiB", {"user": {**USER, "memlock_soft": 8 << 20}}),
    ("xrt", "not installed", {"xrt": {"core": None, "npu": None}}),
    ("power", "battery", {"power": {"source": "battery"}}),
    ("power", "power is saved", {"probe": {"test": {**probed()["test"], "power_mode": 1}}}),
    ("log", "may not read the kernel log", {"probe": {"log": {"readable": False, "lines": []}}}),
    ("tools", "pytest missing", {"python": {"pytest": None}}),
    ("tools", "Python 3.9.2", {"python": {"version": "3.9.2"}}),
]


@pytest.mark.parametrize(("check", "cause", "changes"), WARNED)
def test_what_works_but_matters_is_a_warning_and_no_failure(
    check: str, cause: str, changes: dict[str, Any]
) -> None:
    found = look(**changes)
    warnings = {one.id: one for one in found.checks if one.state is State.WARN}
    assert set(warnings) == {check}
    assert cause in warnings[check].cause
    assert warnings[check].next_step
    assert found.exit_code == 0


def test_a_healthy_machine_has_only_good_points() -> None:
    found = look()
    assert {check.state for check in found.checks} == {State.OK}


def test_a_failure_that_was_mended_is_history() -> None:
    later = READY.replace("4.000000", "9.000000")
    log = {"lines": [PROTOCOL, NOT_ALIVE, later], "readable": True}
    assert (
        look(nodes=[], probe={"log": log}).cause == look(nodes=[], probe={"log": {**log, "lines": []}}).cause
    )


@pytest.mark.parametrize("junk", [None, 7, "x", [], [1], {"npus": 3}, {"lines": {"a": 1}}])
def test_a_machine_that_tells_nonsense_is_still_diagnosed(junk: Any) -> None:
    report = dict.fromkeys(healthy_report("n"), junk)
    found = diagnose(report, dict.fromkeys(probed(), junk))
    assert found.cause is not None
    assert found.as_json()["checks"]


def test_the_probe_uses_the_ioctls_of_the_suite() -> None:
    assert doctor_probe.IOCTL_VERSION == drm.VERSION
    assert doctor_probe.IOCTL_GEM_CLOSE == drm.GEM_CLOSE
    assert doctor_probe.IOCTL_GET_INFO == uapi.GET_INFO
    assert doctor_probe.IOCTL_CREATE_BO == uapi.CREATE_BO
    assert doctor_probe.IOCTL_GET_BO_INFO == uapi.GET_BO_INFO
    assert doctor_probe.INFO_AIE_VERSION == uapi.Info.AIE_VERSION
    assert doctor_probe.INFO_FIRMWARE_VERSION == uapi.Info.FIRMWARE_VERSION
    assert doctor_probe.INFO_POWER_MODE == uapi.Info.POWER_MODE
    assert uapi.Bo.SHARE == doctor_probe.BO_SHARE
    assert uapi.GetBoInfo.map_offset.offset == 24
    assert ctypes.sizeof(uapi.GetPowerMode) == 8


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("7.3.4+deb13-amd64", (7, 3, 4)),
        ("7.3.0-rc7", (7, 3, 0)),
        ("2.25.00", (2, 25, 0)),
        (None, ()),
        ("x", ()),
    ],
)
def test_versions_are_read_as_far_as_they_are_numbers(text: str | None, numbers: tuple[int, ...]) -> None:
    assert version_of(text) == numbers


def test_this_machine_can_be_examined() -> None:
    with LocalMachine().boot(BootRequest(None, "n", None)) as session:  # type: ignore[arg-type] # writes nothing
        found = examine(session.shell, timeout=60)
    assert found.facts["kernel"]["release"]
    assert found.facts["probe"]["errors"] == {}
    assert next(one for one in found.checks if one.id == "tools").state is State.OK


def test_a_machine_without_python_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = examine(LocalShell(), timeout=10)
    assert found.cause is not None
    assert (found.cause.id, found.cause.cause) == ("python", "the machine has no python3")


def test_the_local_shell_keeps_its_word(tmp_path: Any) -> None:
    shell = LocalShell()
    assert shell.run(["cat"], timeout=10, stdin=b"x" * 300_000).stdout == b"x" * 300_000
    with pytest.raises(ShellTimeoutError):
        shell.run(["sleep", "20"], timeout=0.2)
    with pytest.raises(ShellTimeoutError, match="silent"):
        shell.stream(["sleep", "20"], timeout=20, silence=0.2, on_line=lambda _line: None)
    said: list[bytes] = []
    assert (
        shell.stream(["sh", "-c", "echo a; echo b; exit 3"], timeout=9, silence=9, on_line=said.append) == 3
    )
    assert said == [b"a", b"b"]
    shell.put({"a/b": b"data"}, str(tmp_path))
    assert shell.read(f"{tmp_path}/a/b") == b"data"
    with pytest.raises(LabError):
        shell.put({"../x": b""}, str(tmp_path))
    with pytest.raises(LabError):
        shell.read(f"{tmp_path}/none")
    with pytest.raises(LabError), LocalMachine().boot(BootRequest(None, "n", tmp_path, (Fault("drop"),))):
        pass
