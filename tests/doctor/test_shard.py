"""`--shard i/n`: the parts are disjoint, together they are the whole, and names alone decide."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.suite_stream import ioctl_suite
from tests.harness.processes import answer
from xdnawatch.cli.run import planned_shard
from xdnawatch.errors import UsageError


def collected(tmp_path: Path, shard: tuple[int, int] | None) -> list[str]:
    """The tests that the command of a suite collects on this machine (which needs no NPU for that)."""
    root = tmp_path / "suite"
    suite = ioctl_suite("test_query or test_presence", shard=shard)
    for name, data in suite.files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    words = [sys.executable if word == "python3" else word for word in suite.command(str(root), "n", ())[0]]
    done = subprocess.run(
        [*words, "--collect-only"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    rows = [
        row
        for line in done.stdout.splitlines()
        if line.startswith("{") and json.loads(line)["event"] == "collected"
        for row in json.loads(line)["tests"]
    ]
    assert rows, done.stderr
    return [row["id"] for row in rows]


def test_the_parts_are_disjoint_and_together_the_whole(tmp_path: Path) -> None:
    whole = collected(tmp_path, None)
    parts = [collected(tmp_path, (part, 3)) for part in (1, 2, 3)]
    assert all(len(part) > len(whole) / 6 for part in parts), "of like size"
    assert sorted(test for part in parts for test in part) == sorted(whole)
    order = {test: at for at, test in enumerate(whole)}
    assert all(part == sorted(part, key=order.__getitem__) for part in parts), "in the suite's order"


def test_a_resumed_part_is_given_its_tests_by_name_only() -> None:
    words, files = ioctl_suite(shard=(1, 3)).command("/r", "n", ["test_a.py::test_one"])
    assert not any("shard" in word for word in words)
    assert files["tests.txt"].endswith(b"test_a.py::test_one")


def test_parts_are_suites_of_their_own() -> None:
    assert len({ioctl_suite(shard=shard).name for shard in (None, (1, 3), (2, 3), (1, 2))}) == 4


@pytest.mark.parametrize("text", ["0/3", "4/3", "x", "1/", "1/1000", "-1/3"])
def test_a_part_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no part like 2/3"):
        planned_shard(text)


def test_a_refused_part_ends_the_command_before_anything_is_run(tmp_path: Path) -> None:
    (tmp_path / "xdnawatch.toml").write_text('[paths]\ndata = "data"\ncache = "cache"\n')
    code, _, said = answer(tmp_path, "run", "--machine", "me@nowhere", "--shard=4/3", "--json")
    assert code == 2
    assert "is no part like 2/3" in said
    assert not (tmp_path / "data" / "runs").exists()
