"""User space: releases by tag and by branch, what they use, ship and pin, and which kernels answer it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db.database import Database
from tracker.userspace.answers import ReleaseLine, userspace_answer
from tracker.userspace.releases import (
    Fit,
    Interface,
    build_version,
    fits,
    is_release,
    listed_firmware,
    load_interface,
)


@pytest.mark.parametrize(
    ("name", "branch", "is_one"),
    [
        ("2.21.75", False, True),
        ("202610.2.23.244", False, True),
        ("202520.2.20.0_Petalinux", False, True),
        ("1.9", True, True),
        ("1.9", False, True),
        ("main", True, False),
        ("vai_6.1", True, False),
        ("1.9/x", True, False),
        ("nightly-2026", False, False),
        ("7", True, False),
    ],
)
def test_releases_by_name(name: str, branch: bool, is_one: bool) -> None:
    assert is_release(name, branch=branch) is is_one


INTERFACE = Interface({"7.0": "0.6", "7.1": "0.8"}, {"A": "6.14", "B": "7.1", "C": None})


def test_a_kernel_offers_what_it_answers_and_not_what_its_header_names() -> None:
    headers = {"7.1": frozenset({"A", "B", "C", "D"}), "7.2": frozenset({"D"})}
    assert [
        (one.kernel, one.verdict, one.lacks) for one in fits(["A", "B", "C", "D"], INTERFACE, headers)
    ] == [
        ("7.0", "lacks", ("B", "C", "D")),
        ("7.1", "lacks", ("C",)),
        ("7.2", "lacks", ("C",)),
    ]
    assert fits(["A"], INTERFACE, {})[0] == Fit(
        "7.0", "whole", (), "driver 0.6; 1 of 1 names of the interface are answered"
    )
    assert {one.verdict for one in fits([], INTERFACE, {})} == {"unknown"}


def test_the_table_that_is_shipped_fits_itself() -> None:
    table = load_interface()
    windows = {since for since in table.since.values() if since is not None}
    assert windows <= set(table.kernels)
    assert table.since["DRM_AMDXDNA_QUERY_SENSORS"] == "7.1"  # in the header since 6.14
    assert table.kernels["7.3"] == "0.10"


def test_build_files_are_read_and_damage_is_nothing() -> None:
    assert build_version("tools/info.json", '{"xrt": {"version": "202620.2.26.95"}}') == "202620.2.26.95"
    text = "set(XRT_VERSION_RELEASE 202620)\nset(XRT_VERSION_MAJOR 2)\n  set(XRT_VERSION_MINOR 26)\n"
    assert build_version("src/CMake/settings.cmake", text) == "202620.2.26"
    for damaged in ("", "{", "[]", '{"xrt": 5}', '{"firmwares": {"x": 1}}', '{"firmwares": [1, {}]}'):
        assert build_version("tools/info.json", damaged) is None
        assert listed_firmware(damaged) == {}
    row = {
        "pci_device_id": "17f0",
        "pci_revision_id": "10",
        "version": "1.0.20.31",
        "fw_name": "npu.dev.sbin",
    }
    assert listed_firmware(json.dumps({"firmwares": [row]})) == {"amdnpu/17f0_10/npu.dev.sbin": "1.0.20.31"}


SHIM = "int f() { return ioctl(fd, DRM_IOCTL_AMDXDNA_GET_INFO) + DRM_AMDXDNA_QUERY_SENSORS; }\n"
WHENCE = (
    "File: amdnpu/17f0_10/1.7_npu.sbin.1.1.2.64\nLink: amdnpu/17f0_10/npu.dev.sbin -> 1.7_npu.sbin.1.1.2.64\n"
)


@pytest.fixture
def trees(repo: Callable[[str], Any]) -> dict[str, Any]:
    """XRT with two tags, and the driver's repository with a release branch that pins what the second has."""
    xrt, driver = repo("xrt"), repo("xdna")
    cmake = "set(XRT_VERSION_RELEASE 202610)\nset(XRT_VERSION_MAJOR 2)\nset(XRT_VERSION_MINOR 21)\n"
    xrt.commit("one", {"src/CMake/settings.cmake": cmake}, day=1)
    xrt.tag("2.21.70", day=1)
    pinned = xrt.commit("two", {"a": "1\n"}, day=5)
    xrt.commit("three", {"a": "2\n"}, day=6)
    xrt.tag("2.21.75", day=7)
    open_end = xrt.commit("four", {"a": "3\n"}, day=8)
    files = {
        "src/shim/kmq/pcidev.cpp": SHIM,
        "tools/info.json": '{"xrt": {"version": "202610.2.21.75"}}',
        "tools/WHENCE": WHENCE,
        ".gitmodules": '[submodule "x"]\n\tpath = third_party/x\n\turl = https://example.org/Me/XRT.git\n',
        "src/driver/amdxdna/amdxdna_pci_drv.c": "#define AMDXDNA_DRIVER_MINOR 16\n",
    }
    driver.commit("release", files, day=10, branch="1.9", links={"third_party/x": pinned, "other": open_end})
    driver.commit(
        "work", {"src/shim/a.h": "x\n"}, day=20, start="refs/heads/1.9", links={"third_party/x": open_end}
    )
    driver.tag("2.26.0", day=20)
    return {"userspace:xdna": driver, "userspace:xrt": xrt}


def by_name(database: Database) -> dict[str, ReleaseLine]:
    return {one.name: one for one in userspace_answer(database)}


def test_releases_are_followed(trees: dict[str, Any], follow: Callable[..., Any], database: Database) -> None:
    follow(trees)
    found = by_name(database)
    assert set(found) == {"1.9", "2.26.0", "2.21.70", "2.21.75"}
    branch = found["1.9"]
    assert (branch.kind, branch.version, branch.driver_version) == ("branch", "202610.2.21.75", "0.16")
    assert branch.uapi == ("DRM_AMDXDNA_QUERY_SENSORS", "DRM_IOCTL_AMDXDNA_GET_INFO")
    assert branch.firmware == {"amdnpu/17f0_10/npu.dev.sbin": "1.1.2.64"}
    other, pin = branch.pins
    assert (pin["path"], pin["tree"], pin["release"]) == ("third_party/x", "xrt", "2.21.75")
    assert "tree" not in other  # not by its name, though the commit is there
    assert found["2.26.0"].pins[1]["release"] is None
    fit = {one.kernel: (one.verdict, one.lacks) for one in branch.fits}
    assert fit["7.0"] == ("lacks", ("DRM_AMDXDNA_QUERY_SENSORS",))
    assert fit["7.1"] == ("whole", ())
    assert {one.verdict for one in found["2.21.75"].fits} == {"unknown"}
    assert found["2.21.75"].version == "202610.2.21"


def test_the_second_sync_finds_what_is_new(
    trees: dict[str, Any], follow: Callable[..., Any], database: Database
) -> None:
    follow(trees)
    before = userspace_answer(database)
    assert [(one.scanned, one.new) for one in follow(trees).sources] == [(2, 0), (2, 0)]
    assert userspace_answer(database) == before
    trees["userspace:xrt"].tag("2.22.0", day=30)
    assert [(one.scanned, one.new) for one in follow(trees).sources] == [(2, 0), (3, 1)]
    assert by_name(database)["2.26.0"].pins[1]["release"] == "2.22.0"


def test_the_command(trees: dict[str, Any], follow: Callable[..., Any], program: Callable[..., str]) -> None:
    follow(trees)
    (told,) = json.loads(program("userspace", "1.9", "--kernel", "7.0", "--json"))
    assert [one["kernel"] for one in told["fits"]] == ["7.0"]
    text = program("userspace", "1.9")
    assert "(2.21.75)" in text
    assert "1.9 on 7.0: DRM_AMDXDNA_QUERY_SENSORS" in text


@pytest.mark.real
def test_the_real_release_branches(follow: Callable[..., Any], database: Database) -> None:
    """amd/xdna-driver of 2026-08-21: six release branches, one tag; 1.9 ships driver 0.16."""
    clone = os.environ.get("XDNAWATCH_TWIN_GIT")
    if not clone:
        pytest.skip("no out-of-tree driver: XDNAWATCH_TWIN_GIT names no clone of amd/xdna-driver")

    class Here:
        folder = Path(clone)

    follow({"userspace:xdna": Here()})
    found = by_name(database)
    assert {"1.4", "1.5", "1.6", "1.7", "1.8", "1.9", "2.21.75"} <= set(found)
    assert found["1.9"].driver_version == "0.16"
    assert found["1.9"].firmware["amdnpu/17f0_10/npu.dev.sbin"] == "1.1.2.64"
    assert found["1.6"].firmware["amdnpu/17f0_10/npu.dev.sbin"] == "1.0.20.31"
    assert all(one.pins[0]["path"] == "xrt" for one in found.values())
