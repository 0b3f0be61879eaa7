"""Several runs at once: they overlap, a real machine is used by one at a time, and each ends in order."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.evidence import Evidence
from harness.verdict import RunVerdict
from lab.machine import LabError
from tests.harness.fakes import FakeMachine, FakeShell, all_pass, candidate, fake_suite
from xdnawatch.cli.context import AppContext
from xdnawatch.runs import Job, runs_folder
from xdnawatch.side_by_side import Ended, Errand, perform_all

PATIENCE = 60.0  # seconds; reached only by a failure


@pytest.fixture
def app(tmp_path: Path) -> AppContext:
    settings = tmp_path / "xdnawatch.toml"
    settings.write_text('[paths]\ndata = "data"\ncache = "cache"\n')
    return AppContext(settings, quiet=True)


def wait_for(path: Path) -> bool:
    """Whether the file came to be."""
    until = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def errand(machine: FakeMachine, exclusive: str | None = None) -> Errand:
    return Errand(machine.name, lambda _app: Job(machine, candidate(), "7.3.4", fake_suite()), exclusive)


def made(app: AppContext, errands: Sequence[Errand], at_once: int) -> tuple[bool, dict[int, Ended]]:
    ended: dict[int, Ended] = {}
    return perform_all(app, errands, at_once=at_once, on_end=ended.__setitem__), ended


def verdicts(ended: dict[int, Ended]) -> list[str]:
    return [
        str(ended[number].judgement.verdict) if isinstance(ended[number], Evidence) else str(ended[number])
        for number in sorted(ended)
    ]


def test_two_runs_go_on_at_the_same_time_and_both_are_stored(app: AppContext, tmp_path: Path) -> None:
    def meeting(name: str, other: str) -> FakeMachine:
        def play(shell: FakeShell, tests: Sequence[str]) -> Iterator[bytes | Exception | int]:
            (tmp_path / name).touch()
            assert wait_for(tmp_path / other), "the other run did not go on meanwhile"
            yield from all_pass(shell, tests)

        return FakeMachine(plays=[play], name=name)

    pair = [errand(meeting("one", "two")), errand(meeting("two", "one"))]
    finished, ended = made(app, pair, at_once=2)
    assert finished
    assert verdicts(ended) == ["pass", "pass"]
    assert [ended[n].journal.header.machine for n in (0, 1)] == ["one", "two"]  # type: ignore[union-attr]
    assert len(list(runs_folder(app).iterdir())) == 2


def test_a_real_machine_is_used_by_one_run_at_a_time(app: AppContext, tmp_path: Path) -> None:
    def play(shell: FakeShell, tests: Sequence[str]) -> Iterator[bytes | Exception | int]:
        lock = os.open(tmp_path / "in use", os.O_CREAT | os.O_EXCL)  # an error when another is at work
        time.sleep(0.2)
        os.close(lock)
        (tmp_path / "in use").unlink()
        yield from all_pass(shell, tests)

    machine = FakeMachine(plays=[play], name="laptop")
    finished, ended = made(app, [errand(machine, "laptop") for _ in range(3)], at_once=3)
    assert finished
    assert verdicts(ended) == ["pass"] * 3


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_cannot_be_had_costs_its_own_run_alone(app: AppContext, at_once: int) -> None:
    def unknown(_app: AppContext) -> Job:
        raise LabError("no kernel 9.9 in any suite")

    errands = [Errand("gone", unknown), errand(FakeMachine())]
    finished, ended = made(app, errands, at_once)
    assert finished
    assert verdicts(ended) == ["no kernel 9.9 in any suite", "pass"]


def test_a_process_that_is_killed_is_told_of(app: AppContext) -> None:
    def play(_shell: FakeShell, _tests: Sequence[str]) -> Iterator[bytes | Exception | int]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield 0

    finished, ended = made(app, [errand(FakeMachine(plays=[play])), errand(FakeMachine())], at_once=2)
    assert finished
    assert verdicts(ended) == ["the process of this run ended by itself (-9)", "pass"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_runs_in_order_and_starts_no_more(
    app: AppContext, tmp_path: Path, number: signal.Signals
) -> None:
    def play(shell: FakeShell, tests: Sequence[str]) -> Iterator[bytes | Exception | int]:
        (tmp_path / shell.machine.name).touch()
        time.sleep(PATIENCE)
        yield from all_pass(shell, tests)

    errands = [errand(FakeMachine(plays=[play], name=name)) for name in ("a", "b", "c")]

    def strike() -> None:
        if wait_for(tmp_path / "a") and wait_for(tmp_path / "b"):
            os.kill(os.getpid(), number)

    striker = threading.Thread(target=strike)
    striker.start()
    finished, ended = made(app, errands, at_once=2)
    striker.join()
    assert not finished
    assert verdicts(ended) == [str(RunVerdict.INTERRUPTED)] * 2
    assert not (tmp_path / "c").exists()
