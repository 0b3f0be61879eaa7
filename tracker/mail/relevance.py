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

import binascii
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from tracker.mail.body import diffstat_paths
from tracker.mail.headers import Head, read_head
from tracker.mail.message import (
    CHARSET,
    MAX_BODY,
    MAX_MAIL,
    Mail,
    oversized,
    parse_mail,
    with_problem,
)
from tracker.mail.passed import Passed, PassedOver, root_of
from tracker.mail.series import submission_prefix
from tracker.mail.source import RawMail
from tracker.settings import DriverProfile

# Character sets in which a byte below 128 that stands for a letter of ASCII is that letter.
_LIKE_ASCII = re.compile(
    r"(?:utf-?8|(?:us-)?ascii|iso-8859-\d{1,2}|windows-125\d|gb2312|gbk|gb18030|big5|koi8-[ru])$",
    re.IGNORECASE,
)
# Files whose names git wrote in quotes, some letters as "\\" and a number.
_QUOTED = ('\n--- "', '\n+++ "')
_QUOTED_BYTES = tuple(mark.encode() for mark in _QUOTED)
# An indented title of a pull request's shortlog, or its diffstat.
_SHORTLOG = re.compile(r"^ {6,}\S[^\n]*$", re.MULTILINE)


@dataclass(frozen=True)
class Kept:
    """A mail to store, with its kind in this driver's eyes (a foreign patch of the series: ``context``)."""

    mail: Mail
    kind: str
    location: str


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
        self._passed = PassedOver(memory)
        self._texts = profile.needles
        self._bytes = tuple(needle.encode() for needle in profile.needles)
        self._plain = all(needle.isascii() for needle in profile.needles)

    @property
    def memory(self) -> list[Passed]:
        """The mails passed over, oldest first: for the cursor."""
        return list(self._passed)

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
        if not parent_kept and item.problem is None and self._foreign_at_a_glance(head, raw, item.size):
            self._passed.add(item.location, raw)
            return []
        mail = oversized(raw, item.size) if item.size > MAX_MAIL else parse_mail(raw)
        if item.problem is not None:
            mail = with_problem(mail, item.problem)
        kind = self._kind(mail, parent_kept=parent_kept)
        if kind is None and mail.unreadable:
            kind = mail.kind  # nobody can say that it is not the driver's
        if kind is None:
            self._passed.add(item.location, raw)
            return []
        found = [self._keep(mail, kind, item.location)]
        if kind == "patch":
            found = self._companions(mail, mail.subject.total) + found
        return found + self._awakened()

    def _foreign_at_a_glance(self, head: Head, raw: bytes, size: int) -> bool:
        """Whether the bytes of a mail show that it is neither the driver's nor damaged.

        Asked only of a mail of one part whose letters of ASCII are in its bytes, or in what quoted-printable
        gives. All others have to be read.
        """
        coding = head.encoding
        if (
            not self._plain
            or size > MAX_BODY
            or head.message_id is None
            or not head.subject
            or coding == "base64"
            or not _is_like_ascii(head.content_type)
            or self._hinted(head.subject.lower())
        ):
            return False
        text = binascii.a2b_qp(raw[head.body_start :]) if coding == "quoted-printable" else raw
        return not self._hinted_bytes(text.lower())

    def _hinted(self, lowered: str) -> bool:
        return any(needle in lowered for needle in self._texts) or (
            "\\" in lowered and any(mark in lowered for mark in _QUOTED)
        )

    def _hinted_bytes(self, lowered: bytes) -> bool:
        return any(map(lowered.__contains__, self._bytes)) or (
            b"\\" in lowered and any(map(lowered.__contains__, _QUOTED_BYTES))
        )

    def _answers_kept(self, head: Head) -> bool:
        if head.message_id in self._wanted:
            return True
        parents = head.parents
        if not parents:
            return False
        if parents[0] in self.kept or not self._wanted.isdisjoint(parents):
            return True
        if self.kept.keys().isdisjoint(parents):
            return False
        # The direct parent went to another list: the thread still counts when it is a patch of the driver.
        return (
            any(self.kept.get(entry) == "patch" for entry in parents[1:]) and parents[0] not in self._passed
        )

    def _kind(self, mail: Mail, *, parent_kept: bool) -> str | None:
        """The kind to store, or None when the mail is not the driver's."""
        if (
            not parent_kept
            and not self._hinted(mail.head.subject.lower())
            and not self._hinted(mail.body.lower())
        ):
            return None
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
        self._passed.forget(mail.message_id)
        return Kept(mail, kind, location)

    def _companions(self, mail: Mail, total: int | None) -> list[Kept]:
        """Cover letter and sister patches that were passed over before this patch came."""
        prefix, root = submission_prefix(mail.message_id), root_of(mail.head)
        found = []
        for one in self._passed:
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
            for one in self._passed:
                if one.parent in self.kept and not one.patch:
                    revived = self._revive(one, None)
                    found += revived
                    grown = grown or bool(revived)
        return found

    def _revive(self, one: Passed, kind: str | None) -> list[Kept]:
        raw = self._passed.raw(one.message_id) or self._fetch(one.location)
        self._passed.forget(one.message_id)
        if raw is None:
            return []
        mail = parse_mail(raw)
        return [self._keep(mail, kind or mail.kind, one.location)]


@lru_cache(maxsize=256)
def _is_like_ascii(content_type: str) -> bool:
    """Whether a part of this type, when it is not coded, has the ASCII letters of its text in its bytes."""
    kind = content_type.split(";", 1)[0].strip().lower()
    if kind.startswith("multipart/") or kind == "text/html":
        return False
    charset = CHARSET.search(content_type)
    return charset is None or _LIKE_ASCII.match(charset[1]) is not None
