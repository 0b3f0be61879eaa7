"""Everything the tracker asks of one mail, and what must hold whatever the mail is."""

from __future__ import annotations

from datetime import timedelta
from io import BufferedReader, BytesIO

from tracker.applied import parse_applied
from tracker.mail.body import diffstat_paths, upstream_commit
from tracker.mail.mbox import split_mbox
from tracker.mail.message import MAX_BODY, Mail, parse_mail
from tracker.mail.patch_mail import patch_mail
from tracker.mail.relevance import Sieve
from tracker.mail.series import group_series
from tracker.mail.source import RawMail
from tracker.mail.subject import normal_title, version_key
from tracker.pull_claims import read_claim
from tracker.settings import DriverProfile
from tracker.stable_mail import read_stable_mail
from tracker.voices import Threads, read_letter

PROFILE = DriverProfile()
KINDS = frozenset({"patch", "cover", "stable", "pull", "applied", "report", "reply", "other"})


class BrokenPromiseError(AssertionError):
    """The parser came back with something it must not give."""


def check_mail(raw: bytes) -> Mail:
    """Read one mail as the parser does. Raises BrokenPromiseError; any other exception is a crash."""
    mail = parse_mail(raw)
    head = mail.head
    _expect(bool(mail.message_id), "a message id")
    _expect(mail.kind in KINDS, f"a known kind, not {mail.kind!r}")
    _expect(len(mail.body) <= MAX_BODY and "\0" not in mail.body, "a bounded body without NUL")
    _expect(head.date is None or head.date.utcoffset() == timedelta(0), "a date in UTC")
    notice = parse_applied(mail.body)
    version_key(mail.subject.version)
    texts = [
        mail.message_id, mail.body, head.subject, head.author.name, head.author.email, head.list_id or "",
        mail.subject.title, mail.corrupted or "", notice.tree or "", normal_title(mail.subject.title),
        *head.parents, *mail.subject.tags, *(text for pair in mail.trailers for text in pair),
        *diffstat_paths(mail.body), *mail.diff.paths, *(entry.title for entry in notice.entries),
    ]  # fmt: skip
    for text in texts:
        _expect(_storable(text), f"text that a database takes, not {text[:80]!r}")
    return mail


def check_readers(mail: Mail, raw: bytes) -> None:
    """What the tracker makes of the mail: reduced patch, series, threads, claims, stable mail, the sieve."""
    head = mail.head
    reduced = patch_mail(
        mail.message_id, head.subject, head.author, head.date, head.parents, mail.body, PROFILE
    )
    series = group_series([reduced])
    _expect(len(series) == 1 and series[0].mails == (reduced,), "one series of one mail")
    letter = read_letter(
        mail.message_id,
        mail.kind,
        head.author,
        head.date,
        head.parents,
        head.subject,
        mail.body,
        mail.trailers,
    )
    Threads(series, [letter])
    read_claim(head.subject + "\n" + mail.body, head.date.date() if head.date else None)
    read_stable_mail(mail.message_id, head.subject, head.date, upstream_commit(mail.body[:4000]))
    for kept in Sieve(PROFILE, {}, lambda _location: None).sift(RawMail("x", raw, len(raw), {})):
        _expect(bool(kept.kind), "a kind for a kept mail")


def check_archive(raw: bytes) -> None:
    """The same bytes as an mbox: pieces that are in order and inside the file."""
    data = b"From mboxrd@z Thu Jan  1 00:00:00 1970\n" + raw
    last = -1
    for piece in split_mbox(BufferedReader(BytesIO(data))):  # type: ignore[arg-type]  # raw stream in memory
        _expect(last < piece.offset < len(data), "offsets that rise")
        last = piece.offset


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise BrokenPromiseError(f"expected {what}")


def _storable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
