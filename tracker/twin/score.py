"""How good the pairing is, against a table of known pairs: recall, precision, each miss with its cause."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tracker.git.commits import CommitFacts
from tracker.mail.subject import normal_title
from tracker.twin.pairs import Pair, Upstream, clean_title, pair_commits


@dataclass(frozen=True)
class Miss:
    """A commit whose pair is not the table's. ``expected`` and ``found`` are titles, None for no pair."""

    sha: str
    title: str
    expected: str | None
    found: str | None
    cause: str


@dataclass(frozen=True)
class TwinScore:
    """``pairs``: commits that the table pairs; ``known``: those whose upstream side is in the history given.

    ``found``: commits that the rules pair, ``right``: as the table has them. ``extra``: paired where the
    table has no pair; they count against precision.
    """

    pairs: int
    known: int
    found: int
    right: int
    extra: int
    misses: tuple[Miss, ...]

    @property
    def recall(self) -> float:
        """Right pairs of those that could be found."""
        return self.right / self.known if self.known else 0.0

    @property
    def precision(self) -> float:
        """Right pairs of those that were given."""
        return self.right / self.found if self.found else 0.0


def score_pairs(
    commits: Sequence[CommitFacts], upstream: Iterable[Upstream], table: Mapping[str, str | None]
) -> TwinScore:
    """Pair ``commits`` and compare with ``table``: commit id -> title upstream, None for no pair."""
    known_side = list(upstream)
    titles = {one.change: one.title for one in known_side}
    known_titles = {normal_title(title) for title in titles.values()}
    pairs = {one.sha: one for one in pair_commits(commits, known_side)}
    misses: list[Miss] = []
    known = found = right = extra = expected_pairs = 0
    for commit in commits:
        expected, pair = table[commit.sha], pairs[commit.sha]
        got = titles[pair.change] if pair.change is not None else None
        found += got is not None
        expected_pairs += expected is not None
        here = expected is not None and _has(known_titles, expected)
        known += here
        if expected is not None and got is not None and _same(expected, got):
            right += 1
            continue
        if expected is None and got is None:
            continue
        extra += expected is None
        misses.append(
            Miss(commit.sha, commit.title, expected, got, _cause(commit, pair, expected, here=here))
        )
    return TwinScore(expected_pairs, known, found, right, extra, tuple(misses))


def _cause(commit: CommitFacts, pair: Pair, expected: str | None, *, here: bool) -> str:
    if expected is None:
        return f"the table has no pair; {pair.rule} ({pair.score:.2f}): {pair.evidence}"
    if not here:
        return "its upstream side is in none of the trees"
    if pair.change is None:
        return f"no rung gave one change; as a title it is {clean_title(commit.title)!r}"
    return f"another change by {pair.rule} ({pair.score:.2f}): {pair.evidence}"


def _same(expected: str, got: str) -> bool:
    """Equal titles; the table holds some that were cut short."""
    one, two = normal_title(expected), normal_title(got)
    return one == two or (len(one) > 30 and two.startswith(one))


def _has(titles: set[str], expected: str) -> bool:
    wanted = normal_title(expected)
    return wanted in titles or (len(wanted) > 30 and any(one.startswith(wanted) for one in titles))
