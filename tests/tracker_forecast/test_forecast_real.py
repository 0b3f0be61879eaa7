"""The forecast on real records that were not looked at when its rules were written."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest

from tracker.archive_cases import archive_cases
from tracker.backtest import backtest_windows
from tracker.pull_claims import check_claim, read_claim
from tracker.release_facts import release_facts
from tracker.window_forecast import Ledger, shipped_cases

pytestmark = pytest.mark.real
TAGS = release_facts().tags


def test_the_shipped_tags_are_the_recorded_ones(real_data: Path) -> None:
    recorded = {
        one["tag"]: one["date"][:10]
        for one in json.loads((real_data / "releases.json").read_text())
        if one["kind"] != "stable" and one["precision"] in ("second", "day")
    }
    assert {one.name: one.earliest.isoformat() for one in TAGS if one.exact} == recorded


def test_applied_patches_of_the_last_quarter_of_2025(real_data: Path) -> None:
    cases = archive_cases(real_data / "mails" / "pdx86-2025q4.mbox.gz", TAGS)
    assert len(cases) >= 80
    scores = backtest_windows(cases, TAGS, history=shipped_cases()).scores
    assert sum(one.hits for one in scores) / sum(one.cases for one in scores) >= 0.95


def test_claims_of_the_recorded_drm_misc_pulls(real_data: Path) -> None:
    """Only the pull of 2026-04-20 claims another release than the one its patches are in."""
    text = json.loads((real_data / "commits.json").read_text())
    rows = text if isinstance(text, list) else text["commits"]
    verdicts: dict[str, tuple[bool, str]] = {}
    for row in rows:
        for one in row["evidence"]:
            named = re.match(
                r"(drm-misc-[a-z-]+)-(\d{4}-\d\d-\d\d)(?: for (v\S+)| \(subject says (v\S+);)",
                one.get("what", ""),
            )
            if named is None:
                continue
            tag = f"{named[1]}-{named[2]}"
            claim = read_claim(f"{tag}: {named[1]} for {named[3] or named[4]}", None)
            assert claim is not None
            verdict = check_claim(claim, TAGS, Ledger((), TAGS))
            assert verdict is not None
            assert claim.day == date.fromisoformat(named[2])
            verdicts[tag] = (verdict.wrong, verdict.truth)
            assert verdict.truth == row["mainline_cycle"]
    assert len(verdicts) >= 8
    assert [tag for tag, (wrong, _) in verdicts.items() if wrong] == ["drm-misc-next-2026-04-20"]
