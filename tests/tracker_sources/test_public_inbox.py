"""A real public-inbox server on loopback serves search, Atom, threads, git and news to the tracker."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from db.database import Database
from db.mail_tables import Message
from tests.tracker_sources.servers import (
    ODD_ID,
    ODD_MAIL,
    PublicInbox,
    Relay,
    all_rows,
    free_port,
    new_mail,
    stop,
    wait_for,
)
from tracker.errors import SourceError
from tracker.ingest_mail import MailCount
from tracker.mail.inbox import InboxReader
from tracker.mail.lore import LoreReader, default_query
from tracker.mail.mbox import MboxReader
from tracker.mail.nntp import NntpReader
from tracker.settings import DriverProfile

pytestmark = pytest.mark.server

Ingest = Callable[..., MailCount]
MakeArchive = Callable[..., PublicInbox]
MakeRelay = Callable[..., Relay]


def stored(database: Database) -> set[tuple[str, str]]:
    with database.engine.connect() as connection:
        return {tuple(row) for row in connection.execute(select(Message.message_id, Message.kind))}


@pytest.fixture
def expected(tmp_path: Path, sample_mails: list[bytes], ingest: Ingest) -> set[tuple[str, str]]:
    """What the same mails give when they are read from a file."""
    path = tmp_path / "same.mbox"
    path.write_bytes(
        b"".join(b"From x@y Thu Jan  1 00:00:00 1970\n" + raw + b"\n" for raw in [*sample_mails, ODD_MAIL])
    )
    other = Database(f"sqlite:///{tmp_path / 'expected.db'}")
    other.migrate()
    ingest("mbox", str(path), other)
    found = stored(other)
    other.close()
    return found


def wait_until_served(archive: PublicInbox, message_id: str) -> None:
    """The server looks for new mail now and then; the test waits for it, not for the tracker."""
    deadline = time.monotonic() + 30
    while httpx.get(f"{archive.url}/?q=m:{message_id}&x=A").status_code not in (200, 501):
        assert time.monotonic() < deadline, "the server never showed the new mail"
        time.sleep(0.2)


def test_search_gives_what_a_file_gives(
    archive: PublicInbox,
    ingest: Ingest,
    database: Database,
    expected: set[tuple[str, str]],
    relay: MakeRelay,
) -> None:
    wire = relay(archive.port)
    url = f"http://127.0.0.1:{wire.port}/dri-devel"
    count = ingest("lore", url)
    assert stored(database) == expected
    assert (count.new, count.scanned) == (len(expected), len(expected))
    assert wire.connections == 1
    first = wire.received

    rows = all_rows(database)
    wire.reset()
    again = ingest("lore", url)
    assert (again.scanned, again.new) == (0, 0)
    assert wire.received < 4096 < first
    assert wire.connections == 1
    assert all_rows(database) == rows


def test_new_mail_is_found_also_when_it_was_received_before_the_last_sync(
    make_archive: MakeArchive, sample_mails: list[bytes], ingest: Ingest, database: Database
) -> None:
    """A mirror shows a mail hours after it was received: the overlap finds it, and nothing comes twice."""
    archive = make_archive(sample_mails)
    ingest("lore", archive.url)
    before = len(stored(database))
    late = datetime.now(UTC) - timedelta(hours=3)
    archive.add(
        [
            new_mail("[PATCH] accel/amdxdna: Late", "late@example.org", received=late),
            new_mail("Re: [PATCH] accel/amdxdna: Late", "now@example.org"),
            new_mail("[PATCH] drm/other: Foreign", "foreign@example.org"),
        ]
    )
    wait_until_served(archive, "now@example.org")
    count = ingest("lore", archive.url)
    ids = {message_id for message_id, _ in stored(database)}
    assert {"late@example.org", "now@example.org"} <= ids
    assert "foreign@example.org" not in ids
    assert count.new == 2 == len(ids) - before
    assert ingest("lore", archive.url).scanned == 0


def test_a_search_brings_the_whole_thread(
    make_archive: MakeArchive, ingest: Ingest, database: Database
) -> None:
    """cover (names no driver) <- 1/2 (driver), 2/2 (other) <- reply to 2/2."""

    def mail(subject: str, name: str, answers: str | None, body: str) -> bytes:
        raw = new_mail(subject, name, body=body)
        return raw.replace(b"To: ", f"In-Reply-To: <{answers}>\nTo: ".encode(), 1) if answers else raw

    archive = make_archive(
        [
            mail("[PATCH 0/2] Power readings", "0@x", None, "Two patches.\n"),
            mail("[PATCH 1/2] accel/amdxdna: Power", "1@x", "0@x", "x\n"),
            mail("[PATCH 2/2] platform/x86: Power", "2@x", "0@x", "x\n"),
            mail("Re: [PATCH 2/2] platform/x86: Power", "3@x", "2@x", "Applied it.\n"),
            mail("[PATCH] something else", "4@x", None, "x\n"),
        ]
    )
    ingest("lore", archive.url)
    assert {message_id for message_id, _ in stored(database)} == {"0@x", "1@x", "2@x", "3@x"}


def test_one_thread_by_its_address(archive: PublicInbox, ingest: Ingest, database: Database) -> None:
    url = f"{archive.url}/slash%2Fand+plus%2541@example.org/"
    assert ingest("lore", url).new == 1
    assert stored(database) == {(ODD_ID, "patch")}
    assert ingest("lore", url).scanned == 0


def test_another_query_is_another_question(archive: PublicInbox, ingest: Ingest, database: Database) -> None:
    assert ingest("lore", archive.url, query="s:nosuchword").scanned == 0
    assert ingest("lore", archive.url).new > 100


def test_a_server_without_a_search_index_is_followed_by_its_feed(
    make_archive: MakeArchive, sample_mails: list[bytes], ingest: Ingest, database: Database
) -> None:
    driver = [raw for raw in sample_mails if b"\nSubject: [PATCH" in raw][:60]  # more than a page of the feed
    archive = make_archive(driver, level="basic")
    ingest("lore", archive.url)
    assert len(stored(database)) == len(driver)
    archive.add([new_mail("[PATCH] accel/amdxdna: Fed", "fed@example.org")])
    wait_until_served(archive, "fed@example.org")
    assert ingest("lore", archive.url).new == 1
    assert ingest("lore", archive.url).scanned == 0


def test_a_mail_is_fetched_again_by_its_id(archive: PublicInbox) -> None:
    reader = LoreReader(archive.url, DriverProfile())
    raw = reader.fetch(ODD_ID)
    assert raw is not None
    assert raw.rstrip(b"\n").endswith(b"\n>From here")
    assert reader.fetch("nosuch@example.org") is None


def test_a_list_that_is_not_there(archive: PublicInbox, ingest: Ingest) -> None:
    for kind in ("lore", "public-inbox"):
        with pytest.raises(SourceError, match="404"):
            ingest(kind, archive.url.replace("dri-devel", "no-such-list"))


def test_epochs_over_http_and_a_new_epoch(
    make_archive: MakeArchive,
    sample_mails: list[bytes],
    ingest: Ingest,
    database: Database,
    expected: set[tuple[str, str]],
    relay: MakeRelay,
) -> None:
    archive = make_archive([*sample_mails, ODD_MAIL])
    wire = relay(archive.port)
    url = f"http://127.0.0.1:{wire.port}/dri-devel"
    ingest("public-inbox", url)
    assert stored(database) == expected

    wire.reset()
    assert ingest("public-inbox", url).scanned == 0
    assert wire.received < 1024  # the manifest alone

    archive.add([new_mail("[PATCH] accel/amdxdna: Next epoch", "epoch@example.org")], epoch=1)
    # The server's manifest names an epoch a moment before it serves it; meanwhile the sync says so.
    deadline = time.monotonic() + 30
    new = 0
    while new == 0 and time.monotonic() < deadline:
        with suppress(SourceError):
            new = ingest("public-inbox", url).new
        time.sleep(0.3)
    assert ("epoch@example.org", "patch") in stored(database)


def test_an_epoch_from_a_git_daemon(
    make_archive: MakeArchive,
    sample_mails: list[bytes],
    ingest: Ingest,
    database: Database,
    expected: set[tuple[str, str]],
) -> None:
    archive = make_archive([*sample_mails, ODD_MAIL])
    port = free_port()
    with ExitStack() as processes:
        daemon = subprocess.Popen(
            ["git", "daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}",
             f"--base-path={archive.folder}", str(archive.folder)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        processes.callback(stop, daemon)
        wait_for(port, daemon)
        url = f"git://127.0.0.1:{port}/git/0.git"
        ingest("public-inbox", url)
        assert stored(database) == expected
        assert ingest("public-inbox", url).scanned == 0
        archive.add([new_mail("[PATCH] accel/amdxdna: Pushed", "pushed@example.org")])
        assert ingest("public-inbox", url).new == 1


def test_a_news_group(
    make_archive: MakeArchive,
    sample_mails: list[bytes],
    ingest: Ingest,
    database: Database,
    expected: set[tuple[str, str]],
    relay: MakeRelay,
) -> None:
    archive = make_archive(
        [*sample_mails, ODD_MAIL, new_mail("[PATCH] accel/amdxdna: Dots", "dots@x", body=".\n..a\n")]
    )
    wire = relay(archive.news_port)
    url = archive.news.replace(str(archive.news_port), str(wire.port))
    ingest("nntp", url)
    assert stored(database) == expected | {("dots@x", "patch")}
    with database.engine.connect() as connection:
        body = connection.scalar(select(Message.body).where(Message.message_id == "dots@x"))
    assert body == ".\n..a\n"
    assert wire.connections == 1

    wire.reset()
    assert ingest("nntp", url).scanned == 0
    assert wire.received < 1024
    archive.add([new_mail("[PATCH] accel/amdxdna: News", "news@example.org")])
    wait_until_served(archive, "news@example.org")
    deadline = time.monotonic() + 30
    while ingest("nntp", url).new == 0:
        assert time.monotonic() < deadline, "the news server never showed the new mail"
        time.sleep(0.3)
    assert ("news@example.org", "patch") in stored(database)


def test_of_a_large_group_only_the_driver_s_threads_are_fetched(
    make_archive: MakeArchive, sample_mails: list[bytes]
) -> None:
    foreign = [new_mail(f"[PATCH] drm/other: {number}", f"{number}@other") for number in range(40)]
    archive = make_archive([*foreign, *sample_mails])
    reader = NntpReader(archive.news, DriverProfile(), whole_group=10)
    found = list(reader.read({}))
    assert len(found) >= len(sample_mails)
    assert not any(b"@other>" in item.raw for item in found)
    # Killed after the seventh mail, the next sync gives the rest and the same.
    rest = list(reader.read(found[6].cursor))
    assert [item.location for item in found] == [item.location for item in (*found[:7], *rest)]
    assert list(reader.read(reader.end_cursor({}))) == []


@pytest.mark.real
@pytest.mark.slow
def test_real_mails_by_search_news_and_git(
    make_archive: MakeArchive, real_data: Path, ingest: Ingest, tmp_path: Path
) -> None:
    """The driver's patches and 400 mails of another list: every way gives what the file gives."""
    raws = [item.raw for item in MboxReader(real_data / "mails" / "amdxdna-patches.mbox").read({})]
    for item in MboxReader(real_data / "mails" / "pdx86-2025q4.mbox.gz").read({}):
        raws.append(item.raw)
        if len(raws) >= 470:
            break
    archive = make_archive(raws)
    path = tmp_path / "real.mbox.gz"
    path.write_bytes(
        gzip.compress(b"".join(b"From mboxrd@z Thu Jan  1 00:00:00 1970\n" + raw + b"\n" for raw in raws))
    )
    found = {}
    for kind, location in (
        ("mbox", str(path)),
        ("lore", archive.url),
        ("public-inbox", archive.url),
        ("nntp", archive.news),
    ):
        other = Database(f"sqlite:///{tmp_path / kind}.db")
        other.migrate()
        ingest(kind, location, other)
        found[kind] = stored(other)
        other.close()
    assert len(found["mbox"]) > 50
    assert found["public-inbox"] == found["nntp"] == found["mbox"]
    assert found["lore"] == found["mbox"]


def test_the_default_query_names_files_and_words() -> None:
    query = default_query(DriverProfile())
    assert query.split(" OR ") == [
        "dfn:drivers/accel/amdxdna*",
        "dfn:amdxdna_accel.h",
        "dfn:Documentation/accel/amdxdna*",
        "dfn:amdxdna.h",
        "s:amdxdna",
        "nq:amdxdna",
    ]


# Each costs several seconds; the long count is for a night: XDNAWATCH_TEST_KILLS=20.
KILLS = int(os.environ.get("XDNAWATCH_TEST_KILLS", "3"))
KILLED = """
import sys
from pathlib import Path
from db.database import Database
from tracker import ingest_mail
from tracker.settings import DriverProfile, SourceSettings
from tracker.sync import sync
ingest_mail.BATCH_KEPT = 7
database = Database(sys.argv[1])
sources = [
    SourceSettings(name="search", kind="lore", location=sys.argv[2]),
    SourceSettings(name="news", kind="nntp", location=sys.argv[3]),
    SourceSettings(name="epochs", kind="public-inbox", location=sys.argv[4]),
]
report = sync(database, sources, [], DriverProfile(), clones=Path(sys.argv[5]))
print("finished", *(one.problem for one in report.sources))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_9_at_random_moments_of_a_sync(
    archive: PublicInbox, make_archive: MakeArchive, tmp_path: Path, relay: MakeRelay
) -> None:
    """Search, news and git in one sync, over slow wires; what remains equals an undisturbed sync."""
    half = [raw for number, raw in enumerate(archive_mails(archive)) if number % 2]
    other = make_archive(half + [new_mail(f"[PATCH] accel/amdxdna: N{n}", f"n{n}@x") for n in range(60)])
    pause = 0.004
    urls = (
        f"http://127.0.0.1:{relay(archive.port, pause=pause).port}/dri-devel",
        f"nntp://127.0.0.1:{relay(other.news_port, pause=pause).port}/org.example.dri-devel",
        f"http://127.0.0.1:{relay(other.port, pause=pause).port}/dri-devel",
    )

    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", KILLED, f"sqlite:///{tmp_path / name}.db", *urls, str(tmp_path / name)],
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip

    def fresh(name: str) -> Database:
        made = Database(f"sqlite:///{tmp_path / name}.db")
        made.migrate()
        return made

    undisturbed = fresh("undisturbed")
    begun = time.monotonic()
    out, _ = start("undisturbed").communicate()
    whole = time.monotonic() - begun
    assert out.split() == [b"finished", b"None", b"None", b"None"]
    wanted = all_rows(undisturbed)
    assert len(wanted["message"]) > 200
    undisturbed.close()

    chance = random.Random(20)
    kills = lives = 0
    name = "life-0"
    disturbed = fresh(name)
    while kills < KILLS:
        child = start(name)
        time.sleep(chance.uniform(0.3, 1.0) * whole)
        child.kill()
        out, _ = child.communicate()
        if b"finished" not in out:
            kills += 1
            continue
        assert all_rows(disturbed) == wanted
        disturbed.close()
        lives += 1
        name = f"life-{lives}"
        disturbed = fresh(name)
    out, _ = start(name).communicate()
    assert out.split() == [b"finished", b"None", b"None", b"None"]
    assert all_rows(disturbed) == wanted
    disturbed.close()


def archive_mails(archive: PublicInbox) -> list[bytes]:
    return [item.raw for item in InboxReader(archive.folder).read({})]
