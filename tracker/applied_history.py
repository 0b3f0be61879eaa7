"""Cases of the past for the window forecast: what was applied where and when, and which release got it.

Read out of a mail archive: a maintainer's "applied" reply gives the title, the branch and the day; a later
pull request lists the title; the answer of the pull tracker's robot says when Linus merged it, and the
mainline tags of that day say into which window. A pull's own claim is not used as truth. Pure; mails in,
cases out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from tracker.applied import parse_applied
from tracker.calendar import next_window, window_of_untagged
from tracker.forecast import known_on
from tracker.mail.message import Mail
from tracker.mail.subject import normal_title
from tracker.release_facts import TagDay

# An indented line of a pull request's shortlog: "      platform/x86: title".
_SHORTLOG = re.compile(r"^ {6}(\S[^\n]{3,300})$", re.MULTILINE)
# "... tags/platform-drivers-x86-v6.18-5" as request-pull and the robot write it.
_PULL_TAG = re.compile(r"\btags/([\w./-]{3,120})")
# The end of "platform-drivers-x86-v6.18-5" that is not the tree's name.
_VERSION_END = re.compile(r"[-_/]v?\d[\w.-]*$")
_MERGED = "has been merged into torvalds/linux.git"
_ROBOT = "pr-tracker-bot@kernel.org"
# A branch named as one: "my local review-ilpo-fixes branch", "drm-misc-next-fixes", "pdx86/for-next".
_BRANCH = re.compile(r"(?<![\w@.])((?:[\w.-]+/)?[\w-]*(?:next-fixes|fixes|next)(?![\w@]))(?=[\s,.:;)'\"]|$)")
# "in the next fixes pull-req", "the fixes branch".
_FIXES_WORDS = re.compile(r"\bfixes[ \t\n]+(?:pull|PR\b|branch|tree)", re.IGNORECASE)
WAIT = timedelta(days=200)  # a title pulled later than this after the notice is another patch
MAIN_PULL = 20  # titles of a pull in the merge window that make it the tree's main one
MAX_TITLES = 2000  # of one pull


@dataclass(frozen=True, order=True)
class AppliedCase:
    """One patch of the past. ``known``: the day the answer could be known."""

    applied: date
    tree: str  # the branch as the notice calls it, "" when it does not
    title: str
    window: str
    known: date


@dataclass(frozen=True)
class _Pull:
    day: date
    sender: str
    tag: str
    titles: frozenset[str]

    @property
    def tree(self) -> str:
        """Whose tree: "platform-drivers-x86/"; "" where the tag names a branch: that may be the answer."""
        name = _VERSION_END.sub("", self.tag)
        return "" if "next" in name or "fixes" in name else f"{name}/"


class ArchiveHistory:
    """Takes mails one by one in any order; gives the cases at the end."""

    def __init__(self) -> None:
        self._notices: dict[tuple[str, str, str], date] = {}  # (title, branch, who) -> first day
        self._pulls: list[_Pull] = []
        self._merged: dict[str, date] = {}

    @staticmethod
    def may_matter(raw: bytes) -> bool:
        """A cheap look at a raw mail: whether it can be a notice, a pull or the robot's answer."""
        return b"pplied" in raw or b"PULL" in raw[:8000] or b"torvalds/linux.git" in raw

    def add(self, mail: Mail) -> None:
        """Take one mail."""
        if mail.head.date is None:
            return
        day = mail.head.date.date()
        if mail.head.author.email == _ROBOT:
            if _MERGED in mail.body:
                for tag in _PULL_TAG.findall(mail.body):
                    self._merged.setdefault(tag, day)
        elif mail.kind == "pull":
            tag = _PULL_TAG.search(mail.body)
            titles = frozenset(normal_title(title) for title in _SHORTLOG.findall(mail.body)[:MAX_TITLES])
            if tag is not None and titles:
                self._pulls.append(_Pull(day, mail.head.author.email, tag[1], titles))
        elif mail.kind == "applied":
            self._notice(mail, day)

    def cases(self, tags: Sequence[TagDay]) -> list[AppliedCase]:
        """Every notice whose title a merged pull lists, in order of the day of applying.

        A notice counts only from somebody who sends that tree's pulls (others say "applied" of their own
        trees), and only where both answers could be seen: an archive without the main pull of the
        following merge window would show only what went in as a fix, and so prove anything.
        """
        by_title: dict[str, list[tuple[date, str, str]]] = defaultdict(list)
        main_pulls: set[str] = set()
        for pull in self._pulls:
            merged = self._merged.get(pull.tag)
            if merged is None:
                continue
            window = _window_on(tags, merged)
            if window is None:
                continue
            newest = _newest(tags, merged)
            if newest is not None and newest.version.final and len(pull.titles) >= MAIN_PULL:
                main_pulls.add(window)
            for title in pull.titles:
                by_title[title].append((merged, window, pull.tree))
        found = []
        senders: dict[str, set[str]] = defaultdict(set)
        for pull in self._pulls:
            senders[pull.tree].add(pull.sender)
        for (title, tree, who), applied in self._notices.items():
            current = _window_on(tags, applied)
            if current is None or next_window(current) not in main_pulls:
                continue
            later = [
                one
                for one in by_title.get(title, ())
                if applied <= one[0] <= applied + WAIT and who in senders[one[2]]
            ]
            if later:
                merged, window, owner = min(later)
                found.append(AppliedCase(applied, f"{owner}{tree}", title, window, merged))
        return sorted(found)

    def _notice(self, mail: Mail, day: date) -> None:
        notice = parse_applied(mail.body)
        titles = [entry.title for entry in notice.entries]
        if not titles and mail.subject.patch and mail.subject.number != 0:
            titles = [mail.subject.title]
        branch = branch_of(mail.body)
        for title in titles:
            key = (normal_title(title), branch, mail.head.author.email)
            self._notices[key] = min(day, self._notices.get(key, day))


def branch_of(body: str) -> str:
    """The branch that a notice names, in its own words; "fixes" where only the words say so, else ""."""
    own = "\n".join(line for line in body.split("\n")[:400] if not line.lstrip().startswith(">"))
    names = [found[1] for found in _BRANCH.finditer(own) if found[1].lower() not in ("next", "fixes")]
    fixes = [name for name in names if "fixes" in name.lower()]
    if fixes:
        return fixes[0][:80]
    if _FIXES_WORDS.search(own):
        return "fixes"
    return names[0][:80] if names else ""


def _window_on(tags: Sequence[TagDay], day: date) -> str | None:
    """The window into which Linus merges on that day: a tag of the same day comes after the merge."""
    newest = _newest(tags, day)
    return window_of_untagged(newest.name) if newest is not None else None


def _newest(tags: Sequence[TagDay], day: date) -> TagDay | None:
    known = known_on(tags, day - timedelta(days=1))
    return max(known) if known else None
