"""The Atom feeds: valid, complete, with stable ids and dates, and harmless."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.mail_tables import Change
from reports.catalogue import Catalogue
from reports.feeds import MOST, Feed, FeedEntry, feeds
from reports.records import ChangeRecord, Snapshot
from reports.site import publish

NS = {"a": "http://www.w3.org/2005/Atom"}
DAY = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def published(site: Any, tmp_path: Path) -> Path:
    publish(site.database, tmp_path / "out", version="9.9", runs=site.runs)
    return tmp_path / "out"


def entries(file: Path) -> list[ElementTree.Element]:
    return ElementTree.fromstring(file.read_bytes()).findall("a:entry", NS)


def text(entry: ElementTree.Element, name: str) -> str:
    return entry.findtext(f"a:{name}", "", NS)


def test_each_feed_has_what_rfc_4287_asks_for_and_its_links_lead_somewhere(published: Path) -> None:
    for name in ("windows", "changes", "around", "runs"):
        file = published / "feeds" / f"{name}.atom"
        root = ElementTree.fromstring(file.read_bytes())
        assert root.tag == "{http://www.w3.org/2005/Atom}feed"
        found = root.findall("a:entry", NS)
        assert found
        for element in (root, *found):
            assert text(element, "id").startswith("urn:uuid:")
            assert text(element, "title")
            assert datetime.fromisoformat(text(element, "updated").replace("Z", "+00:00")).tzinfo
            assert element.find("a:author/a:name", NS) is not None
            for link in element.findall("a:link", NS):
                assert (file.parent / link.attrib["href"]).resolve().is_file()
        ids = [text(entry, "id") for entry in found]
        assert len(set(ids)) == len(ids)
        dates = [text(entry, "updated") for entry in found]
        assert dates == sorted(dates, reverse=True)
        assert text(root, "updated") == dates[0]


def test_what_the_feeds_tell(published: Path) -> None:
    changes = {text(one, "title") for one in entries(published / "feeds/changes.atom")}
    assert any("Remove NPU2 support (released, v7.0-rc1)" in title for title in changes)
    windows = [text(one, "title") for one in entries(published / "feeds/windows.atom")]
    assert any(title.startswith("7.1: 4 changes, v7.1") for title in windows)
    runs = [text(one, "title") for one in entries(published / "feeds/runs.atom")]
    assert any("7.3.4 on " in title for title in runs)
    assert any("simulated NPU" in title for title in runs)
    news = {text(one, "title"): text(one, "summary") for one in entries(published / "feeds/around.atom")}
    assert news == {
        "CVE-2026-1001: Title of CVE-2026-1001 (differ)": "mainline: agree; linux-7.1.y: differ",
        "CVE-2026-1002: Title of CVE-2026-1002 (unknown)": "no commit of it is known",
        "amdnpu/17f0_10/npu.sbin added to 1.0.0.63 in 20250410": "added to 1.0.0.63, 20250410",
        "mainline 1.9, driver 0.16": news["mainline 1.9, driver 0.16"],
    }
    assert "7.0 does not answer 1 names" in news["mainline 1.9, driver 0.16"]


def test_a_change_keeps_its_id_when_its_state_changes(site: Any, published: Path, tmp_path: Path) -> None:
    def ids(folder: Path) -> dict[str, str]:
        return {text(one, "id"): text(one, "title") for one in entries(folder / "feeds/changes.atom")}

    before = ids(published)
    untouched = (published / "feeds/runs.atom").stat().st_mtime_ns
    with Session(site.database.engine) as session:
        row = session.scalars(select(Change).where(Change.state == "posted")).first()
        assert row is not None
        row.state = "reviewed"
        session.commit()
    publish(site.database, published, version="9.9", runs=site.runs)
    after = ids(published)
    assert before.keys() == after.keys()
    assert sum(before[key] != after[key] for key in before) == 1
    assert (published / "feeds/runs.atom").stat().st_mtime_ns == untouched


def test_every_page_names_the_feeds(published: Path) -> None:
    assert 'href="feeds/changes.atom"' in (published / "index.html").read_text()
    page = next((published / "runs").glob("*.html")).read_text()
    assert 'href="../feeds/runs.atom"' in page


def test_text_from_outside_cannot_break_a_feed() -> None:
    evil = FeedEntry(
        "k\ud800", "a <b> & \x00\x1b\u202e ]]>", DAY, "x.html", "\x07", "</summary>\ufffe", sample=True
    )
    root = ElementTree.fromstring(Feed("feeds/x.atom", "t", "x.html", (evil,)).xml())
    title = root.findtext("a:entry/a:title", "", NS)
    assert title.startswith("[sample] a <b> & ^@^[<U+202E>")
    assert root.findtext("a:entry/a:summary", "", NS) == "</summary><U+FFFE>"


def test_a_feed_is_bounded_and_an_empty_site_has_feeds_too() -> None:
    change = ChangeRecord(
        1, "k", "s", "t", "n", "e", DAY, DAY, "posted", None, None, "rule", 0.0, (), {}, False
    )  # fmt: skip
    many = tuple(replace(change, id=number, slug=f"s{number}") for number in range(MOST + 5))
    found = {one.path: one for one in feeds(Catalogue(Snapshot(changes=many)))}
    assert len(found["feeds/changes.atom"].entries) == MOST
    for feed in feeds(Catalogue(Snapshot())):
        assert ElementTree.fromstring(feed.xml()).findtext("a:updated", "", NS) == "1970-01-01T00:00:00Z"
