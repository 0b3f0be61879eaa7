"""PostgreSQL is one URL away: the same schema, the same promises, against a real server."""

from __future__ import annotations

import multiprocessing
import os
import signal
from datetime import UTC, datetime, timedelta, timezone
from multiprocessing.connection import Connection

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from db.database import Database, DatabaseError, WriterBusyError, metadata_of_project
from db.mail_tables import Source
from tests.postgres import Postgres

pytestmark = pytest.mark.server


def test_the_migrations_build_exactly_the_schema_of_the_models(on_postgresql: Database) -> None:
    with on_postgresql.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata_of_project()) == []


def test_migrating_twice_changes_nothing_and_instants_come_back_in_utc(on_postgresql: Database) -> None:
    there = timezone(timedelta(hours=-7))
    moment = datetime(2026, 6, 11, 9, 50, tzinfo=there)
    with on_postgresql.session() as session:
        session.add(Source(kind="mbox", name="a", location="/a", cursor={"offset": 7}, synced_at=moment))
        session.commit()
    on_postgresql.migrate()
    with on_postgresql.session() as session:
        row = session.scalars(select(Source)).one()
        assert row.cursor == {"offset": 7}
        assert row.synced_at == datetime(2026, 6, 11, 16, 50, tzinfo=UTC)


def _hold(url: str, ready: Connection) -> None:
    database = Database(url)
    with database.writer("the first command"):
        ready.send("held")
        signal.pause()


def test_a_second_writer_is_told_and_a_killed_writer_blocks_nobody(postgres: Postgres) -> None:
    url = postgres.url()
    second = Database(url)
    second.migrate()
    here, there = multiprocessing.Pipe()
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(url, there))
    holder.start()
    assert here.poll(60)
    assert here.recv() == "held"
    with pytest.raises(WriterBusyError, match="another process"), second.writer("second"):
        pass
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(10)
    for one in (holder, here, there):
        one.close()
    for _attempt in range(100):  # the server notices the death by the connection's end
        try:
            with second.writer("second"):
                break
        except WriterBusyError:
            continue
    else:
        pytest.fail("a killed writer still holds the lock")
    second.close()


def test_a_server_that_is_not_there_is_one_clear_error() -> None:
    absent = Database("postgresql+psycopg:///x?host=/nonexistent&user=test")
    with pytest.raises(DatabaseError, match="cannot open the database"):
        absent.migrate()
    absent.close()
