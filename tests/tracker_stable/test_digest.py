"""The weekly digest: what came, what waits, and that it is a mail anyone can read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from db.database import Database
from tracker.digest import WIDTH, Digest, Entry, Section, digest
from xdnawatch.cli import app as root

START = datetime(2025, 10, 1, 12, 0, tzinfo=UTC)


def patch(title: str, message_id: str, day: int) -> bytes:
    """A patch mail of the driver."""
    date = (START + timedelta(days=day)).strftime("%a, %d %b %Y %H:%M:%S +0000")
    path = "drivers/accel/amdxdna/new.c"
    return (
        f"From: Bea <bea@example.org>\nSubject: [PATCH] accel/amdxdna: {title}\nDate: {date}\n"
        f"Message-ID: <{message_id}>\n\nText.\n---\n"
        f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n"
        f"@@ -1 +1 @@\n-int {title[:3]};\n+long {title[:3]};\n-- \n2.4\n"
    ).encode()


@pytest.fixture
def week(kernel: Any, read: Callable[..., None]) -> int:
    """v7.0-rc1, v6.19.1 and a new patch in one week; a patch of three weeks before has no answer. Its end."""
    kernel.commit("Add the driver")
    kernel.tag("v6.19")
    kernel.day = 40
    kernel.commit("Fix A", kernel.fixes("Add the driver"))
    kernel.commit("Fix C", kernel.fixes("Add the driver"))
    kernel.tag("v7.0-rc1")
    kernel.backport("Fix A", "linux-6.19.y", start="v6.19")
    kernel.tag("v6.19.1", "linux-6.19.y")
    end = kernel.day + 1
    mails = [patch("New thing", "new@example.org", end - 1), patch("Old thing", "old@example.org", end - 21)]
    read(["linux-6.19.y"], mails)
    return int(end)


def headings(found: Digest) -> dict[str, list[str]]:
    return {
        one.heading: [entry.title.removeprefix("accel/amdxdna: ") for entry in one.entries]
        for one in found.sections
        if one.entries
    }


def test_a_week(week: int, database: Database) -> None:
    until = START + timedelta(days=week)
    found = digest(database, "amdxdna", until)
    assert headings(found) == {
        "Releases": ["v7.0-rc1", "v6.19.1"],
        "In mainline, by tag": ["Fix C", "Fix A"],
        "New patches": ["New thing"],
        "In stable updates": ["Fix A"],
        "Missing in stable": ["Fix C"],
        "Without an answer for two weeks": ["Old thing"],
    }
    text = found.text()
    assert text.startswith("amdxdna: 2025-11-0")
    assert "* accel/amdxdna: Fix C\n" in text
    assert all(len(line) <= WIDTH for line in text.splitlines())
    later = headings(digest(database, "amdxdna", until + timedelta(days=7)))
    assert set(later) == {"Missing in stable", "Without an answer for two weeks"}


def test_titles_from_outside_stay_in_their_lines() -> None:
    entry = Entry("evil\n* forged\x1b[31m " + "long " * 40, "x", "y")
    text = Digest("amdxdna", START, START + timedelta(days=7), (Section("New", (entry,), 3),)).text()
    assert "\x1b" not in text
    assert text.count("\n* ") == 1
    assert "and 3 more" in text
    empty = Digest("amdxdna", START, START + timedelta(days=7), (Section("New", ()),))
    assert "Nothing happened" in empty.text()


def test_the_command(week: int, tmp_path: Path) -> None:
    settings = tmp_path / "xdnawatch.toml"
    settings.write_text(f'[database]\nurl = "sqlite:///{tmp_path / "tracker.db"}"\n')
    until = (START + timedelta(days=week + 1)).strftime("%Y-%m-%d")
    done = CliRunner().invoke(
        root, ["-c", str(settings), "track", "digest", "--until", until], catch_exceptions=False
    )
    assert "New thing" in done.stdout
