"""Dates of the coming tags: the rule, the exceptions, and that a forecast never sees its future."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.calendar import next_window, parse_tag
from tracker.forecast import DateForecast, forecast_dates, sunday
from tracker.release_facts import Holiday, TagDay, release_facts, tag_days

FACTS = release_facts()
DAYS = st.dates(date(2019, 3, 3), date(2026, 8, 16))


def forecast(day: str) -> DateForecast:
    found = forecast_dates(FACTS.tags, date.fromisoformat(day), FACTS.holidays)
    assert found is not None
    return found


def tag(name: str, first: str, last: str | None = None) -> TagDay:
    version = parse_tag(name)
    assert version is not None
    return TagDay(version, name, date.fromisoformat(first), date.fromisoformat(last or first))


def test_a_whole_cycle_is_laid_out_from_its_merge_window() -> None:
    found = forecast("2026-04-20")  # v7.0 was tagged on 04-12
    assert found.window == "7.1"
    assert [(stone.name, stone.earliest.isoformat(), stone.width) for stone in found.rcs] == [
        ("v7.1-rc1", "2026-04-26", 0), ("v7.1-rc2", "2026-05-03", 0), ("v7.1-rc3", "2026-05-10", 0),
        ("v7.1-rc4", "2026-05-17", 0), ("v7.1-rc5", "2026-05-24", 0), ("v7.1-rc6", "2026-05-31", 0),
        ("v7.1-rc7", "2026-06-07", 0),
    ]  # fmt: skip
    assert (found.release.earliest, found.release.latest) == (date(2026, 6, 14), date(2026, 6, 21))
    assert found.next_tag.name == "v7.1-rc1"
    assert found.next_is_final == 0


def test_after_rc7_comes_the_release_or_an_rc8_and_after_rc8_only_the_release() -> None:
    found = forecast("2026-01-27")  # v6.19-rc7 was tagged on 01-25, and an -rc8 came
    assert found.next_tag.name == "v6.19 or v6.19-rc8"
    assert found.next_tag.width == 0
    assert 0 < found.next_is_final < 1
    assert found.release.latest == date(2026, 2, 8)
    found = forecast("2026-02-03")
    assert (found.next_tag.name, found.rc8, found.next_is_final) == ("v6.19", 0.0, 1.0)
    assert (found.release.width, found.next_rc1.name) == (0, "v7.0-rc1")


def test_versions_that_follow_oddly_are_data() -> None:
    assert next_window("6.19") == "7.0"
    assert next_window("4.19") == "4.20"
    assert next_window("4.20") == "5.0"
    assert next_window("7.1") == "7.2"


def test_a_cycle_over_christmas_is_likelier_to_get_an_rc8() -> None:
    assert forecast("2025-12-20").rc8 > 1.5 * forecast("2025-11-01").rc8
    quiet = forecast_dates(FACTS.tags, date(2025, 12, 20))  # the same day without the holiday
    assert quiet is not None
    assert quiet.rc8 < forecast("2025-12-20").rc8


def test_a_holiday_may_run_over_the_year_s_end() -> None:
    holiday = Holiday("feast", (12, 24), (1, 1))
    assert holiday.touches(date(2026, 1, 1), date(2026, 1, 3))
    assert holiday.touches(date(2025, 12, 20), date(2025, 12, 24))
    assert not holiday.touches(date(2026, 1, 2), date(2026, 12, 23))


def test_a_late_tag_is_expected_on_the_morrow() -> None:
    found = forecast("2019-09-29")  # v5.4-rc1 was due that Sunday and was tagged on Monday
    assert found.next_tag.earliest == found.next_tag.latest == date(2019, 9, 30)
    assert not found.stale
    later = forecast_dates([one for one in FACTS.tags if one.name < "v5.4"], date(2019, 10, 2))
    assert later is not None
    assert (later.next_tag.earliest, later.next_tag.latest) == (date(2019, 10, 3), date(2019, 10, 6))


def test_tags_that_are_missing_here_are_assumed_and_said_to_be() -> None:
    found = forecast_dates([tag("v7.3", "2026-10-18", "2026-10-25")], date(2026, 11, 23))
    assert found is not None
    assert found.stale
    assert found.next_tag.name == "v7.4-rc4"
    # Two possible days of the anchor make every range a week wider.
    assert (found.next_tag.earliest, found.next_tag.latest) == (date(2026, 11, 22), date(2026, 11, 29))
    assert found.release.latest == date(2027, 1, 3)


def test_tags_of_git_win_and_are_taken_for_the_maintainer_s_day() -> None:
    late = datetime(2026, 4, 27, 0, 30, tzinfo=UTC)  # Sunday afternoon in Portland
    tags = tag_days(FACTS.tags, [("v7.1-rc1", late), ("v7.1.3", late), ("next-20260427", late)])
    assert len(tags) == len(FACTS.tags)
    assert next(one for one in tags if one.name == "v7.1-rc1").earliest == date(2026, 4, 26)


def test_before_every_tag_there_is_no_forecast() -> None:
    assert forecast_dates(FACTS.tags, date(2019, 3, 2)) is None


@given(DAYS)
@settings(max_examples=60, deadline=None)
def test_no_forecast_sees_its_future(day: date) -> None:
    """The same forecast from the whole record, from a record cut at the day, and from a falsified future."""
    past = [one for one in FACTS.tags if one.latest <= day]
    false = [
        TagDay(one.version, one.name, one.earliest + timedelta(days=11), one.latest + timedelta(days=11))
        for one in FACTS.tags
        if one.latest > day
    ]
    whole = forecast_dates(FACTS.tags, day, FACTS.holidays)
    assert whole == forecast_dates(past, day, FACTS.holidays)
    assert whole == forecast_dates([*past, *false], day, FACTS.holidays)


@given(DAYS)
@settings(max_examples=60, deadline=None)
def test_ranges_are_ranges_of_the_future(day: date) -> None:
    found = forecast_dates(FACTS.tags, day, FACTS.holidays)
    assert found is not None
    for stone in (found.next_tag, *found.following):
        assert day < stone.earliest <= stone.likely <= stone.latest
        assert 0.5 < stone.probability < 1
    days = [stone.latest for stone in found.following]
    assert days == sorted(days)


@pytest.mark.parametrize(
    ("day", "nearest"),
    [("2021-03-05", "2021-03-07"), ("2019-09-30", "2019-09-29"), ("2026-04-26", "2026-04-26"),
     ("2026-04-29", "2026-04-26"), ("2026-04-30", "2026-05-03")],
)  # fmt: skip
def test_a_day_stands_for_its_nearest_sunday(day: str, nearest: str) -> None:
    assert sunday(date.fromisoformat(day)).isoformat() == nearest
