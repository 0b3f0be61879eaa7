"""Make hostile text harmless to look at: control, bidirectional and broken characters become visible.

HTML escaping is Jinja's and MarkupSafe's work; it leaves alone characters that reorder a line, erase it or
end an XML document. Those are turned into their names here, as `cat -v` and `less` do.
"""

from __future__ import annotations

import re

# One expression on a page never shows more; logs and messages have tighter bounds of their own.
MAX_TEXT = 20_000

# C0 except tab and newline, DEL, C1; Arabic letter mark, LRM/RLM, embeddings, isolates; zero width space,
# line and paragraph separators, BOM, interlinear annotation; surrogates; noncharacters; tag characters.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f]"
)


def visible(text: str, limit: int = MAX_TEXT) -> str:
    """``text`` bounded to ``limit`` characters; unsafe ones are named: ESC ^[, a bidi override <U+202E>."""
    left_out = len(text) - limit
    if left_out > 0:
        text = f"{text[:limit]} … ({left_out} more characters)"
    return _UNSAFE.sub(_name, text) if _UNSAFE.search(text) else text


def one_line(text: str, limit: int) -> str:
    """The first line of ``text``, bounded."""
    first, _, rest = text.partition("\n")
    cut = len(first) > limit or bool(rest.strip())
    return f"{visible(first[:limit]).rstrip()} …" if cut else visible(first)


def _name(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20 or code == 0x7F:
        return f"^{chr(code ^ 0x40)}"
    return f"<U+{code:04X}>"
