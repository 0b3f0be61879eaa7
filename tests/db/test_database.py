"""The database keeps its promises: one writer, UTC, migrations that match the models."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, inspect, select, text
from sqlalchemy.exc import StatementError

from db.database import MIGRATIONS, NEWEST, Database, DatabaseError, WriterBusyError, metadata_of_project
from db.mail_tables import Source
from db.run_tables import Machine, Run


def test_the_migrations_build_exactly_the_schema_of_the_models(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata_of_project()) == []


def test_the_newest_revision_is_alembics_head_and_a_new_schema_needs_no_alembic(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [NEWEST]
    monkeypatch.setitem(sys.modules, "alembic", None)  # importing it would fail
    database.migrate()


def test_migrating_twice_changes_nothing_and_keeps_rows(database: Database) -> None:
    with database.session() as session:
        session.add(Source(kind="mbox", name="a", location="/a", cursor={"offset": 7}))
        session.commit()
    database.migrate()
    with database.session() as session:
        assert session.scalars(select(Source.cursor)).all() == [{"offset": 7}]


def test_a_migration_that_is_cut_short_leaves_the_old_schema_and_can_be_run_again(tmp_path: Path) -> None:
    cut = Database(f"sqlite:///{tmp_path / 'cut.db'}")

    def full_disk(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "CREATE TABLE run" in statement:
            raise OSError(errno.ENOSPC, "No space left on device")

    event.listen(cut.engine, "before_cursor_execute", full_disk)
    with pytest.raises(OSError, match="No space"):
        cut.migrate()
    event.remove(cut.engine, "before_cursor_execute", full_disk)
    assert inspect(cut.engine).get_table_names() == []
    cut.migrate()
    assert "run" in inspect(cut.engine).get_table_names()
    cut.close()


def test_instants_come_back_in_utc_whatever_zone_they_went_in(database: Database) -> None:
    there = timezone(timedelta(hours=-7))
    with database.session() as session:
        session.add(
            Source(kind="mbox", name="a", location="/a", synced_at=datetime(2026, 6, 11, 9, 50, tzinfo=there))
        )
        session.commit()
    with database.session() as session:
        assert session.scalars(select(Source.synced_at)).one() == datetime(2026, 6, 11, 16, 50, tzinfo=UTC)


def test_a_naive_instant_is_refused(database: Database) -> None:
    with database.session() as session:
        session.add(Source(kind="mbox", name="a", location="/a", synced_at=datetime(2026, 6, 11)))  # noqa: DTZ001 - the subject of the test
        with pytest.raises(StatementError, match="naive datetime"):
            session.commit()


def test_foreign_keys_are_enforced(database: Database) -> None:
    with database.session() as session:
        session.add(
            Run(
                id="r",
                machine_id=99,
                suite="ioctl",
                suite_digest="",
                requested="7.3.4",
                started_at=datetime.now(UTC),
                state="running",
                folder="x",
            )
        )
        with pytest.raises(Exception, match="FOREIGN KEY"):
            session.commit()


def _hold(url: str, ready: Connection) -> None:
    database = Database(url)
    with database.writer("the first command"):
        ready.send("held")
        signal.pause()


def test_a_second_writer_is_told_who_holds_the_lock_and_a_killed_writer_blocks_nobody(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    Database(url).migrate()
    here, there = multiprocessing.Pipe()
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(url, there))
    holder.start()
    assert here.poll(20)
    assert here.recv() == "held"
    second = Database(url)
    with (
        pytest.raises(WriterBusyError, match=rf"the first command, process {holder.pid}"),
        second.writer("second"),
    ):
        pass
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(10)
    holder.close()
    here.close()
    there.close()
    with second.writer("second"), second.session() as session:
        session.add(Machine(name="m", kind="virtual", generation="npu4", simulated=True))
        session.commit()
    second.close()


def test_readers_do_not_wait_for_the_writer(database: Database) -> None:
    with database.writer("x"), database.session() as writing, database.session() as reading:
        writing.add(Machine(name="m", kind="virtual", generation="npu4", simulated=True))
        writing.flush()
        assert reading.scalars(select(Machine.name)).all() == []


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match="cannot make the folder of the database"):
        Database(f"sqlite:///{tmp_path / 'file' / 'x.db'}")


def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"this is not a database, it is a letter " * 50)
    with pytest.raises(DatabaseError, match=r"not a database"):
        Database(f"sqlite:///{tmp_path / 'x.db'}").migrate()


def test_text_that_is_no_url_is_one_clear_error() -> None:
    with pytest.raises(DatabaseError, match="not a database URL"):
        Database("xdnawatch.db")


def test_the_journal_mode_is_wal(database: Database) -> None:
    with database.engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"


def test_a_new_database_can_be_opened_by_several_processes_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    program = (
        "import sys; from db.database import Database; sys.stdin.read(1); Database(sys.argv[1]).migrate()"
    )
    waiting = [
        subprocess.Popen([sys.executable, "-c", program, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in waiting:
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.flush()
    said = [process.communicate(timeout=100)[1].decode() for process in waiting]
    assert [process.returncode for process in waiting] == [0] * 4, said
