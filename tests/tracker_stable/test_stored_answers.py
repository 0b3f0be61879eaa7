"""The further answers as they are stored at the end of a sync: the same that the commands give."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from typer.testing import CliRunner

from db import answer_tables as rows
from db.database import Database
from db.git_tables import Commit, Match, Tree
from db.mail_tables import Change, Source
from tracker import answers
from tracker.backtest import DateBacktest, backtest_dates
from tracker.calendar import parse_tag
from tracker.known_kernels import Known, contents
from tracker.settings import DriverProfile
from tracker.stable import stable
from tracker.stored_answers import store_answers
from tracker.sync import derive
from tracker.where import Reach, where
from xdnawatch.cli import app as root
from xdnawatch.cli import forecast

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
UAPI = "include/uapi/drm/amdxdna_accel.h"


def history(kernel: Any) -> None:
    """Mainline to 6.19 with a fix of something in 6.18 and a revert; linux-6.18.y takes the fix in 6.18.2."""
    kernel.commit("Add a thing")
    kernel.tag("v6.18")
    kernel.commit("Fix the thing", kernel.fixes("Add a thing"))
    kernel.commit("Add a header", file=UAPI)
    kernel.tag("v6.19-rc1")
    undone = kernel.commit("Add a mistake")
    kernel.tag("v6.19-rc2")
    kernel.commit('Revert "accel/amdxdna: Add a mistake"', f"This reverts commit {undone}.\n")
    kernel.tag("v6.19-rc3")
    kernel.commit("other", branch="linux-6.18.y", start="v6.18", file="Makefile")
    kernel.tag("v6.18.1", "linux-6.18.y")
    kernel.backport("Fix the thing", "linux-6.18.y")
    kernel.tag("v6.18.2", "linux-6.18.y")


def lines(database: Database) -> dict[str, list[tuple[str, int, list[str], list[str]]]]:
    """Line -> (version, carried, titles added, titles removed), oldest first."""
    found: dict[str, list[tuple[str, int, list[str], list[str]]]] = {}
    with database.session() as session:
        for kernel in session.scalars(select(rows.KnownKernel).order_by(rows.KnownKernel.position)):
            entered: dict[str, list[str]] = {"added": [], "removed": []}
            query = (
                select(rows.KernelChange.what, Change.title)
                .join(Change, Change.id == rows.KernelChange.change_id)
                .where(rows.KernelChange.kernel_id == kernel.id)
                .order_by(Change.title)
            )
            for what, title in session.execute(query):
                entered[what].append(title.removeprefix("accel/amdxdna: "))
            found.setdefault(kernel.line, []).append(
                (kernel.version, kernel.carried, entered["added"], entered["removed"])
            )
    return found


def test_each_kernel_is_told_against_its_predecessor(
    kernel: Any, read: Callable[..., None], database: Database
) -> None:
    history(kernel)
    read(["linux-6.18.y"])
    revert = 'Revert "accel/amdxdna: Add a mistake"'
    assert lines(database) == {
        "mainline": [
            ("v6.18", 1, [], []),
            ("v6.19-rc1", 3, ["Add a header", "Fix the thing"], []),
            ("v6.19-rc2", 4, ["Add a mistake"], []),
            ("v6.19-rc3", 4, [revert], ["Add a mistake"]),
        ],
        "linux-6.18.y": [
            ("v6.18", 1, [], []),
            ("v6.18.1", 1, [], []),
            ("v6.18.2", 2, ["Fix the thing"], []),
        ],
    }


def test_what_is_stored_is_what_the_commands_say(
    kernel: Any, read: Callable[..., None], database: Database
) -> None:
    history(kernel)
    read(["linux-6.18.y"])
    judged = stable(database, now=NOW)
    with database.session() as session:
        for line in answers.changes(database):
            told = session.scalars(
                select(rows.Carrier)
                .join(Change, Change.id == rows.Carrier.change_id)
                .where(Change.slug == line.slug)
                .order_by(rows.Carrier.position)
            )
            wanted = [asdict(one) for one in where(database, line.slug, now=NOW).carriers]
            assert [{key: getattr(one, key) for key in wanted[0]} for one in told] == wanted
        ported = session.execute(
            select(Change.slug, Tree.name, rows.Backport.state, rows.Backport.version, rows.Backport.rule)
            .join(Change, Change.id == rows.Backport.change_id)
            .join(Tree, Tree.id == rows.Backport.tree_id)
        )
        assert set(map(tuple, ported)) == {
            (one.change, one.branch, one.state, one.version, one.rule) for one in judged.backports
        }
        branch = session.scalars(select(rows.StableBranch)).one()
        assert (branch.base, branch.newest, branch.ended) == ("6.18", "v6.18.2", True)
        dates = session.get(rows.Outlook, "dates")
        assert dates is not None
        assert dates.value["today"] == "2026-03-01"


def test_deriving_again_changes_nothing(kernel: Any, read: Callable[..., None], database: Database) -> None:
    history(kernel)
    read(["linux-6.18.y"])
    before = lines(database)
    derive(database, DriverProfile(), NOW)
    store_answers(database, NOW)
    assert lines(database) == before


def test_a_commit_of_an_older_database_is_read_once_more(
    kernel: Any, read: Callable[..., None], database: Database
) -> None:
    """Before this column was there nothing was kept of what a commit touches."""
    history(kernel)
    read([])
    with database.session() as session:
        session.execute(update(Commit).values(touches=None))
        session.execute(update(Source).values(cursor={"head": "of another time"}))
        session.commit()
    read([])
    with database.session() as session:
        assert session.scalars(select(Commit).where(Commit.touches.is_(None))).all() == []
        sources = set(session.scalars(select(rows.Touched.source)))
    assert {f"commit {kernel.ids['Add a header'][:12]}"} <= sources


def test_a_change_that_vanishes_takes_its_answers_with_it(
    kernel: Any, read: Callable[..., None], database: Database
) -> None:
    history(kernel)
    read(["linux-6.18.y"])
    with database.session() as session:
        change = session.scalars(select(Change).where(Change.title == "accel/amdxdna: Fix the thing")).one()
        session.execute(delete(Match).where(Match.change_id == change.id))
        session.delete(change)
        session.flush()
        assert session.scalars(select(rows.Carrier.change_id).distinct()).all()
        for table in (rows.Backport, rows.Carrier, rows.KernelChange, rows.Touched):
            assert change.id not in session.scalars(select(table.change_id)).all()


@pytest.fixture
def short_replay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A replay of two months instead of seven years; the words that call it on this database."""

    def some_days(tags: Any, holidays: Any) -> DateBacktest:
        return backtest_dates(tags, holidays, date(2026, 4, 1), date(2026, 6, 1))

    monkeypatch.setattr(forecast, "backtest_dates", some_days)
    settings = tmp_path / "xdnawatch.toml"
    settings.write_text(f'[database]\nurl = "sqlite:///{tmp_path / "tracker.db"}"\n')
    return ["-c", str(settings), "track", "backtest", "--json"]


def test_the_backtest_is_kept_for_the_page(database: Database, short_replay: list[str]) -> None:
    done = CliRunner().invoke(root, short_replay, catch_exceptions=False)
    assert done.exit_code == 0
    with database.session() as session:
        kept = session.get(rows.Outlook, "backtest")
    assert kept is not None
    assert kept.value["first"] == "2026-04-01"
    assert [one["target"] for one in kept.value["dates"]][:2] == ["next tag", "release"]
    assert kept.value["right"]["count"] == sum(one["cases"] for one in kept.value["windows"])


def test_a_backtest_beside_a_sync_still_tells_its_scores(database: Database, short_replay: list[str]) -> None:
    with database.writer("track sync"):
        done = CliRunner().invoke(root, short_replay, catch_exceptions=False)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["dates"]["scores"]
    assert "not kept for the site" in done.stderr
    with database.session() as session:
        assert session.get(rows.Outlook, "backtest") is None


def test_the_first_of_a_line_has_nothing_new_and_old_kernels_are_left_out() -> None:
    def known(tag: str) -> Known:
        version = parse_tag(tag)
        assert version is not None
        return Known("distribution", "debian x", tag, tag, version, None)

    reach = {
        "a": Reach(parse_tag("v6.18"), None, {}, frozenset()),
        "b": Reach(parse_tag("v6.19"), None, {}, frozenset()),
    }
    found = contents([known("v6.10"), known("v6.18"), known("v6.18.5"), known("v6.19")], reach)
    assert [(one.kernel.tag, one.carried, one.unknown, one.added) for one in found] == [
        ("v6.18", 1, 0, ("a",)),
        ("v6.18.5", 1, 1, ()),
        ("v6.19", 2, 0, ("b",)),
    ]
    assert contents([known("v6.19")], reach)[0].added == ()
