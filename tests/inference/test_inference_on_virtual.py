"""Debian's own XRT on the virtual NPU under a real kernel: what it says, sets and computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import inference
from lab.machine import BootRequest, Fault, Timeouts
from lab.packages.store import PackageStore
from lab.virtual.kernels import cached_kernels
from lab.virtual.machine import VirtualMachine

pytestmark = [pytest.mark.qemu, pytest.mark.slow, pytest.mark.timeout(600)]
TIMEOUTS = Timeouts(boot=240.0)
EXAMINE = [f"inference/xrt-smi-examine::{name}" for name in ("host", "device", "platform", "partitions")]
CONFIGURE = ["inference/xrt-smi-configure::pmode-performance", "inference/xrt-smi-configure::pmode-nonsense"]
DATA = ["inference/pyxrt::buffer-data", "inference/pyxrt::test-kernels"]
VALIDATE = "inference/xrt-smi-validate::latency"


@pytest.fixture
def store(lab_cache: Path) -> PackageStore:
    """The cache, when XRT is in it."""
    if not any(lab_cache.glob("trees/layer-xrt-*")):
        pytest.skip("no XRT for the guest in the cache (one `xdnawatch infer` brings it)")
    return PackageStore(lab_cache)


def results(store: PackageStore, folder: Path, tests: list[str], *faults: Fault) -> dict[str, dict[str, Any]]:
    """Boot the newest cached kernel that has force_iova and run ``tests``."""
    kernels = {
        tuple(int(part) for part in kernel.version.split(".")): kernel
        for kernel in cached_kernels(store.cache)
        if kernel.version.replace(".", "").isdigit()
    }
    if not kernels or max(kernels) < (7, 1):
        pytest.skip("no kernel from 7.1 on in the cache: the model reaches buffers with force_iova only")
    newest = kernels[max(kernels)]
    found: dict[str, dict[str, Any]] = {}

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "result":
            found[event["id"]] = event

    machine = VirtualMachine("virtual", "npu4", store, layers=("xrt",))
    with machine.boot(BootRequest(newest, "n0nce", folder, faults, TIMEOUTS)) as session:
        assert "xrt" in session.boot_facts()["guest_layers"]
        inference.run(session.shell, on_event=on_event, tests=tests)
    return found


def test_real_user_space_on_the_virtual_npu(store: PackageStore, tmp_path: Path) -> None:
    """xrt-smi agrees with the driver, a mode reaches it, data is right, the archive is missing."""
    found = results(store, tmp_path, [*EXAMINE, *CONFIGURE, *DATA, VALIDATE])
    for test in (*EXAMINE, *CONFIGURE, *DATA):
        assert found[test]["outcome"] == "passed", found[test]
    device = found["inference/xrt-smi-examine::device"]["values"]
    assert (device["name"], device["firmware"]) == ("NPU Strix", "1.1.2.64")
    assert found[CONFIGURE[0]]["values"]["power_mode"] == "performance"
    kernels = found[DATA[1]]["values"]
    assert kernels["driver"]["completions"] == kernels["driver"]["submissions"] == 4
    assert found[VALIDATE]["outcome"] == "skipped"
    assert "amdxdna/bins/xrt_smi_strx.a is not installed" in found[VALIDATE]["reason"]


@pytest.mark.long
def test_work_that_is_not_done_is_caught_through_xrt(store: PackageStore, tmp_path: Path) -> None:
    """The device says completed without having run: only the compared data shows it."""
    found = results(store, tmp_path, [DATA[1]], Fault("skipped-work"))
    assert found[DATA[1]]["outcome"] == "failed"
    assert "completed but its output differs" in found[DATA[1]]["message"]
