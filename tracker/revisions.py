"""Which earlier series a series continues: the ladder of signals. Pure rules, every edge with its reason.

The signals, best first: change-id, explicit links, the thread, shared titles, the cover's title, equal and
similar diffs. The share each one finds was measured on a whole list (facts tracking.md 2.1). Which *patch*
continues which is decided in tracker.changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import timedelta

from rapidfuzz import fuzz

from tracker.mail.lines import common
from tracker.mail.series import PatchMail, Series
from tracker.mail.subject import normal_title, version_key

YEAR = timedelta(days=365)
SAME_LINES = 0.5  # Jaccard similarity of changed lines from which two diffs are versions of one
# Domains that say nothing about who works together.
_PUBLIC_DOMAINS = frozenset(
    {
        "126.com",
        "163.com",
        "disroot.org",
        "foxmail.com",
        "gmail.com",
        "gmx.de",
        "gmx.net",
        "hotmail.com",
        "icloud.com",
        "kernel.org",
        "linux.dev",
        "mailbox.org",
        "outlook.com",
        "posteo.net",
        "proton.me",
        "protonmail.com",
        "qq.com",
        "web.de",
        "yahoo.com",
    }
)


@dataclass(frozen=True, slots=True)
class SeriesEdge:
    """``newer`` continues ``older`` (series keys)."""

    newer: str
    older: str
    rule: str
    score: float
    evidence: str


def link_series(series: Iterable[Series]) -> list[SeriesEdge]:
    """For each series the earlier ones it continues, the best first. ``series`` must be in date order."""
    index = _Index()
    edges: list[SeriesEdge] = []
    for one in series:
        edges += _best(one, index.candidates(one))
        index.add(one)
    return edges


def same_person(a: PatchMail, b: PatchMail) -> bool:
    """One author, one sender, or people who signed one another's patch or share an employer's domain."""
    people_a = {a.author.email, a.sender.email} - {""}
    people_b = {b.author.email, b.sender.email} - {""}
    if people_a & people_b or people_a & b.co_authors or people_b & a.co_authors:
        return True
    if a.author.name and a.author.name.casefold() == b.author.name.casefold():
        return True
    domains_a = {email.rpartition("@")[2] for email in people_a} - _PUBLIC_DOMAINS
    return bool(domains_a & {email.rpartition("@")[2] for email in people_b})


def similarity(a: Set[int], b: Set[int]) -> float:
    """Jaccard similarity of two sets of changed lines; 0 when either is empty."""
    both = common(a, b)
    return both / (len(a) + len(b) - both) if both else 0.0


class _Index:
    """Earlier series, findable by each signal."""

    def __init__(self) -> None:
        self.by_message: dict[str, Series] = {}
        self.by_change_id: dict[str, list[Series]] = defaultdict(list)
        self.by_title: dict[str, list[Series]] = defaultdict(list)
        self.by_cover: dict[str, list[Series]] = defaultdict(list)
        self.by_hash: dict[str, list[Series]] = defaultdict(list)
        self.by_files: dict[tuple[str, ...], list[Series]] = defaultdict(list)

    def add(self, one: Series) -> None:
        for mail in one.mails:
            self.by_message[mail.message_id] = one
            if mail.change_id is not None and one not in self.by_change_id[mail.change_id]:
                self.by_change_id[mail.change_id].append(one)
        for title in {normal_title(patch.subject.title) for patch in one.patches}:
            self.by_title[title].append(one)
        if one.cover is not None:
            self.by_cover[normal_title(one.title)].append(one)
        for patch in one.patches:
            if patch.diff_hash is not None:
                self.by_hash[patch.diff_hash].append(one)
            if patch.files:
                self.by_files[tuple(sorted(patch.files))].append(one)

    def candidates(self, one: Series) -> list[tuple[int, SeriesEdge, Series]]:
        """(rank of the rule, edge, older series), each older series at most once, with its best rule."""
        found: dict[str, tuple[int, SeriesEdge, Series]] = {}

        def offer(rank: int, older: Series, rule: str, score: float, evidence: str) -> None:
            if older.key not in found and _in_time(older, one):
                found[older.key] = (rank, SeriesEdge(one.key, older.key, rule, score, evidence), older)

        for mail in one.mails:
            for older in self.by_change_id.get(mail.change_id or "", ()):
                offer(0, older, "change-id", 1.0, f"both carry change-id {mail.change_id}")
        for mail in one.mails:
            for target, speaks_of_version in mail.links:
                linked = self.by_message.get(target)
                if (
                    linked is not None
                    and linked.key != one.key
                    and (speaks_of_version or _alike(linked, one))
                    and _older_version(linked, one)
                ):
                    offer(1, linked, "explicit link", 0.97, f"it links to {target}")
        for mail in one.mails:
            for parent in mail.parents:
                answered = self.by_message.get(parent)
                if (
                    answered is not None
                    and answered.key != one.key
                    and _older_version(answered, one)
                    and (_alike(answered, one) or same_person(answered.mails[0], one.mails[0]))
                ):
                    offer(2, answered, "thread", 0.95, f"it was sent in the thread of {answered.key}")
        for older, share in self._by_titles(one):
            if _older_version(older, one) or _taken_over(older, one):
                offer(
                    3,
                    older,
                    "titles",
                    0.5 + share / 2.2,
                    f"{share:.0%} of the smaller series' titles are equal",
                )
        if one.cover is not None:
            for older in self.by_cover.get(normal_title(one.title), ()):
                if same_person(older.mails[0], one.mails[0]) and _older_version(older, one):
                    offer(4, older, "cover title", 0.9, f"the cover letter has the same title as {older.key}")
        for patch in one.patches:
            # Two people may mend the same line in the same way without knowing of each other.
            for older in self.by_hash.get(patch.diff_hash or "", ()):
                ours = any(
                    other.diff_hash == patch.diff_hash and same_person(other, patch)
                    for other in older.patches
                )
                if ours and (_older_version(older, one) or _taken_over(older, one)):
                    offer(5, older, "same diff", 0.9, f"a patch changes the same lines as one of {older.key}")
            for older in self.by_files.get(tuple(sorted(patch.files)), ()) if patch.files else ():
                best = max(
                    (
                        similarity(patch.lines, other.lines)
                        for other in older.patches
                        if sorted(other.files) == sorted(patch.files) and same_person(other, patch)
                    ),
                    default=0.0,
                )
                if best >= SAME_LINES and _older_version(older, one):
                    offer(
                        6,
                        older,
                        "similar diff",
                        best,
                        f"{best:.0%} of the changed lines of a patch are equal",
                    )
        return sorted(found.values(), key=lambda entry: entry[0])

    def _by_titles(self, one: Series) -> list[tuple[Series, float]]:
        """Older series that share at least half of the titles of the smaller one, by people who fit."""
        counts: dict[str, int] = defaultdict(int)
        older_by_key: dict[str, Series] = {}
        titles = {normal_title(patch.subject.title) for patch in one.patches}
        for title in titles:
            for older in self.by_title.get(title, ()):
                counts[older.key] += 1
                older_by_key[older.key] = older
        found = []
        for key, count in counts.items():
            older = older_by_key[key]
            share = count / max(1, min(len(titles), len(older.patches)))
            fits = same_person(older.mails[0], one.mails[0]) or _files(older) & _files(one)
            if share >= 0.5 and fits:
                found.append((older, min(share, 1.0)))
        return found


def _best(one: Series, candidates: list[tuple[int, SeriesEdge, Series]]) -> list[SeriesEdge]:
    """The latest older series of the highest version first, then the others (for split and merged work)."""
    reachable = sorted(
        candidates,
        key=lambda entry: (
            entry[0] <= 3,  # the strong rules before the weak ones
            version_key(entry[2].version) < version_key(one.version),
            version_key(entry[2].version),
            entry[2].date is not None,
            entry[2].date,
        ),
        reverse=True,
    )
    return [edge for _, edge, _ in reachable[:8]]


def _in_time(older: Series, newer: Series) -> bool:
    if older.date is None or newer.date is None:
        return older.date is None and newer.date is None
    return older.date < newer.date and newer.date - older.date <= YEAR


def _older_version(older: Series, newer: Series) -> bool:
    """A smaller version; or the same one resent; or the RFC before the first version."""
    old, new = version_key(older.version), version_key(newer.version)
    if old < new:
        return True
    if old > new:
        return False
    resent = any(mail.subject.resend for mail in newer.mails)
    left_rfc = older.mails[0].subject.rfc and not newer.mails[0].subject.rfc
    same_work = any(
        a.diff_hash is not None and a.diff_hash == b.diff_hash for a in older.patches for b in newer.patches
    )
    # "v2" is sometimes forgotten: equal titles, same sender, a single patch, later.
    forgotten = (
        not newer.mails[0].subject.explicit_version
        and len(newer.mails) == len(older.mails) == 1
        and older.mails[0].sender == newer.mails[0].sender
        and normal_title(older.title) == normal_title(newer.title)
    )
    return resent or left_rfc or same_work or forgotten


def _taken_over(older: Series, newer: Series) -> bool:
    """Another sender goes on with the work and counts from one again."""
    return older.mails[0].sender.email != newer.mails[0].sender.email and bool(_files(older) & _files(newer))


def _alike(older: Series, newer: Series) -> bool:
    """Some title or some file in common, or nearly the same cover title."""
    titles = {normal_title(mail.subject.title) for mail in older.mails}
    if titles & {normal_title(mail.subject.title) for mail in newer.mails}:
        return True
    if _files(older) & _files(newer):
        return True
    return fuzz.token_sort_ratio(normal_title(older.title), normal_title(newer.title)) >= 85


def _files(one: Series) -> set[str]:
    return {file for patch in one.patches for file in patch.files}
