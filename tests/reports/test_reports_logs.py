"""Logs of a run: bounded, hostile, sometimes absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from reports.logs import MAX_BYTES, MAX_LINE, MAX_LINES, Log, excerpt, log_lines, read_log


def test_a_log_is_read_with_its_lines(tmp_path: Path) -> None:
    (tmp_path / "kernel.log").write_bytes(b"one\r\ntwo \xff\n")
    log = read_log(tmp_path, "kernel.log")
    assert log is not None
    assert log.lines == ("one", "two \ufffd")
    assert (log.size, log.left_out) == (11, "")


def test_what_is_no_plain_file_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (tmp_path / "kernel.log").symlink_to(secret)
    os.mkfifo(tmp_path / "serial.log")  # opening one for reading would wait for ever
    (tmp_path / "device.jsonl").mkdir()
    for name in ("kernel.log", "serial.log", "device.jsonl"):
        assert read_log(tmp_path, name) is None
    assert read_log(tmp_path / "absent", "kernel.log") is None


@pytest.mark.parametrize("name", ["../secret", "journal.jsonl", "boot-99/kernel.log"])
def test_only_known_names_are_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a log"):
        read_log(tmp_path, name)


def test_a_later_boot_has_its_own_logs(tmp_path: Path) -> None:
    (tmp_path / "boot-2").mkdir()
    (tmp_path / "boot-2" / "kernel.log").write_text("second\n")
    log = read_log(tmp_path, "boot-2/kernel.log")
    assert log is not None
    assert log.lines == ("second",)


def test_a_huge_log_is_cut_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "kernel.log").write_bytes(b"x\n" * (MAX_BYTES // 2 + 10))
    log = read_log(tmp_path, "kernel.log")
    assert log is not None
    assert len(log.lines) == MAX_LINES
    assert str(MAX_BYTES + 20) in log.left_out
    (tmp_path / "serial.log").write_bytes(b"y" * (MAX_LINE + 5))
    one = read_log(tmp_path, "serial.log")
    assert one is not None
    assert one.lines[0].endswith("(5 more characters)")


def test_an_excerpt_shows_what_is_around_a_finding_once() -> None:
    log = Log("kernel.log", 1, tuple(f"line {n}" for n in range(1, 101)))
    found = excerpt(log, [(50, "tdr"), (52, "tdr"), (99, "warn"), (4000, "beyond")])
    numbers = [line.number for line in found]
    assert numbers == sorted(set(numbers))
    assert {line.number for line in found if line.signature} == {50, 52, 99}
    assert [line.number for line in found if line.gap] == [47, 96]
    assert found[-1].number == 100


def test_without_findings_the_end_of_the_log_is_shown() -> None:
    log = Log("kernel.log", 1, tuple(f"line {n}" for n in range(1, 101)))
    assert [line.number for line in excerpt(log, [])][-1] == 100
    assert excerpt(Log("kernel.log", 0, ()), []) == []


def test_log_lines_are_escaped_numbered_and_marked() -> None:
    lines = ("<script>alert(1)</script>", "\x1b[31mred", "fine")
    soup = BeautifulSoup(log_lines(lines, {3: "bad"}), "lxml")
    assert soup.find("script") is None
    assert "<script>alert(1)</script>" in soup.get_text()
    assert "^[[31mred" in soup.get_text()
    marked = soup.find("mark", class_="bad")
    assert marked is not None
    assert marked.get_text() == "3 fine"
    assert soup.find("a", id="L2") is not None
