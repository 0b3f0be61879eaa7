"""The watchdog is armed around the suite and disarmed after it, whatever ends the suite."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import harness.runner
from harness import watchdog_keeper
from harness.evidence import Evidence
from harness.journal import WatchdogRecord
from harness.runner import RunOptions, RunRequest, run
from harness.watchdog import Watchdog
from lab.physical.local import LocalShell
from tests.harness.fakes import FakeMachine, all_pass, candidate, fake_suite, silent_for

FOUND = [{"name": "watchdog0", "identity": "fake", "nowayout": "0"}]


@pytest.fixture
def device(tmp_path: Path) -> tuple[Path, Path]:
    """A file that takes what a watchdog takes, and its folder of sysfs."""
    (tmp_path / "sysfs").mkdir()
    (tmp_path / "sysfs/nowayout").write_text("0\n")
    (tmp_path / "sysfs/identity").write_text("Fake Watchdog\n")
    (tmp_path / "device").write_bytes(b"")
    return tmp_path / "device", tmp_path / "sysfs"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def keeper(device: tuple[Path, Path], stop: Path, seconds: float = 30) -> subprocess.Popen[bytes]:
    words = [str(stop), str(seconds), *map(str, device)]
    process = subprocess.Popen(
        [sys.executable, watchdog_keeper.__file__, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"armed: Fake Watchdog\n"
    wait_for(lambda: device[0].read_bytes() != b"")
    return process


def test_it_is_armed_and_fed_and_disarmed_through_a_shell(device: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "own"
    watchdog = Watchdog(LocalShell(), str(folder), longest=30, keeper=tuple(map(str, device)))
    assert watchdog.arm() == (True, "armed: Fake Watchdog")
    wait_for(lambda: device[0].read_bytes() == b"\0")
    assert watchdog.disarm(reachable=True)
    assert device[0].read_bytes().endswith(b"V"), "the magic close"
    assert not folder.exists(), "nothing stays behind"


def test_one_that_could_not_be_disarmed_is_never_opened(device: tuple[Path, Path], tmp_path: Path) -> None:
    for text in ("1\n", None):
        (device[1] / "nowayout").unlink()
        if text is not None:
            (device[1] / "nowayout").write_text(text)
        watchdog = Watchdog(LocalShell(), str(tmp_path / "own"), longest=30, keeper=tuple(map(str, device)))
        armed, said = watchdog.arm()
        assert not armed
        assert said.startswith("refused")
        assert watchdog.disarm(reachable=True)
        assert device[0].read_bytes() == b""
        (device[1] / "nowayout").write_text("1\n")


def test_one_that_is_not_there_or_taken_is_refused(device: tuple[Path, Path], tmp_path: Path) -> None:
    device[0].unlink()
    watchdog = Watchdog(LocalShell(), str(tmp_path / "own"), longest=30, keeper=tuple(map(str, device)))
    assert watchdog.arm() == (False, "refused: No such file or directory")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_disarms(device: tuple[Path, Path], tmp_path: Path, number: int) -> None:
    process = keeper(device, tmp_path / "stop")
    process.send_signal(number)
    process.communicate(timeout=10)
    assert device[0].read_bytes().endswith(b"V")


def test_a_harness_that_was_killed_leaves_no_armed_watchdog(
    device: tuple[Path, Path], tmp_path: Path
) -> None:
    process = keeper(device, tmp_path / "stop")
    assert process.stdout is not None
    process.stdout.close()
    process.wait(10)
    assert device[0].read_bytes().endswith(b"V")


def test_it_ends_by_itself(device: tuple[Path, Path], tmp_path: Path) -> None:
    process = keeper(device, tmp_path / "stop", seconds=0.5)
    assert process.communicate(timeout=10)[0].endswith(b"disarmed\n")
    assert device[0].read_bytes().endswith(b"V")


class FakeWatchdog:
    """Notes what was asked of it."""

    asked: Sequence[Any] = ()

    def __init__(self, _shell: object, _folder: str, *, longest: float, reset: int) -> None:
        FakeWatchdog.asked = [longest, reset]

    def arm(self) -> tuple[bool, str]:
        FakeWatchdog.asked = [*FakeWatchdog.asked, "arm"]
        return True, "armed: fake"

    def disarm(self, *, reachable: bool) -> bool:
        FakeWatchdog.asked = [*FakeWatchdog.asked, ("disarm", reachable)]
        return reachable


def play(tmp_path: Path, machine: FakeMachine, **options: Any) -> Evidence:
    FakeWatchdog.asked = ()
    request = RunRequest(candidate(), "7.3.4")
    return run(machine, request, fake_suite(), tmp_path / "20261123T143000-abcdef", RunOptions(**options))


@pytest.mark.parametrize(
    ("parts", "options", "armed"),
    [
        ({"watchdogs": FOUND}, {}, True),
        ({"watchdogs": FOUND}, {"watchdog": False}, False),
        ({"watchdogs": []}, {}, False),
        ({"watchdogs": FOUND, "user": {"uid": 1000}}, {}, False),
    ],
)
def test_the_runner_arms_it_where_there_is_one_and_it_may(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    parts: dict[str, Any],
    options: dict[str, Any],
    armed: bool,
) -> None:
    monkeypatch.setattr(harness.runner, "Watchdog", FakeWatchdog)
    evidence = play(tmp_path, FakeMachine(parts=parts), **options)
    records = [record for record in evidence.journal.records if isinstance(record, WatchdogRecord)]
    assert [(record.armed, record.detail) for record in records] == ([(True, "armed: fake")] if armed else [])
    assert FakeWatchdog.asked == ([1800.0, 60, "arm", ("disarm", True)] if armed else ())
    assert evidence.judgement.exit_code == 0


def test_a_machine_that_died_is_left_to_its_watchdog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.runner, "Watchdog", FakeWatchdog)

    def hang(shell: Any, tests: Sequence[str]) -> Any:
        yield next(all_pass(shell, tests))
        shell.dead = True
        yield silent_for(60)

    play(tmp_path, FakeMachine(plays=[hang], parts={"watchdogs": FOUND}), resumes=0)
    assert FakeWatchdog.asked == [1800.0, 60, "arm", ("disarm", False)]
