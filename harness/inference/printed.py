"""What a program printed, made safe to parse: bounded, without escape sequences, numbers checked.

Everything here is pure and total: any bytes give an answer, none an exception. Parsers of single tools build
on it; it knows no tool.
"""

from __future__ import annotations

import json
import re
from typing import Any

from harness.untrusted import UNPRINTABLE

OUTPUT_LIMIT = 1 << 20  # bytes that are looked at
LINES_LIMIT = 20_000
LINE_LIMIT = 4096  # characters of one line
LARGEST = 1e15  # no quantity of an NPU comes near it

# matches "\x1b[38;5;3m" colours, "\x1b[2K" erasures, "\x1b]0;title\x07" titles, "\x1b(B" character sets
ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]{0,32}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[ -/]{1,4}[0-~])"
)
# matches "51.0", "-3", "1.2e-05"
NUMBER = r"[-+]?\d{1,15}(?:\.\d{1,15})?(?:[eE][-+]?\d{1,3})?"
_WHOLE_NUMBER = re.compile(NUMBER)
# matches "Average latency" -> "average_latency"
_NOT_A_NAME = re.compile(r"[^a-z0-9]+")


def text_of(data: bytes) -> str:
    """Bytes as text: undecodable ones replaced, escape sequences gone, line ends "\\n", control characters
    replaced.
    """
    text = ESCAPE.sub("", data[:OUTPUT_LIMIT].decode("utf-8", "replace"))
    return UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def lines_of(data: bytes) -> list[str]:
    """The lines, each without trailing space, at most LINES_LIMIT of LINE_LIMIT characters."""
    return [line[:LINE_LIMIT].rstrip() for line in text_of(data).split("\n")[:LINES_LIMIT]]


def number(value: Any) -> float | None:
    """A finite number of sane size from JSON or text ("51.0"); None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = value.strip().strip("'\"")
        if not _WHOLE_NUMBER.fullmatch(value):
            return None
        value = float(value)
    if isinstance(value, int | float) and abs(value) <= LARGEST:  # false for NaN and infinity
        return float(value)
    return None


def json_of(data: bytes, *, preamble: bool = False) -> Any:
    """A JSON document, None when it is none. ``preamble`` skips what is printed before the first "{" or "["
    that starts a document reaching to the end.
    """
    text = text_of(data)
    starts = [0]
    if preamble:
        starts += [match.start() for match in re.finditer(r"^[ \t]*[\[{]", text, re.M)][:20]
    for start in starts:
        try:
            return json.loads(text[start:], parse_constant=_refuse)
        except (ValueError, RecursionError):
            continue
    return None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def items_of(value: Any, limit: int = 1000) -> list[dict[str, Any]]:
    """The objects of a JSON list; boost's property trees write an empty list as ""."""
    if isinstance(value, dict):
        value = list(value.values())
    return [item for item in value[:limit] if isinstance(item, dict)] if isinstance(value, list) else []


def object_of(value: Any) -> dict[str, Any]:
    """A JSON object, {} for anything else."""
    return value if isinstance(value, dict) else {}


def word_of(value: Any, limit: int = 200) -> str:
    """A scalar as short text without "N/A", "unknown" and the like; "" for nothing."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return ""
    try:
        text = UNPRINTABLE.sub("\ufffd", str(value)[: 4 * limit].strip())[:limit]
    except ValueError:  # an integer of more digits than Python converts
        return ""
    return "" if text.lower() in ("n/a", "unknown", "none", "null", "-") else text


def name_of(label: str) -> str:
    """A metric's name from a label: "Average Latency (4x8)" -> "average_latency_4x8"."""
    return _NOT_A_NAME.sub("_", label.lower()).strip("_")[:60] or "value"


def tail_of(data: bytes, limit: int = 400) -> str:
    """The last words of a program, on one line, for a message."""
    words = [line.strip() for line in lines_of(data[-8192:]) if line.strip()]
    return " | ".join(words[-6:])[-limit:]
