"""Mails -> Series: which patches were one submission. Pure rules on dataclasses.

Three rules, in this order: one ``git send-email`` run (the common prefix of its message ids), one thread,
one author within some minutes. It decides nothing about versions of the same work (see tracker.changes).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from tracker.dependencies import NOTHING, Stated
from tracker.mail.headers import Address
from tracker.mail.lines import LineSet
from tracker.mail.subject import Subject

# git send-email: "20251211175802.1760860-3-lizhi.hou@amd.com" -> run, number, sender.
_SEND_EMAIL = re.compile(r"^(\d{14}\.\d+)-(\d+)-(.+)$")
# git send-email before 2.? : "1771860581-82092-1-git-send-email-shawn.lin@rock-chips.com".
_SEND_EMAIL_OLD = re.compile(r"^(\d{9,11}-\d+)-(\d+)-git-send-email-(.+)$")
# b4 send: "20250714-sched-skip-reset-v6-1-5c5ba4f55039@igalia.com".
_B4 = re.compile(r"^(\d{8}-.+-v\d+)-(\d+)-([0-9a-f]{8,}@.+)$")
# "17-v1-b5cab63049c0+191af-dmabuf_map_type_jgg@nvidia.com".
_NUMBER_FIRST = re.compile(r"^(\d{1,4})-(v\d+-.+@.+)$")
TIME_WINDOW = timedelta(minutes=20)  # patchwork's delay, in both directions


@dataclass(frozen=True, slots=True)
class PatchMail:
    """A patch or cover letter, reduced to what series and changes are made of. ``date`` is UTC."""

    message_id: str
    subject: Subject
    author: Address  # the in-body From where there is one: who wrote the patch
    sender: Address  # the From header: who sent the mail
    date: datetime | None
    parents: tuple[str, ...]  # ids it answers, nearest first
    own: bool  # the driver's: its diff or its subject says so
    files: tuple[str, ...] = ()
    diff_hash: str | None = None
    patch_id: str | None = None
    lines: Set[int] = LineSet()  # Diff.signature
    change_id: str | None = None
    links: tuple[tuple[str, bool], ...] = ()  # (message id, the line speaks of an earlier version)
    co_authors: frozenset[str] = frozenset()  # addresses of Co-developed-by and Signed-off-by
    stated: Stated = NOTHING  # what it says its patches wait for
    message: str = ""  # the commit message to be, its beginning; "" of a cover letter

    @property
    def number(self) -> int:
        """1 for a lone patch without a counter."""
        return 1 if self.subject.number is None else self.subject.number

    @property
    def total(self) -> int:
        """Patches announced."""
        return max(1, self.subject.total or 1)

    @property
    def root(self) -> str | None:
        """The oldest id it answers."""
        return self.parents[-1] if self.parents else None


@dataclass(frozen=True)
class Series:
    """One submission. ``key`` is the message id of its cover or first patch."""

    key: str
    version: str
    total: int
    rule: str
    mails: tuple[PatchMail, ...]  # by number; the cover, if any, first

    @property
    def cover(self) -> PatchMail | None:
        """The cover letter."""
        return self.mails[0] if self.mails[0].number == 0 else None

    @property
    def patches(self) -> tuple[PatchMail, ...]:
        """Without the cover."""
        return tuple(mail for mail in self.mails if mail.number != 0)

    @property
    def title(self) -> str:
        """The cover's title, else the first patch's."""
        return self.mails[0].subject.title

    @property
    def author(self) -> Address:
        """Who sent it."""
        return self.mails[0].sender

    @property
    def date(self) -> datetime | None:
        """Its earliest mail."""
        return min((mail.date for mail in self.mails if mail.date is not None), default=None)


def submission_prefix(message_id: str) -> str | None:
    """What the ids of one sending run share, or None for an id of another shape."""
    for pattern in (_SEND_EMAIL, _SEND_EMAIL_OLD, _B4):
        found = pattern.match(message_id)
        if found is not None:
            return f"{found[1]}-{found[3]}"
    found = _NUMBER_FIRST.match(message_id)
    return found[2] if found else None


def group_series(mails: Iterable[PatchMail]) -> list[Series]:
    """Put patches and covers together. Every mail ends in exactly one series; order does not matter."""
    ordered = sorted(mails, key=lambda mail: (mail.date is None, mail.date, mail.message_id))
    groups: list[tuple[str, list[PatchMail]]] = []
    rest: list[PatchMail] = []
    by_prefix: dict[tuple[str, int], list[PatchMail]] = defaultdict(list)
    for mail in ordered:
        prefix = submission_prefix(mail.message_id)
        if mail.subject.total is None:
            groups.append(("lone patch", [mail]))  # no counter: it is whole by itself
        elif prefix is None:
            rest.append(mail)
        else:
            by_prefix[(prefix, mail.total)].append(mail)
    for group in by_prefix.values():
        for part in _distinct(group):
            groups.append(("one git send-email run", part))
    by_thread: dict[tuple[str, str, str, int], list[PatchMail]] = defaultdict(list)
    alone: list[PatchMail] = []
    known = {mail.message_id for mail in rest}
    for mail in rest:
        anchor = mail.message_id if mail.number == 0 else _anchor(mail, known)
        if anchor is None:
            alone.append(mail)
        else:
            by_thread[(anchor, mail.sender.email, mail.subject.version, mail.total)].append(mail)
    for group in by_thread.values():
        groups += [("one thread", part) for part in _distinct(group)]
    groups += [("one author within 20 minutes", part) for part in _by_time(alone)]
    return sorted((_series(rule, group) for rule, group in _joined(groups)), key=_series_order)


def _anchor(mail: PatchMail, known: set[str]) -> str | None:
    """The nearest known patch mail it answers, else the thread's root (git threads below the cover)."""
    for parent in mail.parents:
        if parent in known:
            return parent
    return mail.root


def _distinct(group: list[PatchMail]) -> list[list[PatchMail]]:
    """Split where a number comes twice: the run sent several versions or several series."""
    if len({mail.number for mail in group}) == len(group):
        return [group]
    by_version: dict[tuple[str, str | None], list[PatchMail]] = defaultdict(list)
    covers = {mail.message_id for mail in group if mail.number == 0}
    for mail in group:
        root = mail.message_id if mail.number == 0 else next((p for p in mail.parents if p in covers), None)
        by_version[(mail.subject.version, root)].append(mail)
    parts: list[list[PatchMail]] = []
    for part in by_version.values():
        taken: list[PatchMail] = []
        numbers: set[int] = set()
        for mail in part:
            if mail.number in numbers:
                parts.append(taken)
                taken, numbers = [], set()
            taken.append(mail)
            numbers.add(mail.number)
        parts.append(taken)
    return parts


def _by_time(mails: list[PatchMail]) -> list[list[PatchMail]]:
    """Unthreaded patches: same sender, version and total, within TIME_WINDOW, numbers not yet taken."""
    parts: list[list[PatchMail]] = []
    open_parts: dict[tuple[str, str, int], list[list[PatchMail]]] = defaultdict(list)
    for mail in mails:
        key = (mail.sender.email, mail.subject.version, mail.total)
        for part in open_parts[key]:
            first = part[0]
            if mail.date is None or first.date is None or mail.date - first.date > TIME_WINDOW:
                continue
            if mail.number not in {other.number for other in part}:
                part.append(mail)
                break
        else:
            fresh = [mail]
            parts.append(fresh)
            open_parts[key].append(fresh)
    return parts


def _joined(groups: list[tuple[str, list[PatchMail]]]) -> list[tuple[str, list[PatchMail]]]:
    """Join incomplete groups that hang on one cover: a cover sent by hand, patches by git send-email."""
    by_cover: dict[str, int] = {}
    for index, (_, group) in enumerate(groups):
        for mail in group:
            if mail.number == 0:
                by_cover[mail.message_id] = index
    absorbed: set[int] = set()
    for index, (_, group) in enumerate(groups):
        if any(mail.number == 0 for mail in group) or group[0].subject.total is None:
            continue
        target = next((by_cover[p] for p in group[0].parents if p in by_cover), None)
        if target is None or target in absorbed or target == index:
            continue
        host = groups[target][1]
        same = (host[0].total, host[0].subject.version, host[0].sender.email) == (
            group[0].total,
            group[0].subject.version,
            group[0].sender.email,
        )
        taken = {mail.number for mail in host}
        if same and not any(mail.number in taken for mail in group):
            groups[target] = ("one thread", host + group)
            absorbed.add(index)
    return [entry for index, entry in enumerate(groups) if index not in absorbed]


def _series(rule: str, group: list[PatchMail]) -> Series:
    mails = tuple(sorted(group, key=lambda mail: (mail.number, mail.message_id)))
    # A series with mixed version words ("V1 0/2", "V1 1/2", "V2 2/2") is the version its first mail says.
    return Series(mails[0].message_id, mails[0].subject.version, mails[0].total, rule, mails)


def _series_order(series: Series) -> tuple[bool, datetime | None, str]:
    return (series.date is None, series.date, series.key)
