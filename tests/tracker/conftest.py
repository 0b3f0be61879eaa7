"""Builders for mails and histories: what a test is about is written in the test, the rest is made here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from db.database import Database
from tracker.sample import write_sample
from tracker.settings import DriverProfile, SourceSettings, TreeSettings
from tracker.sync import sync

DRIVER_FILE = "drivers/accel/amdxdna/aie2_ctx.c"
NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
SYNCED = datetime(2026, 11, 23, tzinfo=UTC)
ENVELOPE = b"From mboxrd@z Thu Jan  1 00:00:00 1970\n"

MailMaker = Callable[..., bytes]


def one_file_diff(path: str = DRIVER_FILE, *, old: str = "int a = 1;", new: str = "int a = 2;") -> str:
    """A small whole diff of one file."""
    return (
        f"diff --git a/{path} b/{path}\nindex 1111111..2222222 100644\n--- a/{path}\n+++ b/{path}\n"
        f"@@ -1,3 +1,3 @@ static int f(void)\n before();\n-\t{old}\n+\t{new}\n after();\n"
    )


def _mail(
    subject: str,
    *,
    message_id: str | None = "one@example.org",
    author: str = "Ada Author <ada@example.org>",
    date: datetime | None = NOON,
    body: str = "",
    diff: str = "",
    answers: str | None = None,
    references: Iterable[str] = (),
    headers: Iterable[str] = (),
) -> bytes:
    lines = [f"From: {author}", f"Subject: {subject}", *headers]
    if date is not None:
        lines.append(f"Date: {format_datetime(date)}")
    if message_id is not None:
        lines.append(f"Message-ID: <{message_id}>")
    if answers is not None:
        lines.append(f"In-Reply-To: <{answers}>")
    chain = [*references, *([answers] if answers and answers not in references else [])]
    if chain:
        lines.append("References: " + "\n ".join(f"<{entry}>" for entry in chain))
    text = body + (f"---\n 1 file changed\n\n{diff}-- \n2.34.1\n" if diff else "")
    return ("\n".join(lines) + "\n\n" + text).encode()


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[SourceSettings], list[TreeSettings]]:
    """The sources and trees of the generated sample."""
    return write_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="session")
def template(
    tmp_path_factory: pytest.TempPathFactory, sample: tuple[list[SourceSettings], list[TreeSettings]]
) -> Path:
    """A database into which the sample was synced once, to be copied."""
    folder = tmp_path_factory.mktemp("template")
    made = Database(f"sqlite:///{folder / 'template.db'}")
    made.migrate()
    sync(made, *sample, DriverProfile(), clones=folder, now=SYNCED)
    made.close()
    return folder / "template.db"


@pytest.fixture
def synced(template: Path, tmp_path: Path) -> Iterator[Database]:
    """A database of this test with the sample in it, of the day ``SYNCED``."""
    shutil.copy(template, tmp_path / "synced.db")
    opened = Database(f"sqlite:///{tmp_path / 'synced.db'}")
    yield opened
    opened.close()


@pytest.fixture
def mail() -> MailMaker:
    """Make a raw mail: mail(subject, message_id=..., author=..., body=..., diff=..., answers=...)."""
    return _mail


@pytest.fixture
def driver_diff() -> Callable[..., str]:
    """Make a small diff: driver_diff(path, old=..., new=...)."""
    return one_file_diff


@pytest.fixture
def mbox(tmp_path: Path) -> Callable[..., Path]:
    """Write raw mails to an mbox file: mbox(mails, name=...)."""

    def write(mails: Iterable[bytes], name: str = "list.mbox") -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join(ENVELOPE + raw.rstrip(b"\n") + b"\n\n" for raw in mails))
        return path

    return write


def git(folder: Path, *arguments: str, data: bytes | None = None, when: datetime | None = None) -> str:
    """Run git in a repository of a test; ``when`` sets both dates."""
    import os

    environment = dict(os.environ)
    if when is not None:
        stamp = f"{int(when.timestamp())} +0000"
        environment |= {"GIT_AUTHOR_DATE": stamp, "GIT_COMMITTER_DATE": stamp}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], input=data, capture_output=True, check=True, env=environment
    )
    return done.stdout.decode().removesuffix("\n")


@pytest.fixture
def run_git() -> Callable[..., str]:
    """Run git: run_git(folder, *arguments, data=..., when=...)."""
    return git


@pytest.fixture
def inbox(tmp_path: Path) -> Callable[..., Path]:
    """Write (or extend) a public-inbox v2 archive: inbox(epoch, mails); None stands for a deletion."""

    def write(epoch: int, mails: Iterable[bytes | None], name: str = "inbox") -> Path:
        folder = tmp_path / name / "git" / f"{epoch}.git"
        fresh = not folder.exists()
        if fresh:
            folder.mkdir(parents=True)
            git(folder, "init", "--quiet", "--bare", "--initial-branch=master")
        stream = b""
        for number, raw in enumerate(mails):
            stream += b"commit refs/heads/master\ncommitter Test <test@example.org> 1700000000 +0000\n"
            stream += b"data 4\nmail\n"
            if number == 0 and not fresh:
                stream += b"from refs/heads/master^0\n"
            name_of, data = (b"m", raw) if raw is not None else (b"d", b"deleted")
            stream += b"deleteall\nM 100644 inline " + name_of + b"\ndata %d\n" % len(data) + data + b"\n"
        git(folder, "fast-import", "--quiet", data=stream)
        return tmp_path / name

    return write
