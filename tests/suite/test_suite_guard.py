"""What a machine lacks, on machines made of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.suite import guard, kmsg


def _machine(
    root: Path,
    *,
    device: str = "0x17f0",
    revision: str = "0x10",
    iommu: bool = True,
    module: bool = True,
    firmware: str | None = "17f0_10",
    node: bool = False,
) -> Path:
    folder = root / "sys/bus/pci/devices/0000:c4:00.1"
    folder.mkdir(parents=True)
    for name, text in (("vendor", "0x1022"), ("device", device), ("revision", revision)):
        (folder / name).write_text(text + "\n")
    if iommu:
        (root / "sys/kernel/iommu_groups/0").mkdir(parents=True)
    if module:
        (root / "sys/module/amdxdna").mkdir(parents=True)
    if firmware:
        (root / "lib/firmware/amdnpu" / firmware).mkdir(parents=True)
        (root / "lib/firmware/amdnpu" / firmware / "npu_7.sbin.zst").write_bytes(b"x")
    if node:
        (folder / "accel/accel3").mkdir(parents=True)
    return root


def _kinds(found: guard.Found) -> list[str]:
    return [piece.kind for piece in found.missing]


def test_no_npu(tmp_path: Path) -> None:
    found = guard.look(tmp_path)
    assert _kinds(found) == ["pci-device"]
    assert "1022:17f0" in found.missing[0].message


@pytest.mark.parametrize(
    ("lacking", "kind"),
    [({"iommu": False}, "iommu"), ({"module": False}, "module"), ({"firmware": None}, "firmware")],
)
def test_each_missing_piece_is_named(tmp_path: Path, lacking: dict[str, object], kind: str) -> None:
    found = guard.look(_machine(tmp_path, **lacking))  # type: ignore[arg-type]  # one keyword of several types
    assert _kinds(found) == [kind]


def test_all_there_but_no_node(tmp_path: Path) -> None:
    """Nothing is missing and yet no node: that is for a test to judge, not for the guard."""
    assert _kinds(guard.look(_machine(tmp_path))) == ["node"]


def test_node_is_the_device_s_own(tmp_path: Path) -> None:
    found = guard.look(_machine(tmp_path, node=True))
    assert found.node == "/dev/accel/accel3"


def test_node_that_cannot_be_opened(tmp_path: Path) -> None:
    found = guard.look(_machine(tmp_path), node=str(tmp_path / "absent"))
    assert _kinds(found) == ["open"]
    assert "ENOENT" in found.missing[0].message


@pytest.mark.parametrize(
    ("device", "revision", "generation"),
    [("0x1502", "0x00", "npu1"), ("0x17f0", "0x20", "npu6"), ("0x17f0", "0x77", "unknown")],
)
def test_generation(tmp_path: Path, device: str, revision: str, generation: str) -> None:
    found = guard.look(_machine(tmp_path, device=device, revision=revision))
    assert found.pci is not None
    assert found.pci.generation == generation


def test_facts_of_an_empty_machine(tmp_path: Path) -> None:
    facts = guard.facts(tmp_path)
    assert facts["taint"] is None
    assert facts["module_srcversion"] is None
    assert facts["iommu_groups"] == 0


def test_virtual_machines_are_known_by_their_maker(tmp_path: Path) -> None:
    assert not guard.virtual(tmp_path)
    folder = tmp_path / "sys/class/dmi/id"
    folder.mkdir(parents=True)
    (folder / "sys_vendor").write_text("QEMU\n")
    assert guard.virtual(tmp_path)


RECORDS = [
    (b"4,812,19000000,-;WARNING: drivers/x.c:1 at y+0x1/0x2\n SUBSYSTEM=pci\n", True),
    (b"3,813,19000001,-;amdxdna 0000:00:08.0: [drm] *ERROR* aie2: TDR timeout detected\n", True),
    (b"1,814,19000002,-;BUG: kernel NULL pointer dereference, address: 0000000000000010\n", True),
    (b"3,815,19000003,-;amdxdna 0000:00:08.0: [drm] *ERROR* Lookup GEM object failed\n", False),
    (b"6,816,19000004,-;xdnawatch: n0nce start test_a.py::test_b\n", False),
    (b"garbage", False),
]


@pytest.mark.parametrize(("record", "harmful"), RECORDS)
def test_kernel_lines(record: bytes, harmful: bool) -> None:
    assert bool(kmsg.damage([kmsg.line(record)])) is harmful


def test_kernel_line_fields() -> None:
    assert kmsg.line(RECORDS[0][0]) == kmsg.Line(4, "WARNING: drivers/x.c:1 at y+0x1/0x2")


def test_warnings_are_armed_and_heaps_backed_where_it_can_be(tmp_path: Path) -> None:
    guard.arm_warnings(tmp_path)  # no debugfs: nothing happens
    assert not guard.huge_heaps(tmp_path)
    debug = tmp_path / "sys/kernel/debug"
    debug.mkdir(parents=True)
    (debug / "clear_warn_once").write_text("")
    guard.arm_warnings(tmp_path)
    assert (debug / "clear_warn_once").read_text() == "1"
    choice = tmp_path / "sys/kernel/mm/transparent_hugepage/shmem_enabled"
    choice.parent.mkdir(parents=True)
    choice.write_text("always within_size advise [never] deny force")
    assert not guard.huge_heaps(tmp_path)  # the kernel would now show [within_size]
    assert choice.read_text() == "within_size"
