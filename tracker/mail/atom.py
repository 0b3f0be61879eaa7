"""Atom feeds of public-inbox (RFC 4287): which mails there are, by id, title and time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote, urlsplit

from lxml import etree

from tracker.errors import SourceError

MAX_ENTRIES = 1000
_ATOM = "{http://www.w3.org/2005/Atom}"


class NotAtomError(SourceError):
    """The bytes are no Atom feed."""


@dataclass(frozen=True)
class Entry:
    """One mail in a feed: its Message-ID (from the link), title, and ``updated`` in UTC (None if odd)."""

    message_id: str
    title: str
    updated: datetime | None


def parse_feed(raw: bytes) -> list[Entry]:
    """Entries in the feed's order; an entry without a link to a mail is left out. Raises NotAtomError.

    Entities are not resolved and nothing is fetched: the feed is hostile input.
    """
    # recover: mails carry control characters that XML forbids, and one of them must not hide the others.
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=False, load_dtd=False, recover=True
    )
    try:
        root = etree.fromstring(raw, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise NotAtomError(f"the feed cannot be read: {error}") from error
    if root is None or root.tag != f"{_ATOM}feed":
        raise NotAtomError("this is XML, but no Atom feed")
    found = []
    for entry in root.findall(f"{_ATOM}entry")[:MAX_ENTRIES]:
        link = entry.find(f"{_ATOM}link")
        path = urlsplit(link.get("href") or "").path.rstrip("/") if link is not None else ""
        message_id = unquote(path.rpartition("/")[2])
        if "@" not in message_id:
            continue
        title = entry.findtext(f"{_ATOM}title") or ""
        found.append(Entry(message_id, " ".join(title.split()), _moment(entry.findtext(f"{_ATOM}updated"))))
    return found


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat((text or "").strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
