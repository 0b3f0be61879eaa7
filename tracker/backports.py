"""Stable branches: which carry a change of mainline, which lack a fix they need, and why. Pure rules.

Git decides first (the branch has the commit, its copy, or a copy with its title), then mail (review,
queue, AUTOSEL, "failed to apply"), then need: a fix is needed where the commit of its ``Fixes:`` trailer is
in the branch, or where ``Cc: stable`` asks for it (Documentation/process/stable-kernel-rules.rst). A branch
holds everything of the releases up to its base, whether or not its tree was read that far back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from tracker.calendar import parse_tag, window_key
from tracker.mail.subject import normal_title
from tracker.stable_mail import StableMail

STATES = ("present", "queued", "missing", "failed", "reverted", "not-needed", "unknown")
# "Fixes: 4fd6ca90fc7f ("accel/amdxdna: Refactor ...")".
_FIXES = re.compile(r"^([0-9a-f]{7,40})\b(?:\s*\(\"?(.*?)\"?\)\s*)?$", re.IGNORECASE)
# "stable@vger.kernel.org # 6.14+", "stable@vger.kernel.org # v6.14.x", with or without a name.
_CC_STABLE = re.compile(r"stable@(?:vger\.)?kernel\.org", re.IGNORECASE)
_SINCE = re.compile(r"#\s*v?(\d{1,2}\.\d{1,3})(?:\.x|\.y)?\s*\+?")
AUTOSEL_TERM = timedelta(days=28)  # AUTOSEL picks are queued a week or two later; then they were let go
ENDED_AFTER = timedelta(days=45)  # a branch without an update for so long has ended (updates come weekly)
SHORT = 12


@dataclass(frozen=True)
class BranchCommit:
    """One commit of the driver in a stable branch; ``tag`` is the first that has it, None while untagged."""

    sha: str
    title: str
    upstream: str | None
    reverts: str | None
    tag: str | None
    commit_date: datetime


@dataclass(frozen=True)
class Branch:
    """A stable branch as its tree has it. ``base`` is "6.18"; ``newest`` its newest tag, with that date.

    ``listed``: (title, version) of updates known from a distribution's changelog only.
    """

    name: str
    base: str
    newest: str | None
    newest_date: datetime | None
    commits: tuple[BranchCommit, ...]
    listed: tuple[tuple[str, str], ...] = ()

    def ended(self, now: datetime) -> bool:
        """No update for a long time: nothing will be added any more."""
        return self.newest_date is not None and now - self.newest_date > ENDED_AFTER

    def holds_release(self, window: str | None) -> bool:
        """Whether everything of a mainline release is in the branch from its start."""
        return window is not None and window_key(window) <= window_key(self.base)

    @cached_property
    def titles(self) -> dict[str, list[BranchCommit]]:
        """Normal title -> commits of that title."""
        found: dict[str, list[BranchCommit]] = {}
        for commit in self.commits:
            found.setdefault(normal_title(commit.title), []).append(commit)
        return found


@dataclass(frozen=True)
class MainlineChange:
    """A change that is in mainline. ``shas``: its commits there; ``copies``: all commits matched with it."""

    key: str
    title: str
    shas: tuple[str, ...]
    copies: frozenset[str]
    window: str | None
    first_tag: str | None
    trailers: tuple[tuple[str, str], ...]
    reverted: bool = False

    @cached_property
    def fixes(self) -> tuple[tuple[str, str], ...]:
        """(abbreviated id, title) of each ``Fixes:`` trailer."""
        found = (_FIXES.match(value.strip()) for key, value in self.trailers if key.lower() == "fixes")
        return tuple((one[1].lower(), one[2] or "") for one in found if one)

    @cached_property
    def asked_since(self) -> str | None:
        """``Cc: stable``: the first version asked for ("6.14"); "" when none is named; None: no."""
        for key, value in self.trailers:
            if key.lower() == "cc" and _CC_STABLE.search(value):
                since = _SINCE.search(value)
                return since[1] if since else ""
        return None


@dataclass(frozen=True)
class Backport:
    """The answer for one change in one branch. ``version`` is the update that has it ("6.18.17")."""

    change: str
    title: str
    branch: str
    base: str
    state: str
    version: str | None
    rule: str
    score: float
    evidence: tuple[str, ...] = ()
    inherited: bool = False  # the branch had it from its start: nothing was ported back


@dataclass(frozen=True)
class BackportOnlyBug:
    """A bug that no mainline release ever had: a backport brought it, its fix came apart from it."""

    fix: str
    title: str
    cause: str
    branch: str
    since: str | None
    fixed: str | None


@dataclass(frozen=True)
class Mainline:
    """What is known of mainline: (full id, window) of the driver's commits, for ``Fixes:`` targets."""

    windows: dict[str, str | None] = field(default_factory=dict)

    @cached_property
    def _ids(self) -> list[str]:
        return sorted(self.windows)

    def find(self, short: str) -> str | None:
        """The full id that begins with ``short``, or None."""
        from bisect import bisect_left

        at = bisect_left(self._ids, short)
        return self._ids[at] if at < len(self._ids) and self._ids[at].startswith(short) else None


def judge_backports(
    changes: Iterable[MainlineChange],
    branches: Sequence[Branch],
    mails: Sequence[StableMail],
    mainline: Mainline,
) -> list[Backport]:
    """Every change in every branch, in the order given."""
    by_title: dict[str, list[StableMail]] = {}
    for mail in mails:
        by_title.setdefault(normal_title(mail.title), []).append(mail)
    answers = []
    for change in changes:
        about = by_title.get(normal_title(change.title), [])
        answers += [_judge(change, branch, about, mainline) for branch in branches]
    return answers


def backport_only_bugs(
    changes: Sequence[MainlineChange], branches: Sequence[Branch], mainline: Mainline
) -> list[BackportOnlyBug]:
    """Bugs whose cause and fix share a mainline release, while a branch got the cause by a backport.

    No release of mainline has such a bug, so nobody who tests mainline's releases can see it
    (CVE-2026-23288: only 6.19.4 to 6.19.6 were affected).
    """
    found = []
    by_sha = {sha: change for change in changes for sha in change.shas}
    for fix in changes:
        for short, _ in fix.fixes:
            target = mainline.find(short)
            if target is None or mainline.windows[target] != fix.window or fix.window is None:
                continue
            cause = by_sha.get(target)
            for branch in branches:
                if branch.holds_release(fix.window):
                    continue
                brought = _copies_in(branch, cause.shas if cause else (target,), cause)
                if not brought:
                    continue
                mended = _copies_in(branch, fix.shas, fix)
                since, fixed = _version(brought[0].tag), _version(mended[0].tag) if mended else None
                if since is not None and since == fixed:
                    continue  # both came in one update: no release has the bug
                title = cause.title if cause else brought[0].title
                found.append(BackportOnlyBug(fix.key, fix.title, title, branch.name, since, fixed))
    return found


def _judge(change: MainlineChange, branch: Branch, mails: list[StableMail], mainline: Mainline) -> Backport:
    def answer(
        state: str,
        rule: str,
        score: float,
        *evidence: str,
        version: str | None = None,
        inherited: bool = False,
    ) -> Backport:
        return Backport(
            change.key,
            change.title,
            branch.name,
            branch.base,
            state,
            version,
            rule,
            score,
            evidence,
            inherited,
        )

    said = [mail for mail in mails if mail.about(branch.base)]
    heard = tuple(f"{mail.kind} mail {mail.message_id}{_on(mail.date)}" for mail in said)
    if branch.holds_release(change.window) or any(
        (own := parse_tag(commit.tag or "")) is not None and not own.stable
        for commit in branch.commits
        if commit.sha in change.shas
    ):
        first = (change.first_tag or change.window or "").removeprefix("v")
        return answer("present", "its release is the base", 1.0, version=first or None, inherited=True)
    copies = _copies_in(branch, change.shas, change)
    alive = [copy for copy in copies if _undone(branch, copy) is None]
    if alive:
        shown = next((copy for copy in alive if copy.tag is not None), alive[-1])
        how = f"{shown.sha[:SHORT]} {_how(shown, change)}"
        score = 0.8 if _by_title_only(shown, change) else 1.0
        if shown.tag is None:
            return answer("queued", "in the branch, no tag yet", score, how, *heard)
        return answer("present", "commit in the branch", score, how, *heard, version=_version(shown.tag))
    if copies:
        undone = _undone(branch, copies[-1])
        assert undone is not None
        where = f"in {undone.tag}" if undone.tag else "not tagged yet"
        return answer(
            "reverted", "the branch took it out again", 1.0, f"{undone.sha[:SHORT]} {where}", *heard
        )
    listed = [
        version for title, version in branch.listed if normal_title(title) == normal_title(change.title)
    ]
    if listed:
        earliest = min(listed, key=window_key)
        return answer("present", "a distribution's changelog", 0.9, *heard, version=earliest)
    state, rule, score, why = _absent(change, branch, said, mainline)
    return answer(state, rule, score, *filter(None, (why,)), *heard)


def _absent(
    change: MainlineChange, branch: Branch, said: list[StableMail], mainline: Mainline
) -> tuple[str, str, float, str]:
    """(state, rule, score, evidence) of a change that the branch has not."""
    needed, why, score = _need(change, branch, mainline)
    dated = [(mail.date, mail.message_id, mail) for mail in said if mail.date is not None]
    latest = max(dated)[2] if dated else None
    if latest is not None and latest.date is not None:
        newest = branch.newest_date
        if latest.kind == "failed":
            return "failed", "a mail says that it does not apply", 0.95, why
        if latest.kind in ("added", "review") and (newest is None or latest.date > newest):
            return "queued", f"{latest.kind} mail after {branch.newest or 'the last update'}", 0.9, why
        if latest.kind == "autosel" and (newest is None or newest - latest.date < AUTOSEL_TERM):
            return "queued", "AUTOSEL picked it", 0.6, why
    if change.reverted:
        return "not-needed", "mainline reverted it", 0.95, ""
    if needed == "missing" and latest is not None and latest.kind != "autosel":
        return "missing", "it was under review and is in no update since", score, why
    rules = {
        "missing": "the branch needs it and has it not",
        "not-needed": "the branch has no use for it",
        "unknown": "what it fixes is not known here",
    }
    return needed, rules[needed], score, why


def _need(change: MainlineChange, branch: Branch, mainline: Mainline) -> tuple[str, str, float]:
    """(missing | not-needed | unknown, why, score) for a change that the branch has not."""
    unknown = []
    for short, title in change.fixes:
        full = mainline.find(short)
        window = mainline.windows[full] if full else None
        held = [
            commit
            for commit in branch.commits
            if commit.sha.startswith(short) or (commit.upstream or "").startswith(short[:SHORT])
        ] or (branch.titles.get(normal_title(title), []) if title else [])
        held = [commit for commit in held if _undone(branch, commit) is None]
        if held:
            where = _version(held[0].tag) or "the branch"
            return "missing", f"it fixes {short[:SHORT]}, which is in {where}", 0.95
        if branch.holds_release(window):
            return "missing", f"it fixes {short[:SHORT]}, which is in {window}", 0.95
        if full is None and not held:
            unknown.append(short[:SHORT])
    since = change.asked_since
    if since and window_key(since) <= window_key(branch.base):
        return "missing", f"Cc: stable asks for {since} and later", 0.85
    if since == "" and not change.fixes:
        return "missing", "Cc: stable asks for it, no release is named", 0.6
    if unknown:
        return "unknown", f"it fixes {', '.join(unknown)}, no commit of the followed files", 0.5
    if change.fixes:
        return "not-needed", f"what it fixes ({change.fixes[0][0][:SHORT]}) is not in the branch", 0.95
    return "not-needed", "it has no Fixes: and nobody asked for it in stable", 0.8


def _copies_in(branch: Branch, shas: Sequence[str], change: MainlineChange | None) -> list[BranchCommit]:
    """The branch's commits that are this change, oldest first: by id, by named upstream, by title."""
    found = [
        commit
        for commit in branch.commits
        if commit.sha in shas
        or (change is not None and commit.sha in change.copies)
        or (commit.upstream is not None and any(sha.startswith(commit.upstream) for sha in shas))
    ]
    if not found and change is not None:  # a backport that names no mainline commit
        found = [one for one in branch.titles.get(normal_title(change.title), []) if one.upstream is None]
    # "This reverts commit <stable> which is commit <mainline> upstream." names our commit and is no copy.
    found = [one for one in found if not any(_reverts(one, other) for other in found)]
    return sorted(found, key=lambda commit: (commit.commit_date, commit.sha))


def _undone(branch: Branch, copy: BranchCommit) -> BranchCommit | None:
    """The commit of the branch that reverts this one, by its own id or by its mainline commit's."""
    return next((commit for commit in branch.commits if _reverts(commit, copy)), None)


def _reverts(commit: BranchCommit, other: BranchCommit) -> bool:
    if commit.reverts is None or commit.sha == other.sha or commit.commit_date < other.commit_date:
        return False
    if other.sha.startswith(commit.reverts):
        return True
    return other.upstream is not None and other.upstream[:SHORT] == commit.reverts[:SHORT]


def _how(commit: BranchCommit, change: MainlineChange) -> str:
    if commit.upstream is not None:
        return f"names {commit.upstream[:SHORT]}"
    return "has its title" if _by_title_only(commit, change) else "is a copy of it"


def _by_title_only(commit: BranchCommit, change: MainlineChange) -> bool:
    return commit.upstream is None and commit.sha not in change.copies and commit.sha not in change.shas


def _version(tag: str | None) -> str | None:
    return tag.removeprefix("v") if tag else None


def _on(date: datetime | None) -> str:
    return f" of {date:%Y-%m-%d}" if date is not None else ""
