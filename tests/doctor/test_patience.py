"""A suite waits less for each test once the kernel has reported a warning or an oops."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.suite import contract
from harness.suite.guard import patience


@pytest.mark.parametrize(
    ("taint", "seconds"),
    [("0", 20.0), ("12288", 20.0), ("512", 10.0), ("128", 10.0), ("4736", 10.0), (None, 20.0), ("x", 20.0)],
)
def test_the_wait_shortens_with_an_oops_or_a_warning(
    tmp_path: Path, taint: str | None, seconds: float
) -> None:
    if taint is not None:
        (tmp_path / "proc/sys/kernel").mkdir(parents=True)
        (tmp_path / "proc/sys/kernel/tainted").write_text(f"{taint}\n")
    assert patience(20.0, 10.0, tmp_path) == seconds


def test_it_never_waits_longer_than_asked(tmp_path: Path) -> None:
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/tainted").write_text("128\n")
    assert patience(5.0, 10.0, tmp_path) == 5.0


HANGS = """
import time
import pytest
from harness.suite import guard
from harness.suite.tests import conftest

conftest.TEST_TIMEOUT, conftest.TAINTED_TIMEOUT = 2.5, 0.5
guard.taint = lambda *_root: {taint}

@pytest.mark.bare
def test_hangs():
    time.sleep(60)

@pytest.mark.bare
def test_after():
    pass
"""


@pytest.mark.parametrize(("taint", "seconds"), [("0", "2.5"), ("1 << 12", "2.5"), ("1 << 7", "0.5")])
def test_a_test_that_hangs_in_a_tainted_kernel_is_ended_sooner(
    tmp_path: Path, taint: str, seconds: str
) -> None:
    """In a real pytest process with the suite's own conftest: the taint decides which limit ends the test."""
    for name, data in contract.files().items():
        path = tmp_path / name
        if "/tests/test_" not in f"/{name}":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    (tmp_path / contract.TESTS / "test_hangs.py").write_text(HANGS.replace("{taint}", taint))
    command = contract.command(str(tmp_path), "n0nce", python=sys.executable)
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=100, check=False)
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    results = {event["id"].rpartition("::")[2]: event for event in events if event["event"] == "result"}
    assert results["test_hangs"]["outcome"] == "failed"
    assert f"no end within {seconds} s" in results["test_hangs"]["message"]
    assert results["test_after"]["outcome"] == "passed", "the session goes on"
