"""A change's state and release window, from what git and mail say: git first, mail second. Pure rules.

States are those of docs/architecture.md: posted, reviewed, changes-requested, superseded, applied, queued,
landed, released, reverted, dropped. Every answer carries the rule that decided and the evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tracker.calendar import Version, parse_tag, window_of_untagged
from tracker.forecast import known_on
from tracker.pull_claims import ClaimVerdict, PullClaim, check_claim, read_claim
from tracker.release_facts import TAGGING_ZONE, tag_days
from tracker.window_forecast import forecast_window, shipped_ledger, situation, still_possible

SILENCE = timedelta(days=365)  # a patch nobody wrote about for so long is taken for dropped
ROLE_ORDER = ("mainline", "next", "maintainer", "stable")


@dataclass(frozen=True)
class Landed:
    """One commit of the change in one tree."""

    sha: str
    tree: str
    role: str
    tag: str | None
    window: str | None
    commit_date: datetime
    rule: str  # how the commit was matched
    score: float
    evidence: str


@dataclass(frozen=True)
class Reverted:
    """A commit in mainline that undoes one of the change's commits."""

    sha: str
    title: str
    tag: str | None
    window: str | None
    commit_date: datetime


@dataclass(frozen=True)
class Voice:
    """A mail in the change's threads: who said what. ``kind``: reviewed, remarks, applied, report, pull."""

    kind: str
    message_id: str
    date: datetime | None
    who: str
    text: str
    tree: str | None = None


@dataclass(frozen=True)
class TagDate:
    """A mainline tag with its date."""

    name: str
    version: Version
    date: datetime


@dataclass(frozen=True)
class Case:
    """Everything that is known about one change."""

    landed: tuple[Landed, ...] = ()
    reverted: tuple[Reverted, ...] = ()
    voices: tuple[Voice, ...] = ()  # about its newest version, in order
    posted: datetime | None = None  # its newest version
    message_id: str | None = None  # of its newest version
    superseded_by: str | None = None  # a newer series of the same work that leaves this patch out


@dataclass(frozen=True)
class Judgement:
    """State, window, and why. ``probability`` is that of the window; 1.0 where git decided it."""

    state: str
    window: str | None
    first_tag: str | None
    rule: str
    probability: float
    evidence: tuple[dict[str, Any], ...]
    notes: dict[str, Any] = field(default_factory=dict)


def judge(case: Case, mainline: list[TagDate], now: datetime) -> Judgement:
    """The state of one change. ``mainline``: its version tags in release order."""
    evidence = [_git_evidence(one) for one in _by_role(case.landed)]
    in_mainline = sorted((one for one in case.landed if one.role == "mainline"), key=_landing_order)
    if in_mainline:
        return _in_mainline(case, in_mainline, mainline, evidence, now)
    queued = [one for one in case.landed if one.role == "next"]
    applied = [one for one in case.landed if one.role == "maintainer"]
    said = [voice for voice in case.voices if voice.kind in ("applied", "pull")]
    evidence += [_mail_evidence(voice) for voice in case.voices]
    if queued or applied or any(voice.kind == "pull" for voice in said):
        best = min(queued or applied, key=lambda one: one.commit_date, default=None)
        tree = applied[0].tree if applied else next((voice.tree for voice in said if voice.tree), None)
        since = best.commit_date if best else said[0].date
        if tree is None:
            tree = next((claim.branch for voice in said if (claim := _claim(voice))), None)
        window, probability, why = forecast(tree, since, mainline, now)
        state = "queued" if queued or not applied else "applied"
        rule = f"commit in {best.tree}" if best else "a pull request lists it"
        wrong = _wrong_claims(case, mainline, now, None)
        return Judgement(
            state, window, None, f"{rule}; {why}", probability,
            (*evidence, *map(_claim_evidence, wrong)), _claim_notes(wrong),
        )  # fmt: skip
    if said:
        window, probability, why = forecast(said[-1].tree, said[-1].date, mainline, now)
        return Judgement(
            "applied", window, None, f"a mail says applied; {why}", probability * 0.95, tuple(evidence)
        )
    stable_only = [one for one in case.landed if one.role == "stable"]
    if stable_only:
        one = stable_only[0]
        return Judgement(
            "applied", None, one.tag, f"found in {one.tree} only; mainline has it not or is not followed",
            1.0, tuple(evidence),
        )  # fmt: skip
    state, rule = _by_mail(case, now)
    return Judgement(state, None, None, rule, 0.0, tuple(evidence))


def forecast(
    tree: str | None, since: datetime | None, mainline: list[TagDate], now: datetime | None = None
) -> tuple[str | None, float, str]:
    """(window, probability, reason) of what is in a maintainer tree but not in mainline.

    The tree's rule on the day of applying, weighed with past cases (`tracker.window_forecast`); what the
    tags until ``now`` have made impossible is left out.
    """
    if since is None:
        return None, 0.0, "no date to forecast from"
    tags = tag_days((), ((tag.name, tag.date) for tag in mainline))
    place = situation(tree, since.astimezone(TAGGING_ZONE).date(), tags)
    if place is None:
        return None, 0.0, "no mainline tag is known to forecast from"
    today = (now or since).astimezone(TAGGING_ZONE).date()
    found = forecast_window(place, shipped_ledger(today))
    found = still_possible(found, max(known_on(tags, max(today, since.astimezone(TAGGING_ZONE).date()))).name)
    return found.window, found.probability, f"{tree or 'a tree that is not named'}: {found.why}"


def _in_mainline(
    case: Case, landed: list[Landed], mainline: list[TagDate], evidence: list[dict[str, Any]], now: datetime
) -> Judgement:
    first = landed[0]
    released = any(tag.version.final and tag.version.window == first.window for tag in mainline)
    notes: dict[str, Any] = {}
    undone = sorted(case.reverted, key=lambda one: one.commit_date)
    last_landed = max(one.commit_date for one in landed)
    state, rule = (
        ("released", "its window is released") if first.tag and released else ("landed", "in mainline")
    )
    if first.tag is None:
        rule = f"in mainline after {mainline[-1].name}" if mainline else "in mainline, no tag yet"
    if undone:
        revert = undone[-1]
        evidence.append(
            {
                "kind": "revert",
                "rule": "revert commit",
                "score": 1.0,
                "text": f"reverted by {revert.title!r}"
                + (f", first in {revert.tag}" if revert.tag else ", not in a tag yet"),
                "ref": revert.sha,
            }
        )
        notes["reverted"] = {"commit": revert.sha, "tag": revert.tag, "window": revert.window}
        if last_landed > revert.commit_date and len(landed) > 1:
            notes["reverted"]["landed_again"] = True
        else:
            state = "reverted"
            where = "inside the same window" if revert.window == first.window else f"in {revert.window}"
            rule = f"reverted {where}"
    evidence += [_mail_evidence(voice) for voice in case.voices if voice.kind in ("applied", "pull")]
    wrong = _wrong_claims(case, mainline, now, first.window)
    evidence += map(_claim_evidence, wrong)
    notes |= _claim_notes(wrong)
    stable = [one.tag for one in case.landed if one.role == "stable" and one.tag]
    if stable:
        notes["stable"] = sorted(set(stable))
    return Judgement(state, first.window, first.tag, f"git: {rule}", 1.0, tuple(evidence), notes)


def _claim(voice: Voice) -> PullClaim | None:
    day = voice.date.astimezone(TAGGING_ZONE).date() if voice.date else None
    return read_claim(voice.text, day) if voice.kind == "pull" else None


def _wrong_claims(
    case: Case, mainline: list[TagDate], now: datetime, landed: str | None
) -> list[tuple[Voice, ClaimVerdict]]:
    """Pull requests that name another release than the true one (git's, else the rule's on their day)."""
    tags = tag_days((), ((tag.name, tag.date) for tag in mainline))
    found = []
    for voice in case.voices:
        claim = _claim(voice)
        if claim is None:
            continue
        verdict = check_claim(claim, tags, shipped_ledger(now.astimezone(TAGGING_ZONE).date()), landed)
        if verdict is not None and verdict.wrong:
            found.append((voice, verdict))
    return found


def _claim_evidence(wrong: tuple[Voice, ClaimVerdict]) -> dict[str, Any]:
    voice, verdict = wrong
    truth = "is in" if verdict.certain else "belongs to"
    return {
        "kind": "wrong-claim",
        "rule": "pull request's claim",
        "score": 1.0 if verdict.certain else 0.9,
        "text": f"{voice.text!r} claims {verdict.claimed}; it {truth} {verdict.truth} ({verdict.why})",
        "ref": voice.message_id,
    }


def _claim_notes(wrong: list[tuple[Voice, ClaimVerdict]]) -> dict[str, Any]:
    if not wrong:
        return {}
    voice, verdict = wrong[-1]
    return {"wrong_claim": {"claimed": verdict.claimed, "truth": verdict.truth, "pull": voice.message_id}}


def _by_mail(case: Case, now: datetime) -> tuple[str, str]:
    """State of what no tree has: the last meaningful word about the newest version decides."""
    if case.superseded_by is not None:
        return "superseded", f"a newer submission of the same work ({case.superseded_by}) leaves it out"
    last = max((voice.date for voice in case.voices if voice.date), default=case.posted)
    if last is not None and now - last > SILENCE:
        return "dropped", f"no word about it for more than {SILENCE.days} days"
    reviewed = [voice for voice in case.voices if voice.kind == "reviewed"]
    remarks = [voice for voice in case.voices if voice.kind in ("remarks", "report")]
    if remarks and not (reviewed and _after(reviewed[-1], remarks[-1])):
        return "changes-requested", f"{remarks[-1].who} remarked on its newest version"
    if reviewed:
        return "reviewed", f"{reviewed[-1].who} gave {reviewed[-1].text}"
    return "posted", "on the list, no answer that decides"


def _after(a: Voice, b: Voice) -> bool:
    return a.date is not None and b.date is not None and a.date >= b.date


def _landing_order(one: Landed) -> tuple[bool, tuple[tuple[int, ...], int, int], datetime]:
    version = parse_tag(one.tag) if one.tag else None
    return (version is None, version.order if version else ((), 0, 0), one.commit_date)


def _by_role(landed: tuple[Landed, ...]) -> list[Landed]:
    return sorted(landed, key=lambda one: (ROLE_ORDER.index(one.role), one.tree, _landing_order(one)))


def _git_evidence(one: Landed) -> dict[str, Any]:
    where = f"first in {one.tag}" if one.tag else "not in a tag yet"
    return {
        "kind": "commit",
        "rule": one.rule,
        "score": one.score,
        "text": f"{one.sha[:12]} in {one.tree}, {where} ({one.evidence})",
        "ref": one.sha,
    }


def _mail_evidence(voice: Voice) -> dict[str, Any]:
    return {
        "kind": voice.kind,
        "rule": "mail",
        "score": 0.9,
        "text": f"{voice.who}: {voice.text}",
        "ref": voice.message_id,
    }


def current_window(mainline: list[TagDate]) -> str | None:
    """The release that is being made now."""
    return window_of_untagged(mainline[-1].name) if mainline else None
