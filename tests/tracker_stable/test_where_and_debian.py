"""Which kernel has this: mainline, stable, and Debian by its changelog."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from db.database import Database
from tracker.calendar import parse_tag
from tracker.debian_changelog import read_changelog, upstream_of
from tracker.errors import NoSuchChangeError
from tracker.settings import SourceSettings
from tracker.stable import stable
from tracker.where import Reach, carried, where
from xdnawatch.cli import app as root

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LONG = "accel/amdxdna: Fix something whose title is so long that a changelog writes it in two"
CHANGELOG = """\
linux (6.19.2-1) unstable; urgency=medium

  * New upstream stable update:
    https://example.org/ChangeLog-6.19.1
    - [amd64] accel/amdxdna: Fix something whose title is so long that a changelog
      writes it in two (CVE-2026-11111, CVE-2026-22222)
    - net: other
    https://example.org/ChangeLog-6.19.2
    - [amd64,arm64] accel/amdxdna: Fix C

  [ A Maintainer ]
  * [amd64] Enable DRM_ACCEL_AMDXDNA
    - accel/amdxdna: not a title of an update

 -- A Maintainer <m@example.org>  Sat, 28 Feb 2026 10:00:00 +0100

linux (7.0~rc1-1~exp1) experimental; urgency=medium

  * New upstream release candidate

 -- A Maintainer <m@example.org>  Wed, 25 Feb 2026 10:00:00 +0100

linux (6.18.1-1) unstable; urgency=medium

  * New upstream stable update:
    https://example.org/ChangeLog-6.18.1

 -- A Maintainer <m@example.org>  Mon, 05 Jan 2026 10:00:00 +0100
"""


def test_a_changelog_is_read_with_wrapped_titles() -> None:
    newest, candidate, oldest = read_changelog(CHANGELOG.split("\n"))
    assert [(one.version, one.title) for one in newest.titles] == [
        ("6.19.1", LONG),
        ("6.19.1", "net: other"),
        ("6.19.2", "accel/amdxdna: Fix C"),
    ]
    assert newest.titles[0].cves == ("CVE-2026-11111", "CVE-2026-22222")
    assert newest.date == datetime(2026, 2, 28, 9, 0, tzinfo=UTC)
    assert (candidate.suite, candidate.upstream, candidate.titles) == (
        "experimental", parse_tag("v7.0-rc1"), (),
    )  # fmt: skip
    assert oldest.upstream == parse_tag("v6.18.1")


@pytest.mark.parametrize(
    ("version", "tag"),
    [
        ("7.3.4-1~bpo13+1", "v7.3.4"),
        ("7.3~rc7-1~exp1", "v7.3-rc7"),
        ("7.0-1~exp1", "v7.0"),
        ("1:6.1.5-1", "v6.1.5"),
        ("20260101-1", None),
    ],
)
def test_the_release_a_package_is_made_from(version: str, tag: str | None) -> None:
    assert upstream_of(version) == (parse_tag(tag) if tag else None)


@given(st.lists(st.sampled_from([*CHANGELOG.split("\n"), "\0", "    - ", " -- x", "linux (1) x;"])))
def test_any_order_of_lines_is_survived(lines: list[str]) -> None:
    for upload in read_changelog(lines):
        assert upload.version
        assert all(title.title for title in upload.titles)


def carries(tag: str, **reach: Any) -> str:
    """What `carried` says of a kernel made from a tag."""
    parts = {name: reach.get(name) for name in ("first", "undone")}
    updates = {base: parse_tag(f"v{text}") for base, text in reach.get("updates", {}).items()}
    version = parse_tag(tag)
    assert version is not None
    known = Reach(
        *(parse_tag(text) if text else None for text in parts.values()),
        updates,  # type: ignore[arg-type]
        frozenset(reach.get("followed", ())),
    )
    return carried(version, known)[0]


def test_which_release_carries_a_change() -> None:
    assert carries("v7.1-rc2", first="v7.1-rc2") == "yes"
    assert carries("v7.1-rc1", first="v7.1-rc2") == "no"
    assert carries("v7.1.3", first="v7.1-rc2") == "yes"
    assert carries("v7.0", first="v7.1-rc2") == "no"
    assert carries("v7.0.9", first="v7.1-rc2") == "unknown"
    assert carries("v7.0.9", first="v7.1-rc2", followed=["7.0"]) == "no"
    assert carries("v7.0.9", first="v7.1-rc2", updates={"7.0": "7.0.9"}) == "yes"
    assert carries("v7.0.8", first="v7.1-rc2", updates={"7.0": "7.0.9"}) == "no"
    assert carries("v7.2", first="v7.1-rc2", undone="v7.2-rc3") == "no"
    assert carries("v7.2-rc2", first="v7.1-rc2", undone="v7.2-rc3") == "yes"


@pytest.fixture
def known(kernel: Any, read: Callable[..., None], tmp_path: Path) -> Any:
    """Fix A is in 6.18.1 by git, Fix C in 6.19.2 by Debian's changelog only; both are of 7.0-rc1."""
    kernel.commit("Add the driver")
    kernel.tag("v6.18")
    kernel.tag("v6.19")
    kernel.commit("Fix A", kernel.fixes("Add the driver"))
    kernel.commit("Fix C", kernel.fixes("Add the driver"))
    kernel.tag("v7.0-rc1")
    kernel.backport("Fix A", "linux-6.18.y", start="v6.18")
    kernel.tag("v6.18.1", "linux-6.18.y")
    path = tmp_path / "changelog.gz"
    path.write_bytes(gzip.compress(CHANGELOG.encode()))
    source = SourceSettings(name="debian", kind="debian-changelog", location=str(path))
    read(["linux-6.18.y"], [], [source])
    read(["linux-6.18.y"], [], [source])  # a second time changes nothing
    return kernel


def answer(database: Database, name: str) -> dict[str, tuple[str, str | None]]:
    return {one.name: (one.carries, one.since) for one in where(database, name, now=NOW).carriers}


def test_where_is_a_change(known: Any, database: Database) -> None:
    assert answer(database, "Fix A") == {
        "mainline": ("yes", "v7.0-rc1"),
        "linux-6.18.y": ("yes", "6.18.1"),
        "debian unstable": ("unknown", None),  # 6.19.2: the updates of 6.19 are not followed
        "debian experimental": ("yes", "7.0~rc1-1~exp1"),
    }
    found = answer(database, known.ids["Fix C"][:10])
    assert found["linux-6.18.y"] == ("no", None)
    assert found["debian unstable"] == ("yes", "6.19.2-1")
    assert answer(database, "Add the driver")["debian unstable"] == ("yes", "6.18.1-1")


def test_a_title_that_only_a_changelog_knows(known: Any, database: Database) -> None:
    found = where(database, "whose title is so long", now=NOW)
    assert found.title == LONG
    assert found.slug is None
    assert {one.name: one.carries for one in found.carriers}["debian unstable"] == "yes"
    with pytest.raises(NoSuchChangeError, match="nonsense"):
        where(database, "nonsense that nobody wrote", now=NOW)


def test_a_followed_branch_learns_from_the_changelog(
    known: Any, read: Callable[..., None], database: Database
) -> None:
    known.commit("Something else", branch="linux-6.19.y", start="v6.19")
    known.tag("v6.19.1", "linux-6.19.y")
    read(["linux-6.18.y", "linux-6.19.y"])
    found = [one for one in stable(database, now=NOW).backports if one.branch == "linux-6.19.y"]
    states = {one.title: (one.state, one.version) for one in found}
    assert states["accel/amdxdna: Fix C"] == ("present", "6.19.2")
    assert states["accel/amdxdna: Fix A"][0] == "missing"


def test_a_changelog_that_is_none(
    kernel: Any, tmp_path: Path, database: Database, read: Callable[..., None]
) -> None:
    kernel.commit("Add the driver")
    bad = tmp_path / "changelog.gz"
    bad.write_bytes(gzip.compress(CHANGELOG.encode())[:40])
    source = SourceSettings(name="debian", kind="debian-changelog", location=str(bad))
    with pytest.raises(AssertionError, match="cannot read the changelog"):
        read([], [], [source])


def test_the_command(known: Any, tmp_path: Path) -> None:
    settings = tmp_path / "xdnawatch.toml"
    settings.write_text(f'[database]\nurl = "sqlite:///{tmp_path / "tracker.db"}"\n')
    arguments = ["-c", str(settings), "track", "where", "Fix A"]
    done = CliRunner().invoke(root, arguments, catch_exceptions=False)
    assert "6.18.1" in done.stdout
    done = CliRunner().invoke(root, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["carriers"][0]["since"] == "v7.0-rc1"
