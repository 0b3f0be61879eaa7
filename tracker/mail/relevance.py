"""Which mails of a list are the driver's: a sieve over a stream of mails. Pure; it stores nothing.

Kept are: patches whose diff touches the driver's paths or whose subject names the driver; the cover letter
and (in small series) the other patches of such a series, as *context*; replies to anything kept; stable
copies, pull requests and reports that name the driver in subject, shortlog or diffstat. A mail that only
mentions the driver in its text is not kept.

A cover letter comes before the patch that makes it interesting. The sieve therefore remembers the last
mails it passed over (`Passed`); this memory is part of a source's cursor, so a sync that is killed and
resumed keeps exactly what an undisturbed one keeps.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tracker.mail.body import diffstat_paths
from tracker.mail.headers import Head, read_head
from tracker.mail.message import MAX_MAIL, Mail, oversized, parse_mail, with_problem
from tracker.mail.series import submission_prefix
from tracker.mail.source import RawMail
from tracker.mail.subject import parse_subject
from tracker.settings import DriverProfile

MEMORY = 192  # mails passed over that are remembered
RAW_MEMORY = 4 * 1024 * 1024  # bytes of them that are kept, to spare a second read
_CODED = ("base64", "quoted-printable")
# An indented title of a pull request's shortlog, or its diffstat.
_SHORTLOG = re.compile(r"^ {6,}\S[^\n]*$", re.MULTILINE)


@dataclass(frozen=True)
class Kept:
    """A mail to store, with its kind in this driver's eyes (a foreign patch of the series: ``context``)."""

    mail: Mail
    kind: str
    location: str


@dataclass(frozen=True)
class Passed:
    """A mail that was passed over, with what is needed to come back to it."""

    message_id: str
    location: str
    parent: str | None
    root: str | None
    author: str
    number: int | None
    total: int | None
    patch: bool

    def to_json(self) -> list[object]:
        """For the cursor."""
        return [
            self.message_id, self.location, self.parent, self.root,
            self.author, self.number, self.total, self.patch,
        ]  # fmt: skip

    @classmethod
    def from_json(cls, values: list[object]) -> Passed:
        """Back from the cursor; raises ValueError or TypeError when it is not ours."""
        message_id, location, parent, root, author, number, total, patch = values
        return cls(
            str(message_id),
            str(location),
            None if parent is None else str(parent),
            None if root is None else str(root),
            str(author),
            number if isinstance(number, int) else None,
            total if isinstance(total, int) else None,
            bool(patch),
        )


class Sieve:
    """The state of sifting one source."""

    def __init__(
        self,
        profile: DriverProfile,
        kept: dict[str, str],
        fetch: Callable[[str], bytes | None],
        memory: Iterable[Passed] = (),
        *,
        damaged: Iterable[str] = (),
        wanted: Iterable[str] = (),
    ) -> None:
        """``kept``: message id -> kind of everything stored so far (grows here); ``fetch`` rereads a mail.

        ``damaged``: kept mails that could not be read whole, so that a better copy is welcome. ``wanted``:
        ids that the driver's patches answer and that no source has shown yet (cover letters, mostly).
        """
        self.profile = profile
        self.kept = kept
        self._damaged = set(damaged)
        self._wanted = set(wanted)
        self._fetch = fetch
        self._passed: OrderedDict[str, Passed] = OrderedDict((one.message_id, one) for one in memory)
        self._raws: dict[str, bytes] = {}
        self._raw_bytes = 0

    @property
    def memory(self) -> list[Passed]:
        """The mails passed over, oldest first: for the cursor."""
        return list(self._passed.values())

    def sift(self, item: RawMail) -> list[Kept]:
        """What to store now that this mail came: nothing, it, or it with earlier mails it explains."""
        raw = item.raw
        if b"\r\n" in raw[:2000]:
            raw = raw.replace(b"\r\n", b"\n")
        head = read_head(raw)
        if head.message_id in self.kept and (
            head.message_id not in self._damaged or item.problem is not None
        ):
            return []
        parent_kept = self._answers_kept(head)
        lowered = raw.lower()
        if (
            not parent_kept
            and item.size <= MAX_MAIL
            and head.message_id is not None
            and head.encoding not in _CODED
            and head.content_type[:10].lower() != "multipart/"
            and not any(needle in lowered for needle in self.profile.needles)
        ):
            self._pass_over(item, head)
            return []
        mail = oversized(raw, item.size) if item.size > MAX_MAIL else parse_mail(raw)
        if item.problem is not None:
            mail = with_problem(mail, item.problem)
        kind = self._kind(mail, parent_kept=parent_kept)
        if kind is None and mail.unreadable:
            kind = mail.kind  # nobody can say that it is not the driver's
        if kind is None:
            self._pass_over(item, head)
            return []
        found = [self._keep(mail, kind, item.location)]
        if kind == "patch":
            found = self._companions(mail, parse_subject(head.subject).total) + found
        return found + self._awakened()

    def _answers_kept(self, head: Head) -> bool:
        if head.message_id in self._wanted:
            return True
        parents = head.parents
        if not parents:
            return False
        if parents[0] in self.kept or any(entry in self._wanted for entry in parents):
            return True
        # The direct parent went to another list: the thread still counts when it is a patch of the driver.
        return parents[0] not in self._passed and any(
            self.kept.get(entry) == "patch" for entry in parents[1:]
        )

    def _kind(self, mail: Mail, *, parent_kept: bool) -> str | None:
        """The kind to store, or None when the mail is not the driver's."""
        kind, title, profile = mail.kind, mail.subject.title, self.profile
        named = profile.named_in(title)
        if kind in ("patch", "stable"):
            if named or profile.owns_any(mail.diff.paths):
                return kind
            total = mail.subject.total or 1
            if parent_kept and kind == "patch":
                return "context" if total <= profile.companions_up_to else None
            return None
        if kind == "cover":
            return "cover" if named else "context" if parent_kept else None
        if kind == "pull":
            in_shortlog = any(profile.named_in(line) for line in _SHORTLOG.findall(mail.body))
            return "pull" if in_shortlog or profile.owns_any(diffstat_paths(mail.body)) else None
        return kind if parent_kept or named else None

    def _keep(self, mail: Mail, kind: str, location: str) -> Kept:
        self.kept[mail.message_id] = kind
        self._wanted.discard(mail.message_id)
        if kind == "patch" and mail.head.parents and mail.head.parents[0] not in self.kept:
            self._wanted.add(mail.head.parents[0])
        self._forget(mail.message_id)
        return Kept(mail, kind, location)

    def _companions(self, mail: Mail, total: int | None) -> list[Kept]:
        """Cover letter and sister patches that were passed over before this patch came."""
        prefix, root = submission_prefix(mail.message_id), _root(mail.head)
        found = []
        for one in list(self._passed.values()):
            if not one.patch or one.author != mail.head.author.email:
                continue
            same = one.message_id == root or (one.root is not None and one.root == root)
            if prefix is not None and submission_prefix(one.message_id) == prefix and one.total == total:
                same = True
            if same and (one.number == 0 or (total or 1) <= self.profile.companions_up_to):
                found += self._revive(one, "context")
        return found

    def _awakened(self) -> list[Kept]:
        """Passed-over replies whose parent has been kept meanwhile, to any depth."""
        found: list[Kept] = []
        grown = True
        while grown:
            grown = False
            for one in list(self._passed.values()):
                if one.parent in self.kept and not one.patch:
                    revived = self._revive(one, None)
                    found += revived
                    grown = grown or bool(revived)
        return found

    def _revive(self, one: Passed, kind: str | None) -> list[Kept]:
        raw = self._raws.get(one.message_id) or self._fetch(one.location)
        self._forget(one.message_id)
        if raw is None:
            return []
        mail = parse_mail(raw)
        return [self._keep(mail, kind or mail.kind, one.location)]

    def _pass_over(self, item: RawMail, head: Head) -> None:
        if head.message_id is None:
            return
        lowered = head.subject.lower()
        may_be_patch = ("patch" in lowered or "rfc" in lowered) and not lowered.startswith("re:")
        subject = parse_subject(head.subject) if may_be_patch else None
        patch = subject is not None and subject.patch and not subject.reply
        if not patch and not head.parents:
            return
        self._passed[head.message_id] = Passed(
            head.message_id,
            item.location,
            head.parents[0] if head.parents else None,
            _root(head),
            head.author.email,
            subject.number if subject else None,
            subject.total if subject else None,
            patch,
        )
        self._passed.move_to_end(head.message_id)
        self._raws[head.message_id] = item.raw
        self._raw_bytes += len(item.raw)
        while len(self._passed) > MEMORY:
            self._forget(next(iter(self._passed)))
        while self._raw_bytes > RAW_MEMORY:
            oldest = next(iter(self._raws))
            self._raw_bytes -= len(self._raws.pop(oldest))

    def _forget(self, message_id: str) -> None:
        self._passed.pop(message_id, None)
        dropped = self._raws.pop(message_id, None)
        if dropped is not None:
            self._raw_bytes -= len(dropped)


def _root(head: Head) -> str | None:
    return head.references[0] if head.references else head.in_reply_to
