"""The few headers a tracker needs, found by searching bytes instead of parsing every line.

The ``email`` package with its default policy reads some hundred mails a second; this search reads ten
thousands. It handles folding, RFC 2047 words and raw 8-bit text; everything else of a header is ignored.
Hostile input is bounded: at most ``MAX_HEADERS`` bytes of header and ``MAX_VALUE`` bytes of one value.
"""

from __future__ import annotations

import binascii
import email.utils
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from tracker.mail.once import once
from tracker.text import REPLACEMENT, storable

MAX_HEADERS = 256 * 1024
MAX_VALUE = 32 * 1024
MAX_REFERENCES = 200
MAX_COMMENTS = 20  # "(...)" in an address that are read as comments

# An RFC 2047 encoded word: "=?utf-8?q?Ma=C3=ADra?=", "=?UTF-8*en?B?...?=".
_ENCODED = re.compile(r"=\?([\w.:-]{1,40})(?:\*[\w-]*)?\?([bBqQ])\?([^?\n]*)\?=")
# The space between two encoded words, which is not part of the text.
_BETWEEN = re.compile(r"(\?=)\s+(?==\?)")
# "<id>" inside References and In-Reply-To.
_MESSAGE_ID = re.compile(r"<([^<>\s]{1,998})>")
# "Thu, 11 Dec 2025 09:58:00 -0800", the usual Date.
_DATE = re.compile(
    r"^(?:[A-Za-z]{3},?\s+)?(\d{1,2})\s+([A-Za-z]{3})\s+(\d{4})\s+(\d{1,2}):(\d\d)(?::(\d\d))?\s*([+-]\d{4}|GMT|UTC|Z)\b"
)
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}
# "Name <address>", "\"Name, X\" <address>".
_ADDRESS = re.compile(r'^\s*(?:"((?:[^"\\]|\\.)*)"|([^"<>(),;:@]*?))\s*<\s*([^<>\s]{1,320})\s*>\s*$')
_QUOTED_PAIR = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Address:
    """A person as a mail names one; ``email`` is lower-case, "" when there is none."""

    name: str
    email: str


@dataclass(frozen=True)
class Head:
    """The header of one mail. Each value is searched for on first use: most mails are only glanced at.

    Message ids are without the angle brackets. What is missing is None or "".
    """

    text: bytes  # the header lines, an LF in front
    body_start: int  # offset of the body in the raw mail

    @once
    def message_id(self) -> str | None:
        """The mail's own id."""
        own = _ids(self._value(b"\nmessage-id:"))
        return own[0] if own else None

    @once
    def subject(self) -> str:
        """Decoded and unfolded, as written."""
        return decode_words(self._value(b"\nsubject:"))

    @once
    def author(self) -> Address:
        """The From header."""
        return parse_address(self._value(b"\nfrom:"))

    @once
    def date(self) -> datetime | None:
        """The Date header in UTC; None when it cannot be read."""
        return parse_date(self._value(b"\ndate:"))

    @once
    def in_reply_to(self) -> str | None:
        """The first id of In-Reply-To."""
        replied = _ids(self._value(b"\nin-reply-to:"))
        return replied[0] if replied else None

    @once
    def references(self) -> tuple[str, ...]:
        """The ids of References, oldest first."""
        return _ids(self._value(b"\nreferences:"))

    @once
    def parents(self) -> tuple[str, ...]:
        """Every id this mail answers, nearest first."""
        chain, nearest = self.references[::-1], self.in_reply_to
        if nearest is None or chain[:1] == (nearest,):
            return chain
        return (nearest, *(entry for entry in chain if entry != nearest))

    @once
    def list_id(self) -> str | None:
        """The list's id without the angle brackets."""
        return _list_id(self._value(b"\nlist-id:"))

    @once
    def content_type(self) -> str:
        """As written; plain text where there is none."""
        return self._value(b"\ncontent-type:") or "text/plain"

    @once
    def encoding(self) -> str:
        """The content-transfer-encoding, in lower case."""
        return self._value(b"\ncontent-transfer-encoding:").lower().strip()

    @property
    def stable_queue(self) -> bool:
        """Whether it has an X-stable header (review and its kind)."""
        return b"\nx-stable:" in self._index

    @once
    def _index(self) -> bytes:
        return self.text.lower()

    def _value(self, key: bytes) -> str:
        """The first header of that name, unfolded."""
        text, at = self.text, self._index.find(key)
        if at < 0:
            return ""
        start = at + len(key)
        end = text.find(b"\n", start)
        if end < 0:
            return _to_text(text[start : start + MAX_VALUE])
        if text[end + 1 : end + 2] not in (b" ", b"\t"):
            return _to_text(text[start : min(end, start + MAX_VALUE)])
        while text[end + 1 : end + 2] in (b" ", b"\t") and end - start < MAX_VALUE:
            following = text.find(b"\n", end + 1)
            if following < 0:
                end = len(text)
                break
            end = following
        return " ".join(_to_text(text[start:end]).split())


def read_head(raw: bytes) -> Head:
    """Find the header of one mail with LF line ends. Never fails."""
    end = raw.find(b"\n\n", 0, MAX_HEADERS)
    body_start = end + 2 if end >= 0 else min(len(raw), MAX_HEADERS)
    block = raw[: end if end >= 0 else body_start]
    if b"\0" in block:
        block = block.replace(b"\0", REPLACEMENT.encode())
    return Head(b"\n" + block, body_start)


def decode_words(value: str) -> str:
    """RFC 2047 words decoded; an unknown character set or bad coding leaves the word as it is."""
    if "=?" not in value:
        return value
    return _ENCODED.sub(_decode_word, _BETWEEN.sub(r"\1", value))


def parse_address(value: str) -> Address:
    """One address of a From header or an in-body From line."""
    found = _ADDRESS.match(value)
    if found is not None:
        quoted, plain, address = found.groups()
        name = _QUOTED_PAIR.sub(r"\1", quoted) if quoted is not None else plain or ""
        return Address(decode_words(name).strip(), address.lower())
    value = value[:2000]
    if value.count("(") > MAX_COMMENTS:  # parseaddr calls itself for a comment in a comment, without a bound
        value = value.replace("(", " ").replace(")", " ")
    name, address = email.utils.parseaddr(value)
    if "@" not in address:
        return Address(decode_words(value).strip()[:200], "")
    return Address(decode_words(name).strip(), address.lower())


def parse_date(value: str) -> datetime | None:
    """A Date header as an instant in UTC; None when it cannot be read."""
    found = _DATE.match(value)
    try:
        if found is not None:
            day, month, year, hour, minute, second, zone = found.groups()
            number = _MONTHS.get(month.lower())
            if number is not None:
                moment = datetime(
                    int(year), number, int(day), int(hour), int(minute), min(int(second or 0), 59), tzinfo=UTC
                )
                if zone[0] in "+-":
                    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5]))
                    moment = moment - offset if zone[0] == "+" else moment + offset
                return moment
        loose = email.utils.parsedate_tz(value[:100]) if value else None
        if loose is None:
            return None
        zone_seconds = loose[9] or 0
        return datetime(*loose[:6], tzinfo=timezone(timedelta(seconds=zone_seconds))).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _to_text(value: bytes) -> str:
    try:
        return value.decode("utf-8").strip()
    except UnicodeDecodeError:
        return value.decode("latin-1").strip()


def _ids(value: str) -> tuple[str, ...]:
    if not value:
        return ()
    found = _MESSAGE_ID.findall(value)
    if not found:
        bare = value.split()[0].strip("<>")
        return (bare[:998],) if "@" in bare else ()
    if len(found) == 1:
        return (found[0],)
    return tuple(dict.fromkeys(found[-MAX_REFERENCES:] if len(found) > MAX_REFERENCES else found))


def _list_id(value: str) -> str | None:
    if not value:
        return None
    found = re.search(r"<([^<>\s]{1,255})>", value)
    return found[1] if found else value[:255]


def _decode_word(found: re.Match[str]) -> str:
    charset, coding, payload = found.groups()
    try:
        if coding in "bB":
            data = binascii.a2b_base64(payload + "=" * (-len(payload) % 4))
        else:
            data = binascii.a2b_qp(payload, header=True)
        return storable(data.decode(charset, "replace").replace("\n", " ").replace("\r", " "))
    except (LookupError, ValueError, binascii.Error):
        return found[0]
