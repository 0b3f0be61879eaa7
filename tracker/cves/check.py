"""A CVE's ranges against what the branches say: agreement, difference, or not to be known. Pure rules.

Neither side is taken for the truth. The record is made by a numbering authority from commit ids; the
branch's answer comes from its commits (`tracker.backports`). A difference is printed with both statements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tracker.calendar import parse_tag
from tracker.cves.record import Claim, CveRecord

AGREE, DIFFER, UNKNOWN = "agree", "differ", "unknown"
OPEN = frozenset(
    {"missing", "failed", "queued"}
)  # states of a branch that has the bug and no update with the fix


@dataclass(frozen=True)
class BranchSide:
    """A stable branch's answer for the change that ends the bug.

    ``newest``: number of its newest update. ``since``: the first update with the bug, where a backport
    brought it.
    """

    name: str
    base: str
    newest: int
    state: str
    version: str | None
    rule: str
    inherited: bool = False
    since: str | None = None


@dataclass(frozen=True)
class MainlineSide:
    """Mainline's answer for that change. ``windows``: commit id -> release, for what brought the bug."""

    state: str
    window: str | None
    landed: bool
    windows: Mapping[str, str | None]


@dataclass(frozen=True)
class Check:
    """One comparison. ``place``: mainline, cause, a branch's name, or a release that is not followed."""

    place: str
    says: str
    found: str
    verdict: str
    why: str


def check_record(
    record: CveRecord, mainline: MainlineSide | None, branches: Sequence[BranchSide]
) -> list[Check]:
    """Every comparison that a record allows. ``mainline`` None: no change is tied to the record."""
    if record.state == "rejected":
        return [Check("mainline", "rejected", "-", UNKNOWN, "the record was withdrawn")]
    checks = [_mainline(record, mainline), *_causes(record, mainline)]
    checks += [_branch(record, one) for one in branches]
    followed = {one.base for one in branches}
    checks += [
        Check(base, record.claim(base).words(), "not followed", UNKNOWN, "no followed tree has this branch")
        for base in record.named_bases()
        if base not in followed
    ]
    return checks


def _mainline(record: CveRecord, side: MainlineSide | None) -> Check:
    fixed = record.mainline_fix
    says = f"fixed in {fixed}" if fixed else "names no release of mainline"
    if side is None:
        return Check("mainline", says, "-", UNKNOWN, "no commit of the record is known here")
    if not side.landed:
        return Check(
            "mainline", says, side.state, DIFFER if fixed else UNKNOWN, "the change is not in mainline here"
        )
    found = f"{side.state}, {side.window or 'no release yet'}"
    if fixed is None:
        return Check("mainline", says, found, UNKNOWN, "the record has no range for mainline")
    if fixed == side.window:
        return Check("mainline", says, found, AGREE, f"both say {fixed}")
    return Check("mainline", says, found, DIFFER, f"the record says {fixed}, git says {side.window}")


def _causes(record: CveRecord, side: MainlineSide | None) -> list[Check]:
    """The commit that brought the bug: its release here against the record's first affected release."""
    if side is None or record.introduced is None:
        return []
    first = record.introduced_in_mainline
    for cause in record.causes:
        full = next((sha for sha in side.windows if sha.startswith(cause) or cause.startswith(sha)), None)
        window = side.windows[full] if full is not None else None
        if window is None:
            continue
        says, found = f"affected from {first or record.introduced}", f"{cause[:12]} is in {window}"
        if first is None:
            return [Check("cause", says, found, UNKNOWN, "the record names updates only")]
        if first == window:
            return [Check("cause", says, found, AGREE, f"both say {first}")]
        return [Check("cause", says, found, DIFFER, f"the record says {first}, git says {window}")]
    return []


def _branch(record: CveRecord, side: BranchSide) -> Check:
    claim = record.claim(side.base, side.newest)
    found = _found(side)
    verdict, why = _verdict(claim, side)
    return Check(side.name, claim.words(), found, verdict, why)


def _found(side: BranchSide) -> str:
    if side.inherited:
        return "the branch began with the fix"
    where = f" in {side.version}" if side.version else ""
    return f"{side.state}{where}" + (f", bug since {side.since}" if side.since else "")


def _verdict(claim: Claim, side: BranchSide) -> tuple[str, str]:
    if side.state == "unknown":
        return UNKNOWN, side.rule
    if claim.kind == "fixed":
        return _fixed(claim, side)
    if claim.kind == "affected":
        if side.state in OPEN:
            return AGREE, "both see no update with the fix"
        if side.state == "present":
            return DIFFER, f"the record knows no fix, the branch has it in {side.version or 'its base'}"
        return DIFFER, f"the record calls it affected, the branch's answer is {side.state}: {side.rule}"
    if claim.kind == "never":
        if side.state == "not-needed":
            return AGREE, "both see no bug in the branch"
        if side.state == "present":
            return DIFFER, f"the record calls it never affected, the branch took the fix in {side.version}"
        return DIFFER, f"the record calls it never affected, the branch's answer is {side.state}: {side.rule}"
    if side.inherited:
        return AGREE, "the branch began with the fix"
    return (
        DIFFER,
        f"the record sees the fix before the branch, the branch's answer is {side.state}: {side.rule}",
    )


def _fixed(claim: Claim, side: BranchSide) -> tuple[str, str]:
    fixed = parse_tag(f"v{claim.fixed}")
    if fixed is not None and fixed.patch > side.newest:
        return UNKNOWN, f"{claim.fixed} is after the branch's newest update here ({side.base}.{side.newest})"
    if side.inherited:
        return DIFFER, f"the record says {claim.fixed}, the branch began with the fix"
    if side.state != "present":
        return DIFFER, f"the record says {claim.fixed}, the branch's answer is {side.state}: {side.rule}"
    if side.version != claim.fixed:
        return DIFFER, f"the record says {claim.fixed}, the branch says {side.version or 'no update'}"
    if side.since is not None and claim.since != side.since:
        return DIFFER, f"fix alike; the record has the bug from {claim.since}, the branch from {side.since}"
    return AGREE, f"both say {claim.fixed}"
