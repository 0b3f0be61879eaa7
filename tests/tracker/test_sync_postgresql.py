"""The tracker on PostgreSQL: the same answers as on SQLite, and no mail that stops a sync."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from db.database import Database
from db.mail_tables import Change, Message, Patch
from tracker import answers
from tracker.sample import write_sample
from tracker.settings import DriverProfile, SourceSettings, TreeSettings
from tracker.sync import sync

pytestmark = pytest.mark.server
NOW = datetime(2026, 11, 23, tzinfo=UTC)
PROFILE = DriverProfile()


def run(database: Database, folder: Path, sources: list[SourceSettings], trees: list[TreeSettings]) -> None:
    report = sync(database, sources, trees, PROFILE, clones=folder / "clones", now=NOW)
    assert [one.problem for one in report.sources if one.problem] == []


def content(database: Database) -> list[list[str]]:
    """What the tracker knows, without row ids."""
    columns = (
        (Message.message_id, Message.kind, Message.subject, Message.body, Message.trailers),
        (Change.key, Change.slug, Change.state, Change.window, Change.rule, Change.evidence),
        (Patch.title, Patch.number, Patch.diff_hash, Patch.link_rule, Patch.link_evidence),
    )
    with database.engine.connect() as connection:
        return [sorted(map(repr, connection.execute(select(*names)))) for names in columns]


@pytest.mark.slow
def test_the_sample_gives_the_same_rows_as_on_sqlite(
    on_postgresql: Database, database: Database, tmp_path: Path
) -> None:
    sample = write_sample(tmp_path / "sample")
    for one in (database, on_postgresql):
        run(one, tmp_path, *sample)
    assert content(on_postgresql) == content(database)
    assert answers.window(on_postgresql, "7.2") == answers.window(database, "7.2")
    before = content(on_postgresql)
    run(on_postgresql, tmp_path, *sample)
    assert content(on_postgresql) == before


HOSTILE = {
    "nul": ("[PATCH] accel/amdxdna: =?utf-8?q?a=00b?=", "utf-8", "body =00 end"),
    "raw-nul": ("[PATCH] accel/amdxdna: a\0b", "utf-8", "body"),
    "surrogate": ("[PATCH] accel/amdxdna: =?utf-7?q?+2AA-?=", "utf-7", "+2AA- end"),
    "escape": ("[PATCH] accel/amdxdna: =?unicode_escape?q?=5Cud800?=", "unicode_escape", "=5Cud800"),
    "no-replace": ("[PATCH] accel/amdxdna: idna", "idna", "body"),
    "undefined": ("[PATCH] accel/amdxdna: undefined", "undefined", "body"),
    # An index entry of PostgreSQL holds 2,704 bytes.
    "long": (
        "[PATCH] accel/amdxdna: " + " ".join(chr(0x4E00 + n * 7 % 20_000) for n in range(3000)),
        "utf-8",
        "x",
    ),
    "counter": ("[PATCH v999 9999/9999] accel/amdxdna: much", "utf-8", "body"),
    "ages": ("[PATCH] accel/amdxdna: of the year 9999", "utf-8", "body"),
}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_hostile_mails_are_stored_and_stop_nothing(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    mbox: Callable[..., Path],
    driver_diff: Callable[..., str],
) -> None:
    opened: Database = request.getfixturevalue("database" if kind == "sqlite" else "on_postgresql")
    raws = []
    for name, (subject, charset, body) in HOSTILE.items():
        date = "Fri, 31 Dec 9999 23:59:59 -0800" if name == "ages" else "Mon, 5 Jan 2026 12:00:00 +0000"
        raws.append(
            f"From: A <a@example.org>\nSubject: {subject}\nMessage-ID: <{name}@example.org>\nDate: {date}\n"
            f"Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: quoted-printable\n\n"
            f"{body}\n---\n{driver_diff(new=f'int a =3D {len(raws) + 9};')}".encode()
        )
    path = mbox(raws)
    source = SourceSettings(name="list", kind="mbox", location=str(path))
    run(opened, tmp_path, [source], [])
    with opened.engine.connect() as connection:
        stored = {
            row.message_id: row for row in connection.execute(select(Message.message_id, Message.subject))
        }
    assert set(stored) == {f"{name}@example.org" for name in HOSTILE}
    assert stored["nul@example.org"].subject == "[PATCH] accel/amdxdna: a\N{REPLACEMENT CHARACTER}b"
    assert sum(line.versions for line in answers.changes(opened)) == len(HOSTILE)
