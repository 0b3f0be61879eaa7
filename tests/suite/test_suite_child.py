"""What a child says, and what is said of a child that says nothing."""

from __future__ import annotations

import os
import signal
import time

from harness.suite import child


def test_the_answer_comes_back() -> None:
    assert child.answer_of(lambda: {"done": 3}, 10) == {"done": 3}


def test_an_errno_has_its_name() -> None:
    def refuse() -> object:
        raise OSError(22, "no")

    assert child.answer_of(refuse, 10) == "EINVAL"


def test_a_killed_child_is_told() -> None:
    def die() -> object:
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    assert child.answer_of(die, 10) == "the child ended with -9"


def test_a_silent_child_is_ended() -> None:
    began = time.monotonic()
    assert child.answer_of(lambda: time.sleep(60), 0.3) == "the child was silent for 0.3 s"
    assert time.monotonic() - began < 30


def test_what_a_child_prints_is_no_answer(capfd: object) -> None:
    assert capfd is not None
    assert child.answer_of(lambda: print("noise"), 10) is None  # noqa: T201 - it is about printing
