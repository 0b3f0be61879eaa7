"""What counts as left behind, and the time limit of a test."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.suite import contract, guard, kmsg, uapi
from harness.suite import witness as watching
from harness.suite.device import Device
from harness.suite.witness import State, Witness

NOTHING = guard.Found(None, None, (guard.Missing("pci-device", "none"),))


class _Log(kmsg.KernelLog):
    def __init__(self) -> None:
        self.said: list[kmsg.Line] = []

    def lines(self) -> list[kmsg.Line]:
        said, self.said = self.said, []
        return said


def test_quiet_kernel_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "taint", lambda _root: 0)
    log = _Log()
    log.said = [kmsg.Line(3, "amdxdna: [drm] *ERROR* Invalid command type 77")]
    assert Witness(NOTHING, log).changes() == []


def test_warning_and_taint_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taints = iter([0, *[512] * 1000])
    monkeypatch.setattr(guard, "taint", lambda _root: next(taints))
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
    monkeypatch.setattr(guard, "taint", lambda _root: 0)
    log = _Log()
    witness = Witness(NOTHING, log)
    log.said = [kmsg.Line(3, text)]
    assert witness.changes() == [f"kernel log: {text}"]


def test_what_was_said_before_belongs_to_no_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "taint", lambda _root: 0)
    log = _Log()
    witness = Witness(NOTHING, log)
    log.said = [kmsg.Line(0, "Oops: 0000 [#1]")]
    witness.forget()
    assert witness.changes() == []


BEFORE = State(frozenset({1}), 1000, 4096, 0, "auto", "suspended", 0, 0)
LEFT = {
    "contexts left over: [7]": replace(BEFORE, contexts=frozenset({1, 7})),
    "buffers left over: 24 bytes": replace(BEFORE, buffers=1024),
    "memory left pinned: 4096 bytes": replace(BEFORE, pinned=8192),
    "power mode went from 0 to 3": replace(BEFORE, power_mode=3),
    "runtime power management went from auto to on": replace(BEFORE, control="on"),
    "runtime power management ended in an error": replace(BEFORE, status="error"),
    "the device is kept awake: 2 references left over": replace(BEFORE, holders=2),
    "kernel taint went from 0 to 512": replace(BEFORE, taint=512),
}


@pytest.mark.parametrize("words", LEFT)
def test_everything_that_is_left_behind_is_named(words: str) -> None:
    assert LEFT[words].left_by(BEFORE) == [words]


def test_what_is_given_back_or_cannot_be_seen_is_nothing() -> None:
    assert State().left_by(State()) == []
    less = replace(BEFORE, contexts=frozenset(), buffers=0, pinned=0, holders=None, status="active")
    assert less.left_by(BEFORE) == []
    assert replace(BEFORE, buffers=None, power_mode=None).left_by(BEFORE) == []


def test_what_the_kernel_gives_back_late_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "proc/self/status"
    status.parent.mkdir(parents=True)
    status.write_text("Name:\tpytest\nVmPin:\t       0 kB\n")
    witness = Witness(NOTHING, None, tmp_path)
    status.write_text("VmPin:\t     512 kB\n")
    assert witness.changes() == ["memory left pinned: 524288 bytes"]
    status.write_text("VmPin:\t    1024 kB\n")
    late = iter([524288 * 2, 524288 * 2, 524288])
    monkeypatch.setattr(watching, "_pinned", lambda _root: next(late, 524288))
    assert witness.changes() == []


def test_a_refused_call_that_changed_its_argument_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor is no device: the kernel refuses, and a stub in between changes the argument."""
    monkeypatch.setattr(Device, "scribbles", [])
    argument = uapi.GetInfo(param=1)
    with os.fdopen(os.open("/dev/null", os.O_RDWR)) as null:
        client = Device.around(null.fileno())
        with pytest.raises(OSError, match="GetInfo"):
            client.ioctl(uapi.GET_INFO, argument)
        assert Device.scribbles == []

        class Scribbling:
            def ioctl(self, _fd: int, _request: int, _pointer: object) -> int:
                argument.param = 2
                ctypes.set_errno(errno.EINVAL)
                return -1

        monkeypatch.setattr("harness.suite.device._libc", Scribbling())
        with pytest.raises(OSError, match="GetInfo"):
            client.ioctl(uapi.GET_INFO, argument)
    assert Device.scribbles == ["GetInfo (EINVAL)"]


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
