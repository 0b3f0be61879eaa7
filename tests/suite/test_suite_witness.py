"""What counts as left behind, and the time limit of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.suite import contract, guard, kmsg
from harness.suite.witness import Witness

NOTHING = guard.Found(None, None, (guard.Missing("pci-device", "none"),))


class _Log(kmsg.KernelLog):
    def __init__(self) -> None:
        self.said: list[kmsg.Line] = []

    def lines(self) -> list[kmsg.Line]:
        said, self.said = self.said, []
        return said


def test_quiet_kernel_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "taint", lambda: 0)
    log = _Log()
    log.said = [kmsg.Line(3, "amdxdna: [drm] *ERROR* Invalid command type 77")]
    assert Witness(NOTHING, log).changes() == []


def test_warning_and_taint_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taints = iter([0, 512, 512])
    monkeypatch.setattr(guard, "taint", lambda: next(taints))
    log = _Log()
    witness = Witness(NOTHING, log)
    log.said = [kmsg.Line(4, "WARNING: drivers/x.c:1 at y+0x1/0x2")]
    assert witness.changes() == [
        "kernel taint went from 0 to 512",
        "kernel log: WARNING: drivers/x.c:1 at y+0x1/0x2",
    ]
    assert witness.changes() == []


@pytest.mark.parametrize(
    "text",
    ["BUG kmalloc-64 (Not tainted): Poison overwritten", "pagealloc: memory corruption"],
)
def test_what_the_allocator_finds_is_damage(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """With slub_debug and page_poison: neither report begins as the others do."""
    monkeypatch.setattr(guard, "taint", lambda: 0)
    log = _Log()
    witness = Witness(NOTHING, log)
    log.said = [kmsg.Line(3, text)]
    assert witness.changes() == [f"kernel log: {text}"]


def test_what_was_said_before_belongs_to_no_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "taint", lambda: 0)
    log = _Log()
    witness = Witness(NOTHING, log)
    log.said = [kmsg.Line(0, "Oops: 0000 [#1]")]
    witness.forget()
    assert witness.changes() == []


SAMPLE = """
import time
import pytest

pytestmark = pytest.mark.bare

@pytest.mark.limit(0.3)
def test_hangs():
    time.sleep(30)

def test_records(record, attempt):
    record("answer", 42)
    def refused():
        raise OSError(95, "no")
    assert attempt(refused) == "EOPNOTSUPP"
    assert attempt(lambda: None, "second") == "ok"

@pytest.mark.pm
def test_sleeps(): pass
"""


def test_fixtures_and_limit_of_the_suite_s_conftest(tmp_path: Path) -> None:
    for name, data in contract.files().items():
        if not name.startswith(f"{contract.TESTS}/test_"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    (tmp_path / contract.TESTS / "test_sample.py").write_text(SAMPLE)
    command = contract.command(str(tmp_path), "n0nce", python=sys.executable)
    done = subprocess.run(command, capture_output=True, timeout=60, cwd=tmp_path, check=False)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    results = {event["id"].split("::")[1]: event for event in events if event["event"] == "result"}
    assert results["test_hangs"]["outcome"] == "failed"
    assert "no end within 0.3 s" in results["test_hangs"]["message"]
    assert results["test_hangs"]["duration"] < 5
    assert results["test_records"]["values"] == {"answer": 42, "result": "EOPNOTSUPP", "second": "ok"}
    assert (results["test_sleeps"]["outcome"], results["test_sleeps"]["reason"]) == (
        "skipped",
        "not asked for: --pm",
    )
