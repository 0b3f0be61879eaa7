"""Open the database, bring it to the newest schema, and let exactly one writer in."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session

import db.answer_tables
import db.around_tables
import db.distribution_tables
import db.git_tables
import db.mail_tables
import db.run_tables  # noqa: F401 - these modules register their tables on Base
from db.base import Base

# PostgreSQL advisory lock key: any fixed number of ours.
ALONE = "xdnawatch_alone"  # execution option: wait for other writers at the beginning
ADVISORY_LOCK = 0x7864_6E61
MIGRATIONS = Path(__file__).parent / "migrations"
#: The newest revision: files of migrations/versions are named "<revision>_<what>.py", in order.
NEWEST = max(one.name for one in (MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]


class DatabaseError(Exception):
    """The database cannot be used; the text says why and what to do next."""

    exit_code: ClassVar[int] = 3


class WriterBusyError(DatabaseError):
    """Another process is writing."""


class Database:
    """One database: an engine, its migrations, its single-writer lock.

    ``url`` is any SQLAlchemy URL. For a SQLite file the folder is created, the journal mode is WAL
    (readers never wait for the writer) and foreign keys are enforced.
    """

    def __init__(self, url: str) -> None:
        try:
            self.url = make_url(url)
        except ArgumentError as error:
            raise DatabaseError(
                f"not a database URL: {url!r} (expected e.g. sqlite:////path/to/file)"
            ) from error
        self.file: Path | None = None
        if self.url.get_backend_name() == "sqlite" and self.url.database not in (None, "", ":memory:"):
            self.file = Path(str(self.url.database)).expanduser().resolve()
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DatabaseError(f"cannot make the folder of the database {self.file}: {error}") from error
        self.engine: Engine = create_engine(self.url)
        if self.url.get_backend_name() == "sqlite":
            event.listen(self.engine, "connect", _sqlite_pragmas)
            event.listen(self.engine, "begin", _sqlite_begin)

    def migrate(self) -> None:
        """Create or upgrade the schema (Alembic, one transaction). Safe to run again, and by two at once: the
        second waits and finds it done.
        """
        try:
            if self._revision() == NEWEST:
                return
            # Alembic takes half a second to import: only a command that migrates waits for it.
            from alembic import command
            from alembic.config import Config

            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            engine = self.engine.execution_options(**{ALONE: True})
            with engine.begin() as connection:
                if self.url.get_backend_name() == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:k)"), {"k": ADVISORY_LOCK + 1})
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except DBAPIError as error:
            raise DatabaseError(f"cannot open the database {self.url!r}: {error.orig}") from error

    def _revision(self) -> str | None:
        """The schema's revision as Alembic noted it, None for a database without one."""
        with self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    def session(self, *, alone: bool = False) -> Session:
        """A new session; use it as a context manager.

        ``alone``: its transactions begin as a writer's, and so wait for other writers from the start.
        """
        engine = self.engine.execution_options(**{ALONE: True}) if alone else self.engine
        return Session(engine, expire_on_commit=False)

    @contextmanager
    def writer(self, what: str) -> Iterator[None]:
        """Hold the single-writer lock while ``what`` runs; a second writer is told so at once.

        Raises WriterBusyError with the name and process id of the holder. The lock dies with the
        process (flock on SQLite, an advisory lock on PostgreSQL), so a killed writer blocks nobody.
        """
        if self.file is not None:
            with _file_lock(self.file.with_name(self.file.name + ".writer"), what):
                yield
        elif self.url.get_backend_name() == "postgresql":
            with self.engine.connect() as connection:
                taken = connection.execute(
                    text("SELECT pg_try_advisory_lock(:k)"), {"k": ADVISORY_LOCK}
                ).scalar()
                if not taken:
                    raise WriterBusyError("another process is writing to this database; wait for it to end")
                try:
                    yield
                finally:
                    connection.execute(text("SELECT pg_advisory_unlock(:k)"), {"k": ADVISORY_LOCK})
        else:
            yield

    def close(self) -> None:
        """Return every connection."""
        self.engine.dispose()


def metadata_of_project() -> Any:
    """All tables, for Alembic."""
    return Base.metadata


def _sqlite_begin(connection: Connection) -> None:
    # A transaction that first reads cannot wait for another writer's end; one that begins as a writer can.
    alone = connection.get_execution_options().get(ALONE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if alone else "BEGIN")


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    # Python's driver would commit before each CREATE TABLE; we begin transactions ourselves, so that a
    # migration cut short by a full disk leaves the old schema, not half of the new one.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


@contextmanager
def _file_lock(path: Path, what: str) -> Iterator[None]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DatabaseError(f"cannot open the writer lock {path}: {error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 200, 0).decode("utf-8", "replace").strip() or "unknown process"
            raise WriterBusyError(
                f"another command is writing to the database ({holder}); wait for it to end"
            ) from error
        with suppress(OSError):  # a full disk must not stop the lock itself from working
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{what}, process {os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
