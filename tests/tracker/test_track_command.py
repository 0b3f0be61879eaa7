"""`xdnawatch track`, as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tracker.sample import write_sample
from xdnawatch.cli import app as root
from xdnawatch.errors import UsageError

RUNNER = CliRunner()


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A settings file with the sample's sources and one that is absent."""
    sources, trees = write_sample(tmp_path / "sample")
    text = f'[paths]\ndata = "{tmp_path / "data"}"\n'
    text += f'[[source]]\nname = "mails"\nkind = "mbox"\nlocation = "{sources[0].location}"\nsample = true\n'
    text += '[[source]]\nname = "gone"\nkind = "eml"\nlocation = "absent"\n'
    for tree in trees:
        text += (
            f'[[tree]]\nname = "{tree.name}"\nlocation = "{tree.location}"\nrole = "{tree.role}"\n'
            f'branch = "{tree.branch}"\nsample = true\n'
        )
    file = tmp_path / "xdnawatch.toml"
    file.write_text(text)
    return file


@pytest.fixture
def program(settings: Path) -> Callable[..., str]:
    """program("changes", "--json"): standard output of `xdnawatch track changes --json`."""

    def call(*arguments: str) -> str:
        done = RUNNER.invoke(root, ["-c", str(settings), "track", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return call


def test_sync_then_answers(program: Callable[..., str]) -> None:
    report = json.loads(program("sync", "--json"))
    assert [(one["name"], one["problem"] is None) for one in report["sources"]][:2] == [
        ("mails", True),
        ("gone", False),
    ]
    assert report["derived"]["changes"] > 100
    page = json.loads(program("window", "7.1", "--json"))
    assert page["window"] == "7.1"
    assert page["total"] == len(page["merge_window"]) + len(page["fixes"])
    reverted = json.loads(program("changes", "--state", "reverted", "--json"))
    assert [one["window"] for one in reverted] == ["7.2"]
    whole = json.loads(program("show", reverted[0]["slug"], "--json"))
    assert whole["evidence"]
    assert whole["versions"]
    assert {"window": "7.1", "changes": page["total"]} in json.loads(program("window", "--json"))
    assert "Support read-only user-pointer" in program("show", reverted[0]["commit"])
    assert "reverted:" in program("window", "7.2")
    assert "sample" in program("changes", "--limit", "2")
    assert "released" in program("changes", "--window", "7.0", "--author", "lizhi", "--title", "suspend")
    assert "mails" in program("sync", "--only", "mails")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["changes", "--state", "landd"], "states are"),
        (["sync", "--only", "nobody"], "nobody"),
    ],
)
def test_wrong_words_are_told(
    settings: Path, program: Callable[..., str], arguments: list[str], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        program(*arguments)


def test_help_is_whole(program: Callable[..., str]) -> None:
    for command in ("sync", "changes", "show", "window"):
        assert "Example" in program(command, "--help")
        assert "--json" in program(command, "--help")
