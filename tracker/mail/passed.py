"""The last mails that a sieve passed over, so that it can come back to them.

Nearly every mail of a list is passed over and never asked about again. Their headers are therefore read only
when somebody asks, and from the newest back until `MEMORY` of them are found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tracker.mail.headers import Head, read_head
from tracker.mail.subject import parse_subject

MEMORY = 192  # mails passed over that are remembered
RAW_MEMORY = 4 * 1024 * 1024  # bytes of them that are kept, to spare a second read
MOST_UNREAD = 16 * 1024 * 1024  # bytes that wait to be read


@dataclass(frozen=True)
class Passed:
    """A mail that was passed over, with what is needed to come back to it."""

    message_id: str
    location: str
    parent: str | None
    root: str | None
    author: str
    number: int | None
    total: int | None
    patch: bool

    def to_json(self) -> list[object]:
        """For the cursor."""
        return [
            self.message_id, self.location, self.parent, self.root,
            self.author, self.number, self.total, self.patch,
        ]  # fmt: skip

    @classmethod
    def from_json(cls, values: list[object]) -> Passed:
        """Back from the cursor; raises ValueError or TypeError when it is not ours."""
        message_id, location, parent, root, author, number, total, patch = values
        return cls(
            str(message_id),
            str(location),
            None if parent is None else str(parent),
            None if root is None else str(root),
            str(author),
            number if isinstance(number, int) else None,
            total if isinstance(total, int) else None,
            bool(patch),
        )


class PassedOver:
    """The last `MEMORY` mails that may matter later: patches, covers, and what answers another mail."""

    def __init__(self, memory: Iterable[Passed] = ()) -> None:
        self._known = {one.message_id: one for one in memory}  # oldest first
        self._raws: dict[str, bytes] = {}
        self._unread: list[tuple[str, bytes]] = []
        self._unread_bytes = 0

    def add(self, location: str, raw: bytes) -> None:
        """One more; ``raw`` has LF line ends."""
        self._unread.append((location, raw))
        self._unread_bytes += len(raw)
        if self._unread_bytes > MOST_UNREAD:
            self._read()

    def __contains__(self, message_id: str) -> bool:
        """Whether it is remembered."""
        self._read()
        return message_id in self._known

    def __iter__(self) -> Iterator[Passed]:
        """What is remembered now, oldest first; it may be forgotten while this runs."""
        self._read()
        return iter(list(self._known.values()))

    def raw(self, message_id: str) -> bytes | None:
        """The mail itself, when it is still held."""
        return self._raws.get(message_id)

    def forget(self, message_id: str) -> None:
        """It was kept after all."""
        self._read()
        self._known.pop(message_id, None)
        self._raws.pop(message_id, None)

    def _read(self) -> None:
        if not self._unread:
            return
        newest: dict[str, Passed] = {}  # newest first
        raws: dict[str, bytes] = {}
        for location, raw in reversed(self._unread):
            one = _passed(location, read_head(raw))
            if one is not None and one.message_id not in newest:
                newest[one.message_id] = one
                raws[one.message_id] = raw
                if len(newest) == MEMORY:
                    break
        for one in reversed(self._known.values()):
            if len(newest) < MEMORY:
                newest.setdefault(one.message_id, one)
        self._known = {one.message_id: one for one in reversed(newest.values())}
        self._raws = _within(RAW_MEMORY, newest, {**self._raws, **raws})
        self._unread, self._unread_bytes = [], 0


def _within(room: int, order: Iterable[str], raws: dict[str, bytes]) -> dict[str, bytes]:
    """The first of ``raws`` in that order that have room together."""
    found = {}
    for message_id in order:
        raw = raws.get(message_id, b"")
        room -= len(raw)
        if room < 0:
            break
        if raw:
            found[message_id] = raw
    return found


def _passed(location: str, head: Head) -> Passed | None:
    """None for a mail that nobody will ask about."""
    if head.message_id is None:
        return None
    lowered = head.subject.lower()
    may_be_patch = ("patch" in lowered or "rfc" in lowered) and not lowered.startswith("re:")
    subject = parse_subject(head.subject) if may_be_patch else None
    patch = subject is not None and subject.patch and not subject.reply
    if not patch and not head.parents:
        return None
    return Passed(
        head.message_id,
        location,
        head.parents[0] if head.parents else None,
        root_of(head),
        head.author.email,
        subject.number if subject else None,
        subject.total if subject else None,
        patch,
    )


def root_of(head: Head) -> str | None:
    """The oldest id it answers."""
    return head.references[0] if head.references else head.in_reply_to
