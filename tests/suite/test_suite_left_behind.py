"""Each thing that a test may leave behind, left on the virtual NPU under a real kernel: it has failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.suite import contract
from lab.machine import BootRequest, Timeouts
from lab.packages.store import PackageStore
from lab.virtual.kernels import cached_kernels
from lab.virtual.machine import VirtualMachine

pytestmark = [pytest.mark.qemu, pytest.mark.slow, pytest.mark.timeout(600)]
VERSION = "7.3.4"
ROOT = "/tmp/left-behind"
# What each test leaves, and what must be said about it.
LEAVES = """
from pathlib import Path
from harness.suite import uapi
from harness.suite.device import Device, anonymous

def test_nothing(device, bare_context, share):
    device.metadata()

def test_a_context(device, heap, tiles):
    device.create_context(tiles=tiles)

def test_a_buffer(device):
    device.create_bo(uapi.Bo.SHARE, 1 << 20)

def test_pinned_memory(device):
    device.wrap(anonymous(1 << 20).address, 1 << 20)

def test_the_power_mode(device):
    device.set_power_mode(uapi.PowerMode.HIGH)

def test_runtime_power_management(pci):
    Path(f"/sys/bus/pci/devices/{pci.address}/power/control").write_text("on")

def test_a_taint():
    Path("/proc/sys/kernel/tainted").write_text("512")

def test_a_warning():
    Path("/dev/kmsg").write_text("<4>WARNING: CPU: 0 PID: 1 at nowhere.c:1 nothing+0x0/0x1\\n")

def test_a_recovery():
    Path("/dev/kmsg").write_text("<3>amdxdna: [drm] *ERROR* TDR timeout detected\\n")

def test_a_changed_argument():
    Device.scribbles.append("ExecCmd (EINVAL)")
"""
SAID = {
    "a_context": "contexts left over",
    "a_buffer": "buffers left over: 1048576 bytes",
    "pinned_memory": "memory left pinned: 1048576 bytes",
    "the_power_mode": "power mode went from 0 to 3",
    "runtime_power_management": "runtime power management went from auto to on",
    "a_taint": "kernel taint went from 0 to 512",
    "a_warning": "kernel log: WARNING: CPU",
    "a_recovery": "kernel log: amdxdna: [drm] *ERROR* TDR timeout detected",
    "a_changed_argument": "a refused call changed its argument: ExecCmd",
}


def test_a_pass_that_left_the_device_changed_has_failed(lab_cache: Path, tmp_path: Path) -> None:
    kernels = {kernel.version: kernel for kernel in cached_kernels(lab_cache)}
    if VERSION not in kernels:
        pytest.skip(f"kernel {VERSION} is not unpacked in {lab_cache} (`xdnawatch lab fetch {VERSION}`)")
    store = PackageStore(lab_cache, "http://127.0.0.1:9/the-cache-must-do")
    machine = VirtualMachine("virtual-npu4", "npu4", store)
    lines: list[bytes] = []
    with machine.boot(
        BootRequest(kernels[VERSION], "left", tmp_path / "boot", (), Timeouts(boot=240.0))
    ) as session:
        files = {**contract.files(), f"{contract.TESTS}/test_left.py": LEAVES.encode()}
        session.shell.put(files, ROOT)
        words = contract.command(ROOT, "n0nce", tests=["test_left.py"])
        session.shell.stream(words, timeout=240, silence=120, on_line=lines.append)
    events = [json.loads(line) for line in lines if line.startswith(b"{")]
    results = {e["id"].split("::test_")[1]: e for e in events if e["event"] == "result"}
    assert results.pop("nothing")["outcome"] == "passed"
    assert set(results) == set(SAID)
    for name, event in results.items():
        assert (event["outcome"], event["when"]) == ("failed", "teardown"), event
        assert SAID[name] in event["message"], event
