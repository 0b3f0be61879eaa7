"""Addresses of the outside: mails by message id, commits by id. Only well-formed ids become links."""

from __future__ import annotations

import re
from urllib.parse import quote

from reports.records import CommitRecord, MailRecord

# RFC 5322 ids as list archives have them: no spaces, no angle brackets, bounded.
_MESSAGE_ID = re.compile(r"[^\s<>\"'\x00-\x20\x7f]{1,240}@[^\s<>\"'\x00-\x20\x7f@]{1,120}")
_FULL_SHA = re.compile(r"[0-9a-f]{40}")
# The tracker's own id for a mail that has none.
_SYNTHETIC = "@missing"


def mail_url(mail: MailRecord) -> str | None:
    """The permanent address of a mail in the lore archive (public-inbox: /r/<Message-ID>, escaped)."""
    if mail.sample or mail.message_id.endswith(_SYNTHETIC) or not _MESSAGE_ID.fullmatch(mail.message_id):
        return None
    return f"https://lore.kernel.org/r/{quote(mail.message_id, safe='@')}"


def commit_url(commit: CommitRecord) -> str | None:
    """The commit in the mainline tree on kernel.org; None for samples and for other trees' commits."""
    in_mainline = any(landing.role == "mainline" and not landing.sample for landing in commit.landings)
    if not in_mainline or not _FULL_SHA.fullmatch(commit.sha):
        return None
    return f"https://git.kernel.org/torvalds/c/{commit.sha}"
