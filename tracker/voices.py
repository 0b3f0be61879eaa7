"""Who said what about a patch: replies, applied notices, robots and pull requests, as `Voice`. Pure.

A review tag counts only from the person it names; quoted lines never count. A tag or a notice on a cover
letter counts for every patch of the series.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from tracker.applied import AppliedNotice, parse_applied
from tracker.changes import Lineage
from tracker.dependencies import Stated, stated_by_reply
from tracker.mail.headers import Address, parse_address
from tracker.mail.series import PatchMail, Series
from tracker.mail.subject import normal_title
from tracker.windows import Voice

# A quoted diff line: "> +	foo();", "> @@ -1,2 +3,4 @@", "> diff --git".
_QUOTED_DIFF = re.compile(r"^>[> ]*(?:[+-]|@@ |diff --git )", re.MULTILINE)
# An indented title of a pull request's shortlog.
_SHORTLOG = re.compile(r"^(?:> ?)? {4,}(\S[^\n]*)$", re.MULTILINE)
_REVIEW_TAGS = frozenset({"reviewed-by", "acked-by"})
SHORT_NOTE = 600  # characters of own text within which "applied" without a tree is believed
REMARK = 40  # characters of own text that are more than a thank-you
OWN_ENOUGH = 1000  # more than any of these bounds


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail that is no patch, reduced to what is asked of it: a list has too many bodies to hold them."""

    message_id: str
    kind: str  # reply, applied, report, pull, stable or other
    author: Address
    date: datetime | None
    parents: tuple[str, ...]
    subject: str
    reviews: tuple[tuple[str, str], ...]  # its review trailers
    notice: AppliedNotice | None  # of an applied mail
    titles: frozenset[str]  # of a pull request's shortlog, normal
    own_length: int  # characters that are no quotes, up to OWN_ENOUGH
    quotes_diff: bool
    stated: Stated  # what it says that patches wait for


def read_letter(
    message_id: str,
    kind: str,
    author: Address,
    date: datetime | None,
    parents: tuple[str, ...],
    subject: str,
    body: str,
    trailers: Iterable[tuple[str, str]],
) -> Letter:
    """What a mail that is no patch says."""
    shortlog = _SHORTLOG.findall(body) if kind == "pull" else ()
    return Letter(
        message_id=message_id,
        kind=kind,
        author=author,
        date=date,
        parents=parents,
        subject=subject,
        reviews=tuple(entry for entry in trailers if entry[0].lower() in _REVIEW_TAGS),
        notice=parse_applied(body) if kind == "applied" else None,
        titles=frozenset(normal_title(title) for title in shortlog),
        own_length=min(len(_own_text(body)), OWN_ENOUGH),
        quotes_diff=_QUOTED_DIFF.search(body) is not None,
        stated=stated_by_reply(body),
    )


class Threads:
    """Letters, by the patch or cover they answer."""

    def __init__(self, series: list[Series], letters: list[Letter]) -> None:
        self._series_of = {mail.message_id: one for one in series for mail in one.mails}
        self._about: dict[str, list[Letter]] = defaultdict(list)
        self._pulls: dict[str, list[Letter]] = defaultdict(list)
        for letter in letters:
            if letter.kind == "pull":
                for title in letter.titles:
                    self._pulls[title].append(letter)
                continue
            target = next((parent for parent in letter.parents if parent in self._series_of), None)
            if target is not None:
                self._about[target].append(letter)

    def about(self, patch: PatchMail, lineage: Lineage) -> list[Voice]:
        """What was said about the newest version of a change, oldest first."""
        series = self._series_of[patch.message_id]
        letters = list(self._about.get(patch.message_id, ()))
        if series.cover is not None:
            letters += self._about.get(series.cover.message_id, ())
        voices = [voice for letter in letters for voice in self._voices(letter, patch)]
        titles = {normal_title(version.subject.title) for version in lineage.patches}
        for title in titles:
            for letter in self._pulls.get(title, ()):
                if patch.date is None or letter.date is None or letter.date >= patch.date:
                    voices.append(
                        Voice(
                            "pull", letter.message_id, letter.date, _name(letter.author), letter.subject[:200]
                        )
                    )
        return sorted(voices, key=lambda voice: (voice.date is None, voice.date, voice.message_id))

    @staticmethod
    def _voices(letter: Letter, patch: PatchMail) -> Iterator[Voice]:
        who = _name(letter.author)
        if (notice := letter.notice) is not None:
            listed = [e for e in notice.entries if normal_title(e.title) == normal_title(patch.subject.title)]
            if listed:
                text = f"applied as {listed[0].sha[:12]}" + (f" to {notice.tree}" if notice.tree else "")
                yield Voice("applied", letter.message_id, letter.date, who, text, notice.tree)
                return
            if not notice.entries and (notice.tree or letter.own_length <= SHORT_NOTE):
                text = f"applied to {notice.tree}" if notice.tree else "applied"
                yield Voice("applied", letter.message_id, letter.date, who, text, notice.tree)
                return
        if letter.kind == "report":
            yield Voice("report", letter.message_id, letter.date, who, letter.subject[:200])
            return
        for key, value in letter.reviews:
            person = parse_address(value)
            same = person.email == letter.author.email or (
                person.name and person.name.casefold() == letter.author.name.casefold()
            )
            if same:
                yield Voice("reviewed", letter.message_id, letter.date, who, key)
                return
        foreign = letter.author.email not in {patch.author.email, patch.sender.email}
        if foreign and letter.quotes_diff and letter.own_length > REMARK:
            yield Voice("remarks", letter.message_id, letter.date, who, "remarks on the patch")


def _own_text(body: str) -> str:
    """What a reply says itself, without quotes and signature."""
    text = re.split(r"^-- ?$", body, maxsplit=1, flags=re.MULTILINE)[0]
    return "\n".join(line for line in text.split("\n") if line.strip() and not line.lstrip().startswith(">"))


def _name(author: Address) -> str:
    return author.name or author.email
