"""The first tag that contains each commit, for all commits in one pass over the graph.

``git rev-list --topo-order --parents`` shows every commit after all of its children. So when a commit
comes, the smallest tag among its descendants is known: it is handed from child to parent. Memory is the
frontier (commits seen as a parent but not yet shown), not the history, and the reading stops as soon as
every wanted commit has its answer. The result equals ``git describe --contains`` for tags whose dates
rise with their order (shown on random histories in the tests).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tracker.git.repository import Repository


def first_tags(
    repository: Repository,
    tags: Sequence[tuple[str, str]],
    wanted: Iterable[str],
    *,
    heads: Sequence[str] = (),
) -> dict[str, str | None]:
    """The first of ``tags`` containing each wanted commit; None where no tag does.

    ``tags`` are (name, commit id) in release order. ``heads`` are further starting points, so that
    commits after the newest tag are answered with None instead of being absent. A wanted commit that is
    reachable from nowhere is absent from the answer.
    """
    remaining = set(wanted)
    if not remaining:
        return {}
    rank_at: dict[str, int] = {}
    for rank, (_, commit) in enumerate(tags):
        rank_at.setdefault(commit, rank)
    starts = dict.fromkeys([*rank_at, *heads])
    if not starts:
        return {}
    answers: dict[str, str | None] = {}
    lines = repository.rev_list(["--topo-order", "--parents"], stdin=starts)
    for commit, rank in label(lines, rank_at, len(tags)):
        if commit in remaining:
            answers[commit] = tags[rank][0] if rank < len(tags) else None
            remaining.discard(commit)
            if not remaining:
                lines.close()
                break
    return answers


def label(lines: Iterable[str], rank_at: dict[str, int], untagged: int) -> Iterator[tuple[str, int]]:
    """(commit, smallest rank among itself and its descendants) for ``rev-list --topo-order --parents`` lines.

    ``untagged`` is the rank of a commit that no tag contains.
    """
    frontier: dict[str, int] = {}
    take, look = frontier.pop, frontier.get
    for line in lines:
        commit = line[:40]
        rank = take(commit, untagged)
        own = rank_at.get(commit, untagged)
        if own < rank:
            rank = own
        yield commit, rank
        if len(line) == 81:  # one parent: by far the most frequent case
            parent = line[41:]
            if rank < look(parent, untagged + 1):
                frontier[parent] = rank
        elif len(line) > 81:
            for parent in line[41:].split(" "):
                if rank < look(parent, untagged + 1):
                    frontier[parent] = rank
