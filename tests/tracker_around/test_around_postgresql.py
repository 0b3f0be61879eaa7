"""CVE records, firmware, user space and the twin on PostgreSQL: as on SQLite, hostile text too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db.database import Database
from tests.tracker_around.conftest import NOW, Repo
from tracker.cves.answers import cve_answers
from tracker.digest import digest
from tracker.firmware.answers import firmware_answer
from tracker.settings import DriverProfile, SourceSettings, TreeSettings
from tracker.sync import sync
from tracker.twin.answers import twin_answer
from tracker.userspace.answers import userspace_answer

pytestmark = pytest.mark.server
DRIVER = "drivers/accel/amdxdna/a.c"


def test_the_same_rows_as_on_sqlite(
    on_postgresql: Database, database: Database, repo: Callable[[str], Repo], tmp_path: Path
) -> None:
    kernel, firmware, user = repo("linux"), repo("firmware"), repo("xdna")
    asks = 'MODULE_FIRMWARE("amdnpu/1_0/a.sbin");\n'
    cause = kernel.commit("accel/amdxdna: A first part of it", {DRIVER: asks})
    kernel.tag("v7.0")
    fix = kernel.commit("accel/amdxdna: A second part of it", {DRIVER: "int b;\n"})
    kernel.tag("v7.1")
    firmware.commit("one", {"WHENCE": "File: amdnpu/1_0/a.sbin\nVersion: 1\0\nFile: amdnpu/1_0/\0b.sbin\n"})
    firmware.tag("20260101")
    info = json.dumps({"xrt": {"version": "2.1\0\ud800"}})
    user.commit("one", {"src/shim/a.c": "DRM_AMDXDNA_QUERY_SENSORS\n", "tools/info.json": info})
    user.commit("accel/amdxdna: A second part of it", {DRIVER: "int c;\n"})
    user.tag("1.0.0")
    records = tmp_path / "records"
    records.mkdir()
    git: list[dict[str, Any]] = [
        {"version": cause, "lessThan": fix, "status": "affected", "versionType": "git"},
        {"version": "\0", "lessThan": ["x"], "status": "affected", "versionType": "git"},
    ]
    record = {
        "cveMetadata": {"cveId": "CVE-2026-1000", "datePublished": "2026-01-02T00:00:00Z"},
        "containers": {
            "cna": {
                "title": "amdxdna \0 \ud800",
                "affected": [{"programFiles": [DRIVER, "\0"], "versions": git}],
                "metrics": [{"cvssV3_1": {"baseScore": "7\0", "baseSeverity": "\ud800"}}],
            }
        },
    }
    (records / "CVE-2026-1000.json").write_text(json.dumps(record))
    sources = [SourceSettings(name="records", kind="cve", location=str(records))]
    trees = [
        TreeSettings(name="mainline", location=str(kernel.folder), branch="main"),
        TreeSettings(name="firmware", location=str(firmware.folder), branch="main", role="firmware"),
        TreeSettings(name="user", location=str(user.folder), branch="main", role="userspace"),
        TreeSettings(name="twin", location=str(user.folder), branch="refs/heads/main", role="twin"),
    ]

    def told(one: Database) -> list[Any]:
        report = sync(one, sources, trees, DriverProfile(), clones=tmp_path / "clones", now=NOW)
        assert [tree.problem for tree in report.sources] == [None] * 5
        return [
            cve_answers(one),
            firmware_answer(one),
            userspace_answer(one),
            twin_answer(one),
            digest(one, "amdxdna", NOW, days=366).to_json(),
        ]

    here, there = told(database), told(on_postgresql)
    assert here == there
    assert told(on_postgresql) == there
    assert here[0][0].change == "accel-amdxdna-a-second-part-of-it"
    assert [one.status for one in here[3].lines] == ["upstream"]
