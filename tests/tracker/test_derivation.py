"""Answers are derived anew whenever something they follow from has changed, and only then."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, Boolean, Connection, DateTime, Integer, Table, func, insert, select, update
from sqlalchemy.types import TypeDecorator

import tracker.derive
from db import answer_tables, around_tables, distribution_tables, git_tables, mail_tables, run_tables
from db.answer_tables import Outlook, Touched
from db.around_tables import UserspaceRelease
from db.base import Base
from db.database import Database
from db.git_tables import Tree
from db.mail_tables import Change, Message, Source
from tracker import derivation
from tracker.derivation import FACTS, fingerprint
from tracker.settings import DriverProfile, SourceSettings, TreeSettings
from tracker.sync import SyncReport, derive, sync

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
PROFILE = DriverProfile()
Sample = tuple[list[SourceSettings], list[TreeSettings]]


@pytest.fixture
def again(synced: Database, sample: Sample, tmp_path: Path) -> Callable[..., SyncReport]:
    """Sync the sample once more: again(profile, now, sources=..., again=...)."""

    def run(
        profile: DriverProfile = PROFILE, now: datetime = NOW, sources: Any = (), *, again: bool = False
    ) -> SyncReport:
        both = [*sample[0], *sources]
        return sync(synced, both, sample[1], profile, clones=tmp_path, now=now, again=again)

    return run


def mark(database: Database) -> str:
    with database.engine.connect() as connection:
        return fingerprint(connection, PROFILE, NOW)


def test_nothing_is_derived_when_nothing_came(
    again: Callable[..., SyncReport], synced: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = again(again=True).derived

    def refuse(*_: object) -> None:
        pytest.fail("derived although nothing came")

    monkeypatch.setattr(tracker.derive, "derive_answers", refuse)
    second = again(now=NOW + timedelta(hours=15)).derived
    assert second.unchanged
    assert not first.unchanged
    assert {**second.to_json(), "unchanged": False} == first.to_json()
    assert first.changes > 100


def test_it_is_derived_when_asked(again: Callable[..., SyncReport], synced: Database) -> None:
    assert not again(again=True).derived.unchanged
    assert not derive(synced, PROFILE, NOW).unchanged
    assert again().derived.unchanged


def test_a_new_mail_is_worked_in(
    again: Callable[..., SyncReport],
    synced: Database,
    mail: Callable[..., bytes],
    mbox: Callable[..., Path],
    driver_diff: Callable[..., str],
) -> None:
    path = mbox([mail("[PATCH] accel/amdxdna: late", message_id="late@x", diff=driver_diff())])
    source = SourceSettings(name="late", kind="mbox", location=str(path))
    assert not again(sources=[source]).derived.unchanged
    with synced.engine.connect() as connection:
        assert connection.scalars(select(Change.key).where(Change.key == "late@x")).all() == ["late@x"]
    assert again(sources=[source]).derived.unchanged


def test_other_settings_rules_or_another_day_derive_anew(
    again: Callable[..., SyncReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = DriverProfile(subject_words=("amdxdna", "npu"))
    assert not again(other).derived.unchanged
    assert again(other).derived.unchanged
    tomorrow = NOW + timedelta(days=1)
    assert not again(other, tomorrow).derived.unchanged
    assert again(other, tomorrow).derived.unchanged
    monkeypatch.setattr(derivation, "_rules", lambda: "the rules of another version")
    assert not again(other, tomorrow).derived.unchanged


def test_the_digest_of_the_rules_is_of_all_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tmp_path / "tracker"
    shutil.copytree(Path(derivation.__file__).parent, room)
    monkeypatch.setattr(derivation, "__file__", str(room / "derivation.py"))
    seen = {derivation._rules.__wrapped__()}
    for name in ("derive.py", "mail/subject.py", "data/releases.json"):
        (room / name).write_bytes((room / name).read_bytes() + b" ")
        seen.add(derivation._rules.__wrapped__())
    assert len(seen) == 4


@pytest.mark.parametrize(
    "where", ["write_answers", "write_pairs", "store_answers", "derive_around", "remember"]
)
def test_a_derivation_that_is_cut_short_is_done_again(
    where: str, again: Callable[..., SyncReport], synced: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All facts are those of the last whole derivation: only the missing mark can tell."""

    class DiedError(BaseException):
        pass

    def die(*_: object) -> None:
        raise DiedError

    with synced.engine.connect() as connection:
        touched = connection.execute(select(func.count()).select_from(Touched)).scalar_one()
    with monkeypatch.context() as patched:
        patched.setattr(tracker.derive, where, die)
        with pytest.raises(DiedError):
            again(again=True)
    written = where not in ("write_answers", "write_pairs")  # these two end with their transaction
    assert again().derived.unchanged is not written
    assert again().derived.unchanged
    with synced.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(Touched)).scalar_one() == touched > 0


def dummy(column: Any) -> Any:
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    if isinstance(kind, DateTime):
        return NOW
    if isinstance(kind, JSON):
        return {}
    return 77 if isinstance(kind, Integer) else isinstance(kind, Boolean) or "x"


def add_row(connection: Connection, table: Table) -> None:
    """A row of any content; foreign keys would be asked about at a commit that does not come."""
    connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
    values = {one.name: dummy(one) for one in table.columns if not one.nullable and one.name != "id"}
    connection.execute(insert(table).values(**values))


@pytest.mark.parametrize(
    "table", [*(one.__table__ for one in FACTS), Source.__table__, Tree.__table__], ids=str
)
def test_a_row_more_of_what_a_source_says_is_seen(table: Table, synced: Database) -> None:
    before = mark(synced)
    with synced.engine.connect() as connection:
        assert fingerprint(connection, PROFILE, NOW) == before
        assert fingerprint(connection, DriverProfile(companions_up_to=3), NOW) != before
        add_row(connection, table)
        assert fingerprint(connection, PROFILE, NOW) != before
        connection.rollback()


def test_what_is_replaced_in_its_row_is_seen(synced: Database) -> None:
    with synced.engine.connect() as connection:
        add_row(connection, UserspaceRelease.__table__)  # type: ignore[arg-type]
        marks = [fingerprint(connection, PROFILE, NOW)]
        for change in (
            update(Source).where(Source.id == 1).values(cursor={"profile": {"name": "ivpu"}}),
            update(Message).where(Message.id == 1).values(corrupted="it was cut off", body="abc"),
            update(Message).where(Message.id == 1).values(corrupted="it was cut off", body="abcdef"),
            update(Message).where(Message.id == 1).values(corrupted=None),
            update(Source).where(Source.id == 1).values(sample=False),
            update(Tree).where(Tree.id == 1).values(head="0" * 40),
            update(UserspaceRelease).values(pins=[{"commit": "1", "release": "202610.2.21.75"}]),
        ):
            connection.execute(change)
            marks.append(fingerprint(connection, PROFILE, NOW))
        connection.rollback()
    assert all(one != two for one, two in pairwise(marks))


def test_when_and_how_far_a_list_was_read_is_no_fact(synced: Database) -> None:
    before = mark(synced)
    with synced.engine.begin() as connection:
        connection.execute(update(Source).values(synced_at=NOW, problem="it was away"))
        cursor = connection.scalars(select(Source.cursor).where(Source.kind == "mbox")).one()
        moved = {**cursor, "position": {"at": 1}, "passed": []}
        assert moved != cursor
        connection.execute(update(Source).where(Source.kind == "mbox").values(cursor=moved))
    assert mark(synced) == before


def test_every_table_is_a_fact_or_an_answer() -> None:
    """A new table of facts must be watched."""
    answers = {
        "series", "change", "patch", "match", "cve_check", "firmware_need", "userspace_fit", "twin_pair",
    }  # fmt: skip
    answers |= {one.__tablename__ for one in vars(answer_tables).values() if is_table(one, answer_tables)}
    runs = {one.__tablename__ for one in vars(run_tables).values() if is_table(one, run_tables)}
    facts = {one.__tablename__ for one in (*FACTS, Source, Tree)}
    assert Outlook.__tablename__ in answers
    modules = (mail_tables, git_tables, distribution_tables, around_tables)
    rest = {one.__tablename__ for room in modules for one in vars(room).values() if is_table(one, room)}
    assert rest - answers == facts
    assert set(Base.metadata.tables) == facts | answers | runs


def is_table(one: object, module: Any) -> bool:
    return (
        isinstance(one, type)
        and issubclass(one, Base)
        and one is not Base
        and one.__module__ == module.__name__
    )
