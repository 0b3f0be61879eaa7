"""What a pull request says it is for, against where its patches belong. Pure.

A subject such as "[PULL] drm-misc-next for v7.1-rc1" is a claim; the day of the pull (of its dated tag, where
it has one) and the tree's rule, or the mainline tag that first carries the patch, are the truth. dim builds
the subject by hand, and the pull of 2026-04-20 named the release whose merge window was already closed to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from tracker.calendar import parse_tag
from tracker.release_facts import TagDay
from tracker.window_forecast import Ledger, forecast_window, situation

# "... for v7.1-rc1", "for-7.1", "for 6.19", "towards v7.1", "platform-drivers-x86 for v6.19-2".
_CLAIM = re.compile(
    r"\b(?:for|towards)[-\s]+(?:linux[-\s]+)?(v?\d{1,2}\.\d{1,2}(?:-rc\d{1,2})?)\b", re.IGNORECASE
)
# "drm-misc-next-2026-04-20", "drm-misc-fixes-2026-02-26-1".
_DATED_TAG = re.compile(r"\b([a-z][\w-]{0,60}?)-(20\d\d)-(\d\d)-(\d\d)(?:-\d{1,2})?\b")
# "[PULL] drm-misc-next" / "drm-misc-fixes".
_BRANCH = re.compile(r"\b([a-z][\w-]*?(?:-next-fixes|-fixes|-next))\b")


@dataclass(frozen=True)
class PullClaim:
    """A pull's subject, read: the release it names; ``day`` is that of its tag, else of its mail."""

    window: str
    branch: str | None
    day: date | None


@dataclass(frozen=True)
class ClaimVerdict:
    """The claim against the truth. ``certain``: git says so; else the tree's rule on the pull's day."""

    claimed: str
    truth: str
    certain: bool
    why: str

    @property
    def wrong(self) -> bool:
        """The pull names another release than the one its patches are in, or belong to."""
        return self.claimed != self.truth


def read_claim(text: str, sent: date | None) -> PullClaim | None:
    """The claim in a subject (or a subject and a tag line); None where no release is named."""
    claim = _CLAIM.search(text)
    if claim is None:
        return None
    version = parse_tag("v" + claim[1].removeprefix("v").removeprefix("V"))
    if version is None:
        return None
    dated = _DATED_TAG.search(text)
    if dated is not None:
        return PullClaim(version.window, dated[1], _day(dated) or sent)
    branch = _BRANCH.search(text)
    return PullClaim(version.window, branch[1] if branch else None, sent)


def _day(dated: re.Match[str]) -> date | None:
    try:
        return date(int(dated[2]), int(dated[3]), int(dated[4]))
    except ValueError:  # such as 2026-02-30
        return None


def check_claim(
    claim: PullClaim, tags: Sequence[TagDay], ledger: Ledger, landed: str | None = None
) -> ClaimVerdict | None:
    """Judge a claim. ``landed``: the release that git says carries the patch. None where nothing can be said.

    Without git only a branch that is named is judged: a pull of an unknown branch may be of either kind.
    """
    if landed is not None:
        return ClaimVerdict(claim.window, landed, certain=True, why=f"git: first in {landed}")
    if claim.day is None or claim.branch is None:
        return None
    place = situation(claim.branch, claim.day, tags)
    if place is None or place.kind == "unknown":
        return None
    forecast = forecast_window(place, ledger)
    return ClaimVerdict(claim.window, forecast.window, certain=False, why=f"{claim.day}: {forecast.why}")
