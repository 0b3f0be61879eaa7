"""A news server's group (RFC 3977): ``nntp://host/group`` or ``nntps://``. The cursor is the article number.

Python 3.13 has no nntplib, and little of the protocol is needed: GROUP, OVER, ARTICLE. A group that is
larger than ``WHOLE_GROUP`` when it is first seen is not read whole: of what was there already only the
threads whose subjects name the driver are fetched (by the overview); of what comes later, everything is.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import unquote, urlsplit

from tracker.errors import SourceError
from tracker.mail.headers import decode_words
from tracker.mail.mbox import KEEP_OF_OVERSIZED
from tracker.mail.message import MAX_MAIL
from tracker.mail.source import Cursor, RawMail
from tracker.settings import DriverProfile

CONNECT_SECONDS = 15.0
SILENCE_SECONDS = 90.0
ANSWER_SECONDS = 600.0  # one whole answer
STEP = 500  # articles an OVER
AHEAD = 8  # articles asked for at once: at most this many times MAX_MAIL in memory
AHEAD_BYTES = 1024 * 1024  # as the overview counts them
WHOLE_GROUP = 20_000  # articles
MAX_LINE = 64 * 1024  # bytes; the RFC's own limit is 512 for status lines, mails have longer ones
MAX_OVERVIEW = 32 * 1024 * 1024
MAX_THREAD_IDS = 100_000

_GONE = (423, 430)  # no article with that number
# "211 1234 3000234 3002322 misc.test"
_GROUP = re.compile(r"211 (\d{1,15}) (\d{1,15}) (\d{1,15})\b")
_GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,200}")
_IDS = re.compile(r"<([^<>\s]{1,998})>")


class NntpError(SourceError):
    """The news server refused, hung up or spoke another protocol."""


@dataclass(frozen=True)
class Group:
    """What GROUP answers: about how many articles, and the lowest and highest number."""

    count: int
    low: int
    high: int


@dataclass(frozen=True)
class Overview:
    """One line of OVER: number, Subject, Message-ID, References, size in bytes (0: not told)."""

    number: int
    subject: str
    message_id: str
    references: tuple[str, ...]
    size: int


class NntpConnection:
    """One connection. Raises NntpError with the server's words for whatever goes wrong."""

    def __init__(self, host: str, port: int, *, encrypted: bool) -> None:
        """Connect and read the greeting."""
        self._name = f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
            try:
                self._socket.settimeout(SILENCE_SECONDS)
                if encrypted:
                    context = ssl.create_default_context()
                    self._socket = context.wrap_socket(self._socket, server_hostname=host)
            except BaseException:
                self._socket.close()
                raise
        except OSError as error:
            raise NntpError(f"cannot reach the news server {self._name}: {error}") from error
        self._stream = self._socket.makefile("rb", buffering=256 * 1024)
        try:
            self._expect((200, 201))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> NntpConnection:
        """The open connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up; QUIT is a courtesy that a broken connection need not get."""
        try:
            self._socket.settimeout(1.0)
            self._socket.sendall(b"QUIT\r\n")
        except OSError:
            pass
        self._stream.close()
        self._socket.close()

    def group(self, name: str) -> Group:
        """Enter a group."""
        self._send(f"GROUP {name}")
        found = _GROUP.match(self._expect((211,)))
        if found is None:
            raise NntpError(f"{self._name}: the answer to GROUP cannot be read")
        return Group(*(int(number) for number in found.groups()))

    def overviews(self, first: int, last: int) -> list[Overview]:
        """Overview lines of a range; none when the range holds no article."""
        self._send(f"OVER {first}-{last}")
        code, text = self._status()
        if code == 500:  # a server from before RFC 3977
            self._send(f"XOVER {first}-{last}")
            code, text = self._status()
        if code in (*_GONE, 420):
            return []
        if code != 224:
            raise NntpError(f"{self._name}: OVER was refused: {text}")
        block, _ = self._block(MAX_OVERVIEW)
        return [line for raw in block.split(b"\n") if (line := _overview(raw)) is not None]

    def articles(self, numbers: list[int]) -> list[tuple[int, bytes | None, int]]:
        """(number, text with LF line ends or None when it is gone, size) of a few articles, in order.

        All are asked for before the first is read (RFC 3977, 3.5), and all are read before the answer.
        """
        self._send("\r\n".join(f"ARTICLE {number}" for number in numbers))
        found: list[tuple[int, bytes | None, int]] = []
        for number in numbers:
            code, text = self._status()
            if code == 220:
                found.append((number, *self._block(MAX_MAIL)))
            elif code in _GONE:
                found.append((number, None, 0))
            else:
                raise NntpError(f"{self._name}: article {number} was refused: {text}")
        return found

    def _send(self, command: str) -> None:
        try:
            self._socket.sendall(command.encode("ascii") + b"\r\n")
        except OSError as error:
            raise NntpError(f"{self._name} hung up: {error}; sync again later") from error

    def _line(self) -> bytes:
        try:
            line = self._stream.readline(MAX_LINE)
        except OSError as error:
            raise NntpError(f"{self._name} does not answer: {error}; sync again later") from error
        if not line:
            raise NntpError(f"{self._name} hung up; what was read before is kept, sync again later")
        return line

    def _status(self) -> tuple[int, str]:
        text = self._line().decode("utf-8", "replace").strip()
        if not text[:3].isascii() or not text[:3].isdigit():
            raise NntpError(f"{self._name} does not speak NNTP: {text[:80]!r}")
        if text.startswith("400"):
            raise NntpError(f"{self._name} is closing: {text[:80]}; sync again later")
        return int(text[:3]), text[:200]

    def _expect(self, codes: tuple[int, ...]) -> str:
        code, text = self._status()
        if code not in codes:
            raise NntpError(f"{self._name}: {text}")
        return text

    def _block(self, limit: int) -> tuple[bytes, int]:
        """A multi-line answer, dots unstuffed: (text, true size). Beyond ``limit`` only its beginning."""
        deadline = time.monotonic() + ANSWER_SECONDS
        lines: list[bytes] = []
        size = kept = 0
        continued = False  # the last piece was cut inside a very long line
        while True:
            line = self._line()
            whole = line.endswith(b"\n")
            if not continued:
                if line in (b".\r\n", b".\n"):
                    break
                if line.startswith(b"."):
                    line = line[1:]
            continued = not whole
            if line.endswith(b"\r\n"):
                line = line[:-2] + b"\n"
            size += len(line)
            if size <= limit or kept < KEEP_OF_OVERSIZED:
                lines.append(line)
                kept += len(line)
            if size > limit * 8 or time.monotonic() > deadline:
                raise NntpError(f"{self._name}: an answer without end ({size} bytes)")
        text = b"".join(lines)
        return (text if size <= limit else text[:KEEP_OF_OVERSIZED]), size


class NntpReader:
    """A group as a source of mail."""

    def __init__(self, location: str, profile: DriverProfile, *, whole_group: int = WHOLE_GROUP) -> None:
        """Raises SourceError when the location names no group."""
        parts = urlsplit(location)
        self._encrypted = parts.scheme == "nntps"
        self._host = parts.hostname or ""
        self._port = parts.port or (563 if self._encrypted else 119)
        self._group = unquote(parts.path.strip("/"))
        if not self._host or _GROUP_NAME.fullmatch(self._group) is None:
            raise SourceError(f"{location} names no group; write nntp://host/group.name")
        self._profile = profile
        self._whole_group = whole_group
        self._connection: NntpConnection | None = None
        self._end: Cursor = {}

    def read(self, cursor: Cursor) -> Iterator[RawMail]:
        """Articles after the cursor, in the order of their numbers."""
        self._end = cursor
        with self._connect() as connection:
            self._connection = connection
            try:
                group = connection.group(self._group)
                reached = int(cursor.get("article", 0))
                if reached > group.high:
                    cursor, reached = {}, 0  # the group was made anew: its numbers mean other mails
                history = int(cursor.get("history", group.high if group.count > self._whole_group else 0))
                threads = list(cursor.get("threads", []))
                state = {"history": history}
                following = max(group.low, reached + 1)
                # Steps lie on a grid, so that a sync that was killed inside one chooses the same articles.
                for step in range(following // STEP * STEP, group.high + 1, STEP):
                    last = min(step + STEP - 1, group.high)
                    first = max(step, 1) if step <= history else max(step, following)
                    overviews = connection.overviews(first, last) if following <= last else []
                    if step <= history:
                        overviews, threads = self._chosen(overviews, threads, history)
                    for few in _few([one for one in overviews if one.number > reached]):
                        for number, raw, size in connection.articles(few):
                            if raw is not None:
                                position = {**state, "article": number, "threads": threads}
                                yield RawMail(str(number), raw, size, position)
                    self._end = {**state, "article": last, "threads": threads}
            finally:
                self._connection = None

    def end_cursor(self, cursor: Cursor) -> Cursor:
        """The group's highest number, also where its last articles were not fetched."""
        return self._end

    def fetch(self, location: str) -> bytes | None:
        """One article again."""
        if self._connection is not None:
            return self._one(self._connection, location)
        with self._connect() as connection:
            return self._one(connection, location)

    def _one(self, connection: NntpConnection, location: str) -> bytes | None:
        if connection is not self._connection:
            connection.group(self._group)
        return connection.articles([int(location)])[0][1]

    def _connect(self) -> NntpConnection:
        return NntpConnection(self._host, self._port, encrypted=self._encrypted)

    def _chosen(
        self, overviews: list[Overview], threads: list[str], history: int
    ) -> tuple[list[Overview], list[str]]:
        """Of old articles those whose thread names the driver; what is younger than the history, all."""
        known = set(threads)
        named = {
            root
            for one in overviews
            if self._profile.named_in(one.subject)
            for root in (*one.references[:1], one.message_id)
        }
        known |= named
        chosen = [
            one
            for one in overviews
            if one.number > history
            or one.message_id in known
            or (one.references and one.references[0] in known)
        ]
        return chosen, sorted(known)[:MAX_THREAD_IDS]


def _overview(raw: bytes) -> Overview | None:
    """A line of OVER (RFC 3977, 8.3); None when it is damaged."""
    fields = raw.decode("utf-8", "replace").rstrip("\r\n").split("\t")
    if len(fields) < 6 or not fields[0].isascii() or not fields[0].isdigit():
        return None
    own = _IDS.findall(fields[4])
    size = fields[6] if len(fields) > 6 and fields[6].isascii() and fields[6].isdigit() else "0"
    return Overview(
        int(fields[0]),
        decode_words(fields[1]),
        own[0] if own else "",
        tuple(_IDS.findall(fields[5])),
        int(size[:12]),
    )


def _few(overviews: list[Overview]) -> Iterator[list[int]]:
    """Article numbers in portions that are asked for at once."""
    portion: list[int] = []
    size = 0
    for one in overviews:
        if portion and (len(portion) >= AHEAD or size + one.size > AHEAD_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(one.number)
        size += one.size
    if portion:
        yield portion
