"""A starved machine is given the time that others took; a machine that hangs is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.leash import LeashedProcess
from lab.machine import ShellSilentError, ShellTimeoutError
from lab.pipes import lines
from lab.virtual.fair_clock import FairClock


class Watched(LeashedProcess):
    """Stands for a process of this number."""

    def __init__(self, number: int | None) -> None:
        self.number = number

    @property
    def child(self) -> int | None:
        return self.number


def waiting(proc: Path, number: int, **threads: float) -> None:
    """Let the kernel's files say how many seconds each thread waited for a processor."""
    for name, seconds in threads.items():
        folder = proc / str(number) / "task" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "schedstat").write_text(f"123456 {int(seconds * 1e9)} 7\n")


def test_waits_of_processes_add_up_and_those_of_threads_do_not(tmp_path: Path) -> None:
    waiting(tmp_path, 10, t1=2.0, t2=5.0)
    waiting(tmp_path, 20, t3=1.5)
    clock = FairClock(Watched(10), Watched(20), monotonic=lambda: 100.0, proc=tmp_path)
    assert clock() == pytest.approx(93.5)


def test_the_clock_never_goes_back_and_survives_the_process(tmp_path: Path) -> None:
    waiting(tmp_path, 10, t1=4.0)
    process = Watched(10)
    clock = FairClock(process, monotonic=lambda: 50.0, proc=tmp_path)
    assert clock() == pytest.approx(46.0)
    process.number = None
    assert clock() == pytest.approx(46.0)
    process.number = 99  # gone, or a kernel that does not count
    assert clock() == pytest.approx(46.0)


def test_a_real_process_that_waits_for_a_processor_is_noticed() -> None:
    everybody = len(os.sched_getaffinity(0)) + 1
    spin = [sys.executable, "-S", "-c", "while True: pass"]
    others = [subprocess.Popen(spin) for _number in range(everybody)]
    try:
        with LeashedProcess(spin) as process:
            clock = FairClock(process)
            while clock.waited() < 0.2:
                assert process.poll() is None
            assert process.child is not None
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_a_silent_pipe_is_given_the_time_that_others_took() -> None:
    times = iter([0.0, 0.0, 0.001, 0.002, 5.0])  # ours passes; of the machine's, hardly any does
    reading, writing = os.pipe()
    try:
        with pytest.raises(ShellSilentError, match="silent for 1 s"):
            list(lines(reading, timeout=99.0, silence=1.0, name="x", clock=lambda: next(times)))
        assert next(times, None) is None
    finally:
        os.close(reading)
        os.close(writing)


def test_the_whole_time_is_no_silence() -> None:
    times = iter([0.0, 0.0, 3.0])
    reading, writing = os.pipe()
    try:
        with pytest.raises(ShellTimeoutError, match="no end within 2 s") as caught:
            list(lines(reading, timeout=2.0, silence=0.01, name="x", clock=lambda: next(times)))
        assert not isinstance(caught.value, ShellSilentError)
    finally:
        os.close(reading)
        os.close(writing)
