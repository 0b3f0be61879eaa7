"""A stored mail's text -> PatchMail: the reduced form that series, changes and matching work on."""

from __future__ import annotations

import re
import sys
from datetime import datetime

from tracker.dependencies import stated_by_patch
from tracker.mail.body import change_id, linked_messages, split_patch
from tracker.mail.diff import EMPTY, parse_diff
from tracker.mail.headers import Address, parse_address
from tracker.mail.lines import LineSet
from tracker.mail.series import PatchMail
from tracker.mail.subject import parse_subject
from tracker.settings import DriverProfile

# A line that speaks of an earlier version: "v1: https://...", "Link to v2: ...", "Supersedes: <...>".
_VERSION_LINE = re.compile(
    r"(?:\bv\d+\b|supersede|previous|earlier version|changes (?:since|in|from))", re.IGNORECASE
)
_BARE_SUPERSEDES = re.compile(
    r"^Supersedes:[ \t]*<?([^<>\s]+@[^<>\s]+?)>?[ \t]*$", re.MULTILINE | re.IGNORECASE
)
MAX_LINKS = 50
MAX_MESSAGE = 4000  # characters of a commit message that are compared


def patch_mail(
    message_id: str,
    subject: str,
    sender: Address,
    date: datetime | None,
    parents: tuple[str, ...],
    body: str,
    profile: DriverProfile,
) -> PatchMail:
    """Take a patch or cover letter apart. ``own`` is decided by its diff and its subject alone."""
    text = split_patch(body)
    diff = parse_diff(text.diff) if text.diff else EMPTY
    parsed = parse_subject(subject)
    people = {
        parse_address(value).email
        for key, value in text.trailers
        if key.lower() in ("co-developed-by", "signed-off-by")
    }
    return PatchMail(
        message_id=message_id,
        subject=parsed,
        author=text.author or sender,
        sender=sender,
        date=date,
        parents=parents,
        own=profile.named_in(parsed.title) or profile.owns_any(diff.paths),
        files=tuple(map(sys.intern, diff.paths)),
        diff_hash=diff.diff_hash,
        patch_id=diff.patch_id,
        lines=LineSet(diff.signature),
        change_id=change_id(body),
        links=_links(text.message + "\n" + text.remarks),
        co_authors=frozenset(map(sys.intern, people - {""})),
        stated=stated_by_patch(text, cover=parsed.number == 0),
        message=text.message[:MAX_MESSAGE] if parsed.number != 0 else "",
    )


def _links(text: str) -> tuple[tuple[str, bool], ...]:
    """(message id, whether its line or the line before speaks of an earlier version)."""
    found: dict[str, bool] = {match[1]: True for match in _BARE_SUPERSEDES.finditer(text)}
    before = ""
    for line in text.split("\n"):
        if "://" in line:
            speaks = _VERSION_LINE.search(line.split("://")[0]) is not None or (
                len(before) < 80 and _VERSION_LINE.search(before) is not None
            )
            for target in linked_messages(line):
                found[target] = found.get(target, False) or speaks
        if len(found) >= MAX_LINKS:
            break
        before = line
    return tuple(found.items())
