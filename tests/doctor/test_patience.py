"""A suite waits less for each test once the kernel has reported a warning or an oops."""

from __future__ import annotations

from pathlib import Path

import pytest

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
