"""The whole site from synthetic rows: what pages say, that links lead somewhere, that nothing gets out."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest
from bs4 import BeautifulSoup
from sqlalchemy import event, select, update

from db.database import Database
from db.git_tables import Commit
from db.mail_tables import Change, Message, Source
from db.run_tables import Campaign, Finding, Kernel, Machine, Result, Run
from reports.site import Published, publish

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = '"><script>alert(1)</script><img src=x onerror=y>\x1b[2J\u202e\u0000\ud800{{ 7*7 }}'.replace(
    "\ud800", ""
)


def write(site: Any, folder: Path, **more: Any) -> Published:
    return publish(site.database, folder, version="9.9", runs=site.runs, now=more.pop("now", None), **more)


@pytest.fixture(scope="module")
def pages(published_once: Path) -> Path:
    """A site that tests only read."""
    return published_once


@pytest.fixture
def own_pages(site: Any, tmp_path: Path) -> Path:
    """A site of the test's own rows, to publish again."""
    write(site, tmp_path / "site")
    return tmp_path / "site"


def soup(file: Path) -> BeautifulSoup:
    return _soup(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=300)
def _soup(file: Path, _changed: int) -> BeautifulSoup:
    return BeautifulSoup(file.read_text("utf-8"), "lxml")


def text(file: Path) -> str:
    return re.sub(r"\s+", " ", soup(file).get_text(" ")).strip()


def html_files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.rglob("*.html"))


def broken_links(folder: Path) -> list[str]:
    """Links within the site that lead to no file, or to no anchor of it."""
    anchors: dict[Path, set[str]] = {}
    for file in html_files(folder):
        anchors[file.resolve()] = {str(tag["id"]) for tag in soup(file).find_all(id=True)}
    found = []
    for file in html_files(folder):
        for tag in soup(file).find_all(href=True):
            href, fragment = urldefrag(str(tag["href"]))
            if re.match(r"[a-z]+:", href) or tag.name == "use":
                continue
            target = (file.parent / unquote(href)).resolve() if href else file.resolve()
            if not target.is_file():
                found.append(f"{file.name}: {href}")
            elif fragment and fragment not in anchors.get(target, set()):
                found.append(f"{file.name}: {href}#{fragment}")
    return found


def test_every_kind_of_page_is_there_and_every_link_leads_somewhere(pages: Path) -> None:
    kinds = {json.loads(f.read_text())["kind"] for f in pages.rglob("*.json") if f.name != "site.json"}
    assert kinds == {
        "front", "windows", "window", "change", "runs", "run", "log", "compares", "compare",
        "tests", "test", "campaigns", "campaign", "machines", "machine", "stables", "stable", "kernels",
        "kernel-line", "abi", "next", "cves", "firmware", "twin",
    }  # fmt: skip
    assert broken_links(pages) == []


def test_every_page_has_its_data_beside_it(pages: Path) -> None:
    for file in html_files(pages):
        twin = json.loads(file.with_suffix(".json").read_text("ascii"))
        assert twin["format"] == 1
        assert twin["page"] == file.relative_to(pages).as_posix()
        link = soup(file).find("link", rel="alternate", type="application/json")
        assert link is not None
        assert link["href"] == file.with_suffix(".json").name


def test_pages_need_no_script_and_ask_nobody_else(pages: Path) -> None:
    for file in html_files(pages):
        page = soup(file)
        assert page.find(["script", "iframe", "img", "object", "embed", "form"]) is None
        for tag in page.find_all(["link", "use", "source"]):
            assert not str(tag.get("href", "")).startswith(("http", "//"))


def test_pages_can_be_read_by_those_who_do_not_see_them(pages: Path) -> None:
    for file in html_files(pages):
        page = soup(file)
        assert page.html is not None
        assert page.html["lang"] == "en"
        assert len(page.find_all("h1")) == 1
        for head in page.select("thead th"):
            assert head.get("scope") == "col"
        for row in page.select("tbody tr"):
            heads = row.find_all("th")
            assert all(head.get("scope") == "row" for head in heads)
        for picture in page.select("svg.chart"):
            assert picture.get("role") == "img"
            assert picture.get("aria-label")
        for chip in page.select(".chip"):
            assert chip.get_text(strip=True)  # a word, never colour alone
        identifiers = [tag["id"] for tag in page.find_all(id=True)]
        assert len(identifiers) == len(set(identifiers))


def test_simulated_machines_and_sample_data_are_labelled(site: Any, tmp_path: Path) -> None:
    with site.database.session() as session:
        change = session.scalars(select(Change).where(Change.window == "7.1")).first()
        assert change is not None
        change.sample = True
        session.commit()
        slug = change.slug
    write(site, tmp_path / "site")
    for name in ("index.html", "windows/7.1.html", f"changes/{slug}.html"):
        assert "Sample data." in text(tmp_path / "site" / name)
        assert "sample data" in text(tmp_path / "site" / name).split("Last changed")[1]
    assert "Sample data." not in text(tmp_path / "site" / "windows/7.0.html")
    for machine, simulated in (("virtual-npu4", True), ("minipc", False)):
        page = text(tmp_path / "site" / f"machines/{machine}.html")
        assert ("Simulated NPU." in page) is simulated
    for file in html_files(tmp_path / "site" / "runs"):
        twin = json.loads(file.with_suffix(".json").read_text())
        assert ("Simulated NPU." in text(file)) is twin["simulated"]


def test_the_front_page_answers_at_the_first_glance(pages: Path) -> None:
    rows = soup(pages / "index.html").select("table.matrix tbody tr")
    told = {row.th.get_text(strip=True): row.get_text(" ", strip=True) for row in rows if row.th}
    assert list(told) == ["7.3.4", "7.2.12", "7.1.13", "7.0.13", "6.19.14"]
    assert "panic" in told["7.2.12"]
    assert "no run" in told["6.19.14"]
    assert "newer run" in told["7.3.4"]  # an interrupted run came after the one that speaks


def test_the_window_page_tells_state_commit_verdict_and_suspects(pages: Path) -> None:
    page = text(pages / "windows/7.2.html")
    assert "1 reverted" in page
    assert "Support read-only user-pointer BO mappings" in page
    assert "2 suspects" in page
    twin = json.loads((pages / "windows/7.2.json").read_text())["data"]
    by_title = {change["title"]: change for change in twin["changes"]}
    reverted = by_title["accel/amdxdna: Support read-only user-pointer BO mappings"]
    assert all(machine["kernel"] is None for machine in reverted["hardware"])
    landed = by_title["accel/amdxdna: Add carveout memory support for non-IOMMU systems"]
    verdicts = {h["machine"]["name"]: h["verdict"]["word"] for h in landed["hardware"]}
    assert verdicts == {"minipc": "no run", "virtual-npu1": "fail", "virtual-npu4": "panic"}


def test_the_change_page_links_mails_by_message_id_and_tells_replies(pages: Path) -> None:
    page = soup(pages / "changes/change-4.html")
    links = {str(a["href"]) for a in page.find_all("a", href=True)}
    assert "https://lore.kernel.org/r/4.v1@example.org" in links
    assert "https://lore.kernel.org/r/4.v2@example.org" in links
    assert "https://lore.kernel.org/r/4.reply@example.org" in links
    words = page.get_text(" ")
    assert "Reviewed-by" in words
    assert "rule same-title" in words


def test_the_run_page_shows_failures_first_and_leads_to_the_line(pages: Path) -> None:
    failed = [
        f for f in html_files(pages / "runs")
        if f.name != "index.html" and f.parent.name == "runs" and "test_timeout_recovery" in text(f)
        and json.loads(f.with_suffix(".json").read_text())["data"]["verdict"]["word"] == "fail"
        and json.loads(f.with_suffix(".json").read_text())["data"]["kernel"]["version"] == "7.3.4"
    ]  # fmt: skip
    page = soup(failed[0])
    first = page.select_one("details.file")
    assert first is not None
    assert first.has_attr("open")
    row = first.select_one("tbody tr")
    assert row is not None
    assert "test_timeout_recovery" in row.get_text()
    finding = page.select_one("a[href$='kernel-log.html#L7']")
    assert finding is not None
    assert "TDR timeout detected" in page.get_text()


def test_a_run_with_injected_faults_says_so_and_stands_for_nothing(pages: Path) -> None:
    runs = [json.loads(f.read_text()) for f in (pages / "runs").glob("*.json")]
    faulty = [r for r in runs if r["kind"] == "run" and r["data"]["faults"]]
    assert len(faulty) == 1
    assert faulty[0]["data"]["faults"] == ["drop-reply message=EXEC"]
    page = pages / faulty[0]["page"]
    assert "says nothing about a kernel's quality" in text(page)
    assert page.name not in (pages / "index.html").read_text().split('id="windows"')[0]


def test_environment_is_told_apart_on_the_compare_page(pages: Path) -> None:
    found = pages / "compare/virtual-npu4/7.0.13.deb13-amd64..7.1.13.deb13-amd64.json"
    groups = {g["label"]: g for g in json.loads(found.read_text())["data"]["groups"]}
    assert {d["detail"] for d in groups["environment only"]["differences"]} == {"xdna_addr"}
    assert groups["fixed"]["differences"][0]["subject"] == "test_query.py::test_aie_status[larger]"
    assert "new failure" not in groups


def test_the_campaign_page_names_culprit_change_and_command(pages: Path) -> None:
    page = text(pages / "campaigns/20261123T150000-b15ec7.html")
    assert "97 % sure" in page
    assert "Add configuring low and medium power mode" in page
    assert "xdnawatch bisect --machine virtual-npu4 --test test_commands.py::test_timeout_recovery" in page


def test_the_test_page_shows_since_when_a_value_is_what_it_is(pages: Path) -> None:
    page = text(pages / "tests/state.power_default.html")
    assert "58 from 6.19.14" in page
    assert "25 from 7.2.12" in page


def test_a_second_publication_touches_nothing(site: Any, own_pages: Path) -> None:
    before = {f: f.stat().st_mtime_ns for f in own_pages.rglob("*.html")}
    again = write(site, own_pages)
    assert (again.written, again.removed) == (0, 0)
    assert {f: f.stat().st_mtime_ns for f in own_pages.rglob("*.html")} == before


def test_one_new_fact_changes_only_the_pages_that_show_it(site: Any, own_pages: Path) -> None:
    with site.database.session() as session:
        session.execute(update(Change).where(Change.slug == "change-11").values(state="reviewed"))
        session.commit()
    again = write(site, own_pages)
    assert again.kept > 100
    assert 0 < again.written <= 4
    assert "reviewed" in text(own_pages / "changes/change-11.html")


def test_pages_of_what_is_gone_are_removed(site: Any, own_pages: Path) -> None:
    with site.database.session() as session:
        run = session.scalars(select(Run).where(Run.verdict == "interrupted")).one()
        for row in (*run.results, *run.findings, run):
            session.delete(row)
        session.commit()
        name = run.id
    assert (own_pages / f"runs/{name}.html").is_file()
    write(site, own_pages)
    assert not (own_pages / f"runs/{name}.html").exists()
    assert not (own_pages / f"runs/{name}").exists()
    assert broken_links(own_pages) == []


def test_the_number_of_queries_does_not_grow_with_the_rows(site: Any, tmp_path: Path) -> None:
    queries: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        queries.append(statement)

    event.listen(site.database.engine, "before_cursor_execute", count)
    write(site, tmp_path / "site")
    assert len(queries) <= 36


def test_progress_reaches_its_total(site: Any, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write(site, tmp_path / "site", progress=lambda done, total, _what: told.append((done, total)))
    assert [done for done, _ in told] == list(range(1, len(told) + 1))
    assert told[-1][0] == told[-1][1]


def test_an_empty_database_gives_a_site_that_says_what_to_do(database: Database, tmp_path: Path) -> None:
    publish(database, tmp_path / "site", version="9.9", runs=tmp_path)
    page = text(tmp_path / "site" / "index.html")
    assert "xdnawatch track sync" in page
    assert "xdnawatch run" in page
    assert broken_links(tmp_path / "site") == []


def test_no_text_from_outside_gets_out_of_its_place(site: Any, tmp_path: Path) -> None:
    hostile = HOSTILE.replace("\x00", "")
    with site.database.session() as session:
        for table, columns in (
            (Change, ("title", "author_name", "author_email", "rule", "slug", "first_tag")),
            (Message, ("author_name", "subject", "corrupted")),
            (Commit, ("title", "author_name")),
            (Finding, ("text", "signature", "klass", "severity", "test")),
            (Result, ("message", "outcome")),
            (Run, ("reason", "boot_id", "requested", "suite_digest", "verdict")),
            (Campaign, ("test", "good", "bad", "reason", "repository", "culprit")),
            (Source, ("name", "problem")),
            (Machine, ("name", "generation")),
            (Kernel, ("release", "version", "build_id")),
        ):
            for row in session.scalars(select(table)):
                for column in columns:
                    unique = f"{hostile}{row.id}" if column in ("slug", "name", "release") else hostile
                    setattr(row, column, unique)
        for row in session.scalars(select(Message)):
            row.trailers = [[hostile, hostile]]
        for row in session.scalars(select(Result)):
            row.values = {
                hostile: {hostile: [hostile]},
                "nan": float("nan"),
                "suspect": hostile,
                "title": hostile,
                "expectations": [{"key": hostile, "expected": float("inf")}],
            }
            row.seconds = float("inf")
        for change in session.scalars(select(Change)):
            change.evidence = [{"kind": hostile, "text": hostile, "ref": hostile, "rule": hostile}]
            change.notes = {hostile: hostile, "depends": [{"text": hostile, "message": hostile}, hostile]}
            change.state = "posted"
        session.commit()
    for log in site.runs.rglob("*.log"):
        log.write_text(f"{hostile}\x00\x07\n" * 12, "utf-8")
    write(site, tmp_path / "site")
    checked = 0
    for file in html_files(tmp_path / "site"):
        raw = file.read_text("utf-8")
        assert "<script" not in raw.lower()
        assert "<img" not in raw.lower()
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", raw)
        timeless = re.sub("<time.*?</time>", "", raw)  # a minute may be 49
        assert "49" not in timeless or "{{ 7*7 }}" in raw  # a template in the data is data
        checked += "&lt;script&gt;" in raw
        json.loads(file.with_suffix(".json").read_text("ascii"), parse_constant=pytest.fail)
        assert re.fullmatch(r"[A-Za-z0-9._-]+", file.name)
        assert tmp_path in file.resolve().parents
    assert checked > 100
    assert broken_links(tmp_path / "site") == []


@pytest.mark.parametrize(
    "name",
    [
        "index",
        "windows/7.2",
        "changes/change-6",
        "changes/change-9",
        "windows/7.5",
        "stable/index",
        "stable/linux-7.1.y",
        "kernels/index",
        "kernels/linux-7.2.y",
        "abi/index",
        "next/index",
        "cves/index",
        "firmware/index",
        "twin/index",
        "compare/virtual-npu4/6.19.14.deb13-amd64..7.3.4.deb13-amd64",
        "campaigns/20261123T150000-b15ec7",
    ],
)
def test_what_pages_say_is_as_it_was(pages: Path, name: str) -> None:
    """The words of a page, by line. After a wanted change set XDNAWATCH_UPDATE_GOLDEN=1, read the diff."""
    main = soup(pages / f"{name}.html").main
    assert main is not None
    lines = [re.sub(r"\s+", " ", line).strip() for line in main.get_text("\n").split("\n")]
    said = "\n".join(line for line in lines if line) + "\n"
    golden = GOLDEN / (name.replace("/", "--") + ".txt")
    if os.environ.get("XDNAWATCH_UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(said, "utf-8")
    assert said == golden.read_text("utf-8")
