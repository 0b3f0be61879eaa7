"""Small git trees with exact commits: what a test is about is in the test, the plumbing is here."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from db.database import Database
from tracker.settings import DriverProfile, SourceSettings, TreeSettings
from tracker.sync import SyncReport, sync
from xdnawatch.cli import app as root

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)


class Repo:
    """A bare repository. ``day`` counts from 2026-01-01; a commit without one comes a day after the last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.day = 0
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--bare", "--initial-branch=main")

    def git(self, *arguments: str, data: bytes | None = None) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments], input=data, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    def commit(
        self,
        message: str,
        files: Mapping[str, str | None],
        *,
        day: int | None = None,
        branch: str = "main",
        start: str | None = None,
        author: str = "Ada <ada@example.org>",
        links: Mapping[str, str] | None = None,
    ) -> str:
        """One commit; a file with None is removed, ``links`` are submodules (path -> commit id). Its id."""
        self.day = day if day is not None else self.day + 1
        when = f"{int((START + timedelta(days=self.day)).timestamp())} +0000"
        origin = f"refs/heads/{branch}" if self.git("branch", "--list", branch) else start
        stream = f"commit refs/heads/{branch}\nauthor {author} {when}\ncommitter {author} {when}\n".encode()
        stream += b"data %d\n%s\n" % (len(message.encode()), message.encode())
        if origin is not None:
            stream += f"from {self.git('rev-parse', origin + '^{commit}')}\n".encode()
        for path, text in files.items():
            if text is None:
                stream += f"D {path}\n".encode()
            else:
                stream += b"M 100644 inline %s\ndata %d\n%s\n" % (
                    path.encode(),
                    len(text.encode()),
                    text.encode(),
                )
        for path, target in (links or {}).items():
            stream += f"M 160000 {target} {path}\n".encode()
        self.git("fast-import", "--quiet", "--force", data=stream)
        return self.git("rev-parse", f"refs/heads/{branch}")

    def tag(self, name: str, branch: str = "main", *, day: int | None = None) -> None:
        """An annotated tag at the branch's head."""
        self.day = day if day is not None else self.day
        when = int((START + timedelta(days=self.day)).timestamp())
        sha = self.git("rev-parse", f"refs/heads/{branch}")
        stream = f"tag {name}\nfrom {sha}\ntagger L <l@example.org> {when} +0000\ndata 1\nx\n"
        self.git("fast-import", "--quiet", data=stream.encode())


@pytest.fixture
def repo(tmp_path: Path) -> Callable[[str], Repo]:
    """Make a repository: repo("linux")."""
    return lambda name: Repo(tmp_path / f"{name}.git")


@pytest.fixture
def follow(tmp_path: Path, database: Database) -> Callable[..., SyncReport]:
    """follow({"mainline": repo, "twin": repo}): sync trees, each named by its role (or "role:name")."""

    def work(trees: Mapping[str, Repo], mails: Path | None = None, now: datetime = NOW) -> SyncReport:
        settings = []
        for name, one in trees.items():
            role, _, own = name.partition(":")
            values = {"name": own or role, "role": role, "location": str(one.folder), "branch": "main"}
            settings.append(TreeSettings.model_validate(values))
        sources = [SourceSettings(name="mails", kind="mbox", location=str(mails))] if mails else []
        report = sync(database, sources, settings, DriverProfile(), clones=tmp_path / "clones", now=now)
        assert [one.problem for one in report.sources] == [None] * len(report.sources)
        return report

    return work


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., str]:
    """program("twin", "--json"): standard output of `xdnawatch track twin --json` on the test's database."""
    settings = tmp_path / "xdnawatch.toml"
    settings.write_text(f'[database]\nurl = "sqlite:///{tmp_path / "test.db"}"\n')

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(root, ["-c", str(settings), "track", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return call
