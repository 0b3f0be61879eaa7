"""HTTP as a polite guest: one connection, a name, a pause, bounded answers, and back-off when told to.

The rules are those of the public archives (facts: lore answers named programs and challenges browsers).
A 4xx is the server's last word; 429, 5xx (but 501) and broken connections are tried again, after the
``Retry-After`` the server gave or a growing pause. A page where data was expected is a challenge or an
error page, whatever its status says. Redirects stay on the host that the settings name. What an answer
means is decided elsewhere.
"""

from __future__ import annotations

import importlib.metadata
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from types import TracebackType
from typing import IO
from urllib.parse import urljoin, urlsplit

import httpx

from tracker.errors import SourceError

CONNECT_SECONDS = 15.0
SILENCE_SECONDS = 90.0  # between two pieces of an answer; a search takes its time before the first
ANSWER_SECONDS = 900.0  # one whole answer
PAUSE_SECONDS = 0.25  # between two requests
ATTEMPTS = 4
FIRST_WAIT_SECONDS = 2.0  # doubles with each attempt
LONGEST_WAIT_SECONDS = 120.0  # a server that asks for more is left alone until the next sync
MAX_REDIRECTS = 3
SMALL_ANSWER = 32 * 1024 * 1024  # bytes, for answers that are read into memory

_FOLLOWED = (301, 302, 303, 307, 308)
_SAME_METHOD = (307, 308)
_FINAL_5XX = (501, 505)  # "not here": asking again gives the same


class AnswerTooLargeError(SourceError):
    """The answer exceeds its bound; a smaller question may do."""


class ChallengeError(SourceError):
    """A page for people came where data was asked for: a bot challenge, a login or an error page."""


class ForeignHostError(SourceError):
    """The server points to another host than the settings name."""


class OutageError(SourceError):
    """The server could not be reached, or did not answer in good order, after several attempts."""


class RefusedError(SourceError):
    """A final refusal. ``status``: HTTP's; ``said``: the beginning of the page, without markup."""

    def __init__(self, message: str, status: int, said: str = "") -> None:
        """Keep the status and the page's first words: "not found" may be an answer."""
        super().__init__(message)
        self.status = status
        self.said = said


@dataclass(frozen=True)
class Answer:
    """What came back. ``kind`` is the content type without parameters; ``size`` the body's bytes."""

    status: int
    kind: str
    headers: Mapping[str, str]
    size: int

    @property
    def as_of(self) -> float | None:
        """The instant (epoch seconds) up to which the answer is complete, as far as the server says.

        A partial mirror states when it last caught up (``X-Archive-Coverage: partial; updated=``,
        public-inbox, read by liblore 0.10); else it is the server's own ``Date``.
        """
        token, _, rest = self.headers.get("x-archive-coverage", "").partition(";")
        if token.strip().lower() == "partial":
            for entry in rest.split(";"):
                name, _, value = entry.partition("=")
                if name.strip().lower() == "updated" and value.strip().isascii() and value.strip().isdigit():
                    return float(value)
        date = _http_date(self.headers.get("date", ""))
        return date.timestamp() if date is not None else None


class PoliteClient:
    """Requests to one server. Use as a context manager; not for several threads."""

    def __init__(
        self,
        base: str,
        *,
        contact: str | None = None,
        pause: float = PAUSE_SECONDS,
        first_wait: float = FIRST_WAIT_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``base``: the URL whose host may be asked. ``contact``: told to the server in the User-Agent."""
        self.base = base
        self._pause = pause
        self._first_wait = first_wait
        self._sleep = sleep
        self._last = 0.0
        self._client = httpx.Client(
            headers={
                "User-Agent": user_agent(contact),
                # The bytes as they lie there: an archive that is a .gz must not be unpacked on the way.
                "Accept-Encoding": "identity",
            },
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            follow_redirects=False,
        )

    def __enter__(self) -> PoliteClient:
        """Nothing is connected yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up."""
        self._client.close()

    def get(
        self,
        url: str,
        accept: tuple[str, ...],
        *,
        method: str = "GET",
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int = SMALL_ANSWER,
    ) -> tuple[Answer, bytes]:
        """Like `download`, into memory."""
        body = BytesIO()
        answer = self.download(url, body, accept, method=method, data=data, headers=headers, limit=limit)
        return answer, body.getvalue()

    def download(
        self,
        url: str,
        into: IO[bytes],
        accept: tuple[str, ...],
        *,
        method: str = "GET",
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int,
    ) -> Answer:
        """Write the body of a 200 into ``into`` (empty, seekable); a 304 writes nothing.

        ``accept``: content types that are wanted. ``limit``: bytes. Raises RefusedError (4xx, 501; its
        text holds the beginning of what the server said), ChallengeError, AnswerTooLargeError,
        ForeignHostError, OutageError.
        """
        url = self.own(url)
        trouble = "no attempt was made"
        for attempt in range(ATTEMPTS):
            wait = self._first_wait * 2**attempt
            try:
                answer, problem, asked = self._once(url, into, accept, method, data, headers, limit)
            except httpx.TransportError as error:
                problem, asked, answer = f"{error}" or type(error).__name__, None, None
                if isinstance(error, httpx.ConnectError) and attempt:
                    raise OutageError(
                        f"cannot connect to {_host(url)}: {problem}; is it reachable?"
                    ) from error
            if answer is not None:
                return answer
            trouble = problem
            if asked is not None:
                if asked > LONGEST_WAIT_SECONDS:
                    raise OutageError(
                        f"{_host(url)} asks to be left alone for {asked:.0f} s ({trouble}); sync again later"
                    )
                wait = asked
            if attempt + 1 < ATTEMPTS:
                # Jitter keeps two machines that failed together from coming back together.
                self._sleep(wait * random.uniform(1.0, 1.25))  # noqa: S311 - not a secret
        raise OutageError(
            f"{url}: {trouble}, {ATTEMPTS} times; what was read before is kept, sync again later"
        )

    def own(self, url: str, relative_to: str | None = None) -> str:
        """An absolute URL on the base's host. Raises ForeignHostError."""
        joined = urljoin(relative_to or self.base, url)
        ours, theirs = urlsplit(self.base), urlsplit(joined)
        same_place = (ours.hostname, _port(ours.scheme, ours.port)) == (
            theirs.hostname,
            _port(theirs.scheme, theirs.port),
        )
        upgraded = (
            ours.hostname == theirs.hostname
            and (ours.scheme, theirs.scheme) == ("http", "https")
            and (ours.port, theirs.port) == (None, None)
        )
        if theirs.scheme not in ("http", "https") or not (
            upgraded or (same_place and ours.scheme == theirs.scheme)
        ):
            raise ForeignHostError(
                f"{_host(self.base)} points to {joined[:200]}, which is another place; name that place in"
                " the settings if it is right"
            )
        return joined

    def _once(
        self,
        url: str,
        into: IO[bytes],
        accept: tuple[str, ...],
        method: str,
        data: bytes | None,
        headers: Mapping[str, str] | None,
        limit: int,
    ) -> tuple[Answer | None, str, float | None]:
        """One attempt with its redirects: (answer, "", None) or (None, problem, seconds to wait)."""
        for _ in range(MAX_REDIRECTS + 1):
            self._breathe()
            into.seek(0)
            into.truncate()
            with self._client.stream(method, url, content=data, headers=headers) as response:
                status = response.status_code
                if status in _FOLLOWED:
                    if method != "GET" and status not in _SAME_METHOD:
                        raise RefusedError(f"{url} does not take a {method}: it redirects ({status})", status)
                    url = self.own(response.headers.get("location", ""), url)
                    continue
                if status == 304:
                    return _answer(response, 0), "", None
                if status == 429 or (status >= 500 and status not in _FINAL_5XX):
                    return None, f"HTTP {status}", _retry_after(response.headers.get("retry-after"))
                if status != 200:
                    said = _beginning(response)
                    raise RefusedError(
                        f"{url} was refused: HTTP {status} {said[:120]}".rstrip(), status, said
                    )
                kind = _kind(response)
                if kind not in accept:
                    raise ChallengeError(
                        f"{url} gave {kind or 'something without a type'} instead of {accept[0]}:"
                        f" a challenge or an error page ({_beginning(response)[:120]});"
                        " nothing more is asked of this server now"
                    )
                return _answer(response, _copy(response, into, limit, url)), "", None
        raise RefusedError(f"{url}: more than {MAX_REDIRECTS} redirects", 310)

    def _breathe(self) -> None:
        rest = self._last + self._pause - time.monotonic()
        if rest > 0:
            self._sleep(rest)
        self._last = time.monotonic()


def user_agent(contact: str | None = None) -> str:
    """The name we go by: program, version and, if set, whom to write to."""
    version = importlib.metadata.version("xdnawatch")
    return f"xdnawatch/{version} (follows one driver; one connection{f'; {contact}' if contact else ''})"


def _copy(response: httpx.Response, into: IO[bytes], limit: int, url: str) -> int:
    deadline = time.monotonic() + ANSWER_SECONDS
    size = 0
    for piece in response.iter_raw():
        size += len(piece)
        if size > limit:
            raise AnswerTooLargeError(f"{url}: the answer is larger than {limit} bytes")
        if time.monotonic() > deadline:
            raise AnswerTooLargeError(f"{url}: the answer takes longer than {ANSWER_SECONDS:.0f} s")
        into.write(piece)
    return size


def _answer(response: httpx.Response, size: int) -> Answer:
    headers = {key.lower(): value for key, value in response.headers.items()}
    return Answer(response.status_code, _kind(response), headers, size)


def _kind(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).split(";", 1)[0].strip().lower()


def _beginning(response: httpx.Response) -> str:
    """The first words of a page, without its markup, for the message."""
    text = b""
    with suppress(httpx.HTTPError):
        for piece in response.iter_raw():
            text += piece
            if len(text) > 2048:
                break
    words, inside = [], False
    for letter in text[:2048].decode("utf-8", "replace"):
        if letter in "<>":
            inside = letter == "<"
            words.append(" ")
        elif not inside:
            words.append(letter if letter.isprintable() else " ")
    return " ".join("".join(words).split())


def _retry_after(value: str | None) -> float | None:
    """Seconds, from either form of Retry-After (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value.strip()[:9])
    date = _http_date(value)
    return None if date is None else max(0.0, (date - datetime.now(UTC)).total_seconds())


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _port(scheme: str, port: int | None) -> int | None:
    return port or {"http": 80, "https": 443}.get(scheme)
