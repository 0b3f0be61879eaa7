"""A commit of the out-of-tree driver -> the change of the kernel that it is, with rule and score. Pure.

The ladder of `tracker.matching` with what a vendor's repository needs besides: paths are mapped before
(`tracker.git.commits.renamed`), titles carry "Sync <id>" and "(#123)", lack the subsystem or were cut short,
and time runs both ways: a change may be upstream first or here first. Reverts pair with reverts only.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tracker.git.commits import CommitFacts
from tracker.mail.body import linked_messages, reverted_title
from tracker.mail.headers import Address
from tracker.mail.series import PatchMail
from tracker.mail.subject import normal_title
from tracker.matching import FUZZY_ACCEPT, likeness, prose

STATUSES = ("upstream", "applied", "posted", "undone", "sync", "twin-only")
LONGEST = timedelta(days=550)  # between the two sides, for what only looks alike
WORDS = 4  # a title of so many words besides the subsystem speaks for itself
# "Sync faebb7ba accel/amdxdna: ...", 'Sync 9480dd7e ("accel/amdxdna: ...")', "Sync: accel/amdxdna: ...".
_SYNC = re.compile(r"^sync(?:s|ed)?(?:\s+up)?(?:\s+[0-9a-f]{7,40})?\s*[:,]?\s+(?=\S)", re.IGNORECASE)
_QUOTED = re.compile(r'^\(?"(.+?)"\)?$')
_PULL = re.compile(r"\s*\(#\d{1,7}\)\s*$")
_ID = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{8,40}(?![0-9A-Za-z])")
# Commits that take code over from the kernel without naming which: "Sync up upstream", "take drm-misc-fixes".
_TAKES = re.compile(r"\bsync\w*\b.*|\b(?:take|merge|pull)\b.*\b(?:upstream|drm-misc|mainline)", re.IGNORECASE)
_SUBSYSTEM = re.compile(r"^(?:accel/\w+|drivers/accel/\w+|documentation: accel: \w+): ")


@dataclass(frozen=True)
class Upstream:
    """One commit or patch mail of a change of the kernel.

    ``stage``: upstream (mainline, stable or linux-next), applied (a maintainer's tree), posted (mail).
    ``ids``: its commit id, and others by which it may be named.
    """

    change: str
    stage: str
    ids: tuple[str, ...]
    message_id: str | None
    title: str
    people: frozenset[str]  # addresses and names of who wrote it, lower case
    date: datetime | None
    files: frozenset[str]
    diff_hash: str | None
    patch_id: str | None
    lines: Set[int]
    text: str


@dataclass(frozen=True)
class Pair:
    """The answer for one commit. ``change`` and ``upstream`` (a commit id) are None where nothing is.

    ``first``: who had it first, upstream or twin, by ``days``; None where a date is missing.
    """

    sha: str
    change: str | None
    upstream: str | None
    status: str
    rule: str
    score: float
    evidence: str
    first: str | None = None
    days: float | None = None


def people_of(*addresses: Address) -> frozenset[str]:
    """Names and addresses, lower case."""
    return frozenset(part for one in addresses for part in (one.email.lower(), one.name.casefold()) if part)


def upstream_commit(change: str, stage: str, commit: CommitFacts, ids: tuple[str, ...]) -> Upstream:
    """A commit of a tree of the kernel."""
    return Upstream(
        change=change,
        stage=stage,
        ids=ids,
        message_id=None,
        title=commit.title,
        people=people_of(commit.author),
        date=commit.commit_date,
        files=frozenset(commit.files),
        diff_hash=commit.diff_hash,
        patch_id=commit.patch_id,
        lines=frozenset(commit.lines),
        text=prose(commit.message),
    )


def upstream_mail(change: str, patch: PatchMail) -> Upstream:
    """A posting."""
    return Upstream(
        change=change,
        stage="posted",
        ids=(),
        message_id=patch.message_id,
        title=patch.subject.title,
        people=people_of(patch.author, patch.sender),
        date=patch.date,
        files=frozenset(patch.files),
        diff_hash=patch.diff_hash,
        patch_id=patch.patch_id,
        lines=patch.lines,
        text=patch.message,
    )


def clean_title(title: str) -> str:
    """A twin's title as the kernel would have it: without "Sync <id>", quotes and "(#123)"."""
    bare = _PULL.sub("", title.strip())
    synced = _SYNC.sub("", bare)
    if synced != bare:
        bare = synced
        quoted = _QUOTED.match(bare)
        bare = quoted[1] if quoted else bare
    return bare


def pair_commits(twins: Sequence[CommitFacts], upstream: Iterable[Upstream]) -> list[Pair]:
    """One answer for each commit of the twin, in the order given."""
    ladder = _Ladder(list(upstream))
    found = {one.sha: pair for one in twins if (pair := ladder.climb(one)) is not None}
    ids = sorted(one.sha for one in twins)
    for one in twins:  # a cherry-pick between the twin's own branches is what its original is
        origin = _complete(one.upstream, ids) if one.upstream else None
        if one.sha not in found and origin in found:
            score = found[origin].score
            found[one.sha] = ladder.answer(
                one, found[origin].change, found[origin].upstream, "copy", score,
                f"a cherry-pick of {origin[:12]}, which pairs by {found[origin].rule}",
            )  # fmt: skip
    undone = _undone(twins)
    return [found.get(one.sha) or _unpaired(one, undone) for one in twins]


class _Ladder:
    """Indexes of what is known of the kernel, and the rungs."""

    def __init__(self, upstream: list[Upstream]) -> None:
        self._of_change: dict[str, list[Upstream]] = defaultdict(list)
        self._by_message: dict[str, Upstream] = {}
        self._by_hash: dict[str, list[Upstream]] = defaultdict(list)
        self._by_patch_id: dict[str, list[Upstream]] = defaultdict(list)
        self._by_title: dict[str, list[Upstream]] = defaultdict(list)
        self._by_bare_title: dict[str, list[Upstream]] = defaultdict(list)
        self._by_file: dict[str, list[Upstream]] = defaultdict(list)
        named: dict[str, Upstream] = {}
        for one in upstream:
            self._of_change[one.change].append(one)
            for commit in one.ids:
                named.setdefault(commit, one)
            if one.message_id:
                self._by_message[one.message_id] = one
            if one.diff_hash:
                self._by_hash[one.diff_hash].append(one)
            if one.patch_id:
                self._by_patch_id[one.patch_id].append(one)
            title = normal_title(one.title)
            self._by_title[title].append(one)
            self._by_bare_title[_SUBSYSTEM.sub("", title)].append(one)
            for file in one.files:
                self._by_file[file].append(one)
        self._named = named
        self._ids = sorted(named)

    def climb(self, commit: CommitFacts) -> Pair | None:
        """The first rung that gives exactly one change."""
        for rung in (self._named_id, self._link, self._same_lines, self._title, self._cut_title, self._alike):
            pair = rung(commit)
            if pair is not None:
                return pair
        return None

    def answer(
        self,
        commit: CommitFacts,
        change: str | None,
        upstream: str | None,
        rule: str,
        score: float,
        evidence: str,
    ) -> Pair:
        """The pair with status, direction and delay."""
        known = self._of_change[change] if change is not None else []
        stages = {one.stage for one in known}
        status = next((one for one in ("upstream", "applied") if one in stages), "posted")
        commits = [one for one in known if one.stage != "posted"]
        dates = [one.date for one in commits or known if one.date is not None]
        if not dates:
            return Pair(commit.sha, change, upstream, status, rule, score, evidence)
        delta = commit.commit_date - min(dates)
        first = "upstream" if delta >= timedelta(0) else "twin"
        days = round(abs(delta) / timedelta(days=1), 1)
        return Pair(commit.sha, change, upstream, status, rule, score, evidence, first, days)

    def _found(self, commit: CommitFacts, one: Upstream, rule: str, score: float, evidence: str) -> Pair:
        ids = one.ids or next((other.ids for other in self._of_change[one.change] if other.ids), ())
        return self.answer(commit, one.change, ids[0] if ids else None, rule, score, evidence)

    def _named_id(self, commit: CommitFacts) -> Pair | None:
        names = _ID.findall(commit.title) if _TAKES.search(commit.title) else []
        for name in (*filter(None, (commit.upstream,)), *names):
            full = _complete(name, self._ids)
            if full is not None:
                return self._found(commit, self._named[full], "named commit", 1.0, f"it names {name[:12]}")
        return None

    def _link(self, commit: CommitFacts) -> Pair | None:
        for key, value in commit.trailers:
            if key.lower() not in ("link", "message-id", "lore"):
                continue
            for target in linked_messages(value):
                one = self._by_message.get(target)
                if one is not None and _same_direction(one, commit):
                    return self._found(commit, one, "link", 0.98, f"its link names the mail {target}")
        return None

    def _same_lines(self, commit: CommitFacts) -> Pair | None:
        for rule, index, key, score in (
            ("same lines", self._by_hash, commit.diff_hash, 0.98),
            ("patch id", self._by_patch_id, commit.patch_id, 0.97),
        ):
            same = [one for one in index.get(key or "", ()) if _same_direction(one, commit)]
            if len({one.change for one in same}) > 1:
                wanted = normal_title(clean_title(commit.title))
                same = [one for one in same if normal_title(one.title) == wanted]
            if same and len({one.change for one in same}) == 1:
                return self._found(commit, _best(same), rule, score, f"{_shown(same[0])} has the {rule}")
        return None

    def _title(self, commit: CommitFacts) -> Pair | None:
        title = normal_title(clean_title(commit.title))
        bare = _SUBSYSTEM.sub("", title)
        same = self._by_title.get(title) or self._by_bare_title.get(bare, [])
        same = [one for one in same if _same_direction(one, commit) and _in_time(one, commit)]
        people, files = people_of(commit.author), set(commit.files)
        by_people = [one for one in same if one.people & people]
        by_files = [one for one in same if one.files & files]
        if by_people:
            score, how, same = 0.95, "title and author", by_people
        elif by_files:
            score, how, same = 0.9, "title and files", by_files
        elif len(bare.split()) >= WORDS:
            score, how = 0.75, "title"
        else:
            return None
        if not same:
            return None
        if len({one.change for one in same}) > 1:
            score, how = score - 0.15, f"{how}, nearest date"
        nearest = min(same, key=lambda one: (_stage_order(one), _apart(one, commit)))
        return self._found(commit, nearest, "title", round(score, 2), f"{how} of {_shown(nearest)}")

    def _cut_title(self, commit: CommitFacts) -> Pair | None:
        """A title that was cut short: it begins that of one change by the same people, and of no other."""
        title = normal_title(clean_title(commit.title))
        if len(_SUBSYSTEM.sub("", title).split()) < WORDS:
            return None
        people = people_of(commit.author)
        longer = [
            one
            for known, ones in self._by_title.items()
            if known.startswith(title + " ")
            for one in ones
            if one.people & people and _same_direction(one, commit) and _in_time(one, commit)
        ]
        if len({one.change for one in longer}) != 1:
            return None
        best = _best(longer)
        return self._found(commit, best, "title", 0.85, f"its title begins that of {_shown(best)}")

    def _alike(self, commit: CommitFacts) -> Pair | None:
        own = (frozenset(commit.lines), clean_title(commit.title), prose(commit.message))
        people = people_of(commit.author)
        rated: dict[str, tuple[float, Upstream]] = {}
        near = {id(one): one for file in commit.files for one in self._by_file.get(file, ())}
        for one in near.values():
            if not _same_direction(one, commit) or not _in_time(one, commit):
                continue
            rating = likeness((one.lines, one.title, one.text), own, author_fits=bool(one.people & people))
            if rating > rated.get(one.change, (0.0, one))[0]:
                rated[one.change] = (rating, one)
        best = sorted(rated.values(), key=lambda entry: entry[0], reverse=True)
        if not best or best[0][0] < FUZZY_ACCEPT or (len(best) > 1 and best[0][0] - best[1][0] < 0.05):
            return None
        rating, one = best[0]
        evidence = f"title, text and lines are {rating:.0%} like {_shown(one)}"
        return self._found(commit, one, "likeness", round(min(rating, 0.9), 3), evidence)


def _unpaired(commit: CommitFacts, undone: dict[str, str]) -> Pair:
    if commit.sha in undone:
        why = f"undone in the twin by or with {undone[commit.sha][:12]}"
        return Pair(commit.sha, None, None, "undone", "revert", 1.0, why)
    if _TAKES.search(commit.title):
        why = "its title takes code over from the kernel and names no change"
        return Pair(commit.sha, None, None, "sync", "title", 0.6, why)
    return Pair(commit.sha, None, None, "twin-only", "no rung", 0.8, "nothing known upstream is like it")


def _undone(twins: Sequence[CommitFacts]) -> dict[str, str]:
    """Commit -> the other half, for each revert within the twin and what it reverts."""
    ids = sorted(one.sha for one in twins)
    by_title: dict[str, list[CommitFacts]] = defaultdict(list)
    for one in twins:
        by_title[normal_title(clean_title(one.title))].append(one)
    found: dict[str, str] = {}
    for one in twins:
        title = reverted_title(clean_title(one.title))
        target = _complete(one.reverts, ids) if one.reverts else None
        if target is None and title is not None:
            before = [
                other
                for other in by_title.get(normal_title(title), ())
                if other.commit_date <= one.commit_date
            ]
            target = before[-1].sha if before else None
        if target is not None:
            found[one.sha] = target
            found[target] = one.sha
    return found


def _complete(short: str, ids: list[str]) -> str | None:
    """The one known id that begins with ``short``, or is begun by it (a record may hold a short id)."""
    at = bisect_left(ids, short)
    if at < len(ids) and ids[at].startswith(short):
        unique = at + 1 == len(ids) or not ids[at + 1].startswith(short)
        return ids[at] if unique else None
    return ids[at - 1] if at and len(ids[at - 1]) >= 8 and short.startswith(ids[at - 1]) else None


def _same_direction(one: Upstream, commit: CommitFacts) -> bool:
    here = reverted_title(clean_title(commit.title)) is not None or commit.reverts is not None
    return (reverted_title(one.title) is not None) == here


def _in_time(one: Upstream, commit: CommitFacts) -> bool:
    return one.date is None or abs(commit.commit_date - one.date) <= LONGEST


def _apart(one: Upstream, commit: CommitFacts) -> timedelta:
    return abs(commit.commit_date - one.date) if one.date is not None else LONGEST


def _stage_order(one: Upstream) -> int:
    return ("upstream", "applied", "posted").index(one.stage)


def _best(same: list[Upstream]) -> Upstream:
    """A commit before a mail, the earliest first."""
    return min(same, key=lambda one: (_stage_order(one), one.date or datetime.max.replace(tzinfo=UTC)))


def _shown(one: Upstream) -> str:
    return one.ids[0][:12] if one.ids else f"the mail {one.message_id}"
