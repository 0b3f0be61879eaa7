"""Pages of the tracker's further answers: stable branches, kernels, user interface, what comes next."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup, Tag
from sqlalchemy import delete, select, update

from db import answer_tables as rows
from db import around_tables as around
from db.database import Database
from db.mail_tables import Change, Message
from db.mail_tables import Source as SourceRow
from reports.records import KernelRecord, MachineRecord, ResultRecord, RunRecord
from reports.regressions import open_regressions
from reports.site import publish

NOW = datetime(2026, 11, 23, 16, 0, tzinfo=UTC)
HOSTILE = '"><script>alert(1)</script>\u202e{{ 7*7 }}'
NEW_PAGES = (
    "index", "next/index", "stable/index", "stable/linux-7.1.y", "kernels/index", "kernels/linux-7.2.y",
    "abi/index", "cves/index", "firmware/index", "twin/index",
    "windows/7.2", "windows/7.5", "changes/change-8", "changes/change-9", "changes/change-12",
)  # fmt: skip


def data(pages: Path, name: str) -> Any:
    return json.loads((pages / f"{name}.json").read_text())["data"]


def soup(pages: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((pages / f"{name}.html").read_text("utf-8"), "lxml")


def words(pages: Path, name: str) -> str:
    return re.sub(r"\s+", " ", soup(pages, name).get_text(" ")).strip()


@pytest.fixture(scope="module")
def pages(published_once: Path) -> Path:
    return published_once


# -- stable ---------------------------------------------------------------------------------------------


def test_the_overview_shows_first_what_the_living_branches_lack(pages: Path) -> None:
    found = data(pages, "stable/index")
    assert [(b["name"], b["ended"], b["counts"]["missing"]) for b in found["branches"]] == [
        ("linux-7.2.y", False, 0),
        ("linux-7.1.y", False, 1),
        ("linux-7.0.y", True, 1),
    ]
    assert [(row["title"].split(": ")[1], row["lacking"]) for row in found["changes"]] == [
        ("Add configuring low and medium power mode", ["linux-7.1.y"]),
        ("refuse to flush an imported BO", ["linux-7.1.y"]),
        ("Add carveout memory support for non-IOMMU systems", []),
    ]
    # An ended branch has no column: nobody will add anything there.
    assert all(
        [c["branch"] for c in row["cells"]] == ["linux-7.2.y", "linux-7.1.y"] for row in found["changes"]
    )
    assert "7.1.4 until 7.1.6" in words(pages, "stable/index")


def test_a_branch_tells_each_answer_with_rule_score_and_evidence(pages: Path) -> None:
    groups = {g["state"]["word"]: g["changes"] for g in data(pages, "stable/linux-7.1.y")["groups"]}
    assert list(groups) == ["missing", "failed", "queued", "not-needed"]
    (missing,) = groups["missing"]
    assert (missing["score"], missing["evidence"]) == (0.95, ["it fixes c0ffee, in 7.1"])
    page = soup(pages, "stable/linux-7.1.y")
    row = page.find(id=missing["anchor"])
    assert isinstance(row, Tag)
    assert "it fixes c0ffee, in 7.1" in row.get_text()
    assert "score 0.95" in row.get_text()
    overview = soup(pages, "stable/index")
    links = {str(a["href"]) for a in overview.select("table.changes a.chip")}
    assert f"../stable/linux-7.1.y.html#{missing['anchor']}" in links


# -- kernels --------------------------------------------------------------------------------------------


def test_lines_of_kernels_come_in_order_with_their_last_news(pages: Path) -> None:
    lines = data(pages, "kernels/index")["lines"]
    assert [(one["line"], one["newest"]["version"]) for one in lines] == [
        ("mainline", "v7.3"),
        ("linux-7.2.y", "v7.2.7"),
        ("debian unstable", "7.2.7-1"),
    ]
    assert [one["last_news"]["version"] for one in lines] == ["v7.3-rc1", "v7.2.7", "7.2.7-1"]


def test_a_line_tells_what_each_kernel_brought_and_lost(pages: Path) -> None:
    newest, quiet, first = data(pages, "kernels/linux-7.2.y")["kernels"]
    assert [c["title"] for c in newest["added"]] == ["accel/amdxdna: refuse to flush an imported BO"]
    assert [c["title"] for c in newest["removed"]] == [
        "accel/amdxdna: Support read-only user-pointer BO mappings"
    ]
    assert [one["version"] for one in quiet["quiet"]] == ["v7.2.6"]
    assert (first["version"], first["first"], first["added"]) == ("v7.2", True, [])
    assert "no longer there" in words(pages, "kernels/linux-7.2.y")


# -- user interface -------------------------------------------------------------------------------------


def test_the_user_interface_by_release_with_verdicts(pages: Path) -> None:
    (release,) = data(pages, "abi/index")["releases"]
    assert release["window"] == "7.2"
    (change,) = release["interface"]
    assert change["verdict"]["word"] == "breaking"
    assert change["uapi"][0]["name"] == "amdxdna_power_mode_type"
    assert release["named"][0]["named"][0]["words"] == "module parameter"
    page = soup(pages, "changes/change-8").find("section", attrs={"aria-labelledby": "touches"})
    assert isinstance(page, Tag)
    assert "breaking" in page.get_text()
    assert "power_mode" in page.get_text()
    assert "commit 91f4da826c08" in page.get_text()
    unread = words(pages, "changes/change-11")
    assert "No diff of it was read" in unread


# -- what comes -----------------------------------------------------------------------------------------


def test_what_comes_is_told_with_range_probability_and_rule(pages: Path) -> None:
    found = data(pages, "next/index")
    assert found["dates"]["window"] == "7.4"
    assert [s["name"] for s in found["dates"]["following"]] == ["v7.4-rc5", "v7.4", "v7.5-rc1", "v7.5"]
    (window,) = found["windows"]
    assert window["window"] == "7.5"
    assert window["changes"][0]["expected_tag"]["name"] == "v7.5-rc1"
    assert window["changes"][0]["probability"] == 0.71
    assert found["backtest"]["dates"][0]["rate"] == 0.97
    page = soup(pages, "next/index")
    assert len(page.select("svg.chart")) == 2
    told = words(pages, "next/index")
    assert "2026-12-20 to 12-27" in told
    assert "2027-02-21 to 03-07" in told
    assert "0.965 0.970" in told


def test_a_coming_window_shows_its_dates_and_what_is_expected(pages: Path) -> None:
    found = data(pages, "windows/7.5")
    assert [s["name"] for s in found["forecast"]] == ["v7.5-rc1", "v7.5"]
    assert [(c["title"], c["part"]) for c in found["changes"]] == [
        ("accel/amdxdna: Preserve user address when PASID is disabled", "forecast")
    ]
    assert "Expected, not in mainline yet" in words(pages, "windows/7.5")
    assert {c["part"] for c in data(pages, "windows/7.1")["changes"]} == {"merge-window", "fixes"}


def test_without_forecast_and_backtest_the_page_says_what_to_do(site: Any, tmp_path: Path) -> None:
    with site.database.session() as session:
        session.execute(delete(rows.Outlook))
        session.commit()
    publish(site.database, tmp_path / "site", version="9.9", runs=site.runs, now=NOW)
    told = words(tmp_path / "site", "next/index")
    assert "xdnawatch track backtest" in told
    assert "xdnawatch track sync" in told
    assert not (tmp_path / "site/windows/7.4.html").exists() or "7.4" in words(
        tmp_path / "site", "windows/7.4"
    )


def test_stored_answers_of_another_shape_break_no_page(site: Any, tmp_path: Path) -> None:
    """A database that a newer version wrote: what is not understood is left out."""
    with site.database.session() as session:
        session.execute(
            update(rows.Outlook)
            .where(rows.Outlook.name == "dates")
            .values(value={"today": "soon", "following": [{"name": "v9.9"}, 7], "newest_days": 3})
        )
        session.execute(
            update(rows.Outlook)
            .where(rows.Outlook.name == "backtest")
            .values(value={"dates": [None, {"rate": "x"}], "inside": {"table": "y"}, "windows": None})
        )
        session.execute(update(rows.Touched).values(uapi=[{"verdict": 3}, "x"], named=[{}]))
        session.execute(update(rows.Coming).values(first={"name": "v7.5", "earliest": "never"}))
        session.commit()
    publish(site.database, tmp_path / "site", version="9.9", runs=site.runs, now=NOW)
    assert data(tmp_path / "site", "next/index")["dates"]["following"] == []


# -- the change and the front page ----------------------------------------------------------------------


def test_the_change_page_answers_which_kernel_has_it(pages: Path) -> None:
    carriers = data(pages, "changes/change-9")["carriers"]
    assert [(c["name"], c["carries"]["word"], c["since"], c["page"]) for c in carriers] == [
        ("linux-7.2.y", "yes", "7.2.7", "stable/linux-7.2.y.html"),
        ("linux-7.1.y", "no", None, "stable/linux-7.1.y.html"),
    ]
    assert "It mends a bug that only a backport has" in words(pages, "changes/change-9")
    assert "Expected in v7.5-rc1" in words(pages, "changes/change-12")


def test_wrong_claims_reviews_and_reports_are_told(site: Any, tmp_path: Path) -> None:
    with site.database.session() as session:
        change = session.scalars(select(Change).where(Change.slug == "change-4")).one()
        change.notes = {
            "wrong_claim": {"claimed": "7.0", "truth": "7.1", "pull": "p@example.org"},
            "reverted": {"commit": "ab" * 20, "tag": "v7.1-rc5"},
            "other": "kept",
        }
        change.evidence = [{"kind": "wrong-claim", "text": "the subject said 7.0", "ref": "p@example.org"}]
        source = session.scalars(select(SourceRow)).first()
        assert source is not None
        session.add(
            Message(
                message_id="robot@example.org", source_id=source.id, date=NOW, author_name="kernel robot",
                author_email="lkp@example.org", subject="Re: build error", in_reply_to="4.v2@example.org",
                references=["4.v2@example.org"], kind="report", trailers=[],
            )
        )  # fmt: skip
        session.commit()
    publish(site.database, tmp_path / "site", version="9.9", runs=site.runs, now=NOW)
    told = words(tmp_path / "site", "changes/change-4")
    assert "it said 7.0, the change is in 7.1" in told
    assert "first without it: v7.1-rc5" in told
    assert "Reviewed-by: Mario Limonciello <mario@example.org>" in told
    assert "robot's report on v2: Re: build error" in told
    found = data(tmp_path / "site", "changes/change-4")
    assert [note["name"] for note in found["notes"]] == ["other"]  # the rest has a place of its own


def test_what_a_change_waits_for_is_told_on_its_page_and_on_what_comes_next(
    site: Any, tmp_path: Path
) -> None:
    waits = {"text": 'blocked until "a & b" is in drm-misc: no tree has it', "state": "open"}
    come = {"text": "waited for <x@y> to be in mainline: it is", "state": "fulfilled", "message": "x@y"}
    with site.database.session() as session:
        for slug, state in (("change-4", "posted"), ("change-5", "released")):
            change = session.scalars(select(Change).where(Change.slug == slug)).one()
            change.state, change.notes = state, {"depends": [{**waits, "message": "4.v2@example.org"}, come]}
        session.commit()
        title = session.scalars(select(Change.title).where(Change.slug == "change-4")).one()
    publish(site.database, tmp_path / "site", version="9.9", runs=site.runs, now=NOW)
    told = words(tmp_path / "site", "changes/change-4")
    assert waits["text"] in told
    assert come["text"] in told
    found = data(tmp_path / "site", "changes/change-4")
    assert [(w["state"], w["url"] is not None) for w in found["waits"]] == [
        ("open", True),
        ("fulfilled", False),
    ]
    assert found["notes"] == []
    (row,) = data(tmp_path / "site", "next/index")["blocked"]
    assert (row["title"], [w["text"] for w in row["waits"]]) == (title, [waits["text"]])
    assert waits["text"] in words(tmp_path / "site", "next/index")


def test_the_front_page_tells_cycle_news_waits_lacks_and_regressions(pages: Path) -> None:
    found = data(pages, "index")
    assert (found["cycle"]["page"], found["cycle"]["next"]["name"]) == ("windows/7.4.html", "v7.4-rc5")
    assert found["news"]["tag"] == "v7.3-rc1"
    assert {c["title"].split(": ")[1] for c in found["waiting"]["changes"]} == {
        "Check for device hang on job timeout", "A patch nobody answered",
    }  # fmt: skip
    assert found["coming"]["count"] == 1
    assert [(b["name"], b["lacking"]) for b in found["stable"]["branches"]] == [
        ("linux-7.2.y", 0),
        ("linux-7.1.y", 2),
    ]
    (regression,) = found["regressions"]
    assert regression["test"] == "test_commands.py::test_timeout_recovery"
    assert {
        (p["machine"]["name"], p["good"]["label"], p["latest"]["label"]) for p in regression["places"]
    } == {
        ("virtual-npu1", "7.1.13", "7.3.4"),
        ("virtual-npu4", "7.1.13", "7.3.4"),
    }
    told = words(pages, "index")
    first = [told.index(text) for text in ("is being made", "Waits", "Stable lacks", "Latest verdicts")]
    assert first == sorted(first)


def run_of(version: str, **outcomes: str) -> RunRecord:
    machine = MachineRecord(1, "m", "virtual", "npu4", True)
    kernel = KernelRecord(1, version, version, version[:3], "debian")
    results = tuple(ResultRecord(test, outcome) for test, outcome in outcomes.items())
    return RunRecord(
        version, machine, kernel, {}, None, "ioctl", "", version, NOW, NOW, "finished", "fail", "", None, {},
        (), "", results,
    )  # fmt: skip


def test_a_regression_is_open_when_the_newest_kernel_fails_what_an_older_one_passed() -> None:
    chain = [
        run_of("7.0.1", a="passed", b="failed", c="passed", d="passed", e="skipped"),
        run_of("7.1.1", a="failed", b="failed", c="not-run", d="failed", e="skipped"),
        run_of("7.2.1", a="failed", b="failed", c="incomplete", d="passed", e="failed"),
    ]
    found = open_regressions(chain)
    assert [(one.test, one.good.id, one.bad.id, one.latest.id) for one in found] == [
        ("a", "7.0.1", "7.1.1", "7.2.1"),
        ("c", "7.0.1", "7.2.1", "7.2.1"),
    ]
    assert open_regressions([]) == []


# -- what surrounds the kernel --------------------------------------------------------------------------


def test_cve_records_tell_both_sides_those_that_differ_first(pages: Path) -> None:
    first, second = data(pages, "cves/index")["cves"]
    assert (first["name"], first["verdict"]["word"]) == ("CVE-2026-1001", "differ")
    assert [(c["place"], c["verdict"]["word"], c["page"]) for c in first["checks"]] == [
        ("linux-7.1.y", "differ", "stable/linux-7.1.y.html"),
        ("mainline", "agree", None),
    ]
    assert (second["change"], second["verdict"]["word"]) == (None, "unknown")
    assert "no commit of it is known here" in words(pages, "cves/index")
    assert "CVE-2026-1001" in words(pages, "changes/change-9")


def test_firmware_that_can_fail_comes_first(pages: Path) -> None:
    found = data(pages, "firmware/index")
    (release,) = found["userspace"]
    assert (release["name"], release["pins"], release["answered_by"]) == ("1.9", ["xrt 2.25.0"], ["7.1"])
    assert release["lacks"] == [{"kernel": "7.0", "names": ["DRM_AMDXDNA_QUERY_SENSORS"]}]
    assert "Releases of user space" in words(pages, "firmware/index")
    assert [one["verdict"]["word"] for one in found["needs"]] == ["never", "fits"]
    assert found["steps"][0]["tag"] == "20250410"


def test_the_out_of_tree_driver_by_status_with_who_was_first(pages: Path) -> None:
    found = data(pages, "twin/index")
    groups = {group["status"]["word"]: group for group in found["groups"]}
    assert {word: len(group["commits"]) for word, group in groups.items()} == {
        "twin-only": 2, "posted": 1, "upstream": 1,
    }  # fmt: skip
    assert groups["twin-only"]["common"]["rule"] == "no rung"
    assert groups["upstream"]["common"] is None
    told = words(pages, "twin/index")
    assert "out of tree first, by 12 days" in told
    lacking = {change["title"] for change in found["lacking"]}
    assert "accel/amdxdna: refuse to flush an imported BO" not in lacking
    assert "accel/amdxdna: Remove NPU2 support" in lacking
    assert "out of tree 2" in words(pages, "changes/change-9")


# -- every page -----------------------------------------------------------------------------------------


def test_one_stable_answer_changes_only_the_pages_that_show_it(site: Any, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    publish(site.database, folder, version="9.9", runs=site.runs, now=NOW)
    with site.database.session() as session:
        session.execute(
            update(rows.Backport)
            .where(rows.Backport.state == "queued")
            .values(state="present", version="7.1.14")
        )
        session.commit()
    again = publish(site.database, folder, version="9.9", runs=site.runs, now=NOW)
    assert again.removed == 0
    assert 1 <= again.written <= 4  # the change, its branch, the overview of branches


def test_hostile_answers_stay_in_their_places(site: Any, tmp_path: Path) -> None:
    with site.database.session() as session:
        for table, columns in (
            (rows.Backport, ("state", "version", "rule")),
            (rows.BackportBug, ("cause", "since", "fixed")),
            (rows.Carrier, ("kind", "name", "carries", "since", "why")),
            (rows.KnownKernel, ("kind", "version", "upstream")),
            (rows.Touched, ("source", "verdict")),
            (rows.StableBranch, ("base", "newest")),
            (around.Cve, ("name", "state", "title", "severity")),
            (around.CveCheck, ("place", "says", "found", "verdict", "why", "rule")),
            (around.FirmwareNeed, ("path", "device", "first_kernel", "version", "since", "verdict", "why")),
            (around.FirmwareStep, ("path", "what", "version", "tag")),
            (around.TwinPair, ("status", "rule", "evidence", "first")),
        ):
            for row in session.scalars(select(table)):
                for column in columns:
                    setattr(row, column, f"{HOSTILE}{row.id}")
        for line in session.scalars(select(rows.KnownKernel)):
            line.line = HOSTILE + line.line
        session.execute(update(rows.Backport).values(evidence=[HOSTILE]))
        item = dict.fromkeys(("kind", "name", "what", "file", "reason", "verdict"), HOSTILE)
        session.execute(update(rows.Touched).values(uapi=[item], named=[item]))
        stone = {"name": HOSTILE, "earliest": "2026-11-29", "likely": "2026-11-29", "latest": "2026-11-30"}
        session.execute(
            update(rows.Coming).values(first={**stone, "name": f"v7.4-rc5{HOSTILE}", "probability": 0.5})
        )
        session.execute(
            update(rows.Outlook)
            .where(rows.Outlook.name == "dates")
            .values(
                value={
                    "today": "2026-11-23",
                    "newest": HOSTILE,
                    "following": [{**stone, "name": f"v7.4{HOSTILE}", "probability": 1.0}],
                }
            )
        )
        session.commit()
    publish(site.database, tmp_path / "site", version="9.9", runs=site.runs, now=NOW)
    checked = 0
    for folder in ("stable", "kernels", "abi", "next", "cves", "firmware", "twin", "changes", "windows", "."):
        for file in (tmp_path / "site" / folder).glob("*.html"):
            raw = file.read_text("utf-8")
            assert "<script" not in raw.lower()
            assert not re.search("[\u202a-\u202e]", raw)
            assert re.fullmatch(r"[A-Za-z0-9._-]+", file.name)
            checked += "&lt;script&gt;" in raw
            assert Nesting.faults(raw) == []
    assert checked > 10


class Nesting(HTMLParser):
    """Finds tags that are not closed in order, blocks within a paragraph, ids that are there twice."""

    VOID = frozenset({"meta", "link", "br", "wbr"})
    BLOCK = frozenset(
        {"p", "ul", "ol", "dl", "div", "table", "section", "article", "details", "h2", "h3", "figure"}
    )

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attributes]
        if len(names) != len(set(names)):
            self.found.append(f"<{tag}> has an attribute twice")
        self.ids += [str(value) for name, value in attributes if name == "id"]
        if tag in self.BLOCK and {"p", "span"} & set(self.open):
            self.found.append(f"<{tag}> within {self.open} at {self.getpos()}")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.found.append(f"</{tag}> closes {self.open[-1:]} at {self.getpos()}")
        else:
            self.open.pop()

    @classmethod
    def faults(cls, text: str) -> list[str]:
        parser = cls()
        parser.feed(text)
        parser.close()
        twice = [one for one in set(parser.ids) if parser.ids.count(one) > 1]
        return [
            *parser.found,
            *(f"id {one} twice" for one in twice),
            *(f"<{tag}> is open" for tag in parser.open),
        ]


def test_every_page_is_well_formed(pages: Path) -> None:
    for file in pages.rglob("*.html"):
        assert Nesting.faults(file.read_text("utf-8")) == [], file.name


@pytest.mark.parametrize("text", ["<p><div></div></p>", "<b><i></b></i>", "<i id=a></i><b id=a></b>", "<ul>"])
def test_the_check_of_nesting_sees_faults(text: str) -> None:
    assert Nesting.faults(text) != []


def test_cells_of_a_folding_table_name_their_column(pages: Path) -> None:
    """On a phone a row becomes a block without the table's head: each cell has to say what it is."""
    for name in NEW_PAGES:
        for cell in soup(pages, name).select("table.stack tbody td"):
            told = cell.has_attr("data-head") or cell.select_one(".chip") or "text" in cell.get("class", [])
            assert told or cell.get_text(strip=True) == "" or cell.parent is None or _plain(cell), (
                name,
                cell,
            )


def _plain(cell: Tag) -> bool:
    """The first cell of the matrix (the window), the kernel and machine of a run: they name themselves."""
    return cell.select_one("a, .kernel, .reason") is not None or "wide" in (cell.get("class") or [])


def test_no_list_of_unbroken_pieces_is_wider_than_a_phone(pages: Path) -> None:
    """Pieces that may not be broken inside (`.state`) need a space between them to wrap at."""
    for name in NEW_PAGES:
        assert '</span><span class="state' not in (pages / f"{name}.html").read_text(), name


def test_an_empty_database_has_every_new_page(database: Database, tmp_path: Path) -> None:
    publish(database, tmp_path / "site", version="9.9", runs=tmp_path)
    for folder in ("next", "stable", "kernels", "abi", "cves", "firmware", "twin"):
        name = f"{folder}/index"
        assert "xdnawatch track sync" in words(tmp_path / "site", name)
