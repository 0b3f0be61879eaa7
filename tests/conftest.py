"""What every test shares: no network, no home, no surprise from the user's configuration.

A test that needs real input or a real kernel says so by a marker and skips with the reason, so that a
run which left something out can be told from a whole one (see `pytest_terminal_summary`).
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from db.database import Database
from tests.postgres import AbsentError, Postgres, running

ROOT = Path(__file__).parent.parent

# That a loaded machine draws its inputs slowly says nothing about the code under test.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


HOMES = count()

#: Fixtures that take seconds to make: the tests that share one run in one process, so that it is made once.
SHARED = ("postgres", "archive", "published_once", "platform", "template", "here", "replay")


class NetworkUsedError(AssertionError):
    """A test tried to reach beyond this machine."""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    real_connect = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            if not (host == "localhost" or host.startswith("127.") or host == "::1"):
                raise NetworkUsedError(f"a test tried to reach {address!r}")
        real_connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(autouse=True)
def _no_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    # Numbered here: pytest would look through all homes so far to find the next number.
    home = tmp_path_factory.mktemp(f"home{next(HOMES)}", numbered=False)
    monkeypatch.setenv("HOME", str(home))
    for name, folder in {
        "XDG_CONFIG_HOME": "config",
        "XDG_DATA_HOME": "data",
        "XDG_CACHE_HOME": "cache",
        "XDG_STATE_HOME": "state",
    }.items():
        monkeypatch.setenv(name, str(home / folder))
    for name in ("XDNAWATCH_CONFIG", "XDNAWATCH_DATA", "XDNAWATCH_CACHE", "XDNAWATCH_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    # Commits made by tests carry a fixed identity, and no setting of the user's changes git's behaviour.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "test@example.org")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty database of the newest schema, to be copied: migrating costs 0.2 s a time."""
    file = tmp_path_factory.mktemp("empty") / "empty.db"
    made = Database(f"sqlite:///{file}")
    made.migrate()
    made.close()
    return file


@pytest.fixture
def database(tmp_path: Path, empty_database: Path) -> Iterator[Database]:
    """An empty database of the newest schema."""
    made = Database(f"sqlite:///{shutil.copy(empty_database, tmp_path / 'test.db')}")
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL server; the test is skipped where there is none."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running())
        except AbsentError as error:
            pytest.skip(str(error))
        yield server


@pytest.fixture
def on_postgresql(postgres: Postgres) -> Iterator[Database]:
    """An empty database of the newest schema in PostgreSQL."""
    made = Database(postgres.url())
    made.migrate()
    yield made
    made.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real mails and truth tables; the test is skipped where it is absent."""
    folder = Path(os.environ.get("XDNAWATCH_REAL_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "mails").is_dir():
        pytest.skip(f"no real data: {folder} has no mails/ (set XDNAWATCH_REAL_DATA)")
    return folder


@pytest.fixture(scope="session")
def lab_cache() -> Path:
    """The download cache that `make test` filled; the test is skipped where there is none."""
    named = os.environ.get("XDNAWATCH_TEST_CACHE")
    if not named:
        pytest.skip("no kernel to boot: XDNAWATCH_TEST_CACHE is not set (`make test` sets it)")
    folder = Path(named)
    if not folder.is_dir():
        pytest.skip(f"no kernel to boot: the cache {folder} does not exist (`make test` fills it)")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first: a broken rule is seen before the first kernel boots."""

    def cost(item: pytest.Item) -> int:
        for marker, rank in (("qemu", 3), ("slow", 2), ("server", 1), ("real", 1)):
            if item.get_closest_marker(marker):
                return rank
        return 0

    items.sort(key=cost)
    for item in items:
        names = getattr(item, "fixturenames", ())
        for shared in SHARED:
            if shared in names:
                item.add_marker(pytest.mark.xdist_group(shared))
                break


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int) -> None:
    """Say plainly whether this run was whole."""
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        terminalreporter.write_line("PARTIAL RUN: it was interrupted", yellow=True)
        return
    left_out: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        left_out[reason.removeprefix("Skipped: ")] = left_out.get(reason.removeprefix("Skipped: "), 0) + 1
    if left_out:
        terminalreporter.write_line(
            f"PARTIAL RUN: {sum(left_out.values())} tests were left out:", yellow=True
        )
        for reason, count in sorted(left_out.items()):
            terminalreporter.write_line(f"  {count} x {reason}")
    else:
        terminalreporter.write_line("WHOLE RUN: no test was left out")
