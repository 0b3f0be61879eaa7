"""A site published from PostgreSQL is the site published from SQLite, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.database import Database
from reports.site import publish
from tests.reports.conftest import NOW, Site, fill

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_the_pages_are_the_same(on_postgresql: Database, published_once: Path, tmp_path: Path) -> None:
    made = Site(on_postgresql, tmp_path / "runs")
    fill(made)
    publish(on_postgresql, tmp_path / "site", version="9.9", runs=made.runs, now=NOW)
    expected = {
        path.relative_to(published_once): path for path in published_once.rglob("*") if path.is_file()
    }
    written = {
        path.relative_to(tmp_path / "site"): path for path in (tmp_path / "site").rglob("*") if path.is_file()
    }
    assert written.keys() == expected.keys()
    assert [name for name in expected if expected[name].read_bytes() != written[name].read_bytes()] == []
