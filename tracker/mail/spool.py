"""An answer full of mails on disk: unpacked once, bounded, and given back in the order of their dates.

Servers give the newest mail first, the next server the oldest; the sieve wants one order, the same on
every run, so that a killed sync goes on where it was. Memory holds one small entry a mail.
"""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from types import TracebackType
from typing import IO, cast

from tracker.errors import SourceError
from tracker.mail.headers import read_head
from tracker.mail.mbox import NotMboxError, split_mbox

MAX_PLAIN = 1024 * 1024 * 1024  # bytes of unpacked mail in one answer
MAX_MAILS = 200_000


class DamagedAnswerError(SourceError):
    """The answer is cut off or no mbox: nothing of it can be trusted to be all."""


class SpoolFullError(SourceError):
    """More mail than one answer may hold."""


@dataclass(frozen=True, order=True)
class Spooled:
    """One mail of the spool. ``when``: the Date header in epoch seconds, 0 if it has none."""

    when: int
    message_id: str
    offset: int
    length: int
    size: int  # the whole mail's, also when only its beginning was kept


class Spool:
    """Mails in a temporary file."""

    def __init__(self) -> None:
        """Empty."""
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="xdnawatch-")  # noqa: SIM115 - closed below
        self._entries: list[Spooled] = []
        self._by_id: dict[str, Spooled] = {}
        self._end = 0

    def __enter__(self) -> Spool:
        """The spool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The file goes away."""
        self.close()

    def close(self) -> None:
        """The file goes away."""
        self._file.close()

    def __len__(self) -> int:
        """How many mails there are."""
        return len(self._entries)

    def add_mbox(self, packed: IO[bytes]) -> None:
        """Unpack a whole mbox, gzip or plain, from its beginning.

        Raises DamagedAnswerError when it is cut off, SpoolFullError when it is too much.
        """
        packed.seek(0)
        zipped = packed.read(2) == b"\x1f\x8b"
        packed.seek(0)
        stream = gzip.GzipFile(fileobj=packed, mode="rb") if zipped else packed
        try:
            for piece in split_mbox(cast(BufferedIOBase, stream)):
                self.add(piece.raw, piece.size)
        except (EOFError, zlib.error, gzip.BadGzipFile, NotMboxError) as error:
            raise DamagedAnswerError(f"the answer is damaged: {error}") from error

    def add(self, raw: bytes, size: int | None = None) -> None:
        """One mail. A second copy of the same mail is not kept."""
        head = read_head(raw.replace(b"\r\n", b"\n") if b"\r\n" in raw[:2000] else raw)
        key = head.message_id or "sha1-" + hashlib.sha1(raw, usedforsecurity=False).hexdigest()
        if key in self._by_id:
            return
        if self._end + len(raw) > MAX_PLAIN or len(self._entries) >= MAX_MAILS:
            raise SpoolFullError(f"the answer holds more than {MAX_MAILS} mails or {MAX_PLAIN} bytes")
        when = int(head.date.timestamp()) if head.date is not None else 0
        entry = Spooled(when, key, self._end, len(raw), len(raw) if size is None else size)
        self._file.seek(self._end)
        self._file.write(raw)
        self._end += len(raw)
        self._entries.append(entry)
        self._by_id[key] = entry

    def in_order(self, after: tuple[int, str] | None = None) -> Iterator[Spooled]:
        """Oldest first, by date and then Message-ID, behind ``after``."""
        for entry in sorted(self._entries):
            if after is None or (entry.when, entry.message_id) > after:
                yield entry

    def read(self, entry: Spooled) -> bytes:
        """A mail's text."""
        self._file.seek(entry.offset)
        return self._file.read(entry.length)

    def find(self, message_id: str) -> bytes | None:
        """The mail with that id, if it is here."""
        entry = self._by_id.get(message_id)
        return None if entry is None else self.read(entry)
