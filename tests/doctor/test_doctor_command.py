"""`xdnawatch doctor` as somebody with a laptop uses it: over SSH, for eyes and for programs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.processes import USER, answer, local_sshd, program

pytestmark = [pytest.mark.server, pytest.mark.timeout(200)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with settings in which "laptop" is this machine over ssh."""
    if list(Path("/dev").glob("accel/accel*")):
        pytest.skip("this machine has an accelerator: the test is about one that has none")
    with local_sshd(tmp_path / "ssh") as config:
        (tmp_path / "xdnawatch.toml").write_text(
            '[paths]\ndata = "data"\ncache = "cache"\n'
            f'[[machine]]\nname = "laptop"\nssh = "{USER}@127.0.0.1"\nssh_config = "{config}"\n'
        )
        yield tmp_path


def test_a_program_gets_the_cause_and_every_point(place: Path) -> None:
    code, facts, said = answer(place, "doctor", "laptop", "--json")
    assert code == 3, said
    assert (facts["schema"], facts["cause"]) == (1, "device")
    points = {check["id"]: check for check in facts["checks"]}
    assert points["node"]["state"] == points["ioctl"]["state"] == "skipped"
    assert points["tools"]["state"] == "ok"
    assert all(check["next_step"] for check in facts["checks"] if check["state"] in ("bad", "warn"))
    assert facts["facts"]["machine"]["distribution"], "the next steps depend on it"
    assert facts["facts"]["errors"] == facts["facts"]["probe"]["errors"] == {}


def test_a_person_gets_the_list_the_cause_and_the_next_step(place: Path) -> None:
    done = subprocess.run(
        program(place, "doctor", "laptop"), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 3
    assert "no AMD NPU is on the PCI bus. Next: " in done.stdout
    assert done.stdout.index(" device ") < done.stdout.index(" firmware "), "in order"
    assert "Traceback" not in done.stderr


def test_a_machine_that_cannot_be_reached_is_the_laboratorys_trouble(place: Path) -> None:
    (place / "ssh" / "known").write_text("")
    code, facts, said = answer(place, "doctor", "laptop", "--json")
    assert (code, facts) == (3, None)
    assert "ssh" in said
