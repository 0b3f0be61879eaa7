"""Text and values that came from a machine: bounded, printable, storable.

A guest may be broken or hostile. What it says is kept, but it may neither fill the disk nor break an
encoder (lone surrogates), a terminal (escape sequences) or a page.
"""

from __future__ import annotations

import json
import re
from typing import Any

# Control characters except tab and newline, the C1 block, and characters that turn text around on a screen.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

MESSAGE_LIMIT = 16_384  # characters of one message
VALUES_LIMIT = 16_384  # bytes of one test's measured values, as JSON


def clean(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """``text`` with unprintable characters replaced by U+FFFD, at most ``limit`` characters.

    What is cut is said at the end, within the limit.
    """
    if len(text) > limit:
        note = f" [... {len(text) - limit} characters cut]"
        text = text[: max(0, limit - len(note))] + note
    # A lone surrogate (from a JSON escape) cannot be encoded: one round trip replaces it.
    return UNPRINTABLE.sub("\ufffd", text.encode("utf-8", "replace").decode("utf-8"))


def clean_bytes(data: bytes, limit: int = MESSAGE_LIMIT) -> str:
    """Bytes of a log or a stream as ``clean`` text."""
    return clean(data[: 4 * limit].decode("utf-8", "replace"), limit)


def clean_values(values: Any, limit: int = VALUES_LIMIT, *, text: int = 2_000) -> dict[str, Any]:
    """A JSON object from a machine, with every string cleaned and cut at ``text`` characters.

    An object that is larger than ``limit`` bytes as JSON is replaced by its size.
    """
    if not isinstance(values, dict):
        return {}
    cleaned = {clean(str(key), 200): _clean_value(value, 5, text) for key, value in values.items()}
    size = len(json.dumps(cleaned))
    return cleaned if size <= limit else {"too-large": size}


def _clean_value(value: Any, depth: int, text: int) -> Any:
    if isinstance(value, str):
        return clean(value, text)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # Databases and JSON readers stop at 64 bits: a larger integer is kept as its digits.
        return value if -(2**63) <= value < 2**63 else clean(hex(value), 100)
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if depth == 0:
        return clean(str(value), 200)
    if isinstance(value, dict):
        return {clean(str(key), 200): _clean_value(item, depth - 1, text) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean_value(item, depth - 1, text) for item in value[:1_000]]
    return clean(str(value), 200)
