"""`xdnawatch track forecast|next|backtest`, as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from db.database import Database
from db.git_tables import Tag, Tree
from db.mail_tables import Change, Source
from xdnawatch.cli import app as root

RUNNER = CliRunner()


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., str]:
    """program("next"): what `xdnawatch track next` prints over a database with three changes."""
    settings = tmp_path / "xdnawatch.toml"
    settings.write_text(f'[paths]\ndata = "{tmp_path}"\n[database]\nurl = "sqlite:///{tmp_path / "x.db"}"\n')
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    database.migrate()
    with Session(database.engine) as session:
        for slug, state, window, tag, probability in (
            ("on-its-way", "applied", "7.2", None, 0.9),
            ("fix", "queued", "7.1", None, 0.95),
            ("landed", "landed", "7.1", "v7.1-rc1", 1.0),
            ("done", "released", "7.0", "v7.0-rc2", 1.0),
        ):
            session.add(
                Change(
                    key=f"{slug}@x", slug=slug, title=f"accel/amdxdna: {slug}", author_name="A",
                    author_email="a@x", state=state, window=window, first_tag=tag, rule="a rule",
                    probability=probability,
                )
            )  # fmt: skip
        session.commit()
    database.close()

    def call(*arguments: str) -> str:
        done = RUNNER.invoke(root, ["-c", str(settings), "track", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return call


def test_the_coming_tags(program: Callable[..., str]) -> None:
    found = json.loads(program("forecast", "--on", "2026-04-27", "--json"))
    assert (found["newest"], found["next_tag"]["name"]) == ("v7.1-rc1", "v7.1-rc2")
    assert [one["name"] for one in found["following"]][-3:] == ["v7.1", "v7.2-rc1", "v7.2"]
    assert "2026-06-14 to 2026-06-21" in program("forecast", "--on", "2026-04-27")


def test_what_is_on_its_way_and_when(program: Callable[..., str]) -> None:
    found = {one["slug"]: one for one in json.loads(program("next", "--on", "2026-04-27", "--json"))}
    assert set(found) == {"on-its-way", "fix", "landed"}
    assert found["on-its-way"]["expected_first_tag"]["name"] == "v7.2-rc1"
    assert found["on-its-way"]["expected_first_tag"]["earliest"] == "2026-06-28"
    assert found["fix"]["expected_first_tag"]["name"] == "v7.1-rc2"
    assert found["landed"]["expected_first_tag"] is None
    assert found["landed"]["expected_release"]["latest"] == "2026-06-21"
    text = program("next", "--on", "2026-04-27")
    assert text.index("fix") < text.index("on-its-way")
    one = program("forecast", "on-its-way", "--on", "2026-04-27")
    assert "2026-08-16 to 2026-08-30" in one
    assert "a rule" in one


def test_what_is_blocked_by_other_work_is_told_after_what_comes(
    program: Callable[..., str], tmp_path: Path
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    waits = [
        {"text": "blocked until X is in drm-misc: no tree has it", "state": "open"},
        {"text": "waited for Y to be in mainline: it is in mainline", "state": "fulfilled"},
    ]
    with Session(database.engine) as session:
        for slug, state, stated in (
            ("blocked", "reviewed", waits),
            ("free", "reviewed", waits[1:]),
            ("gone", "superseded", waits),
        ):
            session.add(
                Change(
                    key=f"{slug}@x", slug=slug, title=f"accel/amdxdna: {slug}", author_name="A",
                    author_email="a@x", state=state, rule="a rule", probability=0.0,
                    notes={"depends": stated},
                )
            )  # fmt: skip
        session.commit()
    database.close()
    found = {one["slug"]: one for one in json.loads(program("next", "--on", "2026-04-27", "--json"))}
    assert set(found) == {"on-its-way", "fix", "landed", "blocked"}
    assert found["blocked"]["notes"]["depends"][0]["state"] == "open"
    assert found["blocked"]["expected_first_tag"] is None
    text = program("next", "--on", "2026-04-27")
    assert waits[0]["text"] in text.partition("accel/amdxdna: blocked (reviewed)")[2]
    assert waits[1]["text"] not in text
    assert waits[0]["text"] in program("forecast", "blocked", "--on", "2026-04-27")
    shown = program("show", "blocked")
    assert waits[0]["text"] in shown
    assert waits[1]["text"] in shown


def test_a_newer_tag_of_git_moves_the_forecast(program: Callable[..., str], tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    with Session(database.engine) as session:
        for sample, tag in ((False, "v7.4-rc2"), (True, "v7.9")):
            source = Source(kind="git", name=f"m{sample}", location=f"x{sample}", sample=sample)
            session.add(source)
            session.flush()
            tree = Tree(source_id=source.id, name=f"mainline{sample}", role="mainline")
            session.add(tree)
            session.flush()
            day = datetime(2026, 11, 15, 23, tzinfo=UTC)
            session.add(Tag(tree_id=tree.id, name=tag, commit_id="1" * 40, date=day))
        session.commit()
    database.close()
    found = json.loads(program("forecast", "--on", "2026-11-18", "--json"))
    assert (found["newest"], found["stale"]) == ("v7.4-rc2", False)
    assert found["next_tag"]["earliest"] == "2026-11-22"


def test_the_backtest_prints_rates_scores_and_tables(program: Callable[..., str]) -> None:
    text = program("backtest")
    for words in ("next tag", "tea-leaves", "Brier score", "mean said", "pdx86", "drm", "Wrong:"):
        assert words in text


def test_help_is_whole(program: Callable[..., str]) -> None:
    for command in ("forecast", "next", "backtest"):
        text = program(command, "--help")
        assert "Example" in text
        assert "--json" in text
