"""Fixtures: real servers where they are installed, doubles for what cannot be had here."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from db.database import Database
from tests.tracker_sources.servers import ODD_MAIL, Double, Hurry, PublicInbox, Relay, Reply, Request
from tracker.ingest_mail import MailCount, ingest_mail
from tracker.mail.mbox import MboxReader
from tracker.progress import Silent
from tracker.sample import load_facts, write_mails
from tracker.settings import DriverProfile, SourceSettings


@pytest.fixture(scope="session")
def needs_public_inbox() -> None:
    """Skip where Debian's package is absent."""
    for program in ("public-inbox-init", "public-inbox-index", "public-inbox-httpd", "public-inbox-nntpd"):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
            pytest.skip(f"no public-inbox server to ask: {program} is not installed (Debian: public-inbox)")


@pytest.fixture
def make_archive(needs_public_inbox: None, tmp_path: Path) -> Iterator[Callable[..., PublicInbox]]:
    """Start an archive: make_archive(mails, level="full")."""
    with ExitStack() as processes:

        def make(mails: Iterable[bytes], level: str = "full") -> PublicInbox:
            folder = tmp_path / f"archive-{random.randrange(10**9)}"
            folder.mkdir()
            archive = PublicInbox(folder, processes, level)
            archive.add(mails)
            return archive

        yield make


@pytest.fixture(scope="session")
def sample_mails(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The project's own sample, as raw mails."""
    path = tmp_path_factory.mktemp("sample") / "sample.mbox"
    write_mails(load_facts(), path)
    return [item.raw for item in MboxReader(path).read({})]


@pytest.fixture(scope="session")
def archive(
    needs_public_inbox: None, sample_mails: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PublicInbox]:
    """An archive of the sample and one odd mail. Nothing is added to it."""
    with ExitStack() as processes:
        made = PublicInbox(tmp_path_factory.mktemp("archive"), processes)
        made.add([*sample_mails, ODD_MAIL])
        yield made


@pytest.fixture
def ingest(database: Database, tmp_path: Path) -> Callable[..., MailCount]:
    """Sync one source: ingest(kind, location, into=database, **settings)."""

    def work(kind: str, location: str, into: Database | None = None, **more: Any) -> MailCount:
        source = SourceSettings(name="list", kind=kind, location=location, **more)  # type: ignore[arg-type]  # kinds come as text here
        return ingest_mail(into or database, source, DriverProfile(), tmp_path / "clones", Silent())

    return work


@pytest.fixture
def relay() -> Iterator[Callable[..., Relay]]:
    """Put a counting wire before a port: relay(port, pause=seconds a piece)."""
    made: list[Relay] = []

    def make(port: int, *, pause: float = 0.0) -> Relay:
        made.append(Relay(port, pause=pause))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def double() -> Iterator[Callable[..., Double]]:
    """Start a web server: double(answer)."""
    made: list[Double] = []

    def make(answer: Callable[[Request], Reply]) -> Double:
        made.append(Double(answer))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def hurry() -> Hurry:
    """Make clients that do not wait: hurry.client(base); hurry.waits."""
    return Hurry()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is reached directly, whatever the environment says."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
