"""The fuzzer's programs: the same for one seed, replayable, and small when they fail."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.suite import fuzz, fuzz_calls


def test_a_seed_is_one_program() -> None:
    assert fuzz.generate(7, 3) == fuzz.generate(7, 3)
    assert fuzz.generate(7, 3) != fuzz.generate(7, 4)
    assert fuzz.generate(7, 3) != fuzz.generate(8, 3)


@pytest.mark.parametrize(("queues", "not_here"), [(False, "queues"), (True, "heap")])
def test_every_call_is_drawn_where_it_makes_sense(queues: bool, not_here: str) -> None:
    drawn = {step.call for turn in range(100) for step in fuzz.generate(1, turn, queues=queues)}
    assert drawn == {name for name, call in fuzz_calls.CALLS.items() if call.where != not_here}


class NoDevice:
    """In the place of a device: these programs call nothing of it."""

    def __init__(self, node: str) -> None:
        self.node = node

    def __enter__(self) -> NoDevice:
        return self

    def __exit__(self, *_what: object) -> None:
        return None


def test_steps_beside_run_in_a_thread_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two steps after "beside 2" run in another thread than the rest, and every step has its end."""
    threads: dict[int, int] = {}

    def noting(step: fuzz.Step, _world: object) -> str:
        threads[step.numbers[0]] = threading.get_ident()
        return f"{step.call} {step.numbers[0]}"

    monkeypatch.setattr(fuzz, "Device", NoDevice)
    monkeypatch.setattr(fuzz, "_outcome", noting)
    program = [fuzz.Step("unmap", (10,)), fuzz.Step(fuzz.BESIDE, (2,))]
    program += [fuzz.Step("unmap", (number,)) for number in (11, 12, 13)]
    ended = fuzz.run(program, "/dev/null")
    assert ended == ["unmap 10", "beside 2", "unmap 11", "unmap 12", "unmap 13"]
    assert threads[11] == threads[12] != threads[10] == threads[13]


def test_nothing_left_to_run_beside_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the steps after it were left out of a program that is made small."""
    monkeypatch.setattr(fuzz, "Device", NoDevice)
    assert fuzz.run([fuzz.Step("unmap", (0,)), fuzz.Step(fuzz.BESIDE, (8,))], "/dev/null") == ["ok", "ok"]


@given(st.integers(), st.integers(min_value=0, max_value=10_000))
@settings(max_examples=50)
def test_a_printed_program_is_the_program(seed: int, turn: int) -> None:
    program = fuzz.generate(seed, turn)
    assert fuzz.program_of(fuzz.text_of(program)) == program


@pytest.mark.parametrize("text", ["{}", "[1]", '[["reboot", 1]]', "[[]]"])
def test_what_is_no_program_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a program is"):
        fuzz.program_of(text)


@given(st.sets(st.integers(min_value=0, max_value=29), min_size=1, max_size=4), st.integers())
@settings(max_examples=60, deadline=None)
def test_what_is_left_is_what_matters(needed: set[int], seed: int) -> None:
    """A failure that needs some steps, in their order, shrinks to exactly these."""
    program = [fuzz.Step(step.call, (number,)) for number, step in enumerate(fuzz.generate(seed, 0))]

    def fails(steps: Sequence[fuzz.Step]) -> bool:
        return needed <= {step.numbers[0] for step in steps}

    small = fuzz.shrink(program, fails, 1000)
    assert [step.numbers[0] for step in small] == sorted(needed)


def test_shrinking_asks_no_more_than_it_may() -> None:
    asked: list[int] = []

    def fails(steps: Sequence[fuzz.Step]) -> bool:
        asked.append(len(steps))
        return False

    program = fuzz.generate(1, 1)
    assert fuzz.shrink(program, fails, 17) == program
    assert len(asked) == 17
