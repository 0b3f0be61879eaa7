"""The fuzzer's programs: the same for one seed, replayable, and small when they fail."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.suite import fuzz


def test_a_seed_is_one_program() -> None:
    assert fuzz.generate(7, 3) == fuzz.generate(7, 3)
    assert fuzz.generate(7, 3) != fuzz.generate(7, 4)
    assert fuzz.generate(7, 3) != fuzz.generate(8, 3)


def test_every_call_is_drawn_sooner_or_later() -> None:
    drawn = {step.call for turn in range(100) for step in fuzz.generate(1, turn)}
    assert drawn == set(fuzz.CALLS)


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
