"""`xdnawatch run` against a real ssh server on this machine, which has no NPU."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.processes import USER, answer, descendants, local_sshd, program, running, wait_for

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


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


def test_without_an_npu_every_test_says_why_it_cannot_run(place: Path) -> None:
    code, facts, said = answer(place, "run", "--machine", "laptop", "--json", timeout=240)
    assert code == 3, said
    assert facts["verdict"] == "environment"
    assert "no AMD NPU" in facts["reason"]
    assert len(facts["results"]) > 100
    assert {result["outcome"] for result in facts["results"]} == {"skipped"}
    assert all(result["message"].strip() for result in facts["results"])
    assert not list((place / "ssh" / ".cache" / "xdnawatch").glob("*")), "the copied suite is taken away"
    code, rows, _ = answer(place, "runs", "list", "--json")
    assert [row["verdict"] for row in rows] == ["environment"]


def test_a_kernel_cannot_be_given_to_a_machine_that_runs_its_own(place: Path) -> None:
    code, _, said = answer(place, "run", "--machine", "laptop", "--kernel", "7.3.4", "--json")
    assert code == 2
    assert "leave out --kernel" in said


def test_a_machine_that_cannot_be_reached_is_infrastructure(place: Path) -> None:
    (place / "ssh" / "known").write_text("")
    code, facts, _ = answer(place, "run", "--machine", "laptop", "--json")
    assert code == 3
    assert facts["verdict"] == "infrastructure"
    assert facts["results"] == []


def test_a_killed_run_is_reported_by_the_next_command_with_its_results(place: Path) -> None:
    running_one = subprocess.Popen(
        program(place, "run", "--machine", "laptop", "--json"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def has_results() -> bool:
        journals = list((place / "data" / "runs").glob("*/journal.jsonl"))
        return bool(journals) and journals[0].read_text().count('"event":"result"') >= 3

    try:
        wait_for(has_results, 60, "three tests are done")
        below = descendants(running_one.pid)
        assert below, "ssh clients are at work"
    finally:
        running_one.send_signal(signal.SIGKILL)
        running_one.wait(10)
    wait_for(lambda: not any(running(pid) for pid in below), 10, "nothing is left behind")
    code, rows, said = answer(place, "runs", "list", "--json")
    assert code == 0
    (row,) = rows
    assert (row["state"], row["verdict"]) == ("interrupted", "interrupted")
    assert f"run {row['run']} was interrupted" in said
    _, facts, again = answer(place, "runs", "show", row["run"], "--json")
    assert sum(result["outcome"] == "skipped" for result in facts["results"]) >= 3
    assert any(result["outcome"] == "not-run" for result in facts["results"])
    assert "was interrupted" not in again, "it is said once"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_ends_in_order(place: Path, how: signal.Signals) -> None:
    stopped = subprocess.Popen(
        program(place, "run", "--machine", "laptop"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # a shell ignores SIGINT for what it starts in the background, and so would everything below it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def has_results() -> bool:
        journals = list((place / "data" / "runs").glob("*/journal.jsonl"))
        return bool(journals) and journals[0].read_text().count('"event":"result"') >= 3

    wait_for(has_results, 60, "three tests are done")
    below = descendants(stopped.pid)
    stopped.send_signal(how)
    _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, said
    assert "Traceback" not in said
    assert not any(running(pid) for pid in below)
    _, rows, said = answer(place, "runs", "list", "--json")
    assert [row["verdict"] for row in rows] == ["interrupted"]
    assert rows[0]["state"] == "interrupted"
    assert "was interrupted" not in said, "it was stored by the command itself"


def test_a_run_can_be_repeated_and_a_part_of_the_suite_chosen(place: Path) -> None:
    code, facts, said = answer(
        place, "run", "--machine", "laptop", "--repeat", "2", "-k", "test_presence", "--json", timeout=240
    )
    assert (code, len(facts)) == (3, 2), said
    assert facts[0]["run"] != facts[1]["run"]
    assert [result["test"] for result in facts[0]["results"]] == [r["test"] for r in facts[1]["results"]]
    assert all("test_presence.py" in result["test"] for result in facts[0]["results"])
