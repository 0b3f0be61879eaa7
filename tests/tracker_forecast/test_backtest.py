"""The replay: its bars on the shipped record, its scores by hand, and that it cannot peek."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from tracker import backtest
from tracker.applied_history import AppliedCase
from tracker.backtest import COMING, backtest_dates, backtest_windows, calendar_rule, calibrate
from tracker.forecast import forecast_dates
from tracker.release_facts import TagDay, release_facts
from tracker.window_forecast import Ledger, Situation, WindowForecast, forecast_window, shipped_cases

FACTS = release_facts()


@pytest.fixture(scope="module")
def replay() -> backtest.DateBacktest:
    return backtest_dates(FACTS.tags, FACTS.holidays)


def test_the_coming_tag_and_the_release_are_in_their_range(replay: backtest.DateBacktest) -> None:
    assert (replay.first, replay.last) == (date(2019, 3, 3), date(2026, 8, 16))
    for score in replay.scores:
        assert score.days > 2500
        assert score.rate >= 0.95, score
        assert score.event_hits / score.events >= 0.95, score
        assert score.width <= score.peer_width + 0.005, score
    assert {score.target for score in replay.scores} >= set(COMING)


def test_probabilities_of_ranges_are_not_boasts(replay: backtest.DateBacktest) -> None:
    assert replay.inside.brier < 0.02
    for row in replay.inside.table:
        assert row.happened >= row.said - 0.05, row


def test_every_day_s_forecast_is_made_without_the_days_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the replay forecast on each day equals what a record that ends on that day gives."""
    seen: list[Any] = []

    def spy(tags: Any, today: date, holidays: Any) -> Any:
        answer = forecast_dates(tags, today, holidays)
        seen.append((today, answer))
        return answer

    monkeypatch.setattr(backtest, "forecast_dates", spy)
    backtest_dates(FACTS.tags, FACTS.holidays, date(2023, 12, 1), date(2024, 2, 1))
    assert len(seen) > 50
    for today, answer in seen:
        past = [one for one in FACTS.tags if one.latest <= today]
        assert answer == forecast_dates(past, today, FACTS.holidays)


def test_falsified_answers_of_later_cases_change_no_earlier_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn round every answer that was known on a day or later: what was forecast until that day stays."""
    turn = date(2025, 3, 1)
    cases = sorted(shipped_cases())
    turned = [case if case.known < turn else replace(case, window="9.9") for case in cases]
    until_turn = sum(case.applied <= turn for case in cases)
    assert 0 < until_turn < len(cases)
    seen: list[WindowForecast] = []

    def spy(place: Situation, ledger: Ledger) -> WindowForecast:
        seen.append(forecast_window(place, ledger))
        return seen[-1]

    monkeypatch.setattr(backtest, "forecast_window", spy)
    backtest_windows(cases, FACTS.tags)
    true, seen = seen, []
    backtest_windows(turned, FACTS.tags)
    assert len(true) == len(seen) == len(cases)
    assert true[:until_turn] == seen[:until_turn]
    assert true[until_turn:] != seen[until_turn:]  # and later they are noticed


def test_shipped_cases_are_forecast_right() -> None:
    scores = {one.family: one for one in backtest_windows(shipped_cases(), FACTS.tags).scores}
    assert scores["drm"].hits / scores["drm"].cases >= 0.95
    assert scores["drm"].cases >= 60
    assert scores["pdx86"].hits / scores["pdx86"].cases >= 0.95
    assert scores["pdx86"].cases >= 500


def test_a_wrong_forecast_is_told_with_its_reason() -> None:
    case = AppliedCase(date(2026, 4, 20), "drm-misc-next", "t", "7.1", date(2026, 6, 14))
    found = backtest_windows([case], FACTS.tags)
    assert [(miss.said, miss.case.window) for miss in found.misses] == [("7.2", "7.1")]
    assert "merge window" in found.misses[0].why
    assert found.scores[0].hits == 0
    assert backtest_windows([case], FACTS.tags, first=date(2026, 5, 1)).right.count == 0


def test_history_teaches_and_is_not_scored() -> None:
    day = date(2024, 6, 1)
    old = [AppliedCase(day, "x/for-next", str(n), "6.12", day) for n in range(60)]
    new = AppliedCase(day + timedelta(days=1), "x/for-next", "n", "6.12", day + timedelta(days=40))
    assert backtest_windows([new], FACTS.tags).scores[0].hits == 0
    taught = backtest_windows([new], FACTS.tags, history=[*old, new]).scores[0]
    assert (taught.cases, taught.hits) == (1, 1)


def test_scores_by_hand() -> None:
    found = calibrate("x", [(0.9, True), (0.9, True), (0.9, False), (0.2, False)])
    assert found.brier == pytest.approx((0.01 + 0.01 + 0.81 + 0.04) / 4)
    assert found.base == pytest.approx(0.25)
    assert [(row.count, round(row.happened, 3)) for row in found.table] == [(1, 0.0), (3, 0.667)]
    assert calibrate("nothing", []).table == ()


@pytest.mark.parametrize(
    ("name", "ranges"),
    [
        ("v7.0-rc1", ["2026-03-01 2026-03-01", "2026-04-12 2026-04-19", "2026-04-26 2026-05-03",
                      "2026-06-14 2026-06-28"]),
        ("v7.0", ["2026-04-26 2026-04-26", "2026-06-14 2026-06-21", "2026-06-28 2026-07-05",
                  "2026-08-16 2026-08-30"]),
        ("v6.19-rc7", ["2026-02-01 2026-02-08", "2026-02-01 2026-02-08", "2026-02-15 2026-02-22",
                       "2026-04-05 2026-04-19"]),
        ("v6.19-rc8", ["2026-02-08 2026-02-08", "2026-02-08 2026-02-08", "2026-02-22 2026-02-22",
                       "2026-04-12 2026-04-19"]),
    ],
)  # fmt: skip
def test_the_peer_s_rule(name: str, ranges: list[str]) -> None:
    newest = next(one for one in FACTS.tags if one.name == name)
    assert [f"{first} {last}" for first, last in calendar_rule(newest)] == ranges


def test_tags_with_bounds_only_are_never_scored() -> None:
    inexact = [one for one in FACTS.tags if not one.exact]
    assert {one.name for one in inexact} >= {"v7.2-rc3", "v7.3"}
    moved = [
        TagDay(one.version, one.name, one.earliest, one.latest + timedelta(days=1)) if not one.exact else one
        for one in FACTS.tags
    ]
    a = backtest_dates(FACTS.tags, first=date(2026, 6, 29), last=date(2026, 7, 11)).scores[0]
    b = backtest_dates(moved, first=date(2026, 6, 29), last=date(2026, 7, 11)).scores[0]
    assert (a.days, a.hits) == (b.days, b.hits)


def test_an_empty_record_cannot_be_replayed() -> None:
    with pytest.raises(ValueError, match="nothing to replay"):
        backtest_dates([])
