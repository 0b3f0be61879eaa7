"""How well later versions are tied to earlier ones: the linked share, a sample, and judgements by hand. Pure.

A link is a series of version 2 or more with the earlier series that the rules put first. Judgements name
the two series by the message ids of their covers or first patches and hold no text of any mail.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tracker.errors import SourceError
from tracker.mail.series import Series
from tracker.mail.subject import version_key
from tracker.revisions import SeriesEdge

VERDICTS = ("right", "wrong", "unsure")


@dataclass(frozen=True)
class Judged:
    """One link and what a reader of both mails said about it."""

    newer: str
    older: str
    rule: str
    score: float
    judgement: str
    reason: str = ""


@dataclass(frozen=True)
class LinkShare:
    """How many series of version 2 or more have an earlier one, and by which rules."""

    later: int
    linked: int
    rules: tuple[tuple[str, int], ...]

    @property
    def share(self) -> float:
        """Linked of later."""
        return self.linked / self.later if self.later else 0.0


@dataclass(frozen=True)
class Rescore:
    """Today's links against judgements. ``changed``: the newer series is linked to another one now."""

    kept: int
    right: int
    wrong: tuple[Judged, ...]
    unsure: tuple[Judged, ...]
    lost: tuple[Judged, ...]
    changed: tuple[tuple[Judged, SeriesEdge], ...]

    @property
    def precision(self) -> float:
        """The right ones of those judged right or wrong."""
        judged = self.right + len(self.wrong)
        return self.right / judged if judged else 1.0


def first_links(series: Sequence[Series], edges: Iterable[SeriesEdge]) -> list[SeriesEdge]:
    """The first link of every series of version 2 or more, in the order of the series."""
    best: dict[str, SeriesEdge] = {}
    for edge in edges:
        best.setdefault(edge.newer, edge)
    return [best[one.key] for one in series if _later(one) and one.key in best]


def link_share(series: Sequence[Series], links: Sequence[SeriesEdge]) -> LinkShare:
    """The share of linked series."""
    rules = Counter(link.rule for link in links)
    return LinkShare(sum(map(_later, series)), len(links), tuple(rules.most_common()))


def sample_links(links: Sequence[SeriesEdge], count: int, seed: int) -> list[SeriesEdge]:
    """A random sample: the same for the same links and seed."""
    ordered = sorted(links, key=lambda link: link.newer)
    return random.Random(seed).sample(ordered, min(count, len(ordered)))  # noqa: S311 - no secret


def rescore(links: Iterable[SeriesEdge], judged: Sequence[Judged]) -> Rescore:
    """Which judged links the rules still give."""
    now = {link.newer: link for link in links}
    kept = [one for one in judged if one.newer in now and now[one.newer].older == one.older]
    return Rescore(
        kept=len(kept),
        right=sum(one.judgement == "right" for one in kept),
        wrong=tuple(one for one in kept if one.judgement == "wrong"),
        unsure=tuple(one for one in kept if one.judgement == "unsure"),
        lost=tuple(one for one in judged if one.newer not in now),
        changed=tuple(
            (one, now[one.newer]) for one in judged if one.newer in now and now[one.newer].older != one.older
        ),
    )


def read_judgements(text: str) -> list[Judged]:
    """Judgements of a JSON-lines file. Raises SourceError naming the line."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            one = Judged(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise SourceError(f"line {number} of the judgements cannot be read: {error}") from error
        if one.judgement not in VERDICTS:
            raise SourceError(
                f"line {number}: the judgement {one.judgement!r} is none of {', '.join(VERDICTS)}"
            )
        found.append(one)
    return found


def link_json(link: SeriesEdge) -> dict[str, Any]:
    """A link for ``--json`` and for the file of judgements to be."""
    return asdict(link)


def _later(one: Series) -> bool:
    return version_key(one.version) >= (2,)
