"""The grammar of subjects: ``[PATCH V3 2/5] accel/amdxdna: ...`` -> version, counter, tags, title.

It reads one line of text and decides nothing about threads or relevance. The shapes come from facts of
real lists: list tags before or after ``Re:``, upper-case ``V1``, ``PATCHv3``, ``v5.1 10/12``, ``2 / 7``,
nested and unbalanced brackets, AUTOSEL ranges and stable reviews.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tracker.text import MAX_TITLE

# "Re: ", "RE: ", "Aw: ", "Fwd: ", "Re[2]: ", and two Chinese ways to say it, at the start.
_REPLY = re.compile(r"^\s*(re|aw|sv|antw|fwd?|回复|答复)\s*(?:\[\d+\])?\s*[:：]\s*", re.IGNORECASE)
# "(subset) " as b4 ty writes it in front of "[PATCH ...".
_SUBSET = re.compile(r"^\s*\(subset\)\s*", re.IGNORECASE)
# A version: "v2", "V1", "v5.1", "PATCHv3".
_VERSION = re.compile(r"^v(\d{1,3}(?:\.\d{1,3})?)$", re.IGNORECASE)
# A counter: "2/5", "02/10", "00/80".
_COUNTER = re.compile(r"^(\d{1,4})/(\d{1,4})$")
# A counter with spaces inside the bracket: "2 / 7".
_SPACED_COUNTER = re.compile(r"(?<![\d.])(\d{1,4})\s*/\s*(\d{1,4})(?![\d.])")
# A stable branch: "6.18", "6.18.y", "v6.1.y", "6.18-stable", "stable"; two of them: "6.1/6.6".
_STABLE = re.compile(
    r"^(v?\d{1,2}\.\d{1,3}\.y|\d{1,2}\.\d{1,3}(?:\.\d+)?(?:-stable)?"
    r"|\d{1,2}\.\d{1,3}(?:\.y)?(?:/\d{1,2}\.\d{1,3}(?:\.y)?)+|stable)$",
    re.IGNORECASE,
)
# An AUTOSEL range: "6.19-6.18", "5.10-6.19".
_RANGE = re.compile(r"^\d{1,2}\.\d{1,3}-\d{1,2}\.\d{1,3}$")
# A word glued to the version: "PATCHv3", "RFCv2".
_GLUED = re.compile(r"^(patch|rfc|resend)(v\d{1,3}(?:\.\d{1,3})?)$", re.IGNORECASE)
# Brackets in front of a title: "[next] ", "[media] [v4l] ".
_FRONT = re.compile(r"^\s*(?:\[[^\[\]]*\]\s*)+")
_PATCH_WORDS = frozenset({"patch", "patches", "patchset"})
_PULL_WORDS = frozenset({"pull"})
_MAX_SUBJECT = 2000
_MAX_MARKS = 24  # brackets and "Re:" that are taken off the front of one subject


@dataclass(frozen=True, slots=True)
class Subject:
    """A subject taken apart.

    ``version`` is "1" when none is written. ``number``/``total`` are None when no counter is written.
    ``stable`` names the branch ("6.18.y", "AUTOSEL 6.19-6.18") of a backport or review mail.
    """

    title: str
    version: str = "1"
    number: int | None = None
    total: int | None = None
    tags: tuple[str, ...] = ()
    reply: bool = False
    patch: bool = False
    pull: bool = False
    stable: str | None = None
    explicit_version: bool = False

    @property
    def rfc(self) -> bool:
        """A request for comments."""
        return "RFC" in self.tags

    @property
    def resend(self) -> bool:
        """The same version sent again."""
        return "RESEND" in self.tags

    @property
    def cover(self) -> bool:
        """A cover letter: number 0 of some."""
        return self.patch and self.number == 0


def parse_subject(text: str) -> Subject:
    """Take a decoded subject apart. Never fails: what is not understood stays in ``title`` or ``tags``."""
    rest = " ".join(text[:_MAX_SUBJECT].split())
    reply = patch = pull = explicit = False
    version, number, total, stable = "1", None, None, None
    tags: list[str] = []
    for _ in range(_MAX_MARKS):
        found = _REPLY.match(rest) or _SUBSET.match(rest)
        if found is not None:
            reply = True  # "(subset)" is written by b4 ty, in replies only
            rest = rest[found.end() :]
            continue
        if not rest.startswith("["):
            break
        inside, after = _bracket(rest)
        words = _words(inside)
        lowered = {word.lower() for word in words}
        is_patch = bool(lowered & _PATCH_WORDS) or any(_GLUED.match(word) for word in words)
        is_pull = bool(lowered & _PULL_WORDS)
        if (patch or pull) and not is_patch and not is_pull and not _bracket_belongs(words):
            break  # "[PATCH] [media] foo": the second bracket is part of the title
        rest = after
        branch: list[str] = []
        for word in words:
            glued = _GLUED.match(word)
            if glued is not None:
                word = glued[2]
                if glued[1].lower() != "patch":
                    tags.append(glued[1].upper())
            if (counter := _COUNTER.match(word)) is not None:
                number, total = int(counter[1]), int(counter[2])
            elif (found_version := _VERSION.match(word)) is not None:
                version, explicit = _plain(found_version[1]), True
            elif word.lower() in _PATCH_WORDS or word.lower() in _PULL_WORDS:
                continue
            elif (is_patch or patch) and (
                word.upper() == "AUTOSEL" or _RANGE.match(word) or _STABLE.match(word)
            ):
                branch.append(word)
            else:
                tags.append(word.upper() if word.lower() in {"rfc", "resend", "rft", "rebased"} else word)
        if branch:
            stable = " ".join(branch)
        patch = patch or is_patch or (not is_pull and "RFC" in tags and number is not None)
        pull = pull or is_pull
    if pull:
        patch = False
    return Subject(
        title=(rest.strip() or text.strip())[:MAX_TITLE],
        version=version,
        number=number,
        total=total,
        tags=tuple(dict.fromkeys(tags)),
        reply=reply,
        patch=patch,
        pull=pull,
        stable=stable,
        explicit_version=explicit,
    )


def version_key(version: str) -> tuple[int, ...]:
    """Order of versions: "2" < "5.1" < "10"."""
    return tuple(int(part) for part in version.split("."))


def normal_title(title: str) -> str:
    """A title for comparison: lower case, single spaces, no final dot, no version word inside.

    Brackets in front go, as ``git am`` takes them off ("[PATCH][next] x" becomes the commit "x") unless it is
    told to keep them; a title that is nothing else stays.
    """
    lowered = re.sub(r"\bv\d+\b", " ", _FRONT.sub("", title, count=1).lower() or title.lower())
    return " ".join(lowered.split()).rstrip(". ")


def _bracket(text: str) -> tuple[str, str]:
    """The inside of the leading bracket and what follows; nested and unbalanced brackets are borne."""
    depth = 0
    for position, letter in enumerate(text):
        if letter == "[":
            depth += 1
        elif letter == "]":
            depth -= 1
            if depth == 0:
                return text[1:position].replace("[", " ").replace("]", " "), text[position + 1 :].lstrip()
    head, closed, tail = text[1:].partition("]")
    if closed:
        return head.replace("[", " "), tail.lstrip()
    return "", text.lstrip(
        "["
    ).lstrip()  # nothing closes them: all at once, each by itself would take squares


def _words(inside: str) -> list[str]:
    spaced = _SPACED_COUNTER.sub(r"\1/\2", inside)
    return [word for word in re.split(r"[\s,;:]+", spaced) if word]


def _bracket_belongs(words: list[str]) -> bool:
    """Whether a later bracket carries submission words: "[PATCH][RESEND]", "[RFC] [v2]"."""
    return all(
        word.lower() in {"rfc", "resend", "rft", "rebased"}
        or _VERSION.match(word)
        or _COUNTER.match(word)
        or _STABLE.match(word)
        for word in words
    )


def _plain(version: str) -> str:
    """ "03" -> "3", "5.1" -> "5.1"; version 0 counts as 1's forerunner and stays "0"."""
    return ".".join(str(int(part)) for part in version.split("."))
