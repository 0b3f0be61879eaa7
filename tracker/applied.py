"""What an "applied" mail says: which tree, which commits. Pure parsing of a maintainer's reply.

``b4 ty`` and dim write lists such as "[1/2] title / commit: <sha>"; people write "Applied to drm-misc-next."
Nothing here decides to which patch a line belongs (see tracker.matching).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# "[1/2] platform/x86: title (maybe wrapped)\n      commit: 5ae9382ac3c5..." or "... https://.../c/<sha>".
_ENTRY = re.compile(
    r"^[ \t]*\[(\d{1,4})/(\d{1,4})\][ \t]+"
    r"(\S[^\n]*(?:\n[ \t]+(?!commit:|https?://|\(no commit)[^\n]+){0,2})\n"
    r"[ \t]+(?:commit:[ \t]*|https?://\S*?(?:id=|/c/|/commit/))([0-9a-f]{12,40})\b",
    re.MULTILINE,
)
# "Applied to drm-misc-next", "pushed to the drm-misc-fixes branch", "Queued for v7.2 in for-next".
_TREE = re.compile(
    r"\b(?:applied|pushed|queued|merged|picked up)\b[^\n]{0,100}?"
    r"\b(?:to|for|in|into|on)\b[ \t\n]+(?:the[ \t]+|my[ \t]+)*"
    r"[`'\"]?([A-Za-z][\w./-]*(?:next|fixes|for-[\w.-]+|for-linus|misc|-tip|master|main)[\w./-]*)",
    re.IGNORECASE,
)
MAX_ENTRIES = 500


@dataclass(frozen=True)
class AppliedEntry:
    """One line of a list: which patch (as the maintainer's title has it) became which commit."""

    number: int
    total: int
    title: str
    sha: str


@dataclass(frozen=True)
class AppliedNotice:
    """A mail that says that something was applied."""

    tree: str | None
    entries: tuple[AppliedEntry, ...]


def parse_applied(body: str) -> AppliedNotice:
    """Read a reply's own words; quoted lines do not count."""
    own = "\n".join(line for line in body.split("\n") if not line.lstrip().startswith(">"))
    entries = tuple(
        AppliedEntry(int(found[1]), int(found[2]), " ".join(found[3].split()), found[4].lower())
        for found, _ in zip(_ENTRY.finditer(own), range(MAX_ENTRIES), strict=False)
    )
    tree = _TREE.search(own)
    return AppliedNotice(tree[1].rstrip(".,:;/") if tree else None, entries)
