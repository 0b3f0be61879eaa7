"""Patchwork servers as a source: patchwork.kernel.org's REST API 1.3; the freedesktop fork's goes elsewhere.

The first sync lists the patches whose names hold the driver's words and fetches their series: cover letter,
sister patches, comments. Later syncs walk the project's events since the cursor (the server's own clock).
A patch is taken from ``headers``, ``content`` and ``diff``, not from ``/mbox/``, to which patchwork adds
trailers that the author did not write. Which fields there are: patchwork's docs/api/schemas, 1.3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from tracker.errors import SourceError
from tracker.mail.freedesktop import FreedesktopWalk
from tracker.mail.lore import ClientMaker
from tracker.mail.message import MAX_MAIL
from tracker.mail.polite import Answer, AnswerTooLargeError, PoliteClient, RefusedError
from tracker.mail.source import Cursor, RawMail
from tracker.settings import DriverProfile

PER_PAGE = 100
MAX_PAGES = 200  # of one listing
MAX_EVENT_PAGES = 60  # of one sync; the next one goes on behind them
OVERLAP = timedelta(minutes=10)  # events become visible when their transaction ends
RECENT_EVENTS = 1000
KNOWN_COVERS = 500
MAX_SERIES = 100  # patches of one series that are fetched

_JSON = ("application/json",)
# Link: <https://...&page=2>; rel="next"
_NEXT = re.compile(r'<([^<>]{1,2000})>\s*;\s*rel="?next"?')
_PROJECT = re.compile(r"^(.*)/projects?/([A-Za-z0-9][A-Za-z0-9._-]{0,99})(?:/.*)?$")
_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,60}")


class PatchworkReader:
    """One project of a patchwork server."""

    def __init__(
        self,
        location: str,
        profile: DriverProfile,
        *,
        contact: str | None = None,
        client: ClientMaker | None = None,
    ) -> None:
        """``location``: ``https://patchwork.kernel.org/project/dri-devel``. Raises SourceError."""
        parts = urlsplit(location)
        found = _PROJECT.match(parts.path)
        if found is None:
            raise SourceError(f"{location} names no project; write https://host/project/name")
        self._root = f"{parts.scheme}://{parts.netloc}{found[1]}/"
        self._api = f"{self._root}api/1.3/"
        self._project = found[2]
        self._profile = profile
        self._client = client or (lambda base: PoliteClient(base, contact=contact))
        self._http: PoliteClient | None = None
        self._end: Cursor = {}

    def read(self, cursor: Cursor) -> Iterator[RawMail]:
        """New mails: series by series, or in the order of the events."""
        self._end = cursor
        with self._client(self._root) as http:
            self._http = http
            try:
                if self._freedesktop(http, cursor):
                    walk = FreedesktopWalk(http, self._root, self._project, self._profile)
                    yield from walk.read(cursor)
                    self._end = walk.end
                elif cursor.get("events"):
                    yield from self._by_events(http, cursor)
                else:
                    yield from self._by_listing(http, cursor)
            finally:
                self._http = None

    def end_cursor(self, cursor: Cursor) -> Cursor:
        """The server's time up to which everything was read."""
        return self._end

    def fetch(self, location: str) -> bytes | None:
        """A mail by its path in the API."""
        if self._http is not None:
            return self._fetch(self._http, location)
        with self._client(self._root) as http:
            return self._fetch(http, location)

    def _fetch(self, http: PoliteClient, location: str) -> bytes | None:
        if "#" in location:
            return FreedesktopWalk(http, self._root, self._project, self._profile).fetch(location)
        try:
            found, _ = _json(http, http.own(location, self._api))
        except (RefusedError, AnswerTooLargeError):
            return None
        return mail_of(found)

    def _freedesktop(self, http: PoliteClient, cursor: Cursor) -> bool:
        """Which of the two shapes this server speaks; asked once."""
        if cursor:
            return cursor.get("shape") == "freedesktop"
        try:
            _json(http, self._api)
        except RefusedError as error:
            if error.status == 404:
                return True
            raise
        return False

    def _by_listing(self, http: PoliteClient, cursor: Cursor) -> Iterator[RawMail]:
        listing: Cursor = dict(cursor.get("listing", {}))
        ids, answered = self._series_ids(http)
        started = str(listing.get("started") or answered)
        done = int(listing.get("series", 0))
        covers: list[int] = list(cursor.get("covers", []))
        for series in sorted(ids):
            if series <= done:
                continue
            mails = self._series(http, series, covers)
            for raw, path in mails:
                # A series is small: a killed sync fetches it from its beginning.
                yield RawMail(
                    path, raw, len(raw), {"listing": {"started": started, "series": done}, "covers": covers}
                )
            done = series
        self._end = {"events": started, "recent": [], "covers": covers[-KNOWN_COVERS:]}

    def _series_ids(self, http: PoliteClient) -> tuple[set[int], str]:
        """(series with a patch or cover that names the driver, the server's time before it was asked)."""
        found: set[int] = set()
        started = ""
        for word in self._profile.subject_words:
            for kind in ("patches", "covers"):
                query = {"project": self._project, "q": word, "order": "id", "per_page": str(PER_PAGE)}
                for item, now in self._pages(http, f"{kind}/?{urlencode(query)}", MAX_PAGES):
                    started = started or now
                    if self._profile.named_in(_text(item, "name")):
                        found |= {_id(series) for series in _list(item, "series")}
                started = started or _stamp(datetime.now(UTC))
        return found - {0}, started

    def _by_events(self, http: PoliteClient, cursor: Cursor) -> Iterator[RawMail]:
        since = datetime.fromisoformat(str(cursor["events"])) - OVERLAP
        seen: list[int] = list(cursor.get("recent", []))
        covers: list[int] = list(cursor.get("covers", []))
        known = set(seen)
        reached = str(cursor["events"])
        fetched: set[int] = set()
        query = {
            "project": self._project, "since": _stamp(since), "order": "date", "per_page": str(PER_PAGE),
        }  # fmt: skip
        for event, _ in self._pages(http, f"events/?{urlencode(query)}", MAX_EVENT_PAGES, whole=False):
            number = _id(event)
            if number in known:
                continue
            for raw, path in self._event(http, event, covers, fetched):
                state = {"events": reached, "recent": seen[-RECENT_EVENTS:], "covers": covers}
                yield RawMail(path, raw, len(raw), state)
            known.add(number)
            seen.append(number)
            reached = max(reached, _stamp(_moment(_text(event, "date")) or since))
            self._end = {
                "events": reached, "recent": seen[-RECENT_EVENTS:], "covers": covers[-KNOWN_COVERS:],
            }  # fmt: skip

    def _event(
        self, http: PoliteClient, event: dict[str, Any], covers: list[int], fetched: set[int]
    ) -> Iterator[tuple[bytes, str]]:
        """The mails an event tells of, if they may be the driver's."""
        payload = _dict(event, "payload")
        category = _text(event, "category")
        cover, patch = _dict(payload, "cover"), _dict(payload, "patch")
        named = self._profile.named_in(_text(patch, "name")) or self._profile.named_in(_text(cover, "name"))
        if category in ("patch-comment-created", "cover-comment-created"):
            if named or _id(cover) in covers:
                kind, item = ("patches", patch) if patch else ("covers", cover)
                yield from self._comments(http, f"{kind}/{_id(item)}/")
        elif category in ("patch-completed", "series-completed"):
            # A patch's series is known once it is complete in order; the series may be named by its cover.
            series = _dict(payload, "series")
            named = named or self._profile.named_in(_text(series, "name"))
            if named and _id(series) and _id(series) not in fetched:
                fetched.add(_id(series))
                yield from self._series(http, _id(series), covers)
        elif named and category in ("patch-created", "cover-created"):
            yield from self._item(http, f"{'patches' if patch else 'covers'}/{_id(patch or cover)}/")

    def _series(self, http: PoliteClient, number: int, covers: list[int]) -> Iterator[tuple[bytes, str]]:
        """Cover letter, patches and comments; of a very large series only what names the driver."""
        try:
            series, _ = _json(http, f"{self._api}series/{number}/")
        except RefusedError as error:
            if error.status == 404:
                return  # deleted meanwhile
            raise
        cover = _dict(series, "cover_letter")
        if cover:
            if _id(cover) not in covers:
                covers.append(_id(cover))
            yield from self._item(http, f"covers/{_id(cover)}/")
        patches = _list(series, "patches")
        if len(patches) > self._profile.companions_up_to:
            patches = [one for one in patches if self._profile.named_in(_text(one, "name"))]
        for patch in patches[:MAX_SERIES]:
            yield from self._item(http, f"patches/{_id(patch)}/")

    def _item(self, http: PoliteClient, path: str) -> Iterator[tuple[bytes, str]]:
        """A patch or cover letter, and its comments."""
        raw = self._fetch(http, path)
        if raw is not None:
            yield raw, path
            yield from self._comments(http, path)

    def _comments(self, http: PoliteClient, path: str) -> Iterator[tuple[bytes, str]]:
        try:
            for comment, _ in self._pages(http, f"{path}comments/", MAX_PAGES):
                raw = mail_of(comment)
                if raw is not None:
                    yield raw, f"{path}comments/{_id(comment)}/"
        except RefusedError as error:
            if error.status != 404:
                raise

    def _pages(
        self, http: PoliteClient, path: str, limit: int, *, whole: bool = True
    ) -> Iterator[tuple[dict[str, Any], str]]:
        """(item, the server's time) of a paged listing; a ``whole`` one must end within ``limit`` pages."""
        url: str | None = http.own(path, self._api)
        for _ in range(limit):
            if url is None:
                return
            found, answer = _json(http, url)
            now = _stamp(datetime.fromtimestamp(answer.as_of, UTC)) if answer.as_of else ""
            for item in found if isinstance(found, list) else []:
                if isinstance(item, dict):
                    yield item, now
            link = _NEXT.search(answer.headers.get("link", ""))
            url = http.own(link[1], url) if link is not None else None
        if url is not None and whole:
            raise SourceError(f"{self._api}{path.partition('?')[0]} has more than {limit} pages")


def _json(http: PoliteClient, url: str) -> tuple[Any, Answer]:
    """A JSON answer. Raises SourceError when it is none."""
    answer, raw = http.get(url, _JSON, limit=MAX_MAIL * 2)
    try:
        return json.loads(raw), answer
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{url} gave damaged JSON: {error}") from error


def mail_of(item: Any) -> bytes | None:
    """A patch, cover letter or comment of the API as the mail it was; None without headers."""
    if not isinstance(item, dict):
        return None
    headers = _dict(item, "headers")
    lines: list[str] = []
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in ("content-type", "content-transfer-encoding"):
            continue  # the text below is decoded
        for one in (value if isinstance(value, list) else [value])[:200]:
            lines.append(f"{name}: {' '.join(str(one).split())}")
    if not lines:
        return None
    lines += ["Content-Type: text/plain; charset=utf-8", "", _text(item, "content").replace("\r\n", "\n")]
    diff = _text(item, "diff").replace("\r\n", "\n")
    text = "\n".join(lines).rstrip("\n") + "\n" + (f"\n{diff}" if diff else "")
    return text.encode("utf-8", "replace")


def _dict(item: dict[str, Any], key: str) -> dict[str, Any]:
    found = item.get(key)
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


def _list(item: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = item.get(key)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _text(item: dict[str, Any], key: str) -> str:
    found = item.get(key)
    return found if isinstance(found, str) else ""


def _id(item: dict[str, Any]) -> int:
    found = item.get("id")
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0


def _moment(text: str) -> datetime | None:
    """Patchwork's dates have no zone and are UTC."""
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _stamp(moment: datetime) -> str:
    """As the API takes it, with the zone left out; ours are always UTC."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
