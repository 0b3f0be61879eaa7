"""The mails of the stable process, by their subjects: review, queue, AUTOSEL, "failed to apply". Pure.

What a mail means for a branch is decided in `tracker.backports`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from tracker.calendar import window_key
from tracker.mail.subject import parse_subject

# 'Patch "TITLE" has been added to the 6.18-stable tree'.
_ADDED = re.compile(r'^Patch "(.+)" has been added to the (\d{1,2}\.\d{1,3})-stable tree', re.IGNORECASE)
# 'FAILED: patch "[PATCH] TITLE" failed to apply to 6.18-stable tree'.
_FAILED = re.compile(r'FAILED: patch "(.+)" failed to apply to (\d{1,2}\.\d{1,3})-stable tree', re.IGNORECASE)
_BRANCH = re.compile(r"(\d{1,2}\.\d{1,3})")
_RANGE = re.compile(r"^AUTOSEL (\d{1,2}\.\d{1,3})-(\d{1,2}\.\d{1,3})$", re.IGNORECASE)


@dataclass(frozen=True)
class StableMail:
    """A mail of the stable process about one title. ``kind``: review, added, autosel, failed.

    ``bases`` are the branches it names; ``between`` a range of them, newest first, as AUTOSEL writes it.
    """

    kind: str
    title: str
    upstream: str | None
    date: datetime | None
    message_id: str
    bases: tuple[str, ...]
    between: tuple[str, str] | None = None

    def about(self, base: str) -> bool:
        """Whether it speaks of this branch."""
        if self.between is not None:
            low, high = sorted(self.between, key=window_key)
            return window_key(low) <= window_key(base) <= window_key(high)
        return base in self.bases


def read_stable_mail(
    message_id: str, subject: str, date: datetime | None, upstream: str | None
) -> StableMail | None:
    """A mail of the stable process by its subject; None for any other mail."""
    if (added := _ADDED.match(subject)) is not None:
        return StableMail("added", _plain(added[1]), upstream, date, message_id, (added[2],))
    if (failed := _FAILED.search(subject)) is not None:
        return StableMail("failed", _plain(failed[1]), upstream, date, message_id, (failed[2],))
    read = parse_subject(subject)
    if read.reply or read.stable is None:
        return None
    span = _RANGE.match(read.stable)
    kind = "autosel" if "autosel" in read.stable.lower() else "review"
    return StableMail(
        kind,
        read.title,
        upstream,
        date,
        message_id,
        () if span else tuple(_BRANCH.findall(read.stable)),
        (span[1], span[2]) if span else None,
    )


def _plain(title: str) -> str:
    """The title inside a stable robot's quotes: "[PATCH] TITLE" -> "TITLE"."""
    return parse_subject(title).title
