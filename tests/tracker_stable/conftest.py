"""A kernel in small: mainline and stable branches made with git fast-import, and a stable mailing list."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from db.database import Database
from tracker.settings import DriverProfile, SourceSettings, TreeSettings
from tracker.sync import sync

FILE = "drivers/accel/amdxdna/aie2_ctx.c"
START = datetime(2025, 10, 1, 12, 0, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class Kernel:
    """A bare repository that grows commit by commit; a day passes with each."""

    folder: Path
    day: int = 0
    ids: dict[str, str] = field(default_factory=dict)  # title -> commit id of its first commit

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.git("init", "--quiet", "--bare", "--initial-branch=master")

    def git(self, *arguments: str, data: bytes | None = None) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments], input=data, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    def commit(
        self,
        title: str,
        body: str = "",
        *,
        branch: str = "master",
        file: str = FILE,
        start: str | None = None,
        content: str | None = None,
    ) -> str:
        """One commit on a branch (begun at ``start`` when it is new) of a file; its id."""
        self.day += 1
        when = int((START + timedelta(days=self.day)).timestamp())
        message = f"accel/amdxdna: {title}\n\n{body}".encode()
        fresh = self.git("branch", "--list", branch) == ""
        origin = start if fresh else f"refs/heads/{branch}"
        text = (content or f"int line_{self.day};\n").encode()
        stream = b"commit refs/heads/%s\nauthor Ada <ada@example.org> %d +0000\n" % (branch.encode(), when)
        stream += b"committer Ada <ada@example.org> %d +0000\n" % when
        stream += b"data %d\n%s\n" % (len(message), message)
        if origin is not None:
            stream += f"from {self.git('rev-parse', origin + '^{commit}')}\n".encode()
        stream += b"M 100644 inline %s\ndata %d\n%s\n" % (file.encode(), len(text), text)
        self.git("fast-import", "--quiet", "--force", data=stream)
        sha = self.git("rev-parse", f"refs/heads/{branch}")
        self.ids.setdefault(title, sha)
        return sha

    def tag(self, name: str, branch: str = "master") -> None:
        """An annotated tag at the branch's head."""
        self.day += 1
        when = int((START + timedelta(days=self.day)).timestamp())
        sha = self.git("rev-parse", f"refs/heads/{branch}")
        stream = f"tag {name}\nfrom {sha}\ntagger L <l@example.org> {when} +0000\ndata 1\nx\n"
        self.git("fast-import", "--quiet", data=stream.encode())

    def fixes(self, title: str) -> str:
        """The trailer that names an earlier commit."""
        return f'Fixes: {self.ids[title][:12]} ("accel/amdxdna: {title}")\n'

    def backport(self, title: str, branch: str, *, start: str | None = None, form: str = "commit") -> str:
        """A stable copy in one of the forms that name the mainline commit; "none" names it not."""
        sha = self.ids[title]
        first = {
            "commit": f"commit {sha} upstream.\n\n",
            "bracket": f"[ Upstream commit {sha} ]\n\n",
            "cherry": f"text\n\n(cherry picked from commit {sha})\n",
            "none": "text\n",
        }[form]
        return self.commit(title, first, branch=branch, start=start)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path / "linux.git")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path / 'tracker.db'}")
    made.migrate()
    return made


@pytest.fixture
def mail() -> Callable[..., bytes]:
    """mail(subject, message_id=, body=, day=): a raw mail of the stable list."""

    def make(subject: str, *, message_id: str, body: str = "text\n", day: int = 1) -> bytes:
        date = format_datetime(START + timedelta(days=day))
        return (
            f"From: Greg <greg@example.org>\nSubject: {subject}\nDate: {date}\n"
            f"Message-ID: <{message_id}>\n\n{body}"
        ).encode()

    return make


@pytest.fixture
def read(tmp_path: Path, database: Database, kernel: Kernel) -> Callable[..., None]:
    """read(branches, mails): sync mainline, the named stable branches and the mails."""

    def work(branches: list[str], mails: list[bytes] = [], more: list[SourceSettings] = []) -> None:  # noqa: B006 - never changed
        sources = list(more)
        if mails:
            box = tmp_path / "stable.mbox"
            envelope = b"From mboxrd@z Thu Jan  1 00:00:00 1970\n"
            box.write_bytes(b"".join(envelope + raw.rstrip(b"\n") + b"\n\n" for raw in mails))
            sources.append(SourceSettings(name="stable-list", kind="mbox", location=str(box)))
        location = str(kernel.folder)
        trees = [TreeSettings(name="mainline", location=location, branch="master")]
        trees += [TreeSettings(name=name, location=location, role="stable", branch=name) for name in branches]
        report = sync(database, sources, trees, DriverProfile(), clones=tmp_path / "clones", now=NOW)
        assert [one.problem for one in report.sources] == [None] * len(report.sources)

    return work
