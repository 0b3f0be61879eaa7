"""What mails state about dependencies, resolved: who waits for what, and whether that has come. Pure.

Only what the newest version of a change says, or replies to it say, counts. What is awaited is looked for
among the patches and commits that are known; a name that is not found is told as such, never guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tracker.changes import Lineage
from tracker.dependencies import Statement
from tracker.mail.series import PatchMail, Series
from tracker.mail.subject import normal_title
from tracker.voices import Letter

FOREIGN = 0.1  # taken from the score when somebody else than the sender of the series says it
MAINLINE = "mainline"
MAX_WAITS = 20  # of one change
NOT_KNOWN = "it is not in the record"
MAX_NAME = 160  # characters of a title that are kept
TAKEN = ("applied", "queued", "landed", "released", "reverted")  # states of a change that no longer waits
SHORT = 12  # digits of a commit id that a mail names at least

Landing = tuple[str, str, str | None, str | None]  # tree, role, tag, window


@dataclass(frozen=True)
class Git:
    """What git says: the commits of each change (by its key), and where each commit is."""

    commits: Mapping[str, Sequence[str]]
    landings: Mapping[str, Sequence[Landing]]


@dataclass(frozen=True)
class Wait:
    """One change waits for another. ``on_key``: the awaited change, where it is one of the driver's.

    ``tree``: where the awaited has to come to; None: in any tree, before this one. ``state``: open,
    fulfilled or unknown, and ``why``.
    """

    on: str
    on_key: str | None
    tree: str | None
    state: str
    why: str
    rule: str
    score: float
    message_id: str
    sentence: str

    @property
    def text(self) -> str:
        """The answer as people read it."""
        place = f"in {self.tree}" if self.tree else "applied"
        if self.state == "fulfilled":
            return f"waited for {self.on} to be {place}: {self.why}"
        doubt = "not known whether it is: " if self.state == "unknown" else ""
        return f"blocked until {self.on} is {place}: {doubt}{self.why}"

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are stored in the change's notes."""
        return {
            "text": self.text,
            "on": self.on,
            "on_key": self.on_key,
            "tree": self.tree,
            "state": self.state,
            "message": self.message_id,
        }

    def evidence(self) -> dict[str, Any]:
        """A piece of evidence of the change."""
        return {
            "kind": "depends",
            "rule": self.rule,
            "score": self.score,
            "text": self.sentence,
            "ref": self.message_id,
        }


@dataclass(frozen=True)
class _Awaited:
    """What a statement names: patches, a commit, or neither when it is not known here."""

    identity: str
    name: str
    patches: tuple[PatchMail, ...] = ()
    key: str | None = None  # of a change that a commit is
    doubt: str = NOT_KNOWN


@dataclass(frozen=True)
class _Notice:
    """What a maintainer's mail says about a patch."""

    tree: str | None
    text: str


class Dependencies:
    """Answers what a change waits for."""

    def __init__(
        self, series: list[Series], lineages: list[Lineage], letters: list[Letter], git: Git
    ) -> None:
        self._git = git
        self._followed = {place for rows in git.landings.values() for place, _ in map(_place, rows)}
        self._change_of = {sha[:SHORT]: key for key, shas in git.commits.items() for sha in shas}
        self._series_of = {mail.message_id: one for one in series for mail in one.mails}
        self._lineage_of = {patch.message_id: one for one in lineages for patch in one.patches}
        self._by_change_id: dict[str, Series] = {}
        self._by_patch_id: dict[str, PatchMail] = {}
        self._by_title: dict[str, dict[str, PatchMail]] = defaultdict(dict)
        for one in series:
            for mail in one.mails:
                if mail.change_id is not None:
                    self._by_change_id[mail.change_id] = one
                if mail.patch_id is not None:
                    self._by_patch_id[mail.patch_id] = mail
                # The newest mail of each piece of work that bears the title.
                work = mail.sender.email if mail.number == 0 else self._work(mail)
                self._by_title[normal_title(mail.subject.title)][work] = mail
        self._said_in: dict[str, list[tuple[Letter, PatchMail]]] = defaultdict(list)
        self._applied: dict[str, _Notice] = {}  # by title
        for letter in letters:
            target = next((parent for parent in letter.parents if parent in self._series_of), None)
            if target is not None and letter.stated.statements:
                series_key = self._series_of[target].key
                mail = next(m for m in self._series_of[target].mails if m.message_id == target)
                self._said_in[series_key].append((letter, mail))
            if letter.notice is not None:
                for entry in letter.notice.entries:
                    tree = letter.notice.tree
                    text = f"a mail says applied as {entry.sha[:SHORT]}" + (f" to {tree}" if tree else "")
                    self._applied[normal_title(entry.title)] = _Notice(tree, text)

    def of(self, lineage: Lineage, state: str) -> tuple[Wait, ...]:
        """What the newest version of a change (of this state) waits for, the surest first."""
        if state in ("superseded", "dropped"):
            return ()  # nobody waits any more
        newest = lineage.newest
        series = self._series_of[newest.message_id]
        found: dict[str, Wait] = {}
        for message_id, own, statement in self._statements(series):
            if not _speaks_of(statement, own, newest):
                continue
            awaited = self._awaited(statement, series, own)
            if awaited is None or newest.message_id in {one.message_id for one in awaited.patches}:
                continue
            if awaited.identity == lineage.key:
                continue
            wait = self._wait(lineage, state, statement, awaited, message_id)
            known = found.get(awaited.identity)
            if known is None or _rank(wait) > _rank(known):
                found[awaited.identity] = wait
        return tuple(sorted(found.values(), key=lambda one: (-one.score, one.on))[:MAX_WAITS])

    def _statements(self, series: Series) -> Iterator[tuple[str, PatchMail, Statement]]:
        """(message id, the mail of the series that it is or answers, statement)."""
        for mail in series.mails:
            for statement in mail.stated.statements:
                yield mail.message_id, mail, statement
        for letter, mail in self._said_in.get(series.key, ()):
            foreign = letter.author.email != series.author.email
            for statement in letter.stated.statements:
                score = round(statement.score - FOREIGN, 2) if foreign else statement.score
                yield letter.message_id, mail, replace(statement, score=score)

    def _awaited(self, statement: Statement, series: Series, own: PatchMail) -> _Awaited | None:
        target = statement.target
        if statement.kind == "number":
            number = int(target) or own.number
            patch = next((one for one in series.patches if one.number == number), None)
            return self._patch(patch) if patch is not None else None
        if statement.kind == "patch-id":
            patch = self._by_patch_id.get(target)
            return self._patch(patch) if patch is not None else None
        if statement.kind == "change-id":
            found = self._by_change_id.get(target)
            return self._whole(found) if found is not None else _Awaited(target, f"the series {target}")
        if statement.kind == "commit":
            key = self._change_of.get(target[:SHORT])
            return _Awaited(key or target, f"commit {target[:12]}", key=key)
        if statement.kind == "title":
            same = self._by_title.get(normal_title(target), {})
            if len(same) != 1:
                doubt = "several pieces of work are called so" if same else NOT_KNOWN
                return _Awaited(normal_title(target), f'"{target}"', doubt=doubt)
            return self._mail(next(iter(same.values())))
        if target not in self._series_of:
            return _Awaited(target, f"<{target}>")
        return self._mail(next(m for m in self._series_of[target].mails if m.message_id == target))

    def _mail(self, mail: PatchMail) -> _Awaited:
        return self._whole(self._series_of[mail.message_id]) if mail.number == 0 else self._patch(mail)

    def _whole(self, series: Series) -> _Awaited:
        if len(series.patches) == 1:
            return self._patch(series.patches[0])
        return _Awaited(series.key, f'the series "{series.title[:MAX_NAME]}"', series.patches)

    def _patch(self, patch: PatchMail) -> _Awaited:
        return _Awaited(self._work(patch), f'"{patch.subject.title[:MAX_NAME]}"', (patch,))

    def _work(self, mail: PatchMail) -> str:
        """The change that a patch belongs to, else the patch itself."""
        lineage = self._lineage_of.get(mail.message_id)
        return lineage.key if lineage is not None else mail.message_id

    def _wait(
        self, lineage: Lineage, own_state: str, statement: Statement, awaited: _Awaited, message_id: str
    ) -> Wait:
        tree = statement.tree or (None if statement.kind == "number" else MAINLINE)
        own = self._places(lineage.key)
        if own or own_state in TAKEN:
            state, why = "fulfilled", f"the change itself is {f'in {_listed(own)}' if own else own_state}"
        else:
            state, why = self._state(awaited, tree)
        key = awaited.key
        if key is None and len(awaited.patches) == 1 and awaited.patches[0].message_id in self._lineage_of:
            key = awaited.identity
        return Wait(
            awaited.name,
            key,
            tree,
            state,
            why,
            statement.rule,
            statement.score,
            message_id,
            statement.sentence,
        )

    def _state(self, awaited: _Awaited, tree: str | None) -> tuple[str, str]:
        if not awaited.patches and awaited.key is None:
            return "unknown", awaited.doubt
        answers = [self._arrived(key, patch, tree) for key, patch in self._parts(awaited)]
        for state in ("open", "unknown"):  # the first part that is lacking decides
            for answer in answers:
                if answer[0] == state:
                    return answer
        return answers[0]

    def _parts(self, awaited: _Awaited) -> Iterator[tuple[str | None, PatchMail | None]]:
        if awaited.key is not None:
            yield awaited.key, None
        for patch in awaited.patches:
            lineage = self._lineage_of.get(patch.message_id)
            yield (lineage.key if lineage else None), patch

    def _arrived(self, key: str | None, patch: PatchMail | None, tree: str | None) -> tuple[str, str]:
        """(open, fulfilled or unknown, why) of one patch or commit."""
        places = self._places(key) if key is not None else {}
        there = {place: tag for place, tag in places.items() if tree is None or _is_tree(place, tree)}
        if there:
            return "fulfilled", f"it is in {_listed(there)}"
        notice = self._applied.get(normal_title(patch.subject.title)) if patch is not None else None
        if notice is not None:
            said = notice.text
            if tree is None or (notice.tree is not None and _is_tree(notice.tree, tree)):
                return "fulfilled", said
        else:
            said = "no tree that is followed has it"
        if key is None:
            outside = "it is no change of the driver, so git is not asked for it"
            return "unknown", said if notice is not None else outside
        if places:
            said = f"so far it is in {_listed(places)}"
        if not any(tree is None or _is_tree(name, tree) for name in self._followed):
            return "unknown", f"{said}; {tree} is not followed" if tree else "no tree is followed"
        return "open", said

    def _places(self, key: str) -> dict[str, str | None]:
        """Tree -> first tag there; ``mainline`` stands for the tree of that role. Stable does not count."""
        found: dict[str, str | None] = {}
        for sha in self._git.commits.get(key, ()):
            for row in self._git.landings.get(sha, ()):
                place, tag = _place(row)
                if row[1] != "stable":
                    found.setdefault(place, tag)
        return found


def _place(row: Landing) -> tuple[str, str | None]:
    tree, role, tag, _ = row
    return (MAINLINE if role == MAINLINE else tree), tag


def _speaks_of(statement: Statement, own: PatchMail, patch: PatchMail) -> bool:
    """Whether a statement in (or in answer to) the mail ``own`` says that ``patch`` waits."""
    if statement.others:
        awaited = int(statement.target) or own.number
        return patch.number != awaited if own.number == 0 else patch.number > awaited
    if statement.waiter:
        return patch.number == statement.waiter
    return own.number == 0 or own.message_id == patch.message_id


def _rank(wait: Wait) -> tuple[bool, float]:
    """A statement that names a tree says more than one that does not."""
    return wait.tree not in (None, MAINLINE), wait.score


def _is_tree(name: str, stated: str) -> bool:
    """drm-misc-next is what a mail calls drm-misc."""
    return name == stated or name.startswith(f"{stated}-")


def _listed(places: Mapping[str, str | None]) -> str:
    return ", ".join(f"{tree} ({tag})" if tag else tree for tree, tag in places.items())
