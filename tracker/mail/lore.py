"""A public-inbox server over HTTP (lore.kernel.org and its like): searched, not mirrored.

The first sync asks for all threads in which the query finds something, as one mbox.gz (POST ``?x=m``);
an answer that is too large or cut off is asked for again in halves of its time span. Later syncs ask a
small Atom feed whether there is anything new and fetch the threads only then. The cursor is the time the
archive *received* mail (``rt:``), never a Date header, overlapped because mail arrives at mirrors late
(liblore 0.10 draws that race); what comes twice is known by its Message-ID.

A server without a search index (501) is followed by its ``new.atom`` feed: threads whose title names the
driver. A location that ends in a Message-ID is that one thread.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC
from io import BytesIO
from urllib.parse import quote, quote_plus, urlsplit

from tracker.errors import SourceError
from tracker.mail.atom import Entry, NotAtomError, parse_feed
from tracker.mail.mbox import NotMboxError, split_mbox
from tracker.mail.message import MAX_MAIL
from tracker.mail.polite import (
    SMALL_ANSWER,
    Answer,
    AnswerTooLargeError,
    PoliteClient,
    RefusedError,
)
from tracker.mail.source import Cursor, RawMail
from tracker.mail.spool import DamagedAnswerError, Spool, SpoolFullError
from tracker.settings import DriverProfile

EARLIEST = 1_000_000_000  # 2001-09-09; public-inbox 1.9 compares rt: as ten digits, so none below
OVERLAP_SECONDS = 6 * 3600
SMALLEST_SPAN = 3600  # seconds; an hour of mail that is still too much is an error
MAX_PACKED = 256 * 1024 * 1024  # bytes of one mbox.gz
ATOM_PAGE = 200  # entries of a search feed; a full page may hide more
RECENT = 400  # message ids that are remembered to recognise "nothing new"
FEED_PAGES = 40  # new.atom without a search index goes back this many pages (25 mails each)
MAX_THREADS = 500  # threads fetched one by one in one sync

_GZIP = ("application/gzip", "application/x-gzip")
_MAIL = ("text/plain", "message/rfc822", "application/mbox")
_ATOM = ("application/atom+xml", "application/xml", "text/xml")
_NOTHING = "No results found"  # public-inbox's words in the 404 of a search (Mbox.pm, 1.9)

ClientMaker = Callable[[str], PoliteClient]


@dataclass(frozen=True)
class Span:
    """Received from ``start`` (inclusive) to ``until`` (epoch seconds)."""

    start: int
    until: int

    def halves(self) -> tuple[Span, Span]:
        """The older and the newer half. Raises SourceError when the span cannot be halved."""
        if self.until - self.start < SMALLEST_SPAN:
            raise SourceError(
                f"{self.until - self.start} s of mail are too much for one answer; make the query narrower"
            )
        middle = (self.start + self.until) // 2
        return Span(self.start, middle), Span(middle, self.until)


def default_query(profile: DriverProfile) -> str:
    """What finds a driver's mail (public-inbox Search.pm): files in diffs, words in subjects and text."""
    terms = []
    for path in profile.paths:
        name = path.rpartition("/")[2]
        terms.append(f"dfn:{name}" if "." in name else f"dfn:{path}*")
    for word in profile.subject_words:
        terms += [f"s:{word}", f"nq:{word}"]
    return " OR ".join(dict.fromkeys(terms))


class LoreReader:
    """One list of a public-inbox server, or one thread of it."""

    def __init__(
        self,
        location: str,
        profile: DriverProfile,
        *,
        query: str | None = None,
        contact: str | None = None,
        client: ClientMaker | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``location``: ``https://lore.kernel.org/dri-devel`` or ``.../dri-devel/<Message-ID>``."""
        parts = [part for part in urlsplit(location).path.split("/") if part]
        self._thread = bool(parts) and ("@" in parts[-1] or "%40" in parts[-1].lower())
        self._base = location.rstrip("/") + "/"
        self._inbox = self._base[: -len(parts[-1]) - 1] if self._thread else self._base
        self._query = query or default_query(profile)
        self._profile = profile
        self._contact = contact
        self._client = client or (lambda base: PoliteClient(base, contact=contact))
        self._clock = clock
        self._http: PoliteClient | None = None
        self._spool: Spool | None = None
        self._end: Cursor = {}

    def read(self, cursor: Cursor) -> Iterator[RawMail]:
        """New mails, each span's oldest first."""
        if cursor.get("query") != self._query:
            cursor = {"query": self._query}
        self._end = cursor
        with self._client(self._base) as http:
            self._http = http
            try:
                if self._thread:
                    yield from self._one_thread(http, cursor)
                elif cursor.get("feed"):
                    yield from self._by_feed(http, cursor)
                else:
                    yield from self._by_search(http, cursor)
            finally:
                self._http = None
                self._spool = None

    def end_cursor(self, cursor: Cursor) -> Cursor:
        """How far the server's answers reach."""
        return self._end

    def fetch(self, location: str) -> bytes | None:
        """A mail by its Message-ID: from the answer at hand, else ``/<id>/raw``."""
        if self._spool is not None and (found := self._spool.find(location)) is not None:
            return found
        if self._http is not None:
            return self._raw(self._http, location)
        with self._client(self._base) as http:
            return self._raw(http, location)

    def _raw(self, http: PoliteClient, message_id: str) -> bytes | None:
        try:
            _, raw = http.get(f"{self._inbox}{_in_path(message_id)}/raw", _MAIL, limit=MAX_MAIL)
        except (RefusedError, AnswerTooLargeError):
            return None
        try:  # "/raw" gives mboxrd with its envelope line
            return next((piece.raw for piece in split_mbox(BytesIO(raw))), None)
        except NotMboxError:
            return raw

    def _by_search(self, http: PoliteClient, cursor: Cursor) -> Iterator[RawMail]:
        now = int(self._clock())
        reached = int(cursor.get("reached", 0))
        inside = cursor.get("inside")
        recent, reach = self._latest(http, (reached or now) - OVERLAP_SECONDS, now)
        seen = set(cursor.get("recent", ()))
        if reached and inside is None and recent is not None and set(recent) <= seen:
            self._end = {"query": self._query, "reached": max(reached, reach), "recent": recent}
            return
        if inside is not None:
            first = Span(int(inside["start"]), int(inside["until"]))
            after = (int(inside["when"]), str(inside["message_id"]))
            spans = [Span(first.until - OVERLAP_SECONDS, now)] if first.until < now else []
            spans.append(first)
        else:
            first, after = Span(max(EARLIEST, reached - OVERLAP_SECONDS), now), None
            spans = [first]
        done = reached
        while spans:
            span = spans.pop()
            with Spool() as spool:
                try:
                    answer = self._search(http, span, spool, last=not spans)
                except (AnswerTooLargeError, DamagedAnswerError, SpoolFullError):
                    older, newer = span.halves()
                    spans += [newer, older]
                    continue
                except RefusedError as error:
                    if error.status != 501:
                        raise
                    yield from self._by_feed(http, {"query": self._query, "feed": True})
                    return
                self._spool = spool
                for entry in spool.in_order(after):
                    mark = {"when": entry.when, "message_id": entry.message_id}
                    yield RawMail(
                        entry.message_id,
                        spool.read(entry),
                        entry.size,
                        {
                            "query": self._query,
                            "reached": done,
                            "recent": sorted(seen),
                            "inside": {"start": span.start, "until": span.until, **mark},
                        },
                    )
                self._spool = None
            after = None
            done = min(span.until, int(answer.as_of or span.until)) if answer is not None else span.until
        self._end = {"query": self._query, "reached": min(done, reach), "recent": recent or []}

    def _latest(self, http: PoliteClient, since: int, now: int) -> tuple[list[str] | None, int]:
        """(ids of mails that match and were received since then, None if unsure; how far that reaches)."""
        question = quote_plus(self._with_time(f"rt:{max(EARLIEST, since)}.."))
        try:
            answer, raw = http.get(f"{self._base}?q={question}&x=A", _ATOM)
            entries = parse_feed(raw)
        except RefusedError as error:
            # A search without a result is a 404 with a page about it; the POST that follows tells for sure.
            nothing = error.status == 404 and "search results" in error.said
            return ([] if nothing else None), now
        except (NotAtomError, AnswerTooLargeError):
            return None, now
        reach = min(now, int(answer.as_of or now))
        return (sorted({entry.message_id for entry in entries}) if len(entries) < ATOM_PAGE else None), reach

    def _search(self, http: PoliteClient, span: Span, spool: Spool, *, last: bool) -> Answer | None:
        """Fill the spool with the threads of a span; None when there are none.

        The last span has no end, so that a clock of ours that is behind loses nothing.
        """
        until = "" if last else str(span.until)
        question = quote_plus(self._with_time(f"rt:{span.start}..{until}"))
        with tempfile.TemporaryFile(prefix="xdnawatch-") as packed:
            try:
                answer = http.download(
                    f"{self._base}?x=m&t=1&q={question}",
                    packed,
                    _GZIP,
                    method="POST",
                    data=b"x=m",
                    headers={"Content-Type": "application/x-www-form-urlencoded"},
                    limit=MAX_PACKED,
                )
            except RefusedError as error:
                if error.status == 404 and _NOTHING in error.said:
                    return None
                raise
            spool.add_mbox(packed)
        return answer

    def _with_time(self, time_range: str) -> str:
        return f"({self._query}) AND {time_range}"

    def _one_thread(self, http: PoliteClient, cursor: Cursor) -> Iterator[RawMail]:
        with Spool() as spool:
            mark = self._add_thread(http, self._base, spool)
            if mark is None:
                raise SourceError(f"{self._base} is no thread of this server; check the Message-ID")
            self._spool = spool
            if cursor.get("thread") != mark:
                # A thread is small: a killed sync reads it from its beginning.
                for entry in spool.in_order():
                    yield RawMail(entry.message_id, spool.read(entry), entry.size, cursor)
            self._end = {"query": self._query, "thread": mark}

    def _add_thread(self, http: PoliteClient, url: str, spool: Spool) -> str | None:
        """Put a thread's mails into the spool; the digest of its ids, None when there is no such thread."""
        with tempfile.TemporaryFile(prefix="xdnawatch-") as packed:
            try:
                http.download(f"{url}t.mbox.gz", packed, _GZIP, limit=MAX_PACKED)
            except RefusedError as error:
                if error.status == 404:
                    return None
                raise
            spool.add_mbox(packed)
        ids = "\n".join(entry.message_id for entry in spool.in_order())
        return hashlib.sha256(ids.encode("utf-8", "replace")).hexdigest()

    def _by_feed(self, http: PoliteClient, cursor: Cursor) -> Iterator[RawMail]:
        """Follow a server that cannot search: its newest titles, page by page back to the last sync."""
        now = int(self._clock())
        reached = int(cursor.get("reached", 0))
        seen = set(cursor.get("recent", ()))
        fresh: list[Entry] = []
        kept: list[str] = []
        for entry in self._newest(http, reached - OVERLAP_SECONDS):
            kept.append(entry.message_id)
            if entry.message_id not in seen and self._profile.named_in(entry.title):
                fresh.append(entry)
        with Spool() as spool:
            for entry in fresh[:MAX_THREADS]:
                if spool.find(entry.message_id) is None:
                    self._add_thread(http, f"{self._base}{_in_path(entry.message_id)}/", spool)
            self._spool = spool
            for one in spool.in_order():
                yield RawMail(one.message_id, spool.read(one), one.size, cursor)
        self._end = {"query": self._query, "feed": True, "reached": now, "recent": kept[:RECENT]}

    def _newest(self, http: PoliteClient, since: int) -> Iterator[Entry]:
        page = ""
        known: set[str] = set()
        for _ in range(FEED_PAGES):
            try:
                _, raw = http.get(f"{self._base}new.atom{page}", _ATOM, limit=SMALL_ANSWER)
            except RefusedError as error:
                if error.status == 404 and known:
                    return
                raise
            entries = [entry for entry in parse_feed(raw) if entry.message_id not in known]
            dates = [entry.updated for entry in entries if entry.updated is not None]
            yield from entries
            known |= {entry.message_id for entry in entries}
            if not dates or min(dates).timestamp() < since:
                return
            page = f"?t={min(dates).astimezone(UTC):%Y%m%d%H%M%S}"


def _in_path(message_id: str) -> str:
    """A Message-ID inside a URL (public-inbox: "/" must be quoted, "@" need not be)."""
    return quote(message_id, safe="@.~!$&'()*,;=:-_")
