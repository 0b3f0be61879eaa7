"""A file that is read again and again: what it says now, also when it went and came back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.suite.gauge import Gauge


def test_it_says_what_the_file_says_now(tmp_path: Path) -> None:
    path = tmp_path / "runtime_status"
    path.write_text("active\n")
    gauge = Gauge(path)
    assert gauge.text() == "active"
    path.write_text("suspended\n")
    assert gauge.text() == "suspended"
    gauge.close()


def test_a_file_that_is_not_there_yet_is_found_later(tmp_path: Path) -> None:
    gauge = Gauge(tmp_path / "later")
    assert gauge.text() == ""
    assert gauge.number() is None
    (tmp_path / "later").write_text("42\n")
    assert gauge.number() == 42
    gauge.close()


def test_a_file_whose_device_was_bound_again_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The open file of a device that is gone answers ENODEV for ever (kernfs)."""
    path = tmp_path / "control"
    path.write_text("auto\n")
    gauge = Gauge(path)
    assert gauge.text() == "auto"
    read, gone = os.pread, [True]

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        if gone.pop() if gone else False:
            raise OSError(19, "No such device")
        return read(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    assert gauge.text() == "auto"
    gauge.close()


@pytest.mark.parametrize("words", ["", "unsupported", "-1", "1 2", "0x3", "²"])
def test_what_is_no_number_is_none(tmp_path: Path, words: str) -> None:
    path = tmp_path / "runtime_usage"
    path.write_text(words)
    gauge = Gauge(path)
    assert gauge.number() is None
    gauge.close()
