"""Changed lines in little memory: a set like any other."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from tracker.mail.lines import LineSet, common
from tracker.revisions import similarity

VALUES = st.frozensets(st.integers(0, 2**32 - 1) | st.integers(0, 40), max_size=60)


@given(VALUES, VALUES)
def test_it_is_the_set_of_its_values(a: frozenset[int], b: frozenset[int]) -> None:
    one, two = LineSet(a), LineSet(b)
    assert one == a
    assert set(one) == a
    assert len(one) == len(a)
    assert one & two == a & b
    assert (one == two) == (a == b)
    assert all((value in one) == (value in a) for value in a | b)
    assert "x" not in one
    assert common(one, two) == common(a, two) == len(a & b)
    assert similarity(one, two) == (len(a & b) / len(a | b) if a & b else 0.0)


def test_it_costs_a_fraction_of_a_frozenset() -> None:
    values = frozenset(range(2**31, 2**31 + 10_000))
    own = sys.getsizeof(LineSet(values)._sorted)
    assert own < 5 * len(values)
    assert own * 4 < sys.getsizeof(values) + sum(map(sys.getsizeof, values))
