"""CVE records: read as the kernel's authority writes them, tied by commit id, held against the branches."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from db.database import Database
from tracker.backports import backport_only_bugs
from tracker.cves.answers import CveAnswer, cve_answers
from tracker.cves.check import BranchSide, MainlineSide, check_record
from tracker.cves.record import Claim, CveRecord, DamagedRecordError, parse_record
from tracker.settings import DriverProfile, SourceSettings
from tracker.stable import read_branches, read_mainline
from tracker.sync import sync
from xdnawatch.cli import app as root

FILE = "drivers/accel/amdxdna/aie2_ctx.c"


def cve_json(
    name: str,
    title: str,
    pairs: list[tuple[str, str]],
    fixed: list[str],
    mainline: str | None,
    *,
    first: str = "6.14",
    file: str = FILE,
    closed: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """A record in the authority's shape. ``closed``: one affected range, the rest not affected."""
    versions: list[dict[str, Any]]
    if closed is not None:
        versions = [
            {"version": closed[0], "lessThan": closed[1], "status": "affected", "versionType": "semver"}
        ]
    else:
        versions = [
            {"version": first, "status": "affected"},
            {"version": "0", "lessThan": first, "status": "unaffected", "versionType": "semver"},
        ]
        for update in fixed:
            base = ".".join(update.split(".")[:2])
            versions.append(
                {"version": update, "lessThanOrEqual": f"{base}.*", "status": "unaffected",
                 "versionType": "semver"}
            )  # fmt: skip
        if mainline:
            versions.append(
                {"version": mainline, "lessThanOrEqual": "*", "status": "unaffected",
                 "versionType": "original_commit_for_fix"}
            )  # fmt: skip
    git = [
        {"version": cause, "lessThan": fix, "status": "affected", "versionType": "git"}
        for cause, fix in pairs
    ]
    product = {"product": "Linux", "vendor": "Linux", "programFiles": [file]}
    return {
        "containers": {
            "cna": {
                "title": title,
                "affected": [
                    {**product, "defaultStatus": "unaffected", "versions": git},
                    {
                        **product,
                        "defaultStatus": "unaffected" if closed else "affected",
                        "versions": versions,
                    },
                ],
                "metrics": [{"cvssV3_1": {"baseScore": 7.8, "baseSeverity": "HIGH"}}],
            }
        },
        "cveMetadata": {"cveId": name, "state": "PUBLISHED"},
        "dataType": "CVE_RECORD",
    }


def parsed(value: Any) -> CveRecord:
    return parse_record(json.dumps(value).encode())


OPEN = cve_json(
    "CVE-2026-1000", "accel/amdxdna: Fix A", [("aa" * 20, "bb" * 20)], ["6.18.17"], "7.0", first="6.16"
)
CLOSED = cve_json("CVE-2026-1001", "accel/amdxdna: Fix B", [], [], None, closed=("6.19.4", "6.19.7"))


@pytest.mark.parametrize(
    ("value", "base", "claim"),
    [
        (OPEN, "6.15", Claim("never")),
        (OPEN, "6.16", Claim("affected", "6.16")),
        (OPEN, "6.18", Claim("fixed", "6.18", "6.18.17")),
        (OPEN, "6.19", Claim("affected", "6.19")),
        (OPEN, "7.0", Claim("from-start")),
        (OPEN, "7.1", Claim("from-start")),
        (CLOSED, "6.18", Claim("never")),
        (CLOSED, "6.19", Claim("fixed", "6.19.4", "6.19.7")),
        (CLOSED, "7.0", Claim("from-start")),
    ],
)
def test_what_a_record_says_of_a_release(value: Any, base: str, claim: Claim) -> None:
    assert parsed(value).claim(base) == claim
    assert parsed(value).claim(base, newest=40) == claim


def test_a_record_is_read_whole() -> None:
    record = parsed(OPEN)
    assert (record.name, record.state, record.severity) == ("CVE-2026-1000", "published", "7.8 HIGH")
    assert (record.causes, record.fixes) == (("aa" * 20,), ("bb" * 20,))
    assert (record.introduced, record.mainline_fix, record.named_bases()) == ("6.16", "7.0", ("6.18",))
    assert record.files == (FILE,)
    closed = parsed(CLOSED)
    assert (closed.introduced, closed.introduced_in_mainline, closed.mainline_fix) == ("6.19.4", None, None)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b'{"cveMetadata": {"cveId": "../../etc"}}', b"[" * 100_000, b"\xff\xfe"],
)
def test_what_is_no_record_is_refused_with_a_reason(raw: bytes) -> None:
    with pytest.raises(DamagedRecordError, match=r"no JSON|cveId"):
        parse_record(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=8) | st.sampled_from(["affected", "git", "6.18.*", "6.18"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["version", "status", "lessThan", "lessThanOrEqual", "versions", "versionType"]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None)
@given(affected=JSON, metrics=JSON, title=JSON)
def test_a_hostile_record_never_ends_the_reading(affected: Any, metrics: Any, title: Any) -> None:
    raw = {
        "cveMetadata": {"cveId": "CVE-2026-1000"},
        "containers": {"cna": {"affected": affected, "metrics": metrics, "title": title}},
    }
    record = parsed(raw)
    for base in ("6.18", "7.0"):
        assert record.claim(base).words()


def side(state: str, version: str | None = None, **more: Any) -> BranchSide:
    return BranchSide("linux-6.18.y", "6.18", 20, state, version, "why", **more)


@pytest.mark.parametrize(
    ("value", "branch", "verdict"),
    [
        (OPEN, side("present", "6.18.17"), "agree"),
        (OPEN, side("present", "6.18.16"), "differ"),
        (OPEN, side("missing"), "differ"),
        (OPEN, side("not-needed"), "differ"),
        (OPEN, side("present", None, inherited=True), "differ"),
        (OPEN, side("unknown"), "unknown"),
        (OPEN, BranchSide("linux-6.18.y", "6.18", 12, "missing", None, "why"), "unknown"),
        (OPEN, BranchSide("linux-6.19.y", "6.19", 3, "missing", None, "why"), "agree"),
        (OPEN, BranchSide("linux-6.19.y", "6.19", 3, "failed", None, "why"), "agree"),
        (OPEN, BranchSide("linux-6.19.y", "6.19", 3, "present", "6.19.2", "why"), "differ"),
        (OPEN, BranchSide("linux-6.15.y", "6.15", 3, "not-needed", None, "why"), "agree"),
        (OPEN, BranchSide("linux-6.15.y", "6.15", 3, "missing", None, "why"), "differ"),
        (OPEN, BranchSide("linux-7.0.y", "7.0", 3, "present", "7.0", "why", inherited=True), "agree"),
        (OPEN, BranchSide("linux-7.0.y", "7.0", 3, "missing", None, "why"), "differ"),
        (CLOSED, BranchSide("linux-6.19.y", "6.19", 9, "present", "6.19.7", "why", since="6.19.4"), "agree"),
        (CLOSED, BranchSide("linux-6.19.y", "6.19", 9, "present", "6.19.7", "why", since="6.19.3"), "differ"),
    ],
)
def test_every_pair_of_statements_has_its_verdict(value: Any, branch: BranchSide, verdict: str) -> None:
    mainline = MainlineSide("released", "7.0", True, {"aa" * 20: "6.16"})
    checks = {one.place: one for one in check_record(parsed(value), mainline, [branch])}
    found = checks[branch.name]
    assert found.verdict == verdict, found
    assert found.says
    assert found.found


def test_mainline_and_cause_are_checked_and_branches_that_are_not_followed_are_named() -> None:
    right = MainlineSide("released", "7.0", True, {"aa" * 20: "6.16"})
    checks = {one.place: one.verdict for one in check_record(parsed(OPEN), right, [])}
    assert checks == {"mainline": "agree", "cause": "agree", "6.18": "unknown"}
    wrong = MainlineSide("released", "7.1", True, {"aa" * 20: "6.17"})
    checks = {one.place: one.verdict for one in check_record(parsed(OPEN), wrong, [])}
    assert checks == {"mainline": "differ", "cause": "differ", "6.18": "unknown"}
    assert [one.verdict for one in check_record(parsed(OPEN), None, [])] == ["unknown", "unknown"]


class Vulns:
    """A small vulns.git: published and rejected records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=master")

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", "-C", str(self.folder), *arguments], capture_output=True, check=True)

    def path(self, name: str, where: str = "published") -> Path:
        return self.folder / "cve" / where / name.split("-")[1] / f"{name}.json"

    def write(self, value: dict[str, Any], where: str = "published") -> None:
        path = self.path(value["cveMetadata"]["cveId"], where)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "records")


@pytest.fixture
def vulns(tmp_path: Path) -> Vulns:
    return Vulns(tmp_path / "vulns")


@pytest.fixture
def cves(kernel: Any, vulns: Vulns) -> SourceSettings:
    """Two records of a small kernel: Fix A, ported to 6.19.2; Fix C, a bug that only 6.19.y had."""
    kernel.commit("Add the driver")
    kernel.tag("v6.19")
    kernel.commit("Fix A", kernel.fixes("Add the driver"))
    kernel.commit("Add B")
    kernel.commit("Fix C", kernel.fixes("Add B"))
    kernel.tag("v7.0-rc1")
    kernel.tag("v7.0")
    kernel.backport("Add B", "linux-6.19.y", start="v6.19")
    kernel.tag("v6.19.1", "linux-6.19.y")
    fix_a = kernel.backport("Fix A", "linux-6.19.y")
    kernel.tag("v6.19.2", "linux-6.19.y")
    kernel.backport("Fix C", "linux-6.19.y")
    kernel.tag("v6.19.3", "linux-6.19.y")
    cause, fix = kernel.ids["Add the driver"], kernel.ids["Fix A"]
    vulns.write(
        cve_json("CVE-2026-1", "x", [], [], None, file="drivers/gpu/other.c")
        | {"cveMetadata": {"cveId": "CVE-2026-1111"}}
    )
    vulns.write(
        cve_json(
            "CVE-2026-2000",
            "accel/amdxdna: Fix A",
            [(cause, fix_a), (cause, fix)],
            ["6.19.2"],
            "7.0",
            first="6.19",
        )
    )
    vulns.write(
        cve_json(
            "CVE-2026-2001",
            "accel/amdxdna: Fix C",
            [(kernel.ids["Add B"], kernel.ids["Fix C"])],
            [],
            None,
            closed=("6.19.1", "6.19.3"),
        )
    )
    vulns.commit()
    return SourceSettings(name="cves", kind="cve", location=str(vulns.folder))


def verdicts(database: Database) -> dict[str, dict[str, str]]:
    return {one.name: {check.place: check.verdict for check in one.checks} for one in cve_answers(database)}


def test_records_that_fit_the_branches_agree(
    cves: SourceSettings, read: Callable[..., None], database: Database
) -> None:
    read(["linux-6.19.y"], more=[cves])
    assert verdicts(database) == {
        "CVE-2026-2000": {"mainline": "agree", "cause": "agree", "linux-6.19.y": "agree"},
        "CVE-2026-2001": {"mainline": "unknown", "cause": "unknown", "linux-6.19.y": "agree"},
    }
    (one,) = cve_answers(database, name="cve-2026-2000")
    assert (one.change, one.rule, one.score) == ("accel-amdxdna-fix-a", "commit id", 1.0)
    assert one.affected == "from 6.19; fixed in 6.19.2, 7.0"
    assert one.published is not None  # of the commit that added the file
    (bug,) = cve_answers(database, name="2001")
    assert "bug since 6.19.1" in next(check.found for check in bug.checks if check.place == "linux-6.19.y")


def test_a_branch_that_contradicts_is_shown_with_both_statements(
    cves: SourceSettings, vulns: Vulns, kernel: Any, read: Callable[..., None], database: Database
) -> None:
    ids = [(kernel.ids["Add the driver"], kernel.ids["Fix A"])]
    vulns.write(cve_json("CVE-2026-2000", "accel/amdxdna: Fix A", ids, ["6.19.1"], "7.1", first="6.19"))
    vulns.commit()
    read(["linux-6.19.y"], more=[cves])
    (one,) = cve_answers(database, verdict="differ")
    told = {check.place: (check.says, check.found, check.verdict) for check in one.checks}
    assert told["mainline"] == ("fixed in 7.1", "released, 7.0", "differ")
    assert told["linux-6.19.y"] == (
        "affected from 6.19, fixed in 6.19.1",
        "present in 6.19.2",
        "differ",
    )


def test_the_second_sync_reads_what_changed_only(
    cves: SourceSettings, vulns: Vulns, database: Database, tmp_path: Path
) -> None:
    def run() -> tuple[int, int]:
        (report,) = sync(database, [cves], [], DriverProfile(), clones=tmp_path / "c").sources
        assert report.problem is None
        return report.scanned, report.new

    assert run() == (3, 2)
    assert run() == (0, 0)
    vulns.write(cve_json("CVE-2026-2002", "accel/amdxdna: New", [], ["6.19.9"], "7.1"))
    vulns.path("CVE-2026-2000").unlink()
    vulns.write(cve_json("CVE-2026-2001", "accel/amdxdna: Fix C", [], [], None), "rejected")
    vulns.path("CVE-2026-2001").unlink()
    vulns.path("CVE-2026-2002").with_name("CVE-2026-2003.json").write_text("{ damaged")
    vulns.path("CVE-2026-2002").with_name("CVE-2026-2004.json").write_text(json.dumps(OPEN))
    vulns.commit()
    assert run() == (4, 1)
    assert {one.name: one.state for one in cve_answers(database)} == {
        "CVE-2026-2001": "rejected",
        "CVE-2026-2002": "published",
    }


def test_a_folder_is_read_like_a_tree(
    vulns: Vulns, cves: SourceSettings, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    for path in vulns.folder.glob("cve/published/*/*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "CVE-2026-9999.json").symlink_to("/etc/hostname")
    source = SourceSettings(name="plain", kind="cve", location=str(folder))

    def run() -> tuple[int, int, str | None]:
        (report,) = sync(database, [source], [], DriverProfile(), clones=tmp_path / "c").sources
        return report.scanned, report.new, report.problem

    assert run() == (3, 2, None)
    assert run() == (0, 0, None)
    (folder / "CVE-2026-2001.json").unlink()
    assert run()[0] == 2
    assert [one.name for one in cve_answers(database)] == ["CVE-2026-2000"]
    gone = SourceSettings(name="gone", kind="cve", location=str(tmp_path / "absent"))
    (report,) = sync(database, [gone], [], DriverProfile(), clones=tmp_path / "c").sources
    assert "no folder" in str(report.problem)


def test_the_commands_show_records(cves: SourceSettings, read: Callable[..., None], tmp_path: Path) -> None:
    read(["linux-6.19.y"], more=[cves])
    settings = tmp_path / "xdnawatch.toml"
    settings.write_text(f'[database]\nurl = "sqlite:///{tmp_path / "tracker.db"}"\n')

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(root, ["-c", str(settings), "track", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "both say 6.19.2" in call("show", "Fix A")
    shown = json.loads(call("show", "Fix A", "--json"))
    assert [one["verdict"] for one in shown["cves"]] == ["agree"]
    branch = json.loads(call("stable", "--json"))
    assert {one["name"] for one in branch["cves"]} == {"CVE-2026-2000", "CVE-2026-2001"}
    assert "CVE-2026-2001, 7.8 HIGH" in call("cve", "Fix C")
    assert call("cve", "--verdict", "differ") == ""


def ranges(record: CveRecord, until: str) -> str:
    """The affected releases in the words of an advisory: ">=6.18.0 <6.18.17, >=6.19.0 <6.19.7"."""
    found: list[list[str]] = []
    for base in ("6.14", "6.15", "6.16", "6.17", "6.18", "6.19", "7.0", "7.1"):
        claim = record.claim(base)
        if claim.kind == "affected":
            if not found or found[-1][1]:
                found.append([_three(claim.since or ""), ""])
        elif claim.kind == "fixed":
            if not found or found[-1][1]:
                found.append([_three(claim.since or ""), ""])
            found[-1][1] = claim.fixed or ""
    return ", ".join(f">={since} <{fixed or until}" for since, fixed in found)


def _three(version: str) -> str:
    return version + (".0" if version.count(".") == 1 else "")


@pytest.mark.real
def test_the_authoritys_own_records_say_what_the_advisories_say(real_data: Path) -> None:
    """A clone of vulns.git: every record of the truth table that it holds gives the table's ranges."""
    clone = os.environ.get("XDNAWATCH_CVE_GIT")
    if not clone:
        pytest.skip("no CVE records: XDNAWATCH_CVE_GIT names no clone of kernel.org's vulns.git")
    from tracker.git.repository import Repository

    repository = Repository(Path(clone))
    compared = 0
    for row in json.loads((real_data / "cves.json").read_text()):
        name = row["cve"]
        head = repository.resolve("master") or repository.resolve("HEAD")
        (blob,) = repository.blobs([f"{head}:cve/published/{name.split('-')[1]}/{name}.json"], limit=1 << 20)
        if blob.data is None:
            continue
        record = parse_record(blob.data)
        # The table counts from the first mainline release and leaves a backported cause out.
        told = re.sub(r">=6\.14\.9 ", ">=6.15.0 ", ranges(record, "7.1"))
        assert told == row["affected"], name
        assert {fix[:28] for fix in record.fixes} & {one[:28] for one in row["commits_listed"]} or not row[
            "commits_listed"
        ], name
        compared += 1
    assert compared >= 10


@pytest.mark.real
def test_the_truth_tables_records_agree_with_a_history_made_from_the_same_facts(
    real_data: Path, kernel: Any, vulns: Vulns, read: Callable[..., None], database: Database
) -> None:
    """Branches made from the first fixed versions of the table, records made from its ranges: all agree; and
    with one version changed in one record, exactly that one differs."""
    rows = json.loads((real_data / "cves.json").read_text())
    spans = {
        row["cve"]: [re.match(r">=(\S+) <(\S+)", part.strip()) for part in row["affected"].split(",")]
        for row in rows
    }
    ports: dict[str, list[tuple[int, str, str]]] = {}  # base -> (update, title, cve)
    releases = ["6.14", "6.15", "6.16", "6.18", "6.19", "7.0", "7.1", "7.2"]
    causes: dict[str, list[dict[str, Any]]] = {}
    fixes: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        title = row["title"].removeprefix("accel/amdxdna: ")
        first = str(spans[row["cve"]][0][1])
        last = str(spans[row["cve"]][-1][2])
        only = first.count(".") == 2 and not first.endswith(".0")  # only a backport had the bug
        mainline = releases[releases.index(".".join(last.split(".")[:2])) + 1]
        begins = mainline if only else first.removesuffix(".0")
        causes.setdefault(begins, []).append({"title": f"Cause of {title}"})
        fixes.setdefault(mainline, []).append({"title": title, "row": row})
        for found in spans[row["cve"]]:
            end = str(found[2])
            ports.setdefault(".".join(end.split(".")[:2]), []).append(
                (int(end.split(".")[2]), title, row["cve"])
            )
        if only:
            base, patch = first.rsplit(".", 1)
            ports[base].append((int(patch), f"Cause of {title}", row["cve"]))
    for release in releases:
        for cause in causes.get(release, []):
            kernel.commit(cause["title"])
        for fix in fixes.get(release, []):
            kernel.commit(fix["title"], kernel.fixes(f"Cause of {fix['title']}"))
        kernel.tag(f"v{release}")
    branches = []
    for base, entries in sorted(ports.items()):
        branch = f"linux-{base}.y"
        branches.append(branch)
        for number, title, _ in sorted(entries):
            kernel.backport(title, branch, start=f"v{base}")
            kernel.git("tag", "--force", f"v{base}.{number}", f"refs/heads/{branch}")
    written = []
    for release, entries in fixes.items():
        for fix in entries:
            row, title = fix["row"], fix["title"]
            pair = [(kernel.ids[f"Cause of {title}"], kernel.ids[title])]
            span = spans[row["cve"]]
            first = str(span[0][1]).removesuffix(".0")
            if first.count(".") == 2:
                value = cve_json(row["cve"], row["title"], pair, [], None, closed=(first, str(span[0][2])))
            else:
                ends = [str(found[2]) for found in span]
                value = cve_json(row["cve"], row["title"], pair, ends, release, first=first)
            vulns.write(value)
            written.append(value)
    vulns.commit()
    source = SourceSettings(name="cves", kind="cve", location=str(vulns.folder))
    read(branches, more=[source])
    answers: list[CveAnswer] = cve_answers(database)
    assert len(answers) == len(rows) == 11
    for one in answers:
        told = {check.place: check.verdict for check in one.checks}
        assert "differ" not in told.values(), (one.name, one.checks)
        named = {f"linux-{'.'.join(str(found[2]).split('.')[:2])}.y" for found in spans[one.name]}
        assert all(told[branch] == "agree" for branch in named), (one.name, one.checks)
    with database.engine.connect() as connection:
        changes, mainline = read_mainline(connection, sample=False)
        found = backport_only_bugs(changes, read_branches(connection, sample=False), mainline)
    assert [(bug.since, bug.fixed) for bug in found] == [("6.19.4", "6.19.7")]  # CVE-2026-23288
    changed = next(value for value in written if "6.18.42" in json.dumps(value))
    wrong = json.loads(json.dumps(changed).replace("6.18.42", "6.18.41"))
    vulns.write(wrong)
    vulns.commit()
    read(branches, more=[source])
    assert [one.name for one in cve_answers(database, verdict="differ")] == [wrong["cveMetadata"]["cveId"]]
