"""`xdnawatch bisect` as a person or a script meets it; the machine is one of rules."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from db.database import Database
from harness.bisect.campaign import run_campaign
from harness.bisect.locks import leading
from harness.bisect.record import Judgement, Question, Subject, open_campaign, set_state
from harness.bisect.search import Halving, Verdict
from xdnawatch.cli import main

Commit = Callable[[str, Mapping[str, str]], str]
DRIVER = "drivers/accel/amdxdna/Makefile"
TEST = "test_query.py::test_aie_status"


@dataclass(frozen=True)
class Done:
    """How an invocation of the program ended."""

    returncode: int
    stdout: str
    stderr: str


Program = Callable[..., Done]


@pytest.fixture
def xdnawatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    """Run the program in this process, with data and cache below ``tmp_path``."""
    monkeypatch.setenv("XDNAWATCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDNAWATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["xdnawatch", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return run


def fill(folder: Path, *, mended: bool = False, stop: int | None = None, culprit: int = 5) -> str:
    """A campaign over nine candidates, in the database that the command opens."""
    database = Database(f"sqlite:///{folder / 'data' / 'xdnawatch.db'}")
    database.migrate()
    subjects = tuple(
        Subject(f"{n:040x}", f"Change [bold]{n}[/bold]", "Ada", (f"{n - 1:040x}",) if n else ())
        for n in range(9)
    )
    question = Question("driver-history", "virtual-npu4", TEST, "a", "b", subjects, "7.3.4", "repo", mended)
    campaign_id, _ = open_campaign(database, question, Halving())

    class Rule:
        taken = 0

        def judge(self, subject: Subject, *, again: bool, say: Callable[[str], None]) -> Judgement:
            if self.taken == stop:
                raise KeyboardInterrupt
            self.taken += 1
            bad = (int(subject.id, 16) >= culprit) is not mended
            return Judgement(
                Verdict.BAD if bad else Verdict.GOOD,
                "EINVAL" if bad else "passed",
                None,
                {"boot": 2.0, "test": 1.5},
            )

    try:
        run_campaign(database, campaign_id, Rule(), Halving())
    except KeyboardInterrupt:
        assert stop is not None
    database.close()
    return campaign_id


def test_a_campaign_is_shown_with_its_culprit_and_every_step(
    tmp_path: Path, xdnawatch: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = fill(tmp_path)
    shown = xdnawatch("bisect", "show", campaign_id)
    assert shown.returncode == 0, shown.stderr
    assert f"culprit: {5:040x} by Ada" in shown.stdout
    assert "Change [bold]5[/bold]" in shown.stdout, "a title is text, never markup"
    assert "probability: 1.0" in shown.stdout
    assert "3.5 s a step" in shown.stdout
    monkeypatch.setenv("COLUMNS", "80")
    listed = xdnawatch("bisect", "list")
    assert campaign_id in listed.stdout


def test_the_json_form_has_everything_the_table_has(tmp_path: Path, xdnawatch: Program) -> None:
    campaign_id = fill(tmp_path)
    answer = json.loads(xdnawatch("bisect", "show", campaign_id, "--json").stdout)
    assert answer["culprit"]["id"] == f"{5:040x}"
    assert (answer["outcome"], answer["state"], answer["candidates"]) == ("culprit", "finished", 9)
    assert answer["steps"][0] == {
        "number": 1, "candidate": f"{8:040x}", "title": "Change [bold]8[/bold]", "verdict": "bad",
        "reason": "EINVAL", "run": None, "seconds": {"boot": 2.0, "test": 1.5},
    }  # fmt: skip
    assert json.loads(xdnawatch("bisect", "list", "--json").stdout)[0]["campaign"] == campaign_id


def test_a_finished_campaign_is_not_run_again(tmp_path: Path, xdnawatch: Program) -> None:
    """`resume` then only tells the answer: no QEMU is looked for, the exit code is the campaign's."""
    found = xdnawatch("bisect", "resume", fill(tmp_path))
    assert found.returncode == 0, found.stderr
    assert "culprit: " in found.stdout
    missed = xdnawatch("bisect", "resume", fill(tmp_path, culprit=99))
    assert missed.returncode == 1
    assert "not-reproduced" in missed.stdout


def test_an_interrupted_campaign_says_so(tmp_path: Path, xdnawatch: Program) -> None:
    campaign_id = fill(tmp_path, stop=3)
    shown = xdnawatch("bisect", "show", campaign_id)
    assert shown.returncode == 0
    assert "interrupted: " in shown.stdout
    assert "3 steps" in shown.stdout


def test_a_campaign_whose_process_was_killed_is_not_called_running(
    tmp_path: Path, xdnawatch: Program
) -> None:
    campaign_id = fill(tmp_path, stop=3)
    database = Database(f"sqlite:///{tmp_path / 'data' / 'xdnawatch.db'}")
    set_state(database, campaign_id, "running", "")  # as kill -9 leaves it
    database.close()
    with leading(tmp_path / "data" / "campaigns", campaign_id):
        led = json.loads(xdnawatch("bisect", "show", campaign_id, "--json").stdout)
    left = json.loads(xdnawatch("bisect", "show", campaign_id, "--json").stdout)
    assert (led["state"], left["state"]) == ("running", "interrupted")
    assert f"bisect resume {campaign_id}" in left["reason"]


def test_a_campaign_has_one_leader(tmp_path: Path, xdnawatch: Program) -> None:
    campaign_id = fill(tmp_path, stop=3)
    with leading(tmp_path / "data" / "campaigns", campaign_id):
        second = xdnawatch("bisect", "resume", campaign_id)
    assert second.returncode == 3
    assert f"another process is at work on campaign {campaign_id}" in second.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name --test, --good and --bad"),
        (("--test", TEST, "--good", "a"), "name --test, --good and --bad"),
        (
            ("--test", TEST, "--good", "a", "--bad", "b", "--history", "."),
            "--history and --kernel go together",
        ),
        (("--test", TEST, "--good", "a", "--bad", "b", "-k", "7.3.4"), "--history and --kernel go together"),
        (("--test", "test_nothing", "--good", "a", "--bad", "b"), "the suite has no test 'test_nothing'"),
        (
            ("--test", TEST, "--good", "a", "--bad", "b", "--history", ".", "-k", "7.3.4"),
            "is no git repository",
        ),
        (("--test", TEST, "--good", "a", "--bad", "b", "-m", "me@minipc"), "needs a machine that boots"),
        (("show", "nothing"), "there is no campaign 'nothing'"),
        (("resume", "nothing"), "there is no campaign 'nothing'"),
    ],
)
def test_a_wrong_question_is_one_line_and_exit_code_2(
    xdnawatch: Program, words: tuple[str, ...], told: str
) -> None:
    done = xdnawatch("bisect", *words)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_ends_are_looked_up_before_anything_is_fetched(
    tmp_path: Path, repository: Path, commit: Commit, xdnawatch: Program
) -> None:
    first = commit("start", {DRIVER: "1\n"})
    commit("second", {DRIVER: "2\n"})
    words = ("--test", TEST, "--history", str(repository), "-k", "7.3.4", "--good", first, "--bad", "nowhere")
    done = xdnawatch("bisect", *words)
    assert done.returncode == 2
    assert "has no commit 'nowhere'" in done.stderr
    assert not (tmp_path / "cache" / "debs").exists()
