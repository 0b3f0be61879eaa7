"""The driver's commits: raw objects and diffs -> frozen facts. Nothing here knows mails or releases."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tracker.git.repository import Repository
from tracker.mail.body import reply_trailers, reverted_commit, upstream_commit
from tracker.mail.diff import Diff, parse_diff
from tracker.mail.headers import Address
from tracker.text import MAX_TITLE, storable
from tracker.touches import Touches, touches

# "Name <address> 1765475882 -0800" of a commit object.
_PERSON = re.compile(rb"^(.*?) ?<([^<>\n]*)> (-?\d{1,12}) [+-]\d{4}$")
MAX_COMMIT = 4 * 1024 * 1024  # bytes of a commit object
MAX_ADDRESS = 320  # bytes of an author's address


@dataclass(frozen=True)
class CommitFacts:
    """One commit, read. Dates are UTC; ``lines`` are crc32 of its changed lines, for similarity."""

    sha: str
    title: str
    message: str
    author: Address
    author_date: datetime
    commit_date: datetime
    trailers: tuple[tuple[str, str], ...]
    files: tuple[str, ...]
    diff_hash: str | None
    patch_id: str | None
    reverts: str | None
    upstream: str | None
    lines: tuple[int, ...]
    touches: Touches | None = None  # only where the diff was read just now


def driver_commits(
    repository: Repository, paths: Iterable[str], head: str, *, known: str | None = None
) -> list[str]:
    """Ids of the commits (no merges) that touch ``paths``, oldest first; with ``known`` only newer ones.

    ``--full-history``: a commit that was merged twice, or undone on one side of a merge, is still shown.
    """
    revisions = [head] if known is None else [head, f"^{known}"]
    arguments = ["--full-history", "--no-merges", "--reverse", "--topo-order", *revisions, "--", *paths]
    return list(repository.rev_list(arguments))


def read_commits(
    repository: Repository, ids: list[str], folders: Mapping[str, str] | None = None
) -> Iterator[CommitFacts]:
    """The facts of each commit, in the order given, through two plumbing streams.

    ``folders``: path there -> path in the kernel, for a tree that keeps the driver elsewhere. Then only those
    files are read, under their names in the kernel, so that equal changes have equal hashes.
    """
    objects = repository.blobs(ids, limit=MAX_COMMIT)
    diffs = repository.diffs(ids, folders or ())
    for blob, (sha, diff) in zip(objects, diffs, strict=True):
        if folders:
            diff = renamed(diff, folders)
        if blob.data is not None:
            yield replace(parse_commit(sha, blob.data, parse_diff(diff)), touches=touches(diff))


def renamed(diff: str, folders: Mapping[str, str]) -> str:
    """A diff with the names of its files as they are in another tree."""
    longest = sorted(folders, key=len, reverse=True)
    pattern = re.compile(
        r"(?<=[ab]/)(?:" + "|".join(re.escape(path) for path in longest) + r")(?=/|[ \t\n\"]|$)"
    )
    lines = diff.split("\n")
    for position, line in enumerate(lines):
        if line.startswith(("diff --git ", "--- a/", "+++ b/", '--- "a/', '+++ "b/')):
            lines[position] = pattern.sub(lambda found: folders[found[0]], line)
    return "\n".join(lines)


def parse_commit(sha: str, raw: bytes, diff: Diff) -> CommitFacts:
    """A raw commit object and its parsed diff as facts."""
    head, _, body = raw.partition(b"\n\n")
    fields: dict[bytes, bytes] = {}
    for line in head.split(b"\n"):
        key, _, value = line.partition(b" ")
        fields.setdefault(key, value)
    charset = fields.get(b"encoding", b"utf-8").decode("ascii", "replace")
    message = _text(body, charset).strip("\n")
    title, _, _ = message.partition("\n\n")
    author, author_date = _person(fields.get(b"author", b""), charset)
    _, commit_date = _person(fields.get(b"committer", b""), charset)
    return CommitFacts(
        sha=sha,
        title=" ".join(title.split())[:MAX_TITLE],
        message=message,
        author=author,
        author_date=author_date,
        commit_date=commit_date,
        trailers=reply_trailers(message),
        files=diff.paths,
        diff_hash=diff.diff_hash,
        patch_id=diff.patch_id,
        reverts=reverted_commit(message),
        upstream=upstream_commit(message),
        lines=tuple(sorted(diff.signature)),
    )


def _person(value: bytes, charset: str) -> tuple[Address, datetime]:
    found = _PERSON.match(value)
    if found is None:
        return Address(_text(value, charset)[:200], ""), datetime.fromtimestamp(0, UTC)
    name, address, seconds = found.groups()
    try:
        moment = datetime.fromtimestamp(int(seconds), UTC)
    except (OverflowError, ValueError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    return Address(_text(name, charset), _text(address[:MAX_ADDRESS], charset).lower()), moment


def _text(raw: bytes, charset: str) -> str:
    try:
        return storable(raw.decode("utf-8"))
    except UnicodeDecodeError:
        try:
            return storable(raw.decode(charset, "replace"))
        except (LookupError, ValueError):
            return storable(raw.decode("latin-1"))
