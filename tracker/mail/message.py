"""Bytes -> Mail: headers, decoded text, subject, and what kind of mail it is on its own.

Nothing here knows a driver, a thread or a database. Bodies are decoded directly, parts inside parts too,
with bounds on size, count and depth; the ``email`` package would cost nine times the time. A mail that
cannot be read whole is returned with ``corrupted`` set: the reason, for people.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from dataclasses import dataclass, replace
from functools import cached_property

from tracker.mail.body import PatchText, has_diff, reply_trailers, split_patch, upstream_commit
from tracker.mail.diff import EMPTY, Diff, parse_diff
from tracker.mail.headers import Head, read_head
from tracker.mail.subject import Subject, parse_subject
from tracker.text import storable

MAX_MAIL = 16 * 1024 * 1024  # bytes; a larger mail is kept by its headers only
MAX_BODY = 2 * 1024 * 1024  # characters of decoded text that are kept
MAX_HTML = 256 * 1024  # characters of HTML that are read when a mail has no plain text
MAX_PARTS = 200
MAX_DEPTH = 8  # parts inside parts
_TEXT_KINDS = frozenset(
    {"text/plain", "text/x-patch", "text/x-diff", "text/x-csrc", "application/x-patch", "text"}
)

# charset="utf-8" of a Content-Type.
CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]{1,40})", re.IGNORECASE)
# boundary="abc" or boundary=abc of a Content-Type.
_BOUNDARY = re.compile(r"boundary\s*=\s*(?:\"([^\"]{1,200})\"|([^\s;]{1,200}))", re.IGNORECASE)
# "Applied to drm-misc-next", "Pushed to drm-misc-next:", "applied, thanks", "Queued for".
_APPLIED = re.compile(
    r"^(?:[^\n>]{0,120}\b)?(?:applied|pushed|queued|merged|picked up)\b[^\n]{0,80}"
    r"(?:\bto\b|\bfor\b|\bin(?:to)?\b|thanks|thank you|\.$|!$)",
    re.IGNORECASE | re.MULTILINE,
)
_APPLIED_LIST = re.compile(
    r"^\s*\[\d+/\d+\] .+\n(?:[ \t]+[^\n]*\n)?\s+(?:commit:|https?://\S*commit)", re.MULTILINE
)
_APPLIED_WORDS = ("applied", "pushed", "queued", "merged", "picked up", "commit")
_ROBOTS = ("lkp@intel.com", "syzbot", "patchwork@", "bugzilla-daemon@", "sashal@kernel.org autosel")


@dataclass(frozen=True)
class Mail:
    """One mail, read. ``body`` is decoded text with LF line ends, at most MAX_BODY characters."""

    message_id: str  # synthetic "sha1-<40 hex>@missing" where the mail has none
    head: Head
    body: str
    corrupted: str | None = None

    @cached_property
    def subject(self) -> Subject:
        """The subject taken apart."""
        return parse_subject(self.head.subject)

    @cached_property
    def text(self) -> PatchText:
        """The body as a patch's text."""
        return split_patch(self.body)

    @cached_property
    def diff(self) -> Diff:
        """The diff, parsed and fingerprinted on first use."""
        return parse_diff(self.text.diff) if self.text.diff else EMPTY

    @cached_property
    def trailers(self) -> tuple[tuple[str, str], ...]:
        """A patch's own trailers, or those a reply gives."""
        return reply_trailers(self.body) if self.subject.reply else self.text.trailers

    @property
    def unreadable(self) -> bool:
        """Damaged so that its text is lost."""
        return self.corrupted is not None and not self.body.strip()

    @cached_property
    def kind(self) -> str:
        """patch, cover, stable, pull, applied, report, reply or other: by the mail alone."""
        return kind_of(self.subject, self.body, self.head.author.email, stable_queue=self.head.stable_queue)


def parse_mail(raw: bytes) -> Mail:
    """Read one mail. Never fails; see ``Mail.corrupted``."""
    if len(raw) > MAX_MAIL:
        return oversized(raw[: 64 * 1024], len(raw))
    if b"\r\n" in raw[:2000]:
        raw = raw.replace(b"\r\n", b"\n")
    head = read_head(raw)
    corrupted: list[str] = []
    body = _decode_body(raw, head, corrupted)
    if "\0" in body:
        corrupted.append("it has NUL bytes")
    body = storable(body)
    if len(body) > MAX_BODY:
        body = body[:MAX_BODY]
        corrupted.append(f"its text is longer than {MAX_BODY} characters and was cut")
    return _mail(raw, head, body, corrupted)


def oversized(start: bytes, size: int) -> Mail:
    """A mail too large to read: its headers, from its first bytes, and the reason."""
    if b"\r\n" in start[:2000]:
        start = start.replace(b"\r\n", b"\n")
    return _mail(
        start, read_head(start), "", [f"it has {size} bytes, more than the {MAX_MAIL} that are read"]
    )


def with_problem(mail: Mail, problem: str) -> Mail:
    """The same mail, with something its source saw wrong with it."""
    return replace(mail, corrupted="; ".join(filter(None, (mail.corrupted, problem))))


def kind_of(subject: Subject, body: str, author_email: str, *, stable_queue: bool = False) -> str:
    """What a mail is by itself: patch, cover, stable, pull, applied, report, reply or other."""
    if subject.pull and not subject.reply:
        return "pull"
    if subject.reply:
        return "applied" if says_applied(body) else "reply"
    if any(author_email.startswith(robot) for robot in _ROBOTS):
        return "report"
    if subject.patch:
        if subject.stable is not None or stable_queue:
            return "stable"
        if upstream_commit(body[:4000]) is not None and has_diff(body):
            return "stable"
        if subject.number == 0:
            return "cover"
        return "patch"
    return "other"


def says_applied(body: str) -> bool:
    """Whether a reply announces that the patch was taken (a plain sentence, or the list ``b4 ty`` writes)."""
    lowered = body.lower()
    if not any(word in lowered for word in _APPLIED_WORDS):
        return False
    own = "\n".join(line for line in body.split("\n") if not line.startswith(">"))[:4000]
    return _APPLIED_LIST.search(own) is not None or _APPLIED.search(own) is not None


def _mail(raw: bytes, head: Head, body: str, corrupted: list[str]) -> Mail:
    message_id = head.message_id
    if message_id is None:
        message_id = f"sha1-{hashlib.sha1(raw, usedforsecurity=False).hexdigest()}@missing"
        corrupted.append("it has no Message-ID")
    if not head.subject and not head.author.email and head.date is None:
        corrupted.append("it has none of the headers of a mail")
    reason = "; ".join(corrupted) or None
    return Mail(message_id, head, body, reason)


def _decode_body(raw: bytes, head: Head, corrupted: list[str]) -> str:
    plain: list[str] = []
    html: list[str] = []
    _collect(raw[head.body_start :], head.content_type, head.encoding, plain, html, corrupted, depth=0)
    if plain:
        return plain[0] if len(plain) == 1 else "\n".join(plain)
    page = "\n".join(html)
    if len(page) > MAX_HTML:
        corrupted.append(f"its HTML is longer than {MAX_HTML} characters and was cut")
    return _text_of_html(page[:MAX_HTML]) if page else ""


def _collect(
    payload: bytes,
    content_type: str,
    encoding: str,
    plain: list[str],
    html: list[str],
    corrupted: list[str],
    *,
    depth: int,
) -> None:
    """Put the texts of a part and of the parts inside it into ``plain`` and ``html``, in order."""
    kind = content_type.split(";", 1)[0].strip().lower()
    if kind.startswith("multipart/"):
        boundary = _BOUNDARY.search(content_type)
        if boundary is None or depth >= MAX_DEPTH:
            corrupted.append(
                "its parts cannot be told apart" if boundary is None else "its parts are too deep"
            )
            return
        parts = (b"\n" + payload).split(b"\n--" + (boundary[1] or boundary[2]).encode("utf-8", "replace"))
        if len(parts) > MAX_PARTS:
            corrupted.append(f"it has more than {MAX_PARTS} parts")
        for part in parts[1 : MAX_PARTS + 1]:
            if part.startswith(b"--"):
                break  # the closing boundary
            inner = part[part.find(b"\n") + 1 :]
            if inner.startswith(b"\n"):  # a part without headers
                _collect(inner[1:], "text/plain", "", plain, html, corrupted, depth=depth + 1)
                continue
            head = read_head(inner)
            _collect(
                inner[head.body_start :],
                head.content_type,
                head.encoding,
                plain,
                html,
                corrupted,
                depth=depth + 1,
            )
        return
    if kind not in _TEXT_KINDS and kind != "text/html":
        return
    if encoding == "quoted-printable":
        payload = binascii.a2b_qp(payload)
    elif encoding == "base64":
        payload = _base64(payload, corrupted)
    text = _to_text(payload, content_type)
    (html if kind == "text/html" else plain).append(text)


def _base64(payload: bytes, corrupted: list[str]) -> bytes:
    try:
        return binascii.a2b_base64(payload)
    except binascii.Error as error:
        corrupted.append(f"its base64 text is damaged ({error})")
        usable = re.sub(rb"[^A-Za-z0-9+/]", b"", payload)
        try:
            return binascii.a2b_base64(usable[: len(usable) // 4 * 4])
        except binascii.Error:
            return b""


def _to_text(payload: bytes, content_type: str) -> str:
    found = CHARSET.search(content_type)
    charset = found[1] if found else "utf-8"
    try:
        text = payload.decode(charset, "replace" if found else "strict")
    except (LookupError, UnicodeError):  # "idna" and "undefined" know no "replace"
        try:
            text = payload.decode("utf-8")
        except UnicodeDecodeError:
            text = payload.decode("latin-1")
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    return text


def _text_of_html(html: str) -> str:
    from bs4 import BeautifulSoup

    return BeautifulSoup(html, "lxml").get_text("\n")
