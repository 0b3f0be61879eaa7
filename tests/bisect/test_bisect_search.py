"""The search on histories it has never seen: it names the culprit, keeps its bound, admits what is hidden."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bisect.search import (
    Answer,
    Ask,
    Halving,
    History,
    Observation,
    Outcome,
    Verdict,
    steps_bound,
)

Oracle = Callable[[int], Verdict]


def play(
    history: History, oracle: Oracle, limit: int = 10_000
) -> tuple[Answer, list[Observation], list[Ask]]:
    """Lead one search to its end."""
    observations: list[Observation] = []
    asks: list[Ask] = []
    search = Halving()
    while len(observations) < limit:
        move = search.decide(history, observations)
        if isinstance(move, Answer):
            return move, observations, asks
        asks.append(move)
        observations.append(Observation(move.index, oracle(move.index)))
    raise AssertionError("the search does not end")


def truth(history: History, culprit: int, skipped: frozenset[int] = frozenset()) -> Oracle:
    ancestors = history.ancestors()

    def oracle(index: int) -> Verdict:
        if index in skipped:
            return Verdict.SKIP
        return Verdict.BAD if ancestors[index] >> culprit & 1 else Verdict.GOOD

    return oracle


@st.composite
def graphs(draw: st.DrawFn) -> History:
    """Histories with branches and merges in which every candidate is an ancestor of the last."""
    length = draw(st.integers(2, 60))
    parents: list[tuple[int, ...]] = [()]
    for index in range(1, length):
        chosen = draw(st.sets(st.integers(max(0, index - 5), index - 1), min_size=1, max_size=2))
        parents.append(tuple(sorted(chosen)))
    reached = {length - 1}
    for index in range(length - 1, 0, -1):
        if index in reached:
            reached.update(parents[index])
    kept = sorted(reached | {0})
    place = {old: new for new, old in enumerate(kept)}
    return History(tuple(tuple(place[parent] for parent in parents[old]) for old in kept))


@given(st.integers(2, 3000), st.data())
@settings(deadline=None, max_examples=60)
def test_a_line_is_searched_within_the_bound(length: int, data: st.DataObject) -> None:
    history = History.line(length)
    culprit = data.draw(st.integers(1, length - 1))
    answer, observations, _asks = play(history, truth(history, culprit))
    assert (answer.outcome, answer.suspects, answer.probability) == (Outcome.CULPRIT, (culprit,), 1.0)
    assert len(observations) <= steps_bound(length)


def test_the_bound_of_the_real_history() -> None:
    """231 commits took 8 steps with git (facts module-build.md, 2); ours adds ends and confirmation."""
    assert steps_bound(232) == 2 + 8 + 2


@given(graphs(), st.data())
@settings(deadline=None, max_examples=150)
def test_merges_do_not_mislead_it(history: History, data: st.DataObject) -> None:
    culprit = data.draw(st.integers(1, len(history) - 1))
    answer, _observations, _asks = play(history, truth(history, culprit))
    assert (answer.outcome, answer.suspects) == (Outcome.CULPRIT, (culprit,))


@given(graphs(), st.data())
@settings(deadline=None, max_examples=200)
def test_skips_hide_but_never_mislead(history: History, data: st.DataObject) -> None:
    """The culprit is always among the suspects, and a range holds nothing that could still be told apart."""
    last = len(history) - 1
    culprit = data.draw(st.integers(1, last))
    middle = st.sets(st.integers(1, max(1, last - 1)))
    skipped = frozenset(data.draw(middle)) - {0, last}
    oracle = truth(history, culprit, skipped)
    answer, observations, _asks = play(history, oracle)
    if answer.outcome is Outcome.CULPRIT:
        assert answer.suspects == (culprit,)
        assert culprit not in skipped
        return
    assert culprit in answer.suspects or not answer.suspects
    if answer.outcome is Outcome.RANGE:
        assert len(answer.suspects) > 1
        first_verdict = {o.index: o.verdict for o in reversed(observations)}
        ancestors = history.ancestors()
        mask = sum(1 << suspect for suspect in answer.suspects)
        for suspect in answer.suspects:
            splits = (ancestors[suspect] & mask).bit_count() < len(answer.suspects)
            assert not splits or first_verdict.get(suspect) is Verdict.SKIP
    else:
        # Only a parent that cannot be built can stop a named culprit from being confirmed.
        assert answer.outcome is Outcome.NOT_CONFIRMED
        assert set(history.parents[culprit]) & skipped


@given(st.integers(20, 2000), st.data())
@settings(deadline=None, max_examples=60)
def test_a_stretch_that_does_not_build_is_left_quickly(length: int, data: st.DataObject) -> None:
    """A run of broken commits costs about twice log2 of its length, not its length."""
    history = History.line(length)
    begin = data.draw(st.integers(1, length - 3))
    broken = frozenset(range(begin, min(length - 1, begin + length // 4)))
    culprit = data.draw(st.integers(1, length - 1).filter(lambda index: index not in broken))
    oracle = truth(history, culprit, broken)
    answer, observations, _asks = play(history, oracle)
    skips = sum(1 for observation in observations if observation.verdict is Verdict.SKIP)
    if culprit - 1 not in broken:
        assert answer.suspects == (culprit,)
        assert skips <= 2 * (len(broken).bit_length() + 1)


def test_a_range_is_reported_when_its_inside_cannot_be_judged() -> None:
    history = History.line(16)
    answer, _observations, _asks = play(history, truth(history, 7, frozenset({5, 6, 7, 8})))
    assert answer.outcome is Outcome.RANGE
    assert answer.suspects == (5, 6, 7, 8, 9)
    assert answer.probability is None


def test_the_ends_are_verified_first() -> None:
    history = History.line(64)
    _answer, _observations, asks = play(history, truth(history, 20))
    assert [(ask.index, ask.why) for ask in asks[:2]] == [(63, "bad end"), (0, "good end")]


@pytest.mark.parametrize(
    ("oracle", "outcome", "looks"),
    [
        (lambda _index: Verdict.GOOD, Outcome.NOT_REPRODUCED, 1),
        (lambda _index: Verdict.BAD, Outcome.ALREADY_BAD, 2),
        (lambda _index: Verdict.SKIP, Outcome.UNRESOLVED, 1),
    ],
)
def test_wrong_ends_stop_the_search_at_once(oracle: Oracle, outcome: Outcome, looks: int) -> None:
    answer, observations, _asks = play(History.line(100), oracle)
    assert (answer.outcome, answer.suspects, len(observations)) == (outcome, (), looks)


def test_nobody_is_blamed_when_the_second_run_disagrees() -> None:
    """The parent of the culprit fails at its second run: a flickering test, no culprit with a figure."""
    history = History.line(32)
    seen: dict[int, int] = {}

    def flickering(index: int) -> Verdict:
        seen[index] = seen.get(index, 0) + 1
        if index == 8 and seen[index] == 2:
            return Verdict.BAD
        return Verdict.BAD if index >= 9 else Verdict.GOOD

    answer, _observations, asks = play(history, flickering)
    assert (answer.outcome, answer.suspects, answer.probability) == (Outcome.NOT_CONFIRMED, (9,), None)
    assert [(ask.index, ask.again) for ask in asks[-2:]] == [(9, True), (8, True)]


@given(st.integers(2, 300), st.data())
@settings(deadline=None, max_examples=40)
def test_a_killed_search_continues_where_it_was(length: int, data: st.DataObject) -> None:
    """The next question depends on the observations alone, so replaying any prefix gives the same search."""
    history = History.line(length)
    oracle = truth(history, data.draw(st.integers(1, length - 1)))
    _answer, observations, asks = play(history, oracle)
    cut = data.draw(st.integers(0, len(observations) - 1))
    assert Halving().decide(history, observations[:cut]) == asks[cut]


@pytest.mark.parametrize("parents", [((),), ((), (), (1,)), ((), (1,)), ((0,), (0,))])
def test_impossible_histories_are_refused(parents: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="candidate"):
        History(parents)
