"""`xdnawatch nightly` from the command line, over ssh to this machine, which has no NPU."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.processes import USER, answer, local_sshd

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with local_sshd(tmp_path / "ssh") as config:
        (tmp_path / "xdnawatch.toml").write_text(
            '[paths]\ndata = "data"\ncache = "cache"\n'
            f'[[machine]]\nname = "laptop"\nssh = "{USER}@127.0.0.1"\nssh_config = "{config}"\n'
            '[nightly]\nmachines = ["laptop"]\nattempts = 2\n'
        )
        yield tmp_path


def test_a_cell_nobody_can_judge_is_tried_twice_and_then_left(place: Path) -> None:
    page = place / "matrix.md"
    code, rows, _ = answer(place, "nightly", "--dry-run", "--json", "--write", str(page))
    assert (code, [row["action"] for row in rows]) == (0, ["run"])
    assert not (place / "data" / "runs").exists(), "a dry run runs nothing"
    assert "0 of 1 cells were run" in page.read_text()
    assert "| laptop | running | not run: no verdict yet |" in page.read_text()
    for _night in range(2):
        code, rows, _ = answer(place, "nightly", "--json", "--write", str(page), timeout=240)
        assert (code, rows[0]["action"], rows[0]["verdict"]) == (3, "run", "environment")
    assert "| laptop | running | environment: " in page.read_text()
    assert str(place) not in page.read_text()
    code, rows, _ = answer(place, "nightly", "--json")
    assert (code, rows[0]["action"]) == (3, "given-up")
    assert "environment 2 times" in rows[0]["reason"]
    assert len(list((place / "data" / "runs").iterdir())) == 2


def test_two_nights_at_once_are_one_too_many(place: Path) -> None:
    (place / "data").mkdir()
    with (place / "data" / "nightly.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, said = answer(place, "nightly", "--json")
    assert code == 3
    assert "another `xdnawatch nightly` is at work" in said


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--machine", "lapptop"), "no machine 'lapptop'"),
        (("--machine", "virtual-npu4"), "the matrix has no kernels"),
    ],
)
def test_a_matrix_that_makes_no_sense_is_said_before_anything_starts(
    place: Path, words: tuple[str, ...], problem: str
) -> None:
    code, _, said = answer(place, "nightly", "--json", *words)
    assert code == 2
    assert problem in said
