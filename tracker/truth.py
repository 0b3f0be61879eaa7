"""How well commits are led back to mails: pairs that are known, recall and precision. Pure.

A pair says which patch mail became which commit. Pairs come from a file, or from an archive's own "applied"
mails: those name a title and a commit, and the thread they answer has the patch with that title. Only pairs
that leave no choice are taken, so they are truth and not one more guess.

The rules are asked without those mails (except for the way called "applied mails"), as if the commits had
been found in git with less or more known about them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tracker.changes import Lineage
from tracker.errors import SourceError
from tracker.git.commits import CommitFacts
from tracker.mail.headers import Address, parse_address, parse_date
from tracker.mail.series import PatchMail, Series
from tracker.mail.subject import normal_title
from tracker.matching import Notice, match_commits

NOBODY = Address("Maintainer", "maintainer@example.org")
NO_DATE = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = ("commit", "title", "patch_mail", "patch_from", "patch_date", "applied_date")


@dataclass(frozen=True)
class Pair:
    """The patch mail that became a commit. ``applied`` is when the maintainer said so."""

    commit: str
    title: str  # as the maintainer writes it
    patch_mail: str
    author: Address
    posted: datetime | None
    applied: datetime | None
    applied_mail: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One line of a file of pairs."""
        return {
            "commit": self.commit,
            "title": self.title,
            "patch_mail": self.patch_mail,
            "patch_from": f'"{self.author.name}" <{self.author.email}>',
            "patch_date": self.posted.strftime("%a, %d %b %Y %H:%M:%S +0000") if self.posted else "",
            "applied_date": self.applied.strftime("%a, %d %b %Y %H:%M:%S +0000") if self.applied else "",
            "applied_mail": self.applied_mail,
        }


@dataclass(frozen=True)
class Miss:
    """A pair that was not found, or found wrongly, and why."""

    commit: str
    title: str
    patch_mail: str
    cause: str
    wrong: bool  # another change was given: a loss of precision too


@dataclass(frozen=True)
class Score:
    """One way of asking. Recall is over all pairs, precision over those that got an answer."""

    way: str
    pairs: int
    right: int
    misses: tuple[Miss, ...]

    @property
    def recall(self) -> float:
        """The share of the pairs that were found."""
        return self.right / self.pairs if self.pairs else 0.0

    @property
    def precision(self) -> float:
        """The share of the answers that were right; 1.0 without an answer."""
        wrong = sum(one.wrong for one in self.misses)
        return self.right / (self.right + wrong) if self.right + wrong else 1.0

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "way": self.way,
            "pairs": self.pairs,
            "right": self.right,
            "recall": round(self.recall, 4),
            "precision": round(self.precision, 4),
            "misses": [one.__dict__ for one in self.misses],
        }


def read_pairs(text: str) -> list[Pair]:
    """Pairs of a JSON-lines file. Raises SourceError naming the line that is none."""
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            values = {key: str(row.get(key) or "") for key in _FIELDS}
        except (ValueError, AttributeError) as error:
            raise SourceError(f"line {number} of the pairs is no JSON object: {error}") from error
        if not values["commit"] or not values["patch_mail"]:
            raise SourceError(f"line {number} of the pairs has no 'commit' or no 'patch_mail'")
        pairs.append(
            Pair(
                values["commit"].lower(),
                values["title"],
                values["patch_mail"].strip("<>"),
                parse_address(values["patch_from"]),
                parse_date(values["patch_date"]),
                parse_date(values["applied_date"]),
                str(row.get("applied_mail") or "").strip("<>") or None,
            )
        )
    return pairs


def pairs_of(patches: Sequence[PatchMail], notices: Iterable[Notice]) -> list[Pair]:
    """The pairs that an archive's "applied" mails give without a choice.

    The notice answers a patch or a cover letter. Among the patches of that thread which came before it, and
    which answer the same mail as the answered patch (or are that one), exactly one must bear the title.
    """
    by_id = {patch.message_id: patch for patch in patches}
    family: dict[str, list[PatchMail]] = defaultdict(list)  # cover or first patch -> what answers it
    for patch in patches:
        if patch.number != 0:
            family[patch.parents[0] if patch.parents else patch.message_id].append(patch)
            if patch.parents:
                family[patch.message_id].append(patch)
    found: dict[str, Pair | None] = {}
    for notice in notices:
        answered = next((by_id[parent] for parent in notice.parents[:1] if parent in by_id), None)
        if answered is None:
            continue
        near = list(family.get(answered.message_id, ()))
        if answered.number != 0 and answered.parents:
            near += family.get(answered.parents[0], ())
        for entry in notice.said.entries:
            title = normal_title(entry.title)
            fits = {
                patch.message_id: patch
                for patch in near
                if normal_title(patch.subject.title) == title
                and (patch.date is None or notice.date is None or patch.date <= notice.date)
            }
            if len(fits) != 1:
                continue
            (patch,) = fits.values()
            pair = Pair(
                entry.sha,
                entry.title,
                patch.message_id,
                patch.author,
                patch.date,
                notice.date,
                notice.message_id,
            )
            known = found.setdefault(entry.sha, pair)
            if known is not None and known.patch_mail != pair.patch_mail:
                found[entry.sha] = None  # two mails name one commit for two patches: no truth
    return [pair for pair in found.values() if pair is not None]


def score(
    pairs: Sequence[Pair],
    lineages: Sequence[Lineage],
    series: Sequence[Series],
    notices: Sequence[Notice],
    kinds: dict[str, str],
) -> list[Score]:
    """Ask in three ways: by applied mails; by title and author; by the changed lines alone."""
    change_of = {patch.message_id: one.key for one in lineages for patch in one.patches}
    titles = {one.key: one.newest.subject.title for one in lineages}
    diffs = {patch.message_id: patch for one in lineages for patch in one.patches}
    announced = match_commits(lineages, series, [], notices).announced
    by_title = [_commit(pair) for pair in pairs]
    by_lines = [
        replace(
            _commit(pair),
            title=f"renamed {pair.commit}",
            message="renamed",
            author=NOBODY,
            author_date=pair.applied or NO_DATE,
            files=diffs[pair.patch_mail].files,
            diff_hash=diffs[pair.patch_mail].diff_hash,
            patch_id=diffs[pair.patch_mail].patch_id,
            lines=tuple(sorted(diffs[pair.patch_mail].lines)),
        )
        for pair in pairs
        if pair.patch_mail in diffs
    ]
    ways = (
        ("applied mails", announced),
        ("title and author", _matched(lineages, series, by_title)),
        ("changed lines", _matched(lineages, series, by_lines)),
    )
    return [_score(way, pairs, found, change_of, titles, kinds) for way, found in ways]


def _matched(
    lineages: Sequence[Lineage], series: Sequence[Series], commits: list[CommitFacts]
) -> dict[str, str]:
    return {match.sha: match.change for match in match_commits(lineages, series, commits, []).matches}


def _commit(pair: Pair) -> CommitFacts:
    """The commit as far as a pair knows it."""
    applied = pair.applied or pair.posted or NO_DATE
    return CommitFacts(
        sha=pair.commit, title=pair.title, message=pair.title, author=pair.author,
        author_date=pair.posted or applied, commit_date=applied, trailers=(), files=(), diff_hash=None,
        patch_id=None, reverts=None, upstream=None, lines=(),
    )  # fmt: skip


def _score(
    way: str,
    pairs: Sequence[Pair],
    found: dict[str, str],
    change_of: dict[str, str],
    titles: dict[str, str],
    kinds: dict[str, str],
) -> Score:
    misses = []
    for pair in pairs:
        expected, got = change_of.get(pair.patch_mail), found.get(pair.commit)
        if got is not None and got == expected:
            continue
        if got is not None and expected is not None:
            cause = f"another change was given: {titles[got]!r} ({got})"
        elif expected is None and pair.patch_mail not in kinds:
            cause = "the patch mail is not in the archive"
        elif expected is None:
            cause = f"the patch mail was read as {kinds[pair.patch_mail]!r}, not as a patch"
        else:
            cause = "no rule gave exactly one change"
        misses.append(Miss(pair.commit, pair.title, pair.patch_mail, cause, got is not None))
    return Score(way, len(pairs), len(pairs) - len(misses), tuple(misses))
