"""Series -> changes: which patches are versions of one piece of work. Pure rules, every edge with its reason.

First series are linked to earlier series by a ladder of signals (change-id, explicit links, thread, titles,
cover title, diffs); then each patch looks for its forerunner in the linked series, and at last among all
earlier patches. Lineages may split and merge: links are kept for patches, not only for series. The shares
each signal finds were measured on a whole list (facts tracking.md 2.1). Matching with commits is not here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from rapidfuzz import fuzz

from tracker.mail.body import reverted_title
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


@dataclass(frozen=True)
class SeriesEdge:
    """``newer`` continues ``older`` (series keys)."""

    newer: str
    older: str
    rule: str
    score: float
    evidence: str


@dataclass(frozen=True)
class PatchEdge:
    """Patch ``newer`` is a version of the work of patch ``older`` (message ids)."""

    newer: str
    older: str
    rule: str
    score: float
    evidence: str


@dataclass(frozen=True)
class Lineage:
    """One change as mail knows it: its versions, oldest first, and why each belongs to it."""

    patches: tuple[PatchMail, ...]
    edges: dict[str, PatchEdge]  # by message id of the newer patch

    @property
    def key(self) -> str:
        """The message id of the first version."""
        return self.patches[0].message_id

    @property
    def newest(self) -> PatchMail:
        """The last version."""
        return self.patches[-1]


def link_series(series: Iterable[Series]) -> list[SeriesEdge]:
    """For each series the earlier ones it continues, the best first. ``series`` must be in date order."""
    index = _Index()
    edges: list[SeriesEdge] = []
    for one in series:
        edges += _best(one, index.candidates(one))
        index.add(one)
    return edges


def group_changes(series: list[Series], edges: list[SeriesEdge]) -> list[Lineage]:
    """Every patch (no covers) in exactly one lineage."""
    by_key = {one.key: one for one in series}
    forerunners: dict[str, list[SeriesEdge]] = defaultdict(list)
    for edge in edges:
        forerunners[edge.newer].append(edge)
    links: dict[str, PatchEdge] = {}
    seen = _Seen()
    for one in series:
        for edge in forerunners[one.key]:
            for link in _pair(one, by_key[edge.older], edge):
                links.setdefault(link.newer, link)
        for patch in one.patches:
            if patch.message_id not in links:
                link_alone = seen.forerunner(patch)
                if link_alone is not None:
                    links[patch.message_id] = link_alone
        for patch in one.patches:
            seen.add(patch)
    return _lineages(series, links)


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


def similarity(a: frozenset[int], b: frozenset[int]) -> float:
    """Jaccard similarity of two sets of changed lines; 0 when either is empty."""
    return len(a & b) / len(a | b) if a and b else 0.0


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
            for older in self.by_hash.get(patch.diff_hash or "", ()):
                if _older_version(older, one) or _taken_over(older, one):
                    offer(5, older, "same diff", 0.9, f"a patch changes the same lines as one of {older.key}")
            for older in self.by_files.get(tuple(sorted(patch.files)), ()) if patch.files else ():
                best = max(
                    (similarity(patch.lines, other.lines) for other in older.patches
                     if sorted(other.files) == sorted(patch.files)), default=0.0,
                )  # fmt: skip
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


def _pair(newer: Series, older: Series, edge: SeriesEdge) -> list[PatchEdge]:
    """Each patch of a linked series with its forerunner; every forerunner is taken once, the surest first."""
    offers: list[tuple[float, int, int, PatchMail, PatchMail, str, str]] = []
    for new in newer.patches:
        for old in older.patches:
            if bool(reverted_title(new.subject.title)) != bool(reverted_title(old.subject.title)):
                continue
            rated = _rate(new, old, alone=len(newer.patches) == len(older.patches) == 1)
            if rated is not None:
                score, rule, text = rated
                offers.append((score, -abs(new.number - old.number), -new.number, new, old, rule, text))
    offers.sort(key=lambda offer: offer[:3], reverse=True)
    used_new: set[str] = set()
    used_old: set[str] = set()
    found = []
    for score, _, _, new, old, rule, text in offers:
        if new.message_id in used_new or old.message_id in used_old:
            continue
        used_new.add(new.message_id)
        used_old.add(old.message_id)
        found.append(
            PatchEdge(
                new.message_id,
                old.message_id,
                f"{edge.rule}, {rule}",
                round(min(score, 1.0) * (0.5 + edge.score / 2), 3),
                f"{edge.evidence}; {text}",
            )
        )
    return found


def _rate(new: PatchMail, old: PatchMail, *, alone: bool) -> tuple[float, str, str] | None:
    """How surely two patches of linked series are versions of one: (score, rule, evidence), or None."""
    if normal_title(new.subject.title) == normal_title(old.subject.title):
        return 1.0, "same title", "the titles are equal"
    if new.diff_hash is not None and new.diff_hash == old.diff_hash:
        return 0.98, "same diff", "the changed lines are equal"
    shared_files = bool(set(new.files) & set(old.files))
    lines = similarity(new.lines, old.lines)
    if lines >= SAME_LINES and shared_files:
        return 0.6 + lines * 0.35, "similar diff", f"{lines:.0%} of the changed lines are equal"
    titles = fuzz.token_sort_ratio(normal_title(new.subject.title), normal_title(old.subject.title)) / 100
    if titles >= 0.85 and shared_files:
        return 0.5 + titles * 0.35, "similar title", f"the titles are {titles:.0%} alike, the files overlap"
    if shared_files and lines >= 0.15 and set(new.files) & set(old.files) >= _smaller(new.files, old.files):
        return 0.5 + lines, "same files", f"the same files, {lines:.0%} of the changed lines are equal"
    if alone and shared_files:
        return 0.55, "only patch", "both series have one patch, in the same files"
    return None


def _smaller(a: tuple[str, ...], b: tuple[str, ...]) -> set[str]:
    return set(a) if len(a) <= len(b) else set(b)


class _Seen:
    """All earlier patches, for work that moved between unlinked series."""

    def __init__(self) -> None:
        self.by_title: dict[str, list[PatchMail]] = defaultdict(list)
        self.by_hash: dict[str, list[PatchMail]] = defaultdict(list)

    def add(self, patch: PatchMail) -> None:
        self.by_title[normal_title(patch.subject.title)].append(patch)
        if patch.diff_hash is not None and len(patch.lines) >= 3:
            self.by_hash[patch.diff_hash].append(patch)

    def forerunner(self, patch: PatchMail) -> PatchEdge | None:
        for old in reversed(self.by_title.get(normal_title(patch.subject.title), [])):
            if not _patch_in_time(old, patch):
                continue
            same_files = set(old.files) == set(patch.files) and bool(patch.files)
            if (
                same_person(old, patch) and (not patch.files or set(old.files) & set(patch.files))
            ) or same_files:
                return PatchEdge(
                    patch.message_id, old.message_id, "patch title", 0.85,
                    "an earlier patch has the same title and the same author or files",
                )  # fmt: skip
        for old in reversed(self.by_hash.get(patch.diff_hash or "", [])):
            if _patch_in_time(old, patch):
                return PatchEdge(
                    patch.message_id, old.message_id, "patch diff", 0.9,
                    "an earlier patch changes the same lines of the same files",
                )  # fmt: skip
        return None


def _patch_in_time(old: PatchMail, new: PatchMail) -> bool:
    if old.date is None or new.date is None:
        return False
    return old.date <= new.date and new.date - old.date <= YEAR


def _lineages(series: list[Series], links: dict[str, PatchEdge]) -> list[Lineage]:
    """Connected patches, by union-find over the edges."""
    patches = {patch.message_id: patch for one in series for patch in one.patches}
    parent = {message_id: message_id for message_id in patches}

    def top(message_id: str) -> str:
        while parent[message_id] != message_id:
            parent[message_id] = parent[parent[message_id]]
            message_id = parent[message_id]
        return message_id

    for edge in links.values():
        parent[top(edge.newer)] = top(edge.older)
    groups: dict[str, list[PatchMail]] = defaultdict(list)
    for message_id, patch in patches.items():
        groups[top(message_id)].append(patch)
    lineages = []
    for group in groups.values():
        group.sort(key=lambda patch: (patch.date is None, patch.date, patch.message_id))
        edges = {patch.message_id: links[patch.message_id] for patch in group if patch.message_id in links}
        lineages.append(Lineage(tuple(group), edges))
    return sorted(lineages, key=lambda one: (one.patches[0].date is None, one.patches[0].date, one.key))
