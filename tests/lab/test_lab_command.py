"""`xdnawatch lab` as a shell sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mirror import Mirror, simple_deb

from lab.machine import Fault
from xdnawatch.cli.lab import parse_fault
from xdnawatch.errors import UsageError


def xdnawatch(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xdnawatch", *words],
        cwd=cwd,
        env={**os.environ, "XDNAWATCH_CACHE": str(cwd / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def settings(cwd: Path, text: str) -> None:
    (cwd / "xdnawatch.toml").write_text(text)


def test_machines_are_listed_for_people_and_programs(tmp_path: Path) -> None:
    settings(tmp_path, '[[machine]]\nname = "lap[red]"\nssh = "me@minipc"\n')
    listed = json.loads(xdnawatch("lab", "machines", "--json", cwd=tmp_path).stdout)
    assert listed[0] == {"name": "lap[red]", "kind": "ssh", "target": "me@minipc"}
    assert [row["name"] for row in listed[1:]] == [f"virtual-npu{n}" for n in ("1", "4", "5", "6", "3vf")]
    assert "lap[red]" in xdnawatch("lab", "machines", cwd=tmp_path).stdout


def test_kernels_show_what_the_mirror_has(tmp_path: Path, mirror: Mirror) -> None:
    for version in ("7.3.4", "6.18.15"):
        name = f"linux-image-{version}+deb13-amd64"
        mirror.add("trixie-backports", name, simple_deb({}), version=f"{version}-1~bpo13+1")
    mirror.publish("trixie")
    settings(tmp_path, f'[debian]\nmirror = "{mirror.address}"\n')
    done = xdnawatch("lab", "kernels", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["version"], row["cached"]) for row in rows] == [("6.18.15", False), ("7.3.4", False)]
    missing = xdnawatch("lab", "shell", "virtual-npu4", "--kernel", "9.9.9", cwd=tmp_path)
    assert missing.returncode == 2
    assert "available: 6.18.15, 7.3.4" in missing.stderr


def test_an_unreachable_mirror_is_infrastructure_in_one_line(tmp_path: Path) -> None:
    settings(tmp_path, '[debian]\nmirror = "http://127.0.0.1:9/debian"\n')
    done = xdnawatch("lab", "fetch", cwd=tmp_path)
    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) == 1
    assert "check the network" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "say"),
    [
        (("lab", "shell", "nobody"), 2, "known: virtual-npu1"),
        (("lab", "shell", "x@127.0.0.1", "--kernel", "7.3.4"), 2, "--kernel"),
        (("lab", "shell", "virtual-npu4", "--fault", ":"), 2, "fault"),
    ],
)
def test_wrong_words_are_one_sentence(tmp_path: Path, words: tuple[str, ...], code: int, say: str) -> None:
    settings(tmp_path, '[debian]\nmirror = "http://127.0.0.1:9/debian"\n')
    done = xdnawatch(*words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert say in done.stderr
    assert "Traceback" not in done.stderr


def test_faults_are_read_from_words() -> None:
    assert parse_fault("drop:opcode=0x18,count=2") == Fault("drop", {"opcode": "0x18", "count": "2"})
    assert parse_fault("dead") == Fault("dead")
    for bad in ("", ":a=1", "x:a", "x:=1"):
        with pytest.raises(UsageError):
            parse_fault(bad)
