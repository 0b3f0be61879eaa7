"""A private PostgreSQL for the tests: its own folder, its own socket, no port, gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = "postgres"  # whom the server runs as where the tests run as root, which PostgreSQL refuses


class AbsentError(Exception):
    """No server can be started here; the text says what is missing."""


class Postgres:
    """A running server; ``url`` makes an empty database in it."""

    def __init__(self, folder: Path, programs: Path, become: list[str]) -> None:
        self.folder = folder
        self._programs = programs
        self._become = become
        self._made = 0

    def program(self, name: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs."""
        subprocess.run(
            [*self._become, str(self._programs / name), *arguments],
            check=True,
            capture_output=True,
            cwd="/",
            timeout=60,
        )

    def url(self) -> str:
        """The SQLAlchemy URL of a new, empty database."""
        self._made += 1
        name = f"test{self._made}"
        self.program("createdb", "-h", str(self.folder), "-U", "test", name)
        return f"postgresql+psycopg:///{name}?host={self.folder}&user=test"


def programs() -> Path:
    """The folder of initdb and its kind: Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: int(one.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        raise AbsentError("no PostgreSQL server on this machine (Debian: postgresql)")
    return found[-1].parent if found else Path(str(on_path)).parent


@contextmanager
def running() -> Iterator[Postgres]:
    """A server with one user, ``test``, for the time of the context. Raises AbsentError."""
    where = programs()
    become: list[str] = []
    # Not below pytest's folder: that is for the user alone, and the path of a socket is at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        if os.getuid() == 0:
            become = ["runuser", "-u", NOBODY, "--"]
            shutil.chown(folder, NOBODY)
        server = Postgres(folder, where, become)
        data = str(folder / "data")
        server.program(
            "initdb", "-D", data, "-A", "trust", "-U", "test", "--no-sync", "-E", "UTF8", "--locale=C"
        )
        options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=20"
        server.program(
            "pg_ctl", "-D", data, "-o", options, "-w", "-t", "50", "-l", str(folder / "log"), "start"
        )
        try:
            yield server
        finally:
            server.program("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
