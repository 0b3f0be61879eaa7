"""Pipermail archives (Mailman 2): monthly ``2026-January.txt.gz`` where offered, else the HTML pages.

The archive's front page lists the months. A month's file is asked for with its ETag and date, so that an
unchanged one costs a 304; only the newest two months are asked for again once a month was read. Where a
list has no text files, the pages of its thread index are read with BeautifulSoup; the index's nesting tells
which mail answers which. Pipermail writes "user at host": addresses are put together again.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import parse_qs, unquote, urljoin, urlsplit

from bs4 import BeautifulSoup, Tag

from tracker.errors import SourceError
from tracker.mail.lore import ClientMaker
from tracker.mail.message import MAX_MAIL
from tracker.mail.polite import Answer, AnswerTooLargeError, PoliteClient, RefusedError
from tracker.mail.source import Cursor, RawMail
from tracker.mail.spool import Spool

MAX_MONTH = 256 * 1024 * 1024  # bytes of one packed month
MAX_PAGE = 8 * 1024 * 1024  # bytes of one HTML page
MAX_MONTHS = 600
MAX_ARTICLES = 50_000  # pages a month
REREAD_MONTHS = 2  # a mail sent on the last evening arrives in the next month

_TEXT = ("application/gzip", "application/x-gzip", "text/plain", "application/octet-stream")
_HTML = ("text/html", "application/xhtml+xml")
_MONTH_NAMES = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
# "2026-January.txt.gz", "2026-January/thread.html"
_MONTH_LINK = re.compile(rf"^(\d{{4}})-({'|'.join(_MONTH_NAMES)})(\.txt(?:\.gz)?|/(?:thread|date)\.html)$")
# "000123.html" in a month's index
_ARTICLE_LINK = re.compile(r"^(\d{4,9})\.html$")
# "From: ada at example.org (Ada Author)" of the text files
_SPELLED_FROM = re.compile(
    rb"^From: ([^\s()<>@]{1,200}) at ([^\s()<>@]{1,200}) \((.{0,300})\)[ \t]*$", re.MULTILINE
)
# The address in a trailer of the text files: <ada at example.org>
_SPELLED_IN_BRACKETS = re.compile(rb"<([\w.+=-]{1,200}) at ([\w.-]{1,200}\.[\w-]{2,30})>")


@dataclass(frozen=True)
class Month:
    """A month of the front page, with what it offers. ``name``: "2026-01"."""

    name: str
    text: str | None  # URL of the .txt or .txt.gz
    index: str | None  # URL of thread.html


class NoPipermailError(SourceError):
    """The page is no front page of a pipermail archive."""


class PipermailReader:
    """The archive of one list."""

    def __init__(
        self, location: str, *, contact: str | None = None, client: ClientMaker | None = None
    ) -> None:
        """``location``: ``https://lists.freedesktop.org/archives/dri-devel``."""
        self._base = location.rstrip("/") + "/"
        self._client = client or (lambda base: PoliteClient(base, contact=contact))
        self._http: PoliteClient | None = None
        self._spool: Spool | None = None
        self._spooled = ""
        self._other: tuple[str, Spool] | None = None
        self._texts: dict[str, str] = {}
        self._end: Cursor = {}

    def read(self, cursor: Cursor) -> Iterator[RawMail]:
        """Month after month; inside a text month by date, inside an HTML month by number."""
        self._end = cursor
        with self._client(self._base) as http:
            self._http = http
            try:
                months = self._months(http)
                self._texts = {month.name: month.text for month in months if month.text is not None}
                done: dict[str, Cursor] = dict(cursor.get("months", {}))
                inside: Cursor | None = cursor.get("inside")
                again = {month.name for month in months[-REREAD_MONTHS:]}
                for month in months:
                    known = done.get(month.name)
                    if known is not None and month.name not in again:
                        continue
                    here = inside if inside is not None and inside.get("month") == month.name else None
                    walk = self._text_month if month.text is not None else self._html_month
                    mark: Cursor = {}
                    yield from walk(http, month, known or {}, here, done, mark)
                    done = {**done, month.name: mark}
                    self._end = {"months": done}
            finally:
                if self._other is not None:
                    self._other[1].close()
                self._http = self._spool = self._other = None

    def end_cursor(self, cursor: Cursor) -> Cursor:
        """What every month's file was like when it was read."""
        return self._end

    def fetch(self, location: str) -> bytes | None:
        """A mail again: ``2026-01/<Message-ID>`` of a text month, or an HTML page's path."""
        if location.endswith(".html"):
            if self._http is not None:
                return self._page(self._http, self._http.own(urljoin(self._base, location)), None)
            with self._client(self._base) as http:
                return self._page(http, http.own(urljoin(self._base, location)), None)
        name, _, message_id = location.partition("/")
        if self._spool is None or name != self._spooled:
            return self._from_other_month(name, message_id)
        found = self._spool.find(message_id)
        return respell(found) if found is not None else None

    def _from_other_month(self, name: str, message_id: str) -> bytes | None:
        """A mail of a month that was read before: its file is asked for once more."""
        if self._http is None or name not in self._texts:
            return None
        if self._other is None or self._other[0] != name:
            if self._other is not None:
                self._other[1].close()
            with tempfile.TemporaryFile(prefix="xdnawatch-") as packed:
                self._http.download(self._texts[name], packed, _TEXT, limit=MAX_MONTH)
                spool = Spool()
                self._other = (name, spool)
                spool.add_mbox(packed)
        found = self._other[1].find(message_id)
        return respell(found) if found is not None else None

    def _months(self, http: PoliteClient) -> list[Month]:
        _, page = http.get(self._base, _HTML, limit=MAX_PAGE)
        months = find_months(page, self._base)
        if not months:
            raise NoPipermailError(
                f"{self._base} lists no months, so it is no pipermail archive; give the page that does"
            )
        return [
            Month(
                month.name,
                http.own(month.text) if month.text else None,
                http.own(month.index) if month.index else None,
            )
            for month in months
        ]

    def _text_month(
        self,
        http: PoliteClient,
        month: Month,
        known: Cursor,
        inside: Cursor | None,
        done: dict[str, Cursor],
        mark: Cursor,
    ) -> Iterator[RawMail]:
        assert month.text is not None
        asked = {
            header: str(known[key])
            for header, key in (("If-None-Match", "etag"), ("If-Modified-Since", "modified"))
            if known.get(key)
        }
        with tempfile.TemporaryFile(prefix="xdnawatch-") as packed, Spool() as spool:
            answer = http.download(month.text, packed, _TEXT, headers=asked, limit=MAX_MONTH)
            if answer.status == 304:
                mark.update(known)
                return
            mark.update(_validators(answer))
            spool.add_mbox(packed)
            self._spool, self._spooled = spool, month.name
            same = inside is not None and inside.get("file") == mark
            after = (int(inside["when"]), str(inside["message_id"])) if inside is not None and same else None
            for entry in spool.in_order(after):
                position = {
                    "month": month.name,
                    "file": dict(mark),
                    "when": entry.when,
                    "message_id": entry.message_id,
                }
                raw = respell(spool.read(entry))
                location = f"{month.name}/{entry.message_id}"
                yield RawMail(location, raw, entry.size, {"months": done, "inside": position})
            self._spool = None

    def _html_month(
        self,
        http: PoliteClient,
        month: Month,
        known: Cursor,
        inside: Cursor | None,
        done: dict[str, Cursor],
        mark: Cursor,
    ) -> Iterator[RawMail]:
        assert month.index is not None
        _, page = http.get(month.index, _HTML, limit=MAX_PAGE)
        parents = find_articles(page)
        last = int((inside or known).get("article", -1))
        mark["article"] = max([last, *parents])
        ids: dict[int, str] = {}
        for number in sorted(parents):
            if number <= last:
                continue
            url = urljoin(month.index, f"{number:06}.html")
            parent = parents[number]
            if parent is not None and parent not in ids and parent in parents:
                earlier = self._page(http, urljoin(month.index, f"{parent:06}.html"), None)
                ids[parent] = _id_of(earlier or b"")
            raw = self._page(http, url, ids.get(parent) if parent is not None else None)
            if raw is None:
                continue
            ids[number] = _id_of(raw)
            position = {"month": month.name, "article": number}
            yield RawMail(url.removeprefix(self._base), raw, len(raw), {"months": done, "inside": position})

    def _page(self, http: PoliteClient, url: str, answers: str | None) -> bytes | None:
        try:
            _, page = http.get(url, _HTML, limit=MAX_MAIL)
        except AnswerTooLargeError:
            return None
        except RefusedError as error:
            if error.status in (404, 410):
                return None  # taken out of the archive
            raise
        return mail_of_page(page, answers)


def find_months(page: bytes, base: str) -> list[Month]:
    """The months of a front page, oldest first."""
    found: dict[str, dict[str, str]] = {}
    for link in _links(BeautifulSoup(page, "lxml")):
        match = _MONTH_LINK.match(link)
        if match is not None:
            name = f"{match[1]}-{_MONTH_NAMES.index(match[2]) + 1:02}"
            kind = "text" if match[3].startswith(".txt") else "index"
            if kind == "text" or match[3] == "/thread.html" or "index" not in found.get(name, {}):
                found.setdefault(name, {})[kind] = urljoin(base, link)
    return [
        Month(name, found[name].get("text"), found[name].get("index")) for name in sorted(found)[-MAX_MONTHS:]
    ]


def find_articles(page: bytes) -> dict[int, int | None]:
    """Article number -> number of the article it is nested under (None: a thread's beginning)."""
    soup = BeautifulSoup(page, "lxml")
    found: dict[int, int | None] = {}
    for anchor in soup.find_all("a", href=_ARTICLE_LINK):
        number = _number(anchor)
        if number is None or number in found:
            continue
        found[number] = _parent(anchor, found)
        if len(found) >= MAX_ARTICLES:
            break
    return found


def mail_of_page(page: bytes, answers: str | None) -> bytes | None:
    """An article's page as a mail: headings, address, date and text. None when it holds no article."""
    soup = BeautifulSoup(page, "lxml")
    heading, text = soup.find("h1"), soup.find("pre")
    if not isinstance(heading, Tag) or not isinstance(text, Tag):
        return None
    mailto = soup.find("a", href=re.compile("^mailto:", re.IGNORECASE))
    name_tag, date_tag = soup.find("b"), soup.find("i")
    name = _one_line(name_tag.get_text()) if isinstance(name_tag, Tag) else ""
    shown = _one_line(mailto.get_text()) if isinstance(mailto, Tag) else ""
    address = shown.replace(" at ", "@", 1) if " at " in shown else shown
    lines = [f"Subject: {_one_line(heading.get_text())}", f"From: {_quoted(name)} <{address}>"]
    date = _date(_one_line(date_tag.get_text())) if isinstance(date_tag, Tag) else None
    if date is not None:
        lines.append(f"Date: {date}")
    message_id = _message_id(str(mailto["href"])) if isinstance(mailto, Tag) else None
    if message_id is not None:
        lines.append(f"Message-ID: <{message_id}>")
    if answers:
        lines.append(f"In-Reply-To: <{answers}>")
    lines += ["Content-Type: text/plain; charset=utf-8", ""]
    return respell(("\n".join(lines) + "\n" + text.get_text().lstrip("\n")).encode("utf-8", "replace"))


def respell(raw: bytes) -> bytes:
    """Addresses as people write them: "ada at example.org (Ada)" of From, "<ada at example.org>"."""
    head, gap, body = raw.partition(b"\n\n")
    head = _SPELLED_FROM.sub(rb"From: \3 <\1@\2>", head, count=1)
    return head + gap + _SPELLED_IN_BRACKETS.sub(rb"<\1@\2>", body)


def _links(soup: BeautifulSoup) -> Iterator[str]:
    for anchor in soup.find_all("a", href=True):
        yield unquote(str(anchor["href"])).removeprefix("./")


def _number(anchor: Tag) -> int | None:
    found = _ARTICLE_LINK.match(str(anchor.get("href", "")))
    return int(found[1]) if found else None


def _parent(anchor: Tag, known: dict[int, int | None]) -> int | None:
    """The nearest article before the list this one is in: pipermail nests <UL> behind the parent's <LI>."""
    outer = anchor.find_parent("ul")
    if outer is None:
        return None
    for before in outer.find_all_previous("a", href=_ARTICLE_LINK, limit=1):
        number = _number(before) if isinstance(before, Tag) else None
        # Threads of the top level follow one another in one list: what is before that list is no article.
        return number if number in known else None
    return None


def _message_id(mailto: str) -> str | None:
    """Pipermail's reply link names the mail itself as In-Reply-To."""
    values = parse_qs(urlsplit(mailto.replace("&amp;", "&")).query, max_num_fields=20).get("In-Reply-To", [])
    found = values[0].strip().strip("<>") if values else ""
    return found if "@" in found and len(found) < 998 and not re.search(r"[\s<>]", found) else None


def _date(text: str) -> str | None:
    """ "Mon Jan  5 17:29:56 UTC 2026" as a Date header."""
    words = text.split()
    if len(words) != 6:
        return None
    day, month, number, clock, zone, year = words
    try:
        return format_datetime(parsedate_to_datetime(f"{day}, {number} {month} {year} {clock} {zone}"))
    except (TypeError, ValueError):
        return None


def _id_of(raw: bytes) -> str:
    found = re.search(rb"^Message-ID: <([^<>\s]+)>$", raw.partition(b"\n\n")[0], re.MULTILINE)
    return found[1].decode("utf-8", "replace") if found else ""


def _validators(answer: Answer) -> Cursor:
    """What tells the server, and a killed sync, that the file is the same."""
    return {
        "etag": answer.headers.get("etag"),
        "modified": answer.headers.get("last-modified"),
        "size": answer.size,
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())[:2000]


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
