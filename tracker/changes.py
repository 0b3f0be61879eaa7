"""Series -> changes: which patches are versions of one piece of work. Pure rules, every edge with its reason.

Each patch looks for its forerunner in the series that its own series continues (tracker.revisions), and at
last among all earlier patches. Lineages may split and merge: links are kept for patches, not only for
series. Matching with commits is not here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from rapidfuzz import fuzz

from tracker.mail.body import reverted_title
from tracker.mail.lines import common
from tracker.mail.series import PatchMail, Series
from tracker.mail.subject import normal_title
from tracker.revisions import SAME_LINES, YEAR, SeriesEdge, same_person, similarity


@dataclass(frozen=True, slots=True)
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
    shared_lines = common(new.lines, old.lines)
    contained = shared_lines / max(1, min(len(new.lines), len(old.lines)))
    if shared_files and shared_lines >= 3 and contained >= 0.4 and titles >= 0.6:
        text = f"{contained:.0%} of the smaller patch is in the other, the titles are {titles:.0%} alike"
        return 0.45 + contained / 4, "grown patch", text
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
