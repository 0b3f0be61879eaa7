"""Git repositories made by the tests themselves."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Git = Callable[..., str]
Commit = Callable[[str, Mapping[str, str]], str]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty git repository on a branch main."""
    path = tmp_path / "driver"
    path.mkdir()
    subprocess.run(
        ["git", "-C", str(path), "init", "--quiet", "--initial-branch=main"], check=True, timeout=30
    )
    return path


@pytest.fixture
def git(repository: Path) -> Git:
    """Run git in the repository; its output, stripped."""

    def run(*arguments: str) -> str:
        command = ["git", "-C", str(repository), "-c", "commit.gpgsign=false", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()

    return run


@pytest.fixture
def commit(repository: Path, git: Git) -> Commit:
    """Write files, commit everything, return the commit id."""

    def make(title: str, files: Mapping[str, str]) -> str:
        for name, content in files.items():
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            (repository / name).write_text(content)
        git("add", "-A")
        git("commit", "--quiet", "--allow-empty", "-m", title)
        return git("rev-parse", "HEAD")

    return make
