"""Firmware: WHENCE followed through a tree's history, joined with what the kernels' sources ask for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.database import Database
from tracker.driver_source import put_together, read_file, used_names
from tracker.firmware.answers import firmware_answer
from tracker.firmware.history import Step, steps
from tracker.firmware.needs import Need
from tracker.firmware.whence import Named, parse_whence

WHENCE = """\
Driver: other -- something else

File: other/fw.bin
Version: 7.7

Driver: amdxdna - AMD Inference processor

File: amdnpu/1502_00/npu.sbin.1.5.2.380
File: "amdnpu/17f0_10/with space.bin"
Version: 9.1
RawFile: amdnpu/17f0_10/npu.sbin.1.0.0.63
Link: amdnpu/1502_00/npu.sbin -> npu.sbin.1.5.2.380
Link: amdnpu/17f0_10/npu.sbin -> npu.sbin.1.0.0.63
Link: amdnpu/17f0_20/npu.sbin -> ../17f0_10/npu.sbin
Link: amdnpu/17f0_11 -> 17f0_10
Link: amdnpu/evil -> ../../etc/passwd
Link: amdnpu/round -> round2
Link: amdnpu/round2 -> round
File: amdnpu/../../etc/passwd

Licence: Redistributable. See LICENSE.amdnpu for details.

--------------------------------------------------------------------------

Version: 1.2.3
"""


def test_whence_gives_every_name_with_file_and_version() -> None:
    found = parse_whence(WHENCE, "amdnpu/")
    real = Named("amdnpu/17f0_10/npu.sbin.1.0.0.63", "1.0.0.63")
    assert found == {
        "amdnpu/1502_00/npu.sbin.1.5.2.380": Named("amdnpu/1502_00/npu.sbin.1.5.2.380", "1.5.2.380"),
        "amdnpu/1502_00/npu.sbin": Named("amdnpu/1502_00/npu.sbin.1.5.2.380", "1.5.2.380"),
        "amdnpu/17f0_10/with space.bin": Named("amdnpu/17f0_10/with space.bin", "9.1"),
        real.file: real,
        "amdnpu/17f0_10/npu.sbin": real,
        "amdnpu/17f0_20/npu.sbin": real,
        "amdnpu/17f0_11/with space.bin": Named("amdnpu/17f0_10/with space.bin", "9.1"),
        "amdnpu/17f0_11/npu.sbin.1.0.0.63": real,
        "amdnpu/17f0_11/npu.sbin": real,
    }


@settings(deadline=None)
@given(st.text(alphabet='FileLnkVrso:-> /.amdnpu"\n', max_size=300))
def test_any_text_is_read_without_end_or_escape(text: str) -> None:
    for name, found in parse_whence(text, "amdnpu/").items():
        assert name.startswith("amdnpu/")
        assert ".." not in found.file.split("/")


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.data())
def test_halving_finds_what_reading_everything_finds(values: list[int], data: st.DataObject) -> None:
    """The value never comes back once it left: then every change is between two fixed points that differ."""
    rising = sorted(values)
    commits = [f"c{position}" for position in range(len(rising))]
    fixed = data.draw(st.lists(st.integers(0, len(rising) - 1)))

    def state(position: int) -> dict[str, Named]:
        return {"x": Named(f"x.{rising[position]}", None)} if rising[position] else {}

    found = steps(commits, fixed, state)
    assert found == steps(commits, range(len(commits)), state)


def test_halving_reads_little() -> None:
    asked: list[int] = []

    def state(position: int) -> dict[str, Named]:
        asked.append(position)
        return {"x": Named("x", str(position >= 700))}

    found = steps([str(number) for number in range(1000)], [500], state)
    assert [(one.commit, one.what) for one in found] == [("0", "added"), ("700", "changed")]
    assert len(asked) == len(set(asked)) < 25
    assert steps([], [], state) == []
    assert isinstance(found[0], Step)


DRIVER = "drivers/accel/amdxdna/"
FOLDERS = {"npu1": "1502_00", "npu4": "17f0_10", "npu6": "17f0_10"}


def sources(firmware: list[str], names: list[str], minor: int, constants: list[str]) -> dict[str, str | None]:
    """The driver's files as far as they are read. ``names`` empty: fw_path holds the whole name (to 6.19)."""
    declared = "".join(f'MODULE_FIRMWARE("amdnpu/{name}");\n' for name in firmware)
    listed = "".join(f'\t"{name}",\n' for name in names)
    files: dict[str, str | None] = {
        f"{DRIVER}amdxdna_pci_drv.c": declared
        + f"#define AMDXDNA_DRIVER_MAJOR\t0\n#define AMDXDNA_DRIVER_MINOR {minor}\n",
        f"{DRIVER}aie2_pci.c": f"static char *npu_fw[] = {{\n{listed}}};\n" if names else "int x;\n",
        "include/uapi/drm/amdxdna_accel.h": "#ifndef _AMDXDNA_ACCEL_H_\nenum {\n"
        + "".join(f"\t{name},\n" for name in constants)
        + "};\n",
    }
    for generation, folder in FOLDERS.items():
        path = f"amdnpu/{folder}/" + ("" if names else "npu.sbin")
        files[f"{DRIVER}{generation}_regs.c"] = f'const struct x y = {{\n\t.fw_path        = "{path}",\n}};\n'
    return files


OLD = ["1502_00/npu.sbin", "17f0_10/npu.sbin", "17f0_20/npu.sbin"]
NEW = [*OLD, "1502_00/npu_7.sbin", "17f0_10/npu_7.sbin"]


def whence(**links: str) -> dict[str, str | None]:
    """WHENCE with 17f0_10's names (_ for .) and their versions."""
    lines = ["Driver: amdxdna - AMD Inference processor", ""]
    for version in dict.fromkeys(links.values()):
        lines.append(f"File: amdnpu/17f0_10/npu.sbin.{version}")
    for name, version in links.items():
        lines.append(f"Link: amdnpu/17f0_10/{name}.sbin -> npu.sbin.{version}")
    return {"WHENCE": "\n".join([*lines, "", "-----", ""])}


@pytest.fixture
def trees(repo: Callable[[str], Any]) -> dict[str, Any]:
    """The split of 2026 in small: protocol 7 replaced npu.sbin, was taken back, came again as npu_7.sbin."""
    kernel, firmware = repo("linux"), repo("linux-firmware")
    kernel.commit("accel/amdxdna: Add the driver", sources(OLD, [], 6, ["DRM_AMDXDNA_GET_INFO"]), day=10)
    kernel.tag("v6.19-rc1", day=11)
    kernel.tag("v6.19", day=20)
    kernel.commit(
        "accel/amdxdna: Use a different name",
        sources(NEW, ["npu_7.sbin", "npu.sbin"], 8, ["DRM_AMDXDNA_GET_INFO"]),
        day=40,
    )
    kernel.tag("v7.0-rc1", day=45)
    kernel.tag("v7.0", day=60)
    firmware.commit("amdnpu: first", whence(npu="1.0.0.63"), day=1)
    firmware.tag("20260102", day=1)
    for number in range(20):
        firmware.commit(f"other {number}", {f"other/{number}.bin": "x\n"}, day=2)
    firmware.commit("amdnpu: protocol 7", whence(npu="1.1.2.64"), day=30)
    firmware.tag("20260131", day=30)
    firmware.commit("amdnpu: back", whence(npu="1.0.0.63"), day=50)
    firmware.tag("20260220", day=50)
    firmware.commit("amdnpu: npu_7", whence(npu="1.0.0.63", npu_7="1.1.2.64"), day=70)
    firmware.tag("20260312", day=70)
    firmware.commit(
        "amdnpu: npu_9 for nobody", whence(npu="1.0.0.63", npu_7="1.1.2.64", npu_9="2.0.0.1"), day=80
    )
    return {"mainline": kernel, "firmware": firmware}


def named(database: Database) -> dict[str, Need]:
    return {one.path.removeprefix("amdnpu/"): one for one in firmware_answer(database).needs}


def test_kernels_and_firmware_are_joined(
    trees: dict[str, Any], follow: Callable[..., Any], database: Database
) -> None:
    follow(trees)
    found = named(database)
    assert {path: one.verdict for path, one in found.items()} == {
        "1502_00/npu.sbin": "never",
        "1502_00/npu_7.sbin": "never",
        "17f0_10/npu.sbin": "fits",
        "17f0_10/npu_7.sbin": "late",
        "17f0_10/npu_9.sbin": "unasked",
        "17f0_20/npu.sbin": "never",
    }
    late = found["17f0_10/npu_7.sbin"]
    assert (late.first_kernel, late.last_kernel, late.since, late.version) == (
        "v7.0", "v7.0", "20260312", "1.1.2.64",
    )  # fmt: skip
    assert late.why == "in 20260312, 10 days after v7.0"
    assert (late.device, late.generations) == ("0x17f0 revision 0x10", ("npu4", "npu6"))
    old = found["17f0_10/npu.sbin"]
    assert (old.first_kernel, old.since) == ("v6.19", "20260102")
    assert old.why == (
        "in 20260102, 19 days before v6.19; "
        "version 1.0.0.63 to 1.1.2.64 in 20260131, 1.1.2.64 to 1.0.0.63 in 20260220"
    )
    assert "its code asks for it nowhere" in found["17f0_20/npu.sbin"].why
    assert found["17f0_10/npu_9.sbin"].since is None


def test_the_history_is_incremental_and_a_name_can_go(
    trees: dict[str, Any], follow: Callable[..., Any], database: Database
) -> None:
    follow(trees)
    report = follow(trees)
    assert [(one.name, one.new) for one in report.sources] == [("mainline", 0), ("firmware", 0)]
    before = firmware_answer(database)
    assert firmware_answer(database) == before
    trees["firmware"].commit("amdnpu: gone", whence(npu_7="1.1.2.64"), day=90)
    trees["firmware"].tag("20260401", day=90)
    report = follow(trees)
    assert report.sources[1].new == 4  # two names and their files
    assert named(database)["17f0_10/npu.sbin"].verdict == "withdrawn"
    assert named(database)["17f0_10/npu_9.sbin"].verdict == "unasked"


def test_without_one_side_nothing_is_claimed(
    trees: dict[str, Any], follow: Callable[..., Any], database: Database
) -> None:
    follow({"mainline": trees["mainline"]})
    assert {one.verdict for one in firmware_answer(database).needs} == {"unknown"}


def test_a_tree_without_the_drivers_firmware_is_one_clear_problem(
    repo: Callable[[str], Any], follow: Callable[..., Any]
) -> None:
    empty = repo("empty")
    empty.commit("x", {"WHENCE": "File: other/x.bin\n"})
    with pytest.raises(AssertionError, match="lists nothing below 'amdnpu/'"):
        follow({"firmware": empty})


def test_the_command(trees: dict[str, Any], follow: Callable[..., Any], program: Callable[..., str]) -> None:
    follow(trees)
    told = json.loads(program("firmware", "17f0_10/npu_7", "--json"))
    assert [one["verdict"] for one in told["needs"]] == ["late"]
    assert [(one["what"], one["tag"]) for one in told["steps"]] == [("added", "20260312")]
    assert "10 days after v7.0" in program("firmware", "--verdict", "late")
    lines = program("firmware", "17f0_10/npu.sbin", "--history").splitlines()
    assert any("20260131" in line and "1.1.2.64" in line for line in lines)


def test_sources_are_read_by_file() -> None:
    facts = put_together(
        read_file(path, text or "")
        for path, text in sources(
            NEW, ["npu_7.sbin", "npu.sbin"], 16, ["DRM_AMDXDNA_A", "DRM_AMDXDNA_B"]
        ).items()
    )
    assert facts.version == "0.16"
    assert facts.uapi == ("DRM_AMDXDNA_A", "DRM_AMDXDNA_B")
    assert ("npu6", "amdnpu/17f0_10/npu_7.sbin") in facts.loads
    assert len(facts.firmware) == 5
    assert put_together([]).empty
    assert used_names("x(DRM_IOCTL_AMDXDNA_GET_INFO, DRM_AMDXDNA_QUERY_SENSORS)") == {
        "DRM_IOCTL_AMDXDNA_GET_INFO",
        "DRM_AMDXDNA_QUERY_SENSORS",
    }


@pytest.mark.real
def test_the_real_list_of_the_out_of_tree_driver() -> None:
    """Its WHENCE of 2026-08-20, an excerpt of drm-firmware's: the versions of Debian's package are in it."""
    clone = os.environ.get("XDNAWATCH_TWIN_GIT")
    if not clone:
        pytest.skip("no out-of-tree driver: XDNAWATCH_TWIN_GIT names no clone of amd/xdna-driver")
    from tracker.git.repository import Repository

    (blob,) = Repository(Path(clone)).blobs(["856409ca:tools/WHENCE"], limit=1 << 20)
    assert blob.data is not None
    found = parse_whence(blob.data.decode(), "amdnpu/")
    assert found["amdnpu/17f0_10/npu.dev.sbin"].version == "1.1.2.64"
    assert found["amdnpu/17f0_20/npu.dev.sbin"].file == "amdnpu/17f0_10/1.7_npu.sbin.1.1.2.64"
    assert found["amdnpu/1502_00/npu.dev.sbin"].version == "1.5.5.391"
