"""What surrounds a change in `track where`, and what is new in a week's digest."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from db.database import Database
from tests.tracker_around.conftest import START, Repo
from tracker.digest import digest
from tracker.settings import DriverProfile, SourceSettings
from tracker.sync import sync

HEADER = "include/uapi/drm/amdxdna_accel.h"
PCI = "drivers/accel/amdxdna/amdxdna_pci_drv.c"
QUERY = "DRM_AMDXDNA_QUERY_SENSORS"


def header(*names: str) -> str:
    return "enum amdxdna_drm_get_param {\n" + "".join(f"\t{name},\n" for name in names) + "};\n"


@pytest.fixture
def trees(repo: Callable[[str], Repo]) -> dict[str, Repo]:
    """A change that asks for new firmware, one that adds a query; firmware later, user space later still."""
    kernel, firmware, user = repo("linux"), repo("linux-firmware"), repo("xdna")
    kernel.commit(
        "accel/amdxdna: Add the driver",
        {
            PCI: 'MODULE_FIRMWARE("amdnpu/17f0_10/npu.sbin");\n',
            HEADER: header("DRM_AMDXDNA_QUERY_AIE_STATUS"),
        },
        day=1,
    )
    kernel.tag("v6.19", day=5)
    kernel.commit(
        "accel/amdxdna: Use a different name",
        {PCI: 'MODULE_FIRMWARE("amdnpu/17f0_10/npu_7.sbin");\n'},
        day=10,
    )
    kernel.commit(
        "accel/amdxdna: Support sensors", {HEADER: header("DRM_AMDXDNA_QUERY_AIE_STATUS", QUERY)}, day=11
    )
    kernel.tag("v7.0-rc1", day=12)
    kernel.tag("v7.0", day=20)
    file = "npu.sbin.1.1.2.64"
    listed = f"File: amdnpu/17f0_10/{file}\nLink: amdnpu/17f0_10/npu_7.sbin -> {file}\n"
    firmware.commit("amdnpu: npu_7", {"WHENCE": listed}, day=22)
    firmware.tag("20260125", day=24)
    user.commit("first", {"src/shim/a.cpp": "int x = DRM_AMDXDNA_QUERY_AIE_STATUS;\n"}, day=15)
    user.tag("1.0.0", day=15)
    user.commit("second", {"src/shim/a.cpp": f"int x = {QUERY};\n"}, day=25)
    user.tag("1.1.0", day=25)
    return {"mainline": kernel, "firmware": firmware, "userspace": user}


def test_where_tells_of_firmware_and_user_space(
    trees: dict[str, Repo], follow: Callable[..., Any], program: Callable[..., str]
) -> None:
    follow(trees)
    asked = json.loads(program("where", "Use a different name", "--json"))["firmware"]
    assert [(one["path"], one["what"], one["verdict"], one["since"]) for one in asked] == [
        ("amdnpu/17f0_10/npu.sbin", "removed", "never", None),
        ("amdnpu/17f0_10/npu_7.sbin", "added", "late", "20260125"),
    ]
    assert "firmware amdnpu/17f0_10/npu_7.sbin: late, version 1.1.2.64: in 20260125" in program(
        "where", "Use a different name"
    )
    used = json.loads(program("where", "Support sensors", "--json"))["userspace"]
    assert [(one["name"], one["release"]) for one in used] == [(QUERY, "1.1.0")]
    assert f"userspace uses {QUERY} since 1.1.0 of 2026-01-26" in program("where", "Support sensors")


def test_the_week_has_new_firmware_releases_and_records(
    trees: dict[str, Repo], follow: Callable[..., Any], database: Database, tmp_path: Path
) -> None:
    follow(trees)
    records = tmp_path / "records"
    records.mkdir()
    value = {
        "cveMetadata": {
            "cveId": "CVE-2026-1000",
            "datePublished": (START + timedelta(days=26)).isoformat(),
        },
        "containers": {"cna": {"title": "accel/amdxdna: Fix a thing", "affected": [{"programFiles": [PCI]}]}},
    }
    (records / "CVE-2026-1000.json").write_text(json.dumps(value))
    source = SourceSettings(name="records", kind="cve", location=str(records))
    sync(database, [source], [], DriverProfile(), clones=tmp_path / "c")

    def week(day: int) -> dict[str, list[tuple[str, str]]]:
        found = digest(database, "amdxdna", START + timedelta(days=day))
        wanted = ("New CVE records", "New firmware", "Releases of user space")
        return {
            one.heading: [(entry.title, entry.detail.split(", ")[-1]) for entry in one.entries]
            for one in found.sections
            if one.heading in wanted and one.entries
        }

    assert week(28) == {
        "New CVE records": [("accel/amdxdna: Fix a thing", "CVE-2026-1000")],
        "New firmware": [("amdnpu/17f0_10/npu_7.sbin", "20260125")],
        "Releases of user space": [
            ("userspace 1.1.0", "tag " + trees["userspace"].git("rev-parse", "main")[:12])
        ],
    }
    assert week(20) == {
        "Releases of user space": [
            ("userspace 1.0.0", "tag " + trees["userspace"].git("rev-parse", "main~1")[:12])
        ]
    }
    assert week(60) == {}
