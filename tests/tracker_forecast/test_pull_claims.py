"""What pull requests claim, held against the truth: by the calendar, by git, and in a change's evidence."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from tracker.calendar import parse_tag
from tracker.pull_claims import check_claim, read_claim
from tracker.release_facts import release_facts
from tracker.window_forecast import shipped_ledger
from tracker.windows import Case, Landed, TagDate, Voice, judge

TAGS = release_facts().tags
SENT = datetime(2026, 4, 20, 9, 0, tzinfo=UTC)
NOW = datetime(2026, 4, 22, tzinfo=UTC)
MAINLINE = [
    TagDate(
        tag.name, tag.version, datetime(tag.latest.year, tag.latest.month, tag.latest.day, 22, tzinfo=UTC)
    )
    for tag in TAGS
]


def known(now: datetime) -> list[TagDate]:
    return [tag for tag in MAINLINE if tag.date <= now]


@pytest.mark.parametrize(
    ("subject", "window", "branch"),
    [
        ("[PULL] drm-misc-next for v7.1-rc1", "7.1", "drm-misc-next"),
        ("[PULL] drm-misc-next-fixes for 7.2", "7.2", "drm-misc-next-fixes"),
        ("[GIT PULL] platform-drivers-x86 for v6.19-2", "6.19", None),
        ("drm-misc-fixes-2026-02-26-1: drm-misc-fixes for v7.0-rc2", "7.0", "drm-misc-fixes"),
        ("[git pull] drm for 7.10-rc1", "7.10", None),
    ],
)
def test_claims_are_read(subject: str, window: str, branch: str | None) -> None:
    claim = read_claim(subject, SENT.date())
    assert claim is not None
    assert (claim.window, claim.branch) == (window, branch)


def test_a_dated_tag_gives_the_day_and_an_impossible_one_does_not() -> None:
    claim = read_claim("drm-misc-next-2026-04-20: drm-misc-next for v7.1-rc1", None)
    assert claim is not None
    assert claim.day == date(2026, 4, 20)
    claim = read_claim("drm-misc-next-2026-02-31: for v7.1-rc1", SENT.date())
    assert claim is not None
    assert claim.day == SENT.date()
    assert read_claim("[PULL] drm-misc-next", SENT.date()) is None
    assert read_claim("for five dollars, v7.1 for all", None) is None


@pytest.mark.parametrize(
    ("subject", "sent", "truth", "wrong"),
    [
        # Torvalds' merge window of 7.1 was open since 04-12: -next had been closed for it on 03-29 (rc6).
        ("[PULL] drm-misc-next for v7.1-rc1", "2026-04-20", "7.2", True),
        ("[PULL] drm-misc-next for v7.1-rc1", "2026-03-26", "7.1", False),
        ("[PULL] drm-misc-next for v7.2-rc1", "2026-05-28", "7.2", False),
        ("[PULL] drm-misc-fixes for v7.2-rc2", "2026-07-02", "7.2", False),
        ("[PULL] drm-misc-next-fixes for v7.2-rc1", "2026-06-11", "7.2", False),
    ],
)
def test_the_calendar_judges_a_claim(subject: str, sent: str, truth: str, wrong: bool) -> None:
    day = date.fromisoformat(sent)
    claim = read_claim(subject, day)
    assert claim is not None
    verdict = check_claim(claim, TAGS, shipped_ledger(day))
    assert verdict is not None
    assert (verdict.truth, verdict.wrong, verdict.certain) == (truth, wrong, False)


def test_git_judges_first_and_an_unnamed_branch_is_not_judged_without_it() -> None:
    claim = read_claim("[GIT PULL] platform-drivers-x86 for v6.19-2", date(2025, 12, 31))
    assert claim is not None
    ledger = shipped_ledger(date(2026, 1, 1))
    assert check_claim(claim, TAGS, ledger) is None
    verdict = check_claim(claim, TAGS, ledger, landed="7.0")
    assert verdict is not None
    assert (verdict.wrong, verdict.certain) == (True, True)


def pull(text: str) -> Voice:
    return Voice("pull", "pull-20260420@example.org", SENT, "Maintainer", text)


def test_the_wrong_claim_of_the_pull_of_april_is_shown_before_git_can_say() -> None:
    case = Case(posted=SENT, voices=(pull("[PULL] drm-misc-next for v7.1-rc1"),))
    judged = judge(case, known(NOW), NOW)
    assert (judged.state, judged.window) == ("queued", "7.2")
    assert judged.notes["wrong_claim"] == {
        "claimed": "7.1", "truth": "7.2", "pull": "pull-20260420@example.org",
    }  # fmt: skip
    shown = [one for one in judged.evidence if one["kind"] == "wrong-claim"]
    assert len(shown) == 1
    assert "claims 7.1; it belongs to 7.2" in shown[0]["text"]
    assert shown[0]["ref"] == "pull-20260420@example.org"


def test_the_wrong_claim_stays_in_the_evidence_of_what_git_has_placed() -> None:
    landed = Landed("1" * 40, "mainline", "mainline", "v7.2-rc1", "7.2", SENT, "link", 1.0, "e")
    later = datetime(2026, 7, 1, tzinfo=UTC)
    case = Case(landed=(landed,), posted=SENT, voices=(pull("[PULL] drm-misc-next for v7.1-rc1"),))
    judged = judge(case, known(later), later)
    assert (judged.window, judged.probability) == ("7.2", 1.0)
    assert judged.notes["wrong_claim"]["claimed"] == "7.1"
    assert any("it is in 7.2" in one["text"] for one in judged.evidence)


def test_a_right_claim_is_no_news() -> None:
    case = Case(posted=SENT, voices=(pull("[PULL] drm-misc-next for v7.2-rc1"),))
    judged = judge(case, known(NOW), NOW)
    assert "wrong_claim" not in judged.notes
    assert all(one["kind"] != "wrong-claim" for one in judged.evidence)


def test_a_change_that_missed_its_window_is_moved_on() -> None:
    version = parse_tag("v7.2-rc1")
    assert version is not None
    case = Case(
        posted=SENT,
        voices=(Voice("applied", "a@x", datetime(2026, 5, 7, tzinfo=UTC), "M", "x", "drm-misc-next"),),
    )
    in_time = judge(case, known(datetime(2026, 6, 20, tzinfo=UTC)), datetime(2026, 6, 20, tzinfo=UTC))
    late = judge(case, known(datetime(2026, 7, 1, tzinfo=UTC)), datetime(2026, 7, 1, tzinfo=UTC))
    assert (in_time.window, late.window) == ("7.2", "7.3")
    assert late.probability < in_time.probability
    assert "out without it" in late.rule
