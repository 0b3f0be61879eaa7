"""Text of strangers made fit for any database: no NUL (PostgreSQL takes none), no lone surrogate (UTF-8 has
none; ``utf-7`` and ``unicode_escape``, which a mail may name as its character set, produce them).
"""

from __future__ import annotations

import re

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MAX_TITLE = 500  # characters; an index entry of PostgreSQL holds 2,704 bytes
# A character that some database refuses.
_REFUSED = re.compile("[\0\ud800-\udfff]")


def storable(text: str) -> str:
    """``text`` with what cannot be stored shown as U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return _REFUSED.sub(REPLACEMENT, text)
