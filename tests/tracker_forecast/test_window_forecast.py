"""The release of an applied patch: the rules of the trees, what history adds, what tags rule out."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from tracker.applied_history import AppliedCase
from tracker.release_facts import release_facts
from tracker.window_forecast import (
    Ledger,
    forecast_window,
    offset,
    shipped_cases,
    shipped_ledger,
    situation,
    still_possible,
)

TAGS = release_facts().tags
EMPTY = Ledger((), TAGS)


@pytest.mark.parametrize(
    ("tree", "day", "window"),
    [
        # 7.0-rc6 was of 2026-03-29, v7.0 of 04-12, v7.1-rc1 of 04-26, v7.1-rc6 of 05-31.
        ("drm-misc-next", "2026-03-26", "7.1"),
        ("drm-misc-next", "2026-03-30", "7.2"),
        ("drm-misc-next", "2026-04-20", "7.2"),
        ("drm-misc-next", "2026-04-28", "7.2"),
        ("drm-misc-next-fixes", "2026-06-11", "7.2"),
        ("drm-misc-next-fixes", "2026-06-20", "7.2"),
        ("drm-misc-fixes", "2026-06-11", "7.1"),
        ("drm-misc-fixes", "2026-06-25", "7.2"),
        # Other trees know no such cut-off.
        ("platform-drivers-x86/review-ilpo-next", "2026-03-30", "7.1"),
        ("platform-drivers-x86/review-ilpo-fixes", "2026-03-30", "7.0"),
        ("platform-drivers-x86/for-next", "2026-04-14", "7.1"),
        ("somebody/for-next", "2026-02-02", "7.0"),
    ],
)
def test_the_rules_of_the_trees(tree: str, day: str, window: str) -> None:
    place = situation(tree, date.fromisoformat(day), TAGS)
    assert place is not None
    found = forecast_window(place, EMPTY)
    assert found.window == window
    assert 0.5 < found.probability < 1
    assert found.why


def test_the_days_before_the_cut_off_are_less_sure() -> None:
    days = [date(2026, 5, 27), date(2026, 5, 30)]
    early, eve = (situation("drm-misc-next", day, TAGS) for day in days)
    assert early is not None
    assert eve is not None
    assert (early.phase, eve.phase) == ("early", "eve")
    assert forecast_window(eve, EMPTY).probability < forecast_window(early, EMPTY).probability


def test_history_makes_surer_and_can_overrule() -> None:
    day = date(2024, 6, 1)
    place = situation("somebody/for-next", day, TAGS)
    assert place is not None

    def after(window: str) -> tuple[str, float]:
        cases = [AppliedCase(day, "else/for-next", f"t{n}", window, day) for n in range(40)]
        ledger = Ledger(cases, TAGS)
        ledger.advance(day + timedelta(days=1))
        found = forecast_window(place, ledger)
        assert found.cases == 40
        assert sum(chance for _, chance in found.chances) <= 1
        return found.window, found.probability

    rule, plain = forecast_window(place, EMPTY).window, forecast_window(place, EMPTY).probability
    assert (rule, after(rule)[0]) == ("6.11", "6.11")
    assert after(rule)[1] > plain
    assert after("6.12")[0] == "6.12"


def test_a_case_teaches_only_after_its_answer_was_known() -> None:
    """Cases of one day whose answers come a month later: until then the ledger is as if they were not."""
    day, known = date(2024, 6, 3), date(2024, 7, 3)
    ledger = Ledger([AppliedCase(day, "x/for-next", "t", "6.11", known)], TAGS)
    place = situation("x/for-next", day, TAGS)
    assert place is not None
    for later, count in ((day, 0), (known, 0), (known + timedelta(days=1), 1)):
        ledger.advance(later)
        assert sum(ledger.counts(place.cell)) == count
    with pytest.raises(ValueError, match="cannot forget"):
        ledger.advance(day)


def test_what_missed_its_window_is_forecast_for_the_next_and_less_surely() -> None:
    place = situation("drm-misc-next", date(2026, 5, 1), TAGS)
    assert place is not None
    found = forecast_window(place, EMPTY)
    assert found.window == "7.2"
    assert still_possible(found, "v7.1") == found
    missed = still_possible(found, "v7.2-rc1")
    assert missed.window == "7.3"
    assert missed.probability <= 0.5
    assert still_possible(found, "v7.9").window == "7.10"
    fixes = situation("drm-misc-fixes", date(2026, 5, 1), TAGS)
    assert fixes is not None
    fix = forecast_window(fixes, EMPTY)
    assert still_possible(fix, "v7.1-rc5") == fix
    assert still_possible(fix, "v7.1").window == "7.2"


def test_releases_are_counted_from_the_current_one() -> None:
    assert [offset("6.19", name) for name in ("6.19", "7.0", "7.1", "7.2", "6.18")] == [0, 1, 2, 3, 3]


def test_the_shipped_cases_stop_before_the_period_kept_for_judging() -> None:
    pdx86 = [case for case in shipped_cases() if case.tree.startswith("platform-drivers-x86")]
    assert len(pdx86) > 500
    assert max(case.applied for case in pdx86) < date(2025, 10, 1)
    assert all(case.known >= case.applied for case in shipped_cases())


def test_without_a_tag_there_is_no_situation() -> None:
    assert situation("drm-misc-next", date(2018, 1, 1), TAGS) is None


def test_the_shipped_ledger_knows_only_its_past() -> None:
    place = situation("platform-drivers-x86/review-ilpo-fixes", date(2025, 6, 20), TAGS)
    assert place is not None
    counts = [
        sum(shipped_ledger(day).counts(place.cell))
        for day in (date(2023, 1, 1), date(2024, 9, 1), date(2025, 9, 1))
    ]
    assert counts[0] == 0
    assert counts == sorted(set(counts))
