"""What every source of mail offers: raw mails in a fixed order, each with the cursor that follows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

Cursor = dict[str, Any]


@dataclass(frozen=True)
class RawMail:
    """One mail as a source has it.

    ``location`` finds it again (`MailReader.fetch`). ``cursor`` is the reader's position after it.
    ``size`` is the whole size in bytes; ``raw`` is only the beginning when ``size`` exceeds the limit
    (`tracker.mail.message.MAX_MAIL`). ``problem`` says what the source itself saw wrong with it.
    """

    location: str
    raw: bytes
    size: int
    cursor: Cursor
    problem: str | None = None


class MailReader(Protocol):
    """A source of mail. Readers keep nothing between syncs: the cursor is handed in and out."""

    def read(self, cursor: Cursor) -> Iterator[RawMail]:
        """Mails after ``cursor`` ({} for all), oldest first. Raises SourceError."""
        ...

    def end_cursor(self, cursor: Cursor) -> Cursor:
        """The cursor to keep when everything has been read (``cursor``: of the last mail)."""
        ...

    def fetch(self, location: str) -> bytes | None:
        """One mail again; None when it is gone."""
        ...
