"""What a mail states that its patches wait for. Pure: text in, frozen statements out.

Read are explicit lines (b4's and git's ``prerequisite-...``, ``Depends-on:``) and a few whole sentences: a
dependency on a link, on a reference, on a quoted title, on a patch of the same series, and an order between
trees ("once patch 1 has reached drm-misc I send patch 2"). Quoted lines, questions and negated sentences say
nothing. Which change a statement names, and whether it is there by now, is decided by `tracker.waiting`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from tracker.mail.body import PatchText, linked_messages

MAX_SENTENCE = 200  # characters of a sentence that are kept as evidence
MAX_STATEMENTS = 30  # of one mail
MAX_TEXT = 40_000  # characters of a mail's own text that are read
MAX_LOOKED_AT = 2_000  # characters of one sentence
BEFORE = 60  # characters before a verb in which a "not" counts

# A line of its own: "prerequisite-message-id: <x@y>", "Depends-on: https://lore...", "base-commit: 3a8660".
_LINE = re.compile(
    r"^(depends-on|prerequisite-(?:message|change|patch)-id|base-commit):[ \t]*(\S[^\n]{0,300})$",
    re.MULTILINE | re.IGNORECASE,
)
_LINE_KEYS = ("prerequisite-", "base-commit:", "epends-")
# "<20260105.1-2-a@b>" or "20260105.1-2-a@b", all that the value has.
_ID = re.compile(r"<?([^<>\s\"']{1,250}@[^<>\s\"']{1,250}?)>?")
# A commit at the start of a value: '3a8660878839 ("title")', "commit 3a8660878839".
_SHA = re.compile(r"(?:commit\s+)?([0-9a-f]{12,40})\b", re.IGNORECASE)
# A change-id with or without the version that b4 adds: "20251112-pci-m2-e-94695ac9d657:v2".
_CHANGE = re.compile(r"([^\s:]{4,200})(?::v?\d{1,3})?")
# Where a reference is resolved: "[1] https://lore.kernel.org/...", "[1]: <https://...>".
_REFERENCE = re.compile(r"^[ \t]*\[(\d{1,2})\]:?[ \t]+<?(https?://\S{1,500})", re.MULTILINE)
# An empty line, a ruler ("---", "====") or the beginning of a list item ends what a sentence can reach.
_PARAGRAPH = re.compile(r"\n\s*\n|\n(?:-{3,}|={3,})[ \t]*(?:\n|$)|\n[ \t]*[-*] ")
# "... ends. Begins": the space between two sentences.
_BETWEEN = re.compile(r"(?<=[.!?])\s+(?=[A-Z(\"\[])")
# "depends on", "is dependent on", "is based on top of", "applies cleanly on top of".
_DEPENDS = re.compile(
    r"\b(?:depend(?:s|ent)?\s+(?:up)?on"
    r"|(?:based|rebased|appl(?:y|ies)|builds?|built)\s+(?:cleanly\s+)?(?:up)?on(?:\s+the)?\s+top\s+of)\b",
    re.IGNORECASE,
)
# What makes a link or a reference behind the verb a piece of work: "the M.2 Key M series [1]".
_WORK = re.compile(r"\b(?:series|patch(?:es|set|sets)?|changes?|fix(?:es)?|following)\b", re.IGNORECASE)
# What is waited for, behind the verb: a link, "[1]", or a quoted title with its subsystem.
_NAMED = re.compile(
    r"(?P<link>https?://\S+)|\[(?P<reference>\d{1,2})\]"
    r"|[\"“]\s*(?:\[[^\]]{1,60}\]\s*)?(?P<title>[^\"”\[\]]{2,60}: [^\"”]{4,160}?)\s*[\"”]"
)
# A "not" shortly before the verb, or a condition: "does not depend on", "if it depends on".
_NEGATED = re.compile(
    r"\b(?:not|no|never|without|neither|nor|longer|if|whether|previously|instead)\b|n't\b", re.IGNORECASE
)
# What was awaited has come: "depends on [1], which is already in drm-next".
_DONE = re.compile(
    r"\b(?:already|(?:has|have)\s+(?:now\s+)?been|was|were)\s+(?:\w+\s+)?"
    r"(?:merged|applied|landed|queued|accepted|picked|upstream\w*|in)\b",
    re.IGNORECASE,
)
# In a reply only a sentence about the patch or the series speaks for it.
_ABOUT = re.compile(
    r"\b(?:this|these|the|my)\s+(?:\w+\s+)?(?:patch(?:es|set)?|series|changes?)\b", re.IGNORECASE
)
# The verb's own subject is a numbered patch: "Patch 3 depends on".
_SUBJECT = re.compile(
    r"\bpatch\s*#?(\d{1,3})(?:/\d{1,3})?\s+(?:is\s+|also\s+|only\s+|was\s+){0,2}$", re.IGNORECASE
)
# "All further patches", "All patches" in front of the verb.
_ALL = re.compile(
    r"\ball\s+(?:of\s+)?(?:(?:the|other|further|following|remaining|subsequent|later)\s+){0,2}patches\s+$",
    re.IGNORECASE,
)
# Nothing, or the patch itself, in front of the verb.
_OWN = re.compile(r"(?:[\"(*-]|\s)*(?:this\s+patch\s+(?:is\s+|also\s+)?)?$", re.IGNORECASE)
# Behind the verb, a patch of the same series: "the first OF patch", "patch 1", "patch1", never "patch 1 of".
_SAME_SERIES = re.compile(
    r"\s+(?:(?:the\s+)?(?P<first>first)\s+(?:[\w-]{2,20}\s+)?patch"
    r"|(?:the\s+)?patch\s*#?(?P<number>\d{1,3})(?:/\d{1,3})?"
    r"|(?P<this>this(?:\s+patch|\s+one)?))(?=\s*(?:[.,;)]|$)|\s+(?!of\b|in\b|from\b|series\b)\w)",
    re.IGNORECASE,
)
# An order between trees: "wait the patch 1 to be upstream and reach to drm-misc", "once patch 1 is in X".
_AWAITED = re.compile(
    r"\b(?:wait(?:s|ing)?(?:\s+(?:for|until|till))?|until|till|once|after|when|as\s+soon\s+as)\s+(?:the\s+)?"
    r"patch\s*#?(\d{1,3})(?:/\d{1,3})?\s+((?:to|is|has|gets?|got|lands?|landed|hits?|reach(?:es|ed)?|goes|being)"
    r"\b[^,;.]{0,120}?)(?=\b(?:before|then)\b|[,;.]|$)",
    re.IGNORECASE,
)
# Where it has to come: "drm-misc", "drm-misc-next", "linux-next", "foo-fixes", "the accel tree".
_TREE = re.compile(
    r"\b(drm(?:-[a-z]+){1,3}|linux-next|[a-z][a-z0-9_-]{1,40}-(?:next|fixes|misc|tip))\b"
    r"|\bthe\s+([a-z][a-z0-9/-]{1,30})\s+tree\b",
    re.IGNORECASE,
)
# It has to come to mainline: "upstream", "merged", "lands in mainline", "in Linus' tree".
_MAINLINE = re.compile(r"\b(?:upstream(?:ed)?|mainline|merged|land(?:s|ed)?|linus)\b", re.IGNORECASE)
# What then happens to the patch that waits: "then submit patch 2 there".
_THEN = re.compile(
    r"\b(?:re)?(?:submit|send|post|apply|take|merge|queue|go|land|push)(?:s|ted|ed|ing)?\b", re.IGNORECASE
)
_PATCH_NUMBER = re.compile(r"\bpatch\s*#?(\d{1,3})(?:/\d{1,3})?\b", re.IGNORECASE)
# One of these is in every text that can say something, in lower case: found fast, most mails have none.
_WORDS = ("depend", "top of", "prerequisite-")
_NUMBERED = re.compile(r"patch\s?#?\d")


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that patches wait for, as a mail states it.

    ``kind`` says what ``target`` is: message (id), change-id, patch-id, commit, title, or number (of a patch
    in the series that the mail is in or answers; 0 is the mail itself). ``waiter``: the number of the patch
    that waits; 0: the mail's own patch, or every patch of a cover's series. ``tree``: where the target has to
    come to; None: not said.
    """

    kind: str
    target: str
    rule: str
    score: float
    sentence: str
    waiter: int = 0
    others: bool = False  # every other patch of the series waits
    tree: str | None = None


@dataclass(frozen=True, slots=True)
class Stated:
    """What one mail states. ``base``: the commit of its ``base-commit:`` line, a fact and no dependency."""

    statements: tuple[Statement, ...] = ()
    base: str | None = None


NOTHING = Stated()


def stated_by_patch(text: PatchText, *, cover: bool) -> Stated:
    """Read a cover letter, or a patch: its lines anywhere, its sentences below ``---`` only."""
    own = f"{text.message}\n\n{text.remarks}" if cover else text.remarks
    return _stated((text.message, text.remarks, text.diff), own, "cover" if cover else "patch")


def stated_by_reply(body: str) -> Stated:
    """Read a reply's own words: quoted lines never count."""
    if not _worth_reading(body):
        return NOTHING
    own = "\n".join(line for line in body.split("\n") if not line.lstrip().startswith(">"))
    return _stated((own,), own, "reply")


def _stated(parts: tuple[str, ...], own: str, mail: str) -> Stated:
    found: list[Statement] = []
    base: str | None = None
    for part in parts:
        if not any(key in part for key in _LINE_KEYS):
            continue
        for line in _LINE.finditer(part):
            key, value = line[1].lower(), line[2].strip()
            if key == "base-commit":
                sha = _SHA.match(value)
                base = sha[1].lower() if sha else base
            elif len(found) < MAX_STATEMENTS and (statement := _of_line(key, value, line[0])) is not None:
                found.append(statement)
    text = own[:MAX_TEXT]
    if _worth_reading(text):
        references = dict(_REFERENCE.findall(text))
        for sentence in _sentences(text):
            found += _of_sentence(sentence[:MAX_LOOKED_AT], references, mail)
    if not found and base is None:
        return NOTHING
    return Stated(tuple(dict.fromkeys(found[:MAX_STATEMENTS])), base)


def _of_line(key: str, value: str, line: str) -> Statement | None:
    evidence = _short(line)
    if key == "prerequisite-patch-id":
        sha = re.fullmatch(r"[0-9a-f]{40}", value.lower())
        return Statement("patch-id", sha[0], f"{key} line", 1.0, evidence) if sha else None
    if key == "prerequisite-change-id":
        change = _CHANGE.fullmatch(value)
        return Statement("change-id", change[1], f"{key} line", 1.0, evidence) if change else None
    links = linked_messages(value)
    bare = _ID.fullmatch(value)
    if links or bare:
        return Statement(
            "message", links[0] if links else bare[1] if bare else "", f"{key} line", 1.0, evidence
        )
    sha = _SHA.match(value) if key == "depends-on" else None
    return Statement("commit", sha[1].lower(), f"{key} line", 1.0, evidence) if sha else None


def _sentences(text: str) -> Iterator[str]:
    text = re.split(r"^-- ?$", text, maxsplit=1, flags=re.MULTILINE)[0]
    for paragraph in _PARAGRAPH.split(text):
        if _worth_reading(paragraph):
            yield from _BETWEEN.split(" ".join(paragraph.split()))


def _of_sentence(sentence: str, references: dict[str, str], mail: str) -> Iterator[Statement]:
    if sentence.endswith("?"):
        return
    yield from _order(sentence, mail)
    for verb in _DEPENDS.finditer(sentence):
        before, after = sentence[: verb.start()], sentence[verb.end() : verb.end() + 240]
        if _NEGATED.search(before[-BEFORE:]) or _DONE.search(after):
            continue
        same = _SAME_SERIES.match(after)
        found = _same_series(sentence, before, same, mail) if same else None
        if found is None:
            found = _other_work(sentence, before, after, references, mail)
        if found is not None:
            yield found


def _same_series(sentence: str, before: str, same: re.Match[str], mail: str) -> Statement | None:
    """A patch waits for another of its series."""
    if same["this"] and mail != "patch":
        return None  # what "this" is, only a patch's own mail tells
    target = "1" if same["first"] else same["number"] or "0"
    numbered = partial(Statement, "number", target, score=0.9, sentence=_short(sentence))
    if _ALL.search(before):
        return numbered(rule="all patches depend on", others=True)
    subject = _SUBJECT.search(before)
    if subject is not None:
        waiter = int(subject[1])
        return numbered(rule="patch depends on patch", waiter=waiter) if subject[1] != target else None
    if mail == "patch" and _OWN.fullmatch(before) and target != "0":
        return numbered(rule="patch depends on patch")
    return None


def _other_work(
    sentence: str, before: str, after: str, references: dict[str, str], mail: str
) -> Statement | None:
    """A link, a reference or a quoted title behind the verb."""
    named = _NAMED.search(after)
    if named is None:
        return None
    between = after[: named.start()]
    if len(between.strip()) > 8 and not _WORK.search(between):
        return None
    subject = _SUBJECT.search(before)
    if mail == "reply" and subject is None and not _ABOUT.search(before):
        return None
    waiter = int(subject[1]) if subject else 0
    evidence = _short(sentence)
    if named["title"]:
        return Statement("title", named["title"].strip(), "depends on title", 0.75, evidence, waiter)
    link = named["link"] or references.get(named["reference"], "")
    rule, score = ("depends on link", 0.9) if named["link"] else ("depends on reference", 0.85)
    targets = linked_messages(link)
    return Statement("message", targets[0], rule, score, evidence, waiter) if targets else None


def _order(sentence: str, mail: str) -> Iterator[Statement]:
    """An order between trees: one patch of the series goes on when another has reached a tree."""
    for awaited in _AWAITED.finditer(sentence):
        number, rest = awaited[1], awaited[2]
        if _NEGATED.search(sentence[: awaited.start()][-BEFORE:]) or _NEGATED.search(rest):
            continue
        trees = [tree[1] or tree[2] for tree in _TREE.finditer(rest)]
        other = sentence[: awaited.start()] + sentence[awaited.end() :]
        if not (trees or _MAINLINE.search(rest)) or _THEN.search(other) is None:
            continue
        waiters = set(_PATCH_NUMBER.findall(other)) - {number}
        if len(waiters) > 1 or (not waiters and mail != "patch"):
            continue
        yield Statement(
            "number", number, "order between trees", 0.85, _short(sentence),
            waiter=int(waiters.pop()) if waiters else 0,
            tree=trees[-1].lower() if trees else "mainline",
        )  # fmt: skip


def _worth_reading(text: str) -> bool:
    lowered = text.lower()
    return any(word in lowered for word in _WORDS) or _NUMBERED.search(lowered) is not None


def _short(sentence: str) -> str:
    plain = " ".join(sentence.split())
    return plain if len(plain) <= MAX_SENTENCE else plain[: MAX_SENTENCE - 1] + "…"
