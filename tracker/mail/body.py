"""The text of a mail taken apart: in-body From, message, trailers, diff; and what a reply says.

Nothing is decided here about who may give which trailer or what a mail belongs to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tracker.mail.headers import Address, parse_address

# The keys of trailers that matter: "Reviewed-by: X", "Fixes: 123 (...)", "Link: https://...". The literal
# line feed in front lets the expression engine search for it; "^" would be tried at every character.
_TRAILER = re.compile(
    r"\n((?:[A-Z][a-zA-Z]+(?:-[a-zA-Z]+)*-(?:by|to|of))|Fixes|Link|Closes|Cc|Message-ID|Message-Id"
    r"|change-id|Change-Id|base-commit|Supersedes|Upstream|Lore):[ \t]+(\S[^\n]*)"
)
# "R <r@x.org>> ---": a mail program that glued the next quoted line to the reviewer's own.
_GLUED_QUOTE = re.compile(r"^([^<>\n]{0,200}<[^<>\s]{1,320}>)\s*>")
# Where a patch's message ends and the remarks begin.
_CUT = re.compile(r"\n---[ \t]*\n")
# A diff without git's own first line: "--- drivers/x.c", "+++ drivers/x.c".
_PLAIN_DIFF = re.compile(r"\n--- [^\n]+\n\+\+\+ \S")
# A diffstat line: " drivers/accel/amdxdna/aie2_pm.c | 12 +++--".
_DIFFSTAT = re.compile(r"^ (?:\.\.\.)?(\S+?)(?: => \S+)?\s+\|\s+(?:\d+ ?[+-]*|Bin .*)$", re.MULTILINE)
# "change-id: X" alone on its line, never "prerequisite-change-id".
_CHANGE_ID = re.compile(r"^change-id:[ \t]*(\S{4,200})[ \t]*$", re.MULTILINE | re.IGNORECASE)
# Hosts whose links name a message: lore (all, lists, r), patch.msgid.link, lkml.kernel.org/r.
_LINK = re.compile(
    r"https?://(?:(?:[\w-]+\.)?lore\.kernel\.org/(?:[\w.+-]+/)?|patch\.msgid\.link/|msgid\.link/"
    r"|lkml\.kernel\.org/r/|lkml\.org/r/)(?:r/)?([^\s/<>\"'?#)]+(?:@|%40)[^\s/<>\"'?#),]+)"
)
# "commit <sha40> upstream." and "[ Upstream commit <sha40> ]", the first words of a backport.
_UPSTREAM = re.compile(
    r"^\s*(?:commit ([0-9a-f]{12,40}) upstream\.?|\[ ?Upstream commit ([0-9a-f]{12,40}) ?\])\s*$",
    re.MULTILINE | re.IGNORECASE,
)
_CHERRY_PICK = re.compile(r"^\(?cherry[ -]picked from commit ([0-9a-f]{7,40})", re.MULTILINE)
# "This reverts commit <sha>[, reversing ...]." - git's own sentence.
_REVERTS = re.compile(r"^This reverts commit ([0-9a-f]{7,40})\b", re.MULTILINE)
_REVERT_TITLE = re.compile(r'^Revert[: ]+"(.+)"$')


@dataclass(frozen=True)
class PatchText:
    """A patch mail's body. ``message`` is what would become the commit message, without in-body headers."""

    author: Address | None  # in-body From, when there is one
    message: str
    remarks: str  # between "---" and the diff
    diff: str  # "" when there is none
    trailers: tuple[tuple[str, str], ...]


def split_patch(body: str) -> PatchText:
    """Take a patch mail's body apart."""
    start = _diff_start(body)
    head, diff = (body, "") if start is None else (body[:start], body[start:])
    cut = _CUT.search(head) if "\n---" in head else None
    message, remarks = (head[: cut.start() + 1], head[cut.end() :]) if cut else (head, "")
    author, message = _in_body_from(message)
    return PatchText(author, message, remarks, diff, tuple(_trailers(message)))


def reply_trailers(body: str) -> tuple[tuple[str, str], ...]:
    """Trailers a reply gives in its own words: quoted lines never count."""
    return tuple(_trailers(body)) if ":" in body else ()


def has_diff(body: str) -> bool:
    """Whether an unquoted diff is in the text."""
    return _diff_start(body) is not None


def diffstat_paths(text: str) -> tuple[str, ...]:
    """The files a diffstat names (long paths may be cut at the front)."""
    return tuple(found[1] for found in _DIFFSTAT.finditer(text))


def change_id(body: str) -> str | None:
    """The b4 change-id of a series, if the mail has one."""
    found = _CHANGE_ID.search(body)
    return found[1] if found else None


def linked_messages(text: str) -> tuple[str, ...]:
    """Message ids that links in the text name, in order, each once. ``%40`` is decoded."""
    from urllib.parse import unquote

    return tuple(dict.fromkeys(unquote(found).rstrip(".,;:") for found in _LINK.findall(text)))


def upstream_commit(message: str) -> str | None:
    """The mainline commit a stable backport or a ``cherry-pick -x`` names."""
    if "ommit " not in message:
        return None
    found = _UPSTREAM.search(message)
    if found is not None:
        return (found[1] or found[2]).lower()
    picked = _CHERRY_PICK.search(message)
    return picked[1].lower() if picked else None


def reverted_commit(message: str) -> str | None:
    """The commit that git's own sentence says is reverted."""
    found = _REVERTS.search(message)
    return found[1].lower() if found else None


def reverted_title(title: str) -> str | None:
    """'Revert "X"' -> "X"."""
    found = _REVERT_TITLE.match(title)
    return found[1] if found else None


def _trailers(text: str) -> list[tuple[str, str]]:
    return [(key, _without_quote(value.strip())) for key, value in _TRAILER.findall("\n" + text)]


def _without_quote(value: str) -> str:
    if ">>" not in value and "> >" not in value:
        return value
    glued = _GLUED_QUOTE.match(value)
    return glued[1] if glued else value


def _diff_start(body: str) -> int | None:
    """Where the first line of the first unquoted diff begins."""
    start = 0 if body.startswith("diff --git ") else body.find("\ndiff --git ") + 1 or None
    if "\n+++ " in body:
        plain = _PLAIN_DIFF.search(body, 0, len(body) if start is None else start)
        if plain is not None:
            return plain.start() + 1
    return start


def _in_body_from(message: str) -> tuple[Address | None, str]:
    """The header lines ``git format-patch --from`` puts before the message, and the rest."""
    start = message.lstrip("\n ")
    if start[:5].lower() != "from:":
        return None, message.strip("\n")
    block, _, rest = start.partition("\n\n")
    for line in block.split("\n")[:6]:
        key, _, value = line.partition(":")
        if key.lower() == "from":
            author = parse_address(value.strip())
            if author.email:
                return author, rest.strip("\n")
    return None, message.strip("\n")
