"""The folder of a site: whole files, only what changed, nothing that is not ours, safe to kill."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reports.folder import SiteBusyError, SiteError, SiteFolder, opened

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def put(site: SiteFolder, name: str, text: str) -> None:
    def make(now: datetime) -> tuple[bytes, bytes]:
        return f"{text} {now:%H:%M}".encode(), b"{}"

    site.put((f"{name}.html", f"{name}.json"), text, make)


def publish(folder: Path, pages: dict[str, str], now: datetime = NOW) -> tuple[int, int, int]:
    with opened(folder, now) as site:
        for name, text in pages.items():
            put(site, name, text)
        site.finish()
        return site.done.written, site.done.kept, site.done.removed


def interrupt(folder: Path, name: str, text: str) -> None:
    """A publication that is killed after one page."""
    with opened(folder, NOW) as half:
        put(half, name, text)
        raise KeyboardInterrupt


def test_only_what_changed_is_written_and_what_is_gone_is_removed(tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert publish(site, {"a": "1", "runs/b": "1", "old/c": "1"}) == (3, 0, 0)
    untouched = (site / "a.html").stat()
    assert publish(site, {"a": "1", "runs/b": "2"}, NOW + timedelta(hours=1)) == (1, 1, 1)
    assert (site / "a.html").stat().st_mtime_ns == untouched.st_mtime_ns
    assert (site / "a.html").read_text() == "1 12:00"  # the time of its last change
    assert (site / "runs/b.html").read_text() == "2 13:00"
    assert not (site / "old").exists()


def test_a_page_that_was_damaged_or_deleted_is_written_again(tmp_path: Path) -> None:
    publish(tmp_path / "s", {"a": "1", "b": "1"})
    (tmp_path / "s" / "a.html").write_text("")
    (tmp_path / "s" / "b.json").unlink()
    assert publish(tmp_path / "s", {"a": "1", "b": "1"}) == (2, 0, 0)


def test_files_of_others_are_never_removed(tmp_path: Path) -> None:
    publish(tmp_path / "s", {"old/a": "1"})
    (tmp_path / "s" / "old" / "mine.txt").write_text("keep")
    publish(tmp_path / "s", {"b": "1"})
    assert (tmp_path / "s" / "old" / "mine.txt").read_text() == "keep"


def test_a_forged_manifest_cannot_remove_files_elsewhere(tmp_path: Path) -> None:
    victim = tmp_path / "victim.html"
    victim.write_text("keep")
    publish(tmp_path / "s", {"a": "1"})
    manifest = tmp_path / "s" / "site.json"
    known = json.loads(manifest.read_text())
    known["pages"]["../victim.html"] = {"digest": "x", "files": {"../victim.html": 4, "/etc/x.html": 1}}
    manifest.write_text(json.dumps(known))
    publish(tmp_path / "s", {"b": "1"})
    assert victim.read_text() == "keep"


def test_somebody_elses_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "index.html").write_text("mine")
    with pytest.raises(SiteError, match="choose an empty"):
        publish(home, {"a": "1"})
    assert [p.name for p in home.iterdir()] == ["index.html"]
    (home / "index.html").unlink()
    (home / "site.json").write_text('{"what": "other"}')
    with pytest.raises(SiteError, match="choose an empty"):
        publish(home, {"a": "1"})


def test_a_publication_that_was_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    site = tmp_path / "s"
    publish(site, {"a": "1", "b": "1", "c": "1"})
    with pytest.raises(KeyboardInterrupt):
        interrupt(site, "a", "2")
    assert (site / "c.html").exists()  # nothing is removed before the end
    assert publish(site, {"a": "2", "b": "1"}) == (1, 1, 1)
    assert sorted(p.name for p in site.glob("*.html")) == ["a.html", "b.html"]


def test_a_first_publication_that_was_killed_can_be_done_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt(tmp_path / "s", "a", "1")
    assert publish(tmp_path / "s", {"a": "1"}) == (1, 0, 0)


def test_a_full_disk_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "s", {"a": "1"})

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        publish(tmp_path / "s", {"a": "2"})
    assert (tmp_path / "s" / "a.html").read_text() == "1 12:00"
    assert list((tmp_path / "s").glob(".new-*")) == []


def test_a_second_publication_to_the_same_folder_is_told_at_once(tmp_path: Path) -> None:
    with opened(tmp_path / "s", NOW), pytest.raises(SiteBusyError, match="another process"):
        publish(tmp_path / "s", {"a": "1"})


@pytest.mark.parametrize("name", ["../a", "/a", "a/../b", ".hidden", "a b", "ä"])
def test_a_name_that_is_no_pages_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SiteError, match="no names of pages"):
        publish(tmp_path / "s", {name: "1"})


def test_two_pages_of_one_name_are_a_defect_that_is_told(tmp_path: Path) -> None:
    with opened(tmp_path / "s", NOW) as site:
        put(site, "a", "1")
        with pytest.raises(SiteError, match="two pages"):
            put(site, "a", "2")
