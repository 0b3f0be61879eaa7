"""The offline sample: mails and a small git history made from facts, for trials without a network.

Titles, authors' names, releases, commit ids (as a trailer) and the dates of mainline tags are real
(tracker/sample_data). Made up are the postings' dates, the versions, every text and every diff: they are
this project's own. Generated commits cannot have the real ids; each names the real one as ``Real-commit:``.
Everything is deterministic, and whatever is read from it is labelled as sample (`Source.sample`).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.resources import files
from pathlib import Path

from tracker.calendar import parse_tag, previous_window
from tracker.errors import GitError
from tracker.mail.body import reverted_title
from tracker.settings import SourceSettings, TreeSettings

FOLDER = "drivers/accel/amdxdna"
DOMAIN = "sample.invalid"  # RFC 2606: nobody's address
NOTICE = "Sample text made by xdnawatch from public facts; no mail or commit of anyone."
UNKNOWN_FIX_RC = 3  # a fix of which only the cycle is known is put before this -rc


@dataclass(frozen=True)
class SampleCommit:
    """One fact. ``window`` None: in no release yet. ``rc``: 1 merge window, 0 the release, None unknown."""

    title: str
    author: str
    window: str | None
    rc: int | None
    sha: str | None
    inferred: bool


@dataclass(frozen=True)
class SampleFacts:
    """What the sample is made of. ``tags``: (name, date), in release order."""

    tags: tuple[tuple[str, datetime], ...]
    commits: tuple[SampleCommit, ...]


@dataclass(frozen=True)
class _Planned:
    """A commit with its place: the tag before which it comes, and the date that was made up for it."""

    fact: SampleCommit
    tag: str | None
    date: datetime
    number: int


def load_facts() -> SampleFacts:
    """The facts that the project ships."""
    raw = json.loads(files("tracker").joinpath("sample_data/amdxdna.json").read_text("utf-8"))
    return SampleFacts(
        tags=tuple((name, datetime.fromisoformat(date)) for name, date, _ in raw["tags"]),
        commits=tuple(
            SampleCommit(title, author or "Unknown Author", window, rc, sha, inferred)
            for title, author, window, rc, sha, inferred in raw["commits"]
        ),
    )


def write_sample(folder: Path) -> tuple[list[SourceSettings], list[TreeSettings]]:
    """Make mails and git history below ``folder`` (made if absent) and give the settings that read them.

    An existing sample is left as it is: it is always the same. Raises GitError when git fails.
    """
    facts = load_facts()
    folder.mkdir(parents=True, exist_ok=True)
    mails, repository = folder / "sample.mbox", folder / "sample.git"
    if not (repository / "HEAD").exists():
        write_history(facts, repository)
    text = b"".join(_mbox_entries(facts))
    if not mails.exists() or mails.read_bytes() != text:
        mails.write_bytes(text)
    return (
        [SourceSettings(name="sample-mails", kind="mbox", location=str(mails), sample=True)],
        [
            TreeSettings(name="sample-mainline", location=str(repository), branch="master", sample=True),
            TreeSettings(
                name="sample-drm-misc-next",
                location=str(repository),
                branch="drm-misc-next",
                role="maintainer",
                sample=True,
            ),
        ],
    )


def write_mails(facts: SampleFacts, file: Path) -> None:
    """The mails alone, as one mbox file."""
    file.write_bytes(b"".join(_mbox_entries(facts)))


def write_history(facts: SampleFacts, repository: Path) -> None:
    """The git history alone: a bare repository with ``master``, ``drm-misc-next`` and the tags.

    Mainline's shape is kept: work comes by merges before -rc1 and before later -rc, so that "first tag
    containing" is a question about the graph and not about dates.
    """
    part = repository.with_name(repository.name + ".part")
    _git("init", "--quiet", "--bare", "--initial-branch=master", str(part))
    stream = _Stream()
    planned = _plan(facts)
    stream.commit(
        "refs/heads/master", "Linux sample history", _before(facts.tags[0][1], days=1), {"README": NOTICE}
    )
    for name, date in facts.tags:
        group = [entry for entry in planned if entry.tag == name]
        if group:
            branch = "refs/heads/work"
            stream.reset(branch, "refs/heads/master")
            for entry in group:
                stream.patch(branch, entry)
            kind = "drm-next" if name.endswith("-rc1") else "drm-misc-fixes"
            stream.merge(
                "refs/heads/master", branch, f"Merge {kind} for {name}", _before(date, hours=6), group
            )
        stream.commit("refs/heads/master", f"Linux {name[1:]}", date, {"VERSION": name[1:]})
        stream.tag(name, date)
    stream.reset("refs/heads/drm-misc-next", "refs/heads/master")
    for entry in planned:
        if entry.tag is None:
            stream.patch("refs/heads/drm-misc-next", entry)
    stream.delete("refs/heads/work")
    _git(f"--git-dir={part}", "fast-import", "--quiet", "--date-format=raw", data=stream.data())
    part.rename(repository)


def _plan(facts: SampleFacts) -> list[_Planned]:
    """Every commit in order (a revert after its target), with a made-up date in its part of the cycle."""
    dates = dict(facts.tags)
    newest = facts.tags[-1][1]
    planned = []
    for number, fact in enumerate(facts.commits):
        tag = _tag_of(fact, dates)
        if tag is None:
            date = newest + timedelta(days=3, hours=number)
        else:
            start = _start_of(tag, dates)
            share = 0.1 + 0.8 * (number / len(facts.commits))
            date = start + (dates[tag] - start) * share
        planned.append(_Planned(fact, tag, date.replace(microsecond=0), number))
    planned.sort(key=lambda entry: (reverted_title(entry.fact.title) is not None, entry.date))
    return planned


def _tag_of(fact: SampleCommit, dates: dict[str, datetime]) -> str | None:
    if fact.window is None:
        return None
    rc = UNKNOWN_FIX_RC if fact.rc is None else fact.rc
    tag = f"v{fact.window}" if rc == 0 else f"v{fact.window}-rc{rc}"
    if tag in dates:
        return tag
    later = [name for name in dates if (version := parse_tag(name)) and version.window == fact.window]
    return later[-1] if later else None


def _start_of(tag: str, dates: dict[str, datetime]) -> datetime:
    """When work for this tag may have been committed: a cycle before -rc1, a week before any other."""
    version = parse_tag(tag)
    assert version is not None
    if version.rc == 1:
        before = previous_window(version.window)
        opened = dates.get(f"v{before}-rc1")
        frozen = dates.get(f"v{before}-rc6")
        if opened is not None and frozen is not None:
            return opened
        return dates[tag] - timedelta(days=60)
    return dates[tag] - timedelta(days=6)


class _Stream:
    """A git fast-import stream."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def data(self) -> bytes:
        """The whole stream."""
        return b"".join(self._parts)

    def reset(self, branch: str, to: str) -> None:
        """Let a branch start where another is."""
        self._put(f"reset {branch}\nfrom {to}\n\n")

    def delete(self, branch: str) -> None:
        """Remove a branch that is no longer needed."""
        self._put(f"reset {branch}\nfrom {'0' * 40}\n\n")

    def commit(self, branch: str, message: str, date: datetime, contents: dict[str, str]) -> None:
        """A commit of the sample itself."""
        self._head(branch, "xdnawatch sample", date, date, message)
        self._files(contents)

    def patch(self, branch: str, entry: _Planned) -> None:
        """A commit made from a fact."""
        self._head(branch, entry.fact.author, entry.date, entry.date + timedelta(hours=20), _message(entry))
        self._change([entry])

    def merge(self, branch: str, other: str, message: str, date: datetime, brought: list[_Planned]) -> None:
        """A merge commit that takes the other side's files."""
        self._head(branch, "xdnawatch sample", date, date, message, merge=other)
        self._change(brought)

    def tag(self, name: str, date: datetime) -> None:
        """An annotated tag on master."""
        text = f"Linux {name[1:]} (sample)"
        self._put(f"tag {name}\nfrom refs/heads/master\ntagger {_person('xdnawatch sample', date)}\n")
        self._put(f"data {len(text.encode())}\n{text}\n")

    def _head(
        self,
        branch: str,
        author: str,
        date: datetime,
        committed: datetime,
        message: str,
        merge: str | None = None,
    ) -> None:
        self._put(f"commit {branch}\nauthor {_person(author, date)}\n")
        self._put(f"committer {_person('xdnawatch sample', committed)}\n")
        self._put(f"data {len(message.encode())}\n{message}\n")
        if merge is not None:
            self._put(f"merge {merge}\n")

    def _change(self, entries: list[_Planned]) -> None:
        contents: dict[str, str | None] = {}
        for entry in entries:
            contents[_file(entry)] = None if reverted_title(entry.fact.title) else _content(entry)
        for path in [path for path, text in contents.items() if text is None]:
            del contents[path]
            self._put(f"D {path}\n")
        self._files({path: text for path, text in contents.items() if text is not None})

    def _files(self, contents: dict[str, str]) -> None:
        for path, text in contents.items():
            self._put(f"M 100644 inline {path}\ndata {len(text.encode())}\n{text}\n")
        self._put("\n")

    def _put(self, text: str) -> None:
        self._parts.append(text.encode())


def _message(entry: _Planned) -> str:
    lines = [entry.fact.title, "", NOTICE, ""]
    if entry.fact.sha:
        lines.append(f"Real-commit: {entry.fact.sha}")
    lines.append(f"Link: https://patch.msgid.link/{_message_id(entry, _versions(entry))}")
    return "\n".join(lines) + "\n"


def _file(entry: _Planned) -> str:
    """One small file a commit: no two commits touch the same one, except a revert and what it reverts."""
    title = reverted_title(entry.fact.title) or entry.fact.title
    return f"{FOLDER}/sample_{hashlib.sha1(title.encode(), usedforsecurity=False).hexdigest()[:10]}.txt"


def _content(entry: _Planned) -> str:
    return f"{NOTICE}\n{reverted_title(entry.fact.title) or entry.fact.title}\n"


def _versions(entry: _Planned) -> int:
    """How often the sample posts a patch before it is applied: one to three times."""
    return 1 + entry.number % 3


def _message_id(entry: _Planned, version: int) -> str:
    sent = _posted(entry, version)
    return f"{sent:%Y%m%d%H%M%S}.{1000 + entry.number}-1-{_address(entry.fact.author).split('@')[0]}@{DOMAIN}"


def _posted(entry: _Planned, version: int) -> datetime:
    return entry.date - timedelta(days=4 * (_versions(entry) - version) + 1, minutes=entry.number % 50)


def _mbox_entries(facts: SampleFacts) -> Iterator[bytes]:
    mails: list[tuple[datetime, str]] = []
    for entry in _plan(facts):
        for version in range(1, _versions(entry) + 1):
            mails.append((_posted(entry, version), _patch_mail(entry, version)))
        if entry.number % 5 == 0:
            mails.append(_applied_mail(entry))
    for _, text in sorted(mails):
        yield f"From sample@{DOMAIN} Thu Jan  1 00:00:00 1970\n{text}\n".encode()


def _patch_mail(entry: _Planned, version: int) -> str:
    content = _content(entry).splitlines()
    path = _file(entry)
    undone = reverted_title(entry.fact.title) is not None
    prefix = "PATCH" if version == 1 and entry.number % 2 else f"PATCH V{version}"
    body = [
        NOTICE,
        "",
        f"Signed-off-by: {entry.fact.author} <{_address(entry.fact.author)}>",
        "---",
        f" {path} | {len(content)} {'--' if undone else '++'}",
        "",
        f"diff --git a/{path} b/{path}",
        *(
            ["deleted file mode 100644", f"--- a/{path}", "+++ /dev/null", f"@@ -1,{len(content)} +0,0 @@"]
            if undone
            else ["new file mode 100644", "--- /dev/null", f"+++ b/{path}", f"@@ -0,0 +1,{len(content)} @@"]
        ),
        *(f"{'-' if undone else '+'}{line}" for line in content),
        "-- ",
        "xdnawatch sample",
    ]
    return (
        _headers(
            f"[{prefix}] {entry.fact.title}",
            entry.fact.author,
            _posted(entry, version),
            _message_id(entry, version),
        )
        + "\n".join(body)
        + "\n"
    )


def _applied_mail(entry: _Planned) -> tuple[datetime, str]:
    answered = _message_id(entry, _versions(entry))
    date = entry.date + timedelta(hours=20)
    text = _headers(
        f"Re: [PATCH V{_versions(entry)}] {entry.fact.title}",
        "Sample Maintainer",
        date,
        f"applied-{entry.number}@{DOMAIN}",
        answered,
    )
    return date, f"{text}Applied to drm-misc-next.\n\n{NOTICE}\n"


def _headers(subject: str, author: str, date: datetime, message_id: str, answers: str | None = None) -> str:
    lines = [
        f"From: {author} <{_address(author)}>",
        f"Subject: {subject}",
        f"Date: {format_datetime(date)}",
        f"Message-ID: <{message_id}>",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
    ]
    if answers is not None:
        lines += [f"In-Reply-To: <{answers}>", f"References: <{answers}>"]
    return "\n".join(lines) + "\n\n"


def _address(name: str) -> str:
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "." for letter in name.lower())
    return f"{'.'.join(part for part in plain.split('.') if part) or 'someone'}@{DOMAIN}"


def _person(name: str, date: datetime) -> str:
    return f"{name} <{_address(name)}> {int(date.timestamp())} +0000"


def _before(date: datetime, *, days: int = 0, hours: int = 0) -> datetime:
    return date.astimezone(UTC) - timedelta(days=days, hours=hours)


def _git(*arguments: str, data: bytes | None = None) -> None:
    done = subprocess.run(["git", *arguments], input=data, capture_output=True, timeout=120, check=False)
    if done.returncode != 0:
        raise GitError(
            f"git could not make the sample: {done.stderr.decode('utf-8', 'replace').strip()[-300:]}"
        )
