"""The edge of `tracker.applied_history`: a mail archive on this machine -> cases of the past."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tracker.applied_history import AppliedCase, ArchiveHistory
from tracker.errors import SourceError
from tracker.mail.inbox import InboxReader
from tracker.mail.mbox import MboxReader
from tracker.mail.message import parse_mail
from tracker.mail.source import MailReader
from tracker.release_facts import TagDay

STEP = 500  # mails between two reports of progress


def archive_cases(
    path: Path, tags: Sequence[TagDay], advance: Callable[[int], None] = lambda _count: None
) -> list[AppliedCase]:
    """Read an mbox (also .gz) or a public-inbox v2 archive. ``advance`` is told of mails read.

    Raises SourceError where there is none.
    """
    if not path.exists():
        raise SourceError(f"{path} is not there; give an mbox file or a public-inbox v2 archive")
    reader: MailReader = InboxReader(path) if path.is_dir() else MboxReader(path)
    history = ArchiveHistory()
    for number, raw in enumerate(reader.read({}), 1):
        if history.may_matter(raw.raw):
            history.add(parse_mail(raw.raw))
        if number % STEP == 0:
            advance(STEP)
    return history.cases(tags)
