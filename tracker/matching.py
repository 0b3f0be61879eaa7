"""Change <-> commit, by a ladder of rules; each match with its rule, score and evidence. Pure.

The ladder stops at the first rung that gives exactly one change: (a) the commit's Link or Message-ID, (b) a
maintainer's mail that names the commit, (c) the path-qualified hash of the changed lines, (d) the patch id,
(e) title and author, (f) similar messages and lines in the same files. Commits that are copies of one
another (stable backports, cherry-picks, rebases) are folded first. Reverts match reverts only.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rapidfuzz import fuzz

from tracker.applied import AppliedNotice
from tracker.changes import Lineage
from tracker.git.commits import CommitFacts
from tracker.mail.body import linked_messages, reverted_title
from tracker.mail.series import PatchMail, Series
from tracker.mail.subject import normal_title
from tracker.revisions import similarity

DAY = timedelta(days=1)
LONGEST_WAIT = timedelta(days=550)  # between the last posting and the commit
FUZZY_ACCEPT = 0.72  # rating from which rung (f) is believed
_LINK_KEYS = frozenset({"link", "message-id", "lore"})
_BARE_ID = re.compile(r"^<?([^<>\s]+@[^<>\s]+?)>?$")


@dataclass(frozen=True)
class MatchFact:
    """One commit is (a copy of) the result of one change. ``change`` is the lineage's key."""

    change: str
    sha: str
    rule: str
    score: float
    evidence: str


@dataclass(frozen=True)
class Notice:
    """An "applied" mail with its place in the thread."""

    message_id: str
    date: datetime | None
    parents: tuple[str, ...]
    said: AppliedNotice


@dataclass(frozen=True)
class Matching:
    """The answer: matches, and the groups of commits (copies of one another) that no mail explains."""

    matches: tuple[MatchFact, ...]
    unmatched: tuple[tuple[CommitFacts, ...], ...]
    announced: dict[str, str] = field(default_factory=dict)  # commit id in an applied mail -> change key


def match_commits(
    lineages: Iterable[Lineage],
    series: Iterable[Series],
    commits: list[CommitFacts],
    notices: Iterable[Notice],
) -> Matching:
    """Tie commits to changes. Every commit is in at most one match."""
    ladder = _Ladder(list(lineages), list(series), list(notices))
    matches: list[MatchFact] = []
    unmatched: list[tuple[CommitFacts, ...]] = []
    for group in fold_copies(commits):
        found = {commit.sha: match for commit in group if (match := ladder.climb(commit)) is not None}
        if not found:
            unmatched.append(group)
            continue
        best = max(found.values(), key=lambda match: match.score)
        for commit in group:
            match = found.get(commit.sha)
            if match is not None and match.change == best.change:
                matches.append(match)
            else:
                matches.append(
                    MatchFact(
                        best.change,
                        commit.sha,
                        "copy",
                        best.score,
                        f"it is a copy of {best.sha[:12]}, which matches by {best.rule}",
                    )
                )
    return Matching(tuple(matches), tuple(unmatched), dict(ladder.announced))


def fold_copies(commits: list[CommitFacts]) -> list[tuple[CommitFacts, ...]]:
    """Groups of commits that are one change in git; within a group the original comes first.

    Backports and cherry-picks are folded by the id they name, rebases by title, author and author date.
    """
    by_sha = {commit.sha: commit for commit in commits}
    ids = sorted(by_sha)
    parent: dict[str, str] = {sha: sha for sha in by_sha}

    def top(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    rebased: dict[tuple[str, str, datetime], str] = {}
    for commit in commits:
        if commit.upstream is not None:
            parent[top(commit.sha)] = top(
                _complete(commit.upstream, ids) or f"upstream {commit.upstream[:12]}"
            )
        key = (commit.title, commit.author.email or commit.author.name, commit.author_date)
        first = rebased.setdefault(key, commit.sha)
        if first != commit.sha:
            parent[top(commit.sha)] = top(first)
    groups: dict[str, list[CommitFacts]] = defaultdict(list)
    for commit in commits:
        groups[top(commit.sha)].append(commit)
    return [
        tuple(sorted(group, key=lambda c: (c.upstream is not None, c.commit_date, c.sha)))
        for group in groups.values()
    ]


def _complete(short: str, ids: list[str]) -> str | None:
    """The known full id that starts with ``short`` (12 to 40 digits)."""
    from bisect import bisect_left

    at = bisect_left(ids, short)
    return ids[at] if at < len(ids) and ids[at].startswith(short) else None


class _Ladder:
    """Indexes of what mail knows, and the rungs."""

    def __init__(self, lineages: list[Lineage], series: list[Series], notices: list[Notice]) -> None:
        self.change_of: dict[str, str] = {}
        self.patch: dict[str, PatchMail] = {}
        self.by_hash: dict[str, list[PatchMail]] = defaultdict(list)
        self.by_patch_id: dict[str, list[PatchMail]] = defaultdict(list)
        self.by_title: dict[str, list[PatchMail]] = defaultdict(list)
        self.by_file: dict[str, list[PatchMail]] = defaultdict(list)
        for lineage in lineages:
            for patch in lineage.patches:
                self.change_of[patch.message_id] = lineage.key
                self.patch[patch.message_id] = patch
                self.by_title[normal_title(patch.subject.title)].append(patch)
                if patch.diff_hash is not None:
                    self.by_hash[patch.diff_hash].append(patch)
                if patch.patch_id is not None:
                    self.by_patch_id[patch.patch_id].append(patch)
                for file in patch.files:
                    self.by_file[file].append(patch)
        self.series_of = {mail.message_id: one for one in series for mail in one.mails}
        self.announced: dict[str, str] = {}
        self._announcements: dict[str, tuple[str, str]] = {}  # sha -> (change, evidence)
        for notice in notices:
            self._read_notice(notice)
        self._announced_ids = sorted(self._announcements)

    def climb(self, commit: CommitFacts) -> MatchFact | None:
        """The first rung that gives exactly one change."""
        for rung in (
            self._by_link,
            self._by_notice,
            self._by_hash,
            self._by_patch_id,
            self._by_title,
            self._by_likeness,
        ):
            match = rung(commit)
            if match is not None:
                return match
        return None

    def _read_notice(self, notice: Notice) -> None:
        """Each listed commit belongs to the patch of the answered series with that title, or that number."""
        series = next((self.series_of[p] for p in notice.parents if p in self.series_of), None)
        if series is None:
            return
        for entry in notice.said.entries:
            title = normal_title(entry.title)
            same = [patch for patch in series.patches if normal_title(patch.subject.title) == title]
            if (
                not same
            ):  # the title was changed on apply: the number decides, if it fits and nothing contradicts
                same = [
                    patch
                    for patch in series.patches
                    if patch.number == entry.number
                    and patch.total == entry.total
                    and fuzz.token_sort_ratio(normal_title(patch.subject.title), title) >= 60
                ]
            if not same and len(series.patches) == len(notice.said.entries) == 1:
                same = list(series.patches)
            if len(same) == 1 and same[0].message_id in self.change_of:
                change = self.change_of[same[0].message_id]
                self._announcements[entry.sha] = (change, notice.message_id)
                self.announced[entry.sha] = change

    def _by_link(self, commit: CommitFacts) -> MatchFact | None:
        for key, value in commit.trailers:
            if key.lower() not in _LINK_KEYS:
                continue
            bare = _BARE_ID.match(value)
            targets = linked_messages(value) or ((bare[1],) if bare else ())
            for target in targets:
                patch = self.patch.get(target)
                if (
                    patch is None and target in self.series_of
                ):  # the cover letter is linked: the title chooses
                    title = normal_title(commit.title)
                    patch = next(
                        (p for p in self.series_of[target].patches if normal_title(p.subject.title) == title),
                        None,
                    )
                if patch is not None and self._plausible(patch, commit):
                    return self._match(patch, commit, "link", 1.0, f"{key}: names the mail {target}")
        return None

    def _by_notice(self, commit: CommitFacts) -> MatchFact | None:
        from bisect import bisect_right

        at = bisect_right(self._announced_ids, commit.sha)
        for index in (at - 1, at):
            if 0 <= index < len(self._announced_ids) and commit.sha.startswith(self._announced_ids[index]):
                change, mail = self._announcements[self._announced_ids[index]]
                return MatchFact(
                    change, commit.sha, "applied mail", 0.99, f"the mail {mail} names this commit"
                )
        return None

    def _by_hash(self, commit: CommitFacts) -> MatchFact | None:
        return self._by_index(self.by_hash, commit.diff_hash, commit, "same lines", 0.98)

    def _by_patch_id(self, commit: CommitFacts) -> MatchFact | None:
        return self._by_index(self.by_patch_id, commit.patch_id, commit, "patch id", 0.97)

    def _by_index(
        self, index: dict[str, list[PatchMail]], key: str | None, commit: CommitFacts, rule: str, score: float
    ) -> MatchFact | None:
        found = [
            p for p in index.get(key or "", ()) if self._in_time(p, commit) and _same_direction(p, commit)
        ]
        if len({self.change_of[p.message_id] for p in found}) > 1:
            title = normal_title(commit.title)
            found = [p for p in found if normal_title(p.subject.title) == title]
        if not found or len({self.change_of[p.message_id] for p in found}) > 1:
            return None
        return self._match(
            found[-1], commit, rule, score, f"the mail {found[-1].message_id} has the same {rule}"
        )

    def _by_title(self, commit: CommitFacts) -> MatchFact | None:
        found = [
            p
            for p in self.by_title.get(normal_title(commit.title), ())
            if self._in_time(p, commit) and (_author_fits(p, commit) or _same_files(p, commit))
        ]
        changes = {self.change_of[p.message_id] for p in found}
        if len(changes) > 1:  # the change whose last version is the nearest before the commit
            found = [
                max(found, key=lambda p: p.date or datetime.min.replace(tzinfo=commit.commit_date.tzinfo))
            ]
        if not found:
            return None
        nearest = found[-1]
        if _author_fits(nearest, commit):
            score, text = (
                (0.93, "title and author") if len(changes) == 1 else (0.8, "title and author, nearest date")
            )
        else:
            score, text = 0.85, "title and files"
        return self._match(nearest, commit, "title", score, f"{text} of the mail {nearest.message_id}")

    def _by_likeness(self, commit: CommitFacts) -> MatchFact | None:
        """PaStA's idea on one driver: same files, then rated messages and changed lines."""
        own_lines = frozenset(commit.lines)
        rated: dict[str, tuple[float, PatchMail]] = {}
        candidates = {p.message_id: p for file in commit.files for p in self.by_file.get(file, ())}
        for patch in candidates.values():
            if not self._in_time(patch, commit) or not _same_direction(patch, commit):
                continue
            rating = likeness(
                (patch.lines, patch.subject.title, patch.message),
                (own_lines, commit.title, prose(commit.message)),
                author_fits=_author_fits(patch, commit),
            )
            change = self.change_of[patch.message_id]
            if rating > rated.get(change, (0.0, patch))[0]:
                rated[change] = (rating, patch)
        best = sorted(rated.values(), key=lambda entry: entry[0], reverse=True)
        if not best or best[0][0] < FUZZY_ACCEPT or (len(best) > 1 and best[0][0] - best[1][0] < 0.05):
            return None
        rating, patch = best[0]
        return self._match(
            patch, commit, "likeness", round(min(rating, 0.9), 3),
            f"title, text and lines are {rating:.0%} like the mail {patch.message_id}",
        )  # fmt: skip

    def _match(
        self, patch: PatchMail, commit: CommitFacts, rule: str, score: float, evidence: str
    ) -> MatchFact:
        return MatchFact(self.change_of[patch.message_id], commit.sha, rule, score, evidence)

    def _plausible(self, patch: PatchMail, commit: CommitFacts) -> bool:
        """A Link may also point to a discussion: the patch must look like the commit."""
        if not _same_direction(patch, commit):
            return False
        if normal_title(patch.subject.title) == normal_title(commit.title):
            return True
        if set(patch.files) & set(commit.files):
            return True
        return fuzz.token_sort_ratio(normal_title(patch.subject.title), normal_title(commit.title)) >= 70

    @staticmethod
    def _in_time(patch: PatchMail, commit: CommitFacts) -> bool:
        """The mail came before the commit was made, and not for years."""
        if patch.date is None:
            return True
        return patch.date <= commit.commit_date + DAY and commit.commit_date - patch.date <= LONGEST_WAIT


def likeness(one: tuple[Set[int], str, str], two: tuple[Set[int], str, str], *, author_fits: bool) -> float:
    """How alike two patches are, 0 to 1. Each is (checksums of its changed lines, title, text).

    0 where too few lines are equal to speak of one patch: the title must make up for changed lines.
    """
    lines = similarity(one[0], two[0])
    titles = fuzz.token_sort_ratio(normal_title(one[1]), normal_title(two[1])) / 100
    if lines < 0.3 or (titles < 0.5 and lines < 0.8):
        return 0.0
    texts = fuzz.token_sort_ratio(one[2][:4000], two[2][:4000]) / 100
    return 0.6 * lines + 0.25 * titles + 0.15 * texts - (0.0 if author_fits else 0.1)


def prose(message: str) -> str:
    """A commit message without its title and trailers."""
    _, _, rest = message.partition("\n\n")
    return "\n".join(line for line in rest.split("\n") if not re.match(r"^[A-Z][\w-]+: ", line))


def _same_direction(patch: PatchMail, commit: CommitFacts) -> bool:
    """A revert is compared with reverts only."""
    return bool(reverted_title(patch.subject.title)) == bool(reverted_title(commit.title) or commit.reverts)


def _author_fits(patch: PatchMail, commit: CommitFacts) -> bool:
    people = {patch.author.email, patch.sender.email, *patch.co_authors} - {""}
    if commit.author.email in people:
        return True
    names = {patch.author.name.casefold(), patch.sender.name.casefold()} - {""}
    return commit.author.name.casefold() in names


def _same_files(patch: PatchMail, commit: CommitFacts) -> bool:
    return bool(patch.files) and set(patch.files) == set(commit.files)
