"""mbox files, plain or gzip: split as a stream, mboxrd quoting undone, safe against cut-off ends.

A file is read in pieces, so memory does not grow with it. The cursor is the offset (in uncompressed
bytes) where the last mail began: a mail that was still being written when it was read is read again.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

from tracker.errors import SourceError
from tracker.mail.message import MAX_MAIL
from tracker.mail.source import Cursor, RawMail

PIECE = 1024 * 1024
KEEP_OF_OVERSIZED = 64 * 1024
HEAD_BYTES = 4096  # fingerprint of the file's beginning: a replaced file starts over

# "From mboxrd@z Thu Jan  1 00:00:00 1970", "From a at b.org  Mon Feb  3 10:11:12 2025".
_ENVELOPE = re.compile(rb"From [^\n]{0,300}? ?[A-Z][a-z]{2} [A-Z][a-z]{2} +\d{1,2} \d\d:\d\d")
# ">From ", ">>From " at line start: one level of mboxrd quoting.
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_SEPARATOR = b"\n\nFrom "
_LINE_REACH = 512  # an envelope line is shorter than this


class NotMboxError(SourceError):
    """The bytes are no mbox."""


@dataclass(frozen=True)
class Piece:
    """One mail cut out of an mbox stream: offset of its envelope line, text without it, true size."""

    offset: int
    raw: bytes
    size: int
    complete: bool  # followed by another mail or by the end of a line


def split_mbox(stream: BufferedIOBase, offset: int = 0) -> Iterator[Piece]:
    """Cut a stream positioned at an envelope line (``offset`` bytes into the file) into mails.

    Raises NotMboxError when the stream does not start with an envelope line.
    """
    buffer = bytearray(stream.read1(PIECE))
    if not buffer.strip():
        return
    if _ENVELOPE.match(buffer) is None:
        raise NotMboxError("it does not start with a 'From ' line, so it is no mbox file")
    start = offset  # file offset of buffer[0], when nothing of this mail was dropped
    dropped = 0
    scan = 0
    ended = False
    while True:
        at = buffer.find(_SEPARATOR, scan)
        if at >= 0 and (ended or at + 2 + _LINE_REACH <= len(buffer)):
            if _ENVELOPE.match(buffer, at + 2) is None:
                scan = at + 2
                continue
            yield _piece(start, bytes(buffer[: at + 1]), dropped, complete=True)
            start += at + 2 + dropped
            del buffer[: at + 2]
            dropped, scan = 0, 0
            continue
        if ended:
            break
        if len(buffer) > MAX_MAIL + KEEP_OF_OVERSIZED:
            tail = bytes(buffer[-_LINE_REACH:])
            dropped += len(buffer) - KEEP_OF_OVERSIZED - len(tail)
            buffer = bytearray(buffer[:KEEP_OF_OVERSIZED]) + tail
        scan = max(0, len(buffer) - _LINE_REACH - len(_SEPARATOR)) if at < 0 else at
        more = stream.read1(PIECE)  # read() would lose what came before the damage of a cut gzip
        ended = not more
        buffer += more
    if buffer.strip():
        yield _piece(start, bytes(buffer), dropped, complete=buffer.endswith(b"\n"))


def _piece(start: int, text: bytes, dropped: int, *, complete: bool) -> Piece:
    _, _, raw = text.partition(b"\n")
    if b"\n>" in raw:
        raw = _QUOTED_FROM.sub(rb"\1", raw)
    return Piece(start, raw, len(text) + dropped, complete)


class MboxReader:
    """A ``.mbox`` or ``.mbox.gz`` file (told apart by content, not by name)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, cursor: Cursor) -> Iterator[RawMail]:
        """Mails after the cursor. A file that begins otherwise than last time is read anew."""
        stat = self._stat()
        if cursor.get("size") == stat[0] and cursor.get("modified") == stat[1]:
            return
        try:
            with self._open() as stream:
                offset, mark = self._start(stream, cursor)
                for piece in split_mbox(stream, offset):
                    yield RawMail(
                        location=str(piece.offset),
                        raw=piece.raw,
                        size=piece.size,
                        cursor={"offset": piece.offset, **mark},
                        problem=None if piece.complete else "the archive ends inside this mail",
                    )
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SourceError(f"{self.path} is damaged: {error}; what came before is kept") from error
        except NotMboxError as error:
            raise SourceError(f"{self.path}: {error}") from error

    def _start(self, stream: BufferedIOBase, cursor: Cursor) -> tuple[int, Cursor]:
        """Position the stream; (offset, the mark by which a replaced file is known next time)."""
        offset = int(cursor.get("offset", 0))
        head = stream.read(HEAD_BYTES)
        known = hashlib.sha1(head[: int(cursor.get("head_bytes", 0))], usedforsecurity=False).hexdigest()
        if offset and (known != cursor.get("head") or not self._skip(stream, offset)):
            offset = 0
        stream.seek(offset)
        now = hashlib.sha1(head, usedforsecurity=False).hexdigest()
        return offset, {"head": now, "head_bytes": len(head)}

    def end_cursor(self, cursor: Cursor) -> Cursor:
        """With the file's size and time: an unchanged file is not even opened next time."""
        size, modified = self._stat()
        return {**cursor, "size": size, "modified": modified}

    def fetch(self, location: str) -> bytes | None:
        """The mail at an offset."""
        with self._open() as stream:
            stream.seek(int(location))
            for piece in split_mbox(stream, int(location)):
                return piece.raw
        return None

    def _stat(self) -> tuple[int, int]:
        try:
            stat = self.path.stat()
        except OSError as error:
            raise SourceError(f"cannot read {self.path}: {error.strerror}") from error
        if self.path.is_dir():
            raise SourceError(
                f'{self.path} is a folder, not an mbox file; for a folder of mails use kind = "eml"'
            )
        return stat.st_size, stat.st_mtime_ns

    def _open(self) -> BufferedIOBase:
        try:
            plain = self.path.open("rb")
        except OSError as error:
            raise SourceError(f"cannot read {self.path}: {error.strerror}") from error
        magic = plain.read(2)
        plain.seek(0)
        if magic == b"\x1f\x8b":
            plain.close()
            return gzip.GzipFile(self.path, "rb")
        return plain

    @staticmethod
    def _skip(stream: BufferedIOBase, offset: int) -> bool:
        """Whether an envelope line is still at ``offset``."""
        try:
            stream.seek(offset)
            return _ENVELOPE.match(stream.read(_LINE_REACH)) is not None
        except (EOFError, OSError, zlib.error):
            return False
