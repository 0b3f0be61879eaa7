"""A small site out of synthetic rows: real titles and tags, invented machines, runs and mails."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db import answer_tables as rows
from db import around_tables as around
from db.database import Database
from db.git_tables import Commit, Landing, Match, Tag, Tree
from db.mail_tables import Change, Message, Patch, Series, Source
from db.run_tables import Campaign, CampaignStep, Environment, Finding, Kernel, Machine, Result, Run
from reports.site import publish

NOW = datetime(2026, 11, 23, 16, 0, tzinfo=UTC)

RELEASES = {
    "v7.0-rc1": "2026-02-22",
    "v7.0": "2026-04-12",
    "v7.1-rc1": "2026-04-26",
    "v7.1-rc2": "2026-05-03",
    "v7.1": "2026-06-14",
    "v7.2-rc1": "2026-06-28",
    "v7.2": "2026-08-16",
    "v7.3-rc1": "2026-08-30",
    "v7.3": "2026-10-18",
}
# title, author, state, window, first tag
CHANGES = [
    ("Enable hardware context priority", "Lizhi Hou", "released", "7.0", "v7.0-rc1"),
    ("Remove NPU2 support", "Lizhi Hou", "released", "7.0", "v7.0-rc1"),
    ("Allow forcing IOVA-based DMA via module parameter", "Lizhi Hou", "released", "7.1", "v7.1-rc1"),
    ("Support sensors for column utilization", "Max Zhen", "released", "7.1", "v7.1-rc1"),
    ("Add per-process BO memory usage query support", "Max Zhen", "released", "7.1", "v7.1-rc1"),
    ("Fix mm_struct reference leak in aie2_populate_range()", "Lizhi Hou", "released", "7.1", "v7.1-rc2"),
    ("Support read-only user-pointer BO mappings", "Max Zhen", "reverted", "7.2", "v7.2-rc1"),
    ("Add carveout memory support for non-IOMMU systems", "Max Zhen", "released", "7.2", "v7.2-rc1"),
    ("Add configuring low and medium power mode", "Nishad Saraf", "released", "7.2", "v7.2-rc1"),
    ("refuse to flush an imported BO", "Lizhi Hou", "released", "7.3", "v7.3-rc1"),
    ("Check for device hang on job timeout", "Lizhi Hou", "reviewed", "7.4", None),
    ("A patch nobody answered", "A. Newcomer", "posted", None, None),
    ("Preserve user address when PASID is disabled", "Lizhi Hou", "applied", "7.5", None),
]
KERNELS = ["6.19.14", "7.0.13", "7.1.13", "7.2.12", "7.3.4"]
TESTS = [
    f"test_{file}.py::test_{name}"
    for file, names in {
        "presence": ["driver_bound", "node_mode", "drm_version"],
        "query": [
            "aie_version",
            "aie_metadata",
            "clock_metadata",
            "firmware_version",
            "resource_info",
            "sensors",
            "aie_status[larger]",
            "power_mode",
        ],
        "buffers": ["heap", "share_buffer[4096]", "share_buffer[1048576]", "dev_buffer", "import_dmabuf"],
        "contexts": ["create", "create_limit", "priority", "destroy_twice"],
        "commands": [
            "start_npu",
            "chain[2]",
            "chain[24]",
            "counters",
            "bad_words[opcode]",
            "timeout_recovery",
        ],
        "state": ["power_default", "force_preemption", "wrong_type"],
    }.items()
    for name in names
]
LOG = """[    0.000000] Linux version 7.3.4+deb13-amd64
[    3.401122] xdnawatch: 5f1c nonce
[    4.127001] amdxdna 0000:00:08.0: enabling device (0000 -> 0002)
[    4.481930] amdxdna 0000:00:08.0: [drm] Load firmware amdnpu/17f0_10/npu_7.sbin
[    4.522194] [drm] Initialized amdxdna_accel_driver 0.10.0 for 0000:00:08.0 on minor 0
[    9.902213] xdnawatch: 5f1c start test_commands.py::test_timeout_recovery
[   11.973021] amdxdna 0000:00:08.0: [drm] *ERROR* aie2_sched_job_timedout: TDR timeout detected
[   11.973390] amdxdna 0000:00:08.0: [drm] *ERROR* Firmware timeout state capture:
[   12.113021] xdnawatch: 5f1c finish test_commands.py::test_timeout_recovery failed
"""


@dataclass(frozen=True)
class Site:
    """The filled database and the folder that runs' folders lie in."""

    database: Database
    runs: Path


def hexes(text: str, length: int = 40) -> str:
    """A made-up commit id or digest."""
    return hashlib.sha1(text.encode()).hexdigest()[:length]


def outcome_of(test: str, version: str, machine: str) -> tuple[str, str]:
    """What a synthetic test does under a kernel: (outcome, message)."""
    minor = tuple(int(part) for part in version.split("."))
    if test.endswith("sensors"):
        return "skipped", "no sensor source: GET_INFO(QUERY_SENSORS) is ENODEV"
    if "aie_status[larger]" in test and minor < (7, 1):
        return "failed", "assert -22 == 0\n  GET_INFO(QUERY_AIE_STATUS) with 64 KiB: EINVAL"
    if "timeout_recovery" in test and minor >= (7, 2) and machine != "minipc":
        return "failed", "assert <Command.NEW: 1> == <Command.COMPLETED: 4>\n  19 of 20 commands were lost"
    if "import_dmabuf" in test and minor < (7, 0):
        return "skipped", "since 7.0"
    return "passed", ""


def values_of(test: str, version: str, machine: str, minute: int) -> dict[str, object]:
    """What a synthetic test records."""
    new = tuple(int(p) for p in version.split(".")) >= (7, 1)
    if test.endswith("drm_version"):
        return {"version": {"6.19.14": "0.6.0", "7.0.13": "0.6.0", "7.1.13": "0.8.0"}.get(version, "0.10.0")}
    if test.endswith("resource_info"):
        return {"npu_tops_max": 0, "npu_task_max": 16 if "4" in machine else 6}
    if test.endswith("power_default"):
        return {"tops_curr": 58 if version < "7.2" else 25}
    if test.endswith("test_heap"):
        return {"address": hex(0x4000000)}
    if "share_buffer" in test:
        return {"xdna_addr": hex(0x10000000 if new else 2**64 - 1)}
    if test.endswith("start_npu"):
        return {"milliseconds": 1.2 + minute / 10, "state": "COMPLETED"}
    return {}


def fill(site: Site, extra: Callable[[Session], None] | None = None) -> None:
    """Write every synthetic row."""
    with site.database.session() as session:
        _fill_tracker(session)
        _fill_runs(session, site.runs)
        fill_answers(session)
        fill_around(session)
        if extra is not None:
            extra(session)
        session.commit()


def _fill_tracker(session: Session) -> None:
    mail_source = Source(kind="mbox", name="dri-devel", location="/m", synced_at=NOW, problem=None)
    git_source = Source(
        kind="git",
        name="mainline",
        location="/g",
        synced_at=NOW,
        problem="the remote did not answer within 30 s",
    )
    tree = Tree(name="mainline", role="mainline", source_id=2, head=hexes("head"))
    session.add(mail_source)
    session.add(git_source)
    session.flush()
    session.add(tree)
    session.flush()
    for name, day in RELEASES.items():
        session.add(
            Tag(
                tree_id=tree.id,
                name=name,
                commit_id=hexes(name),
                date=datetime.fromisoformat(day + "T12:00Z"),
            )
        )
    for at, (title, author, state, window, tag) in enumerate(CHANGES):
        full = f"accel/amdxdna: {title}"
        posted = datetime.fromisoformat(RELEASES.get(tag or "", "2026-11-10") + "T09:00Z") - timedelta(
            days=50
        )
        email = f"{author.split()[-1].lower()}@example.org"
        change = Change(
            key=f"{at}.v1@example.org",
            slug=f"change-{at}",
            title=full,
            author_name=author,
            author_email=email,
            first_posted=posted,
            last_posted=posted + timedelta(days=6),
            state=state,
            window=window,
            first_tag=tag,
            rule="tag-contains" if tag else "forecast",
            probability=1.0 if tag else 0.71,
            evidence=[
                {
                    "kind": "landing",
                    "text": f"first contained in {tag} of mainline",
                    "ref": hexes(full),
                    "rule": "first-tag",
                    "score": 1.0,
                },
                {"kind": "match", "text": "the commit's Link trailer names the mail", "rule": "link"},
            ]
            if tag
            else [{"kind": "trailer", "text": "Reviewed-by on the list", "ref": f"{at}.v2@example.org"}],
            notes={"uapi": False} if at % 2 else {},
        )
        session.add(change)
        session.flush()
        for version in (1, 2) if at % 3 else (1,):
            message = Message(
                message_id=f"{at}.v{version}@example.org",
                source_id=mail_source.id,
                date=posted + timedelta(days=6 * (version - 1)),
                author_name=author,
                author_email=email,
                subject=f"[PATCH V{version}] {full}",
                in_reply_to=None,
                references=[],
                kind="patch",
                trailers=[["Signed-off-by", f"{author} <{email}>"]],
            )
            session.add(message)
            series = Series(
                key=message.message_id,
                title=full,
                version=str(version),
                author_name=author,
                author_email=email,
                date=message.date,
                total=1,
                received=1,
                rule="lone",
            )
            session.add(series)
            session.flush()
            session.add(
                Patch(
                    message_id=message.id,
                    series_id=series.id,
                    change_id=change.id,
                    number=1,
                    title=full,
                    link_rule="same-title" if version > 1 else "first",
                    link_score=0.9 if version > 1 else 1.0,
                    link_evidence="title and author are the same" if version > 1 else None,
                )
            )
            if version == 2:
                session.add(
                    Message(
                        message_id=f"{at}.reply@example.org",
                        source_id=mail_source.id,
                        date=posted + timedelta(days=8),
                        author_name="Mario Limonciello",
                        author_email="mario@example.org",
                        subject=f"Re: [PATCH V2] {full}",
                        in_reply_to=message.message_id,
                        references=[message.message_id],
                        kind="reply",
                        trailers=[["Reviewed-by", "Mario Limonciello <mario@example.org>"]],
                    )
                )
        if tag:
            _land(session, tree, change, tag, posted)


def _land(session: Session, tree: Tree, change: Change, tag: str, posted: datetime) -> None:
    day = posted + timedelta(days=20)
    commit = Commit(
        sha=hexes(change.title),
        title=change.title,
        author_name=change.author_name,
        author_email=change.author_email,
        author_date=posted,
        commit_date=day,
        reverts=None,
        upstream=None,
    )
    session.add(commit)
    session.flush()
    session.add(Landing(commit_id=commit.id, tree_id=tree.id, tag=tag, window=change.window))
    session.add(
        Match(
            change_id=change.id,
            commit_id=commit.id,
            rule="link",
            score=1.0,
            evidence="Link: https://patch.msgid.link/…",
        )
    )
    if change.state == "reverted":
        revert = Commit(
            sha=hexes("revert" + change.title),
            title=f'Revert "{change.title}"',
            author_name="Lizhi Hou",
            author_email="hou@example.org",
            author_date=day,
            commit_date=day + timedelta(days=5),
            reverts=commit.sha,
            upstream=None,
        )
        session.add(revert)
        session.flush()
        session.add(Landing(commit_id=revert.id, tree_id=tree.id, tag=tag, window=change.window))


# change, branch, state, update, rule, score, evidence
BACKPORTS = [
    (9, "linux-7.2.y", "present", "7.2.7", "commit in the branch", 1.0, "5f1c names the mainline commit"),
    (
        9,
        "linux-7.1.y",
        "missing",
        None,
        "the branch needs it and has it not",
        0.95,
        "it fixes c0ffee, in 7.1",
    ),
    (
        8,
        "linux-7.1.y",
        "failed",
        None,
        "a mail says that it does not apply",
        0.95,
        "failed mail f@example.org",
    ),
    (7, "linux-7.1.y", "queued", None, "AUTOSEL picked it", 0.6, "autosel mail a@example.org"),
    (6, "linux-7.1.y", "not-needed", None, "mainline reverted it", 0.95, ""),
    (
        5,
        "linux-7.0.y",
        "missing",
        None,
        "the branch needs it and has it not",
        0.85,
        "Cc: stable asks for 6.14",
    ),
]
INHERITED = {"linux-7.2.y": range(9), "linux-7.1.y": range(6), "linux-7.0.y": range(2)}
DATES = {
    "today": "2026-11-23",
    "newest": "v7.3",
    "newest_days": ["2026-10-18", "2026-10-18"],
    "stale": False,
    "rc8": 0.25,
    "next_is_final": 0.0,
    "following": [
        {"name": name, "earliest": first, "likely": first, "latest": last, "probability": probability}
        for name, first, last, probability in (
            ("v7.4-rc5", "2026-11-29", "2026-11-29", 0.96),
            ("v7.4", "2026-12-20", "2026-12-27", 0.98),
            ("v7.5-rc1", "2027-01-03", "2027-01-10", 0.98),
            ("v7.5", "2027-02-21", "2027-03-07", 0.97),
        )
    ],
}
BACKTEST = {
    "first": "2019-03-03",
    "last": "2026-08-16",
    "dates": [
        {
            "target": "next tag",
            "days": 100,
            "hits": 97,
            "rate": 0.97,
            "width": 0.01,
            "peer_rate": 0.96,
            "peer_width": 0.76,
            "events": 30,
            "event_hits": 29,
        }
    ],
    "windows": [{"family": "drm", "cases": 12, "hits": 11, "named": 10, "named_hits": 10}],
    "misses": 1,
    "inside": {
        "what": "the tag is made in its range",
        "count": 100,
        "brier": 0.0144,
        "base": 0.0291,
        "table": [{"low": 0.9, "high": 1.0, "count": 100, "said": 0.965, "happened": 0.97}],
    },
}


def fill_answers(session: Session) -> None:
    """The tracker's further answers about the synthetic changes."""
    changes = {change.slug: change for change in session.scalars(select(Change))}

    def change(number: int) -> int:
        return changes[f"change-{number}"].id

    trees = {}
    for name, base, newest, day, ended in (
        ("linux-7.2.y", "7.2", "v7.2.13", "2026-11-20", False),
        ("linux-7.1.y", "7.1", "v7.1.13", "2026-11-15", False),
        ("linux-7.0.y", "7.0", "v7.0.14", "2026-06-27", True),
    ):
        tree = Tree(name=name, role="stable", source_id=2, head=hexes(name))
        session.add(tree)
        session.flush()
        trees[name] = tree.id
        moment = datetime.fromisoformat(day + "T12:00Z")
        session.add(
            rows.StableBranch(tree_id=tree.id, base=base, newest=newest, newest_date=moment, ended=ended)
        )
        for number in INHERITED[name]:
            session.add(
                rows.Backport(
                    change_id=change(number),
                    tree_id=tree.id,
                    state="present",
                    version=None,
                    rule="its release is the base",
                    score=1.0,
                    evidence=[],
                    inherited=True,
                )
            )
    for number, branch, state, version, rule, score, why in BACKPORTS:
        session.add(
            rows.Backport(
                change_id=change(number),
                tree_id=trees[branch],
                state=state,
                version=version,
                rule=rule,
                score=score,
                evidence=[why] if why else [],
                inherited=False,
            )
        )
        carries = {"present": "yes", "queued": "queued"}.get(state, "no")
        session.add(
            rows.Carrier(
                change_id=change(number),
                position=number,
                kind="stable",
                name=branch,
                carries=carries,
                since=version,
                date=None,
                why=f"{state}: {why or rule}",
            )
        )
    session.add(
        rows.BackportBug(
            tree_id=trees["linux-7.1.y"],
            fix_id=change(9),
            cause="accel/amdxdna: A cause",
            since="7.1.4",
            fixed="7.1.6",
        )
    )
    for line, kind, versions in (
        ("mainline", "mainline", [("v7.2", [], []), ("v7.3-rc1", [9], []), ("v7.3", [], [])]),
        ("linux-7.2.y", "stable", [("v7.2", [], []), ("v7.2.6", [], []), ("v7.2.7", [9], [6])]),
        ("debian unstable", "distribution", [("7.2.6-1", [], []), ("7.2.7-1", [9], [])]),
    ):
        for position, (version, added, removed) in enumerate(versions):
            kernel = rows.KnownKernel(
                kind=kind,
                line=line,
                position=position,
                version=version,
                upstream="v" + version.lstrip("v").split("-1")[0],
                date=datetime(2026, 9, 1 + position, tzinfo=UTC),
                carried=9 + len(added),
                unknown=0,
            )
            session.add(kernel)
            session.flush()
            for what, numbers in (("added", added), ("removed", removed)):
                for number in numbers:
                    session.add(rows.KernelChange(kernel_id=kernel.id, change_id=change(number), what=what))
    header = "include/uapi/drm/amdxdna_accel.h"
    session.add(
        rows.Touched(
            change_id=change(8),
            source="commit 91f4da826c08",
            verdict="breaking",
            uapi=[
                {
                    "file": header,
                    "kind": "enum",
                    "name": "amdxdna_power_mode_type",
                    "what": "changed",
                    "verdict": "breaking",
                    "reason": "a value inserted before others",
                }
            ],
            named=[{"kind": "parameter", "name": "power_mode", "what": "added", "file": "a.c"}],
        )
    )
    session.add(
        rows.Touched(change_id=change(10), source="mail 10.v2@example.org", verdict="none", uapi=[], named=[])
    )
    session.add(rows.Coming(change_id=change(12), first=DATES["following"][2], release=DATES["following"][3]))
    for name, value in (("dates", DATES), ("backtest", BACKTEST)):
        session.add(rows.Outlook(name=name, made_at=NOW, value=value))


def fill_around(session: Session) -> None:
    """CVE records, firmware and an out-of-tree driver about the synthetic changes."""
    changes = {change.slug: change.id for change in session.scalars(select(Change))}
    for number, (name, change) in enumerate([("CVE-2026-1001", "change-9"), ("CVE-2026-1002", None)]):
        cve = around.Cve(
            source_id=2,
            name=name,
            state="published",
            title=f"Title of {name}",
            published=NOW - timedelta(days=number),
            severity="7.8 HIGH",
        )
        session.add(cve)
        session.flush()
        if change is None:
            continue
        for position, (place, says, found, verdict) in enumerate(
            [
                ("mainline", "fixed in 7.3", "released, 7.3", "agree"),
                ("linux-7.1.y", "never affected", "missing", "differ"),
            ]
        ):
            session.add(
                around.CveCheck(
                    cve_id=cve.id,
                    change_id=changes[change],
                    position=position,
                    place=place,
                    says=says,
                    found=found,
                    verdict=verdict,
                    why=f"why {verdict}",
                    rule="fix",
                    score=1.0,
                )
            )
    for position, (path, verdict, since) in enumerate(
        [("amdnpu/17f0_10/npu.sbin", "fits", "20250410"), ("amdnpu/17f0_11/npu_7.sbin", "never", None)]
    ):
        session.add(
            around.FirmwareNeed(
                position=position,
                path=path,
                device="0x17f0 revision 0x10",
                generations=["npu4"],
                first_kernel="v6.14",
                last_kernel="v7.3",
                version="1.0.0.63" if since else None,
                since=since,
                since_date=NOW if since else None,
                verdict=verdict,
                why=f"why {verdict}",
            )
        )
    session.add(
        around.FirmwareStep(
            tree_id=1,
            position=0,
            path="amdnpu/17f0_10/npu.sbin",
            what="added",
            version="1.0.0.63",
            tag="20250410",
            tag_date=NOW,
            commit_id=hexes("step"),
            date=NOW,
        )
    )
    release = around.UserspaceRelease(
        tree_id=1,
        name="1.9",
        kind="branch",
        commit_id=hexes("release"),
        date=NOW - timedelta(days=3),
        version="202620.2.26.89",
        driver_version="0.16",
        pins=[{"path": "xrt", "commit": hexes("pin"), "tree": "xrt", "release": "2.25.0"}],
    )
    session.add(release)
    session.flush()
    for position, (kernel, names) in enumerate([("7.0", ["DRM_AMDXDNA_QUERY_SENSORS"]), ("7.1", [])]):
        session.add(
            around.UserspaceFit(
                release_id=release.id,
                position=position,
                kernel=kernel,
                verdict="lacks" if names else "whole",
                lacks=names,
                why="why",
            )
        )
    twin = Tree(name="xdna-driver", role="twin", source_id=2, head=hexes("twin"))
    session.add(twin)
    session.flush()
    for number, (status, change) in enumerate(
        [("twin-only", None), ("twin-only", None), ("upstream", "change-9"), ("posted", "change-10")]
    ):
        commit = Commit(
            sha=hexes(f"twin {number}"),
            title=f"accel/amdxdna: out of tree {number}",
            author_name="Out Oftree",
            author_email="out@example.org",
            author_date=NOW,
            commit_date=NOW - timedelta(days=number),
        )
        session.add(commit)
        session.flush()
        session.add(
            around.TwinPair(
                tree_id=twin.id,
                commit_id=commit.id,
                change_id=changes[change] if change else None,
                status=status,
                rule="title" if change else "no rung",
                score=0.9 if change else 0.8,
                evidence="the titles are equal" if change else "nothing known upstream is like it",
                first="twin" if change else None,
                days=12.4 if change else None,
            )
        )


def _fill_runs(session: Session, folder: Path) -> None:
    machines = [
        Machine(name="virtual-npu1", kind="virtual", generation="npu1", simulated=True),
        Machine(name="virtual-npu4", kind="virtual", generation="npu4", simulated=True),
        Machine(name="minipc", kind="ssh", generation="npu4", simulated=False),
    ]
    kernels = [
        Kernel(
            release=f"{v}+deb13-amd64",
            version=v,
            window=".".join(v.split(".")[:2]),
            origin="debian",
            build_id=hexes(v),
        )
        for v in KERNELS
    ]
    module = Kernel(
        release="7.3.4+deb13-amd64",
        version="7.3.4",
        window="7.3",
        build_id=hexes("m"),
        origin="module:" + hexes("module", 12),
    )
    environments = [
        Environment(
            digest=hexes(f"environment{at}", 16),
            facts={
                "firmware": {"amdnpu/17f0_10/npu_7.sbin": hexes("fw", 16)},
                "iommu": mode,
                "module": {"origin": "in-tree", "parameters": {"force_iova": "Y" if at else "N"}},
                "lab": {"accelerator": "tcg", "command_line": "console=ttyS0 xdnawatch.nonce=5f1c panic=-1"},
                "python": {"version": "3.13.5", "pytest": "8.3.5"},
                "secure_boot": None,
            },
        )
        for at, mode in enumerate(["passthrough", "force_iova"])
    ]
    for row in [*machines, *kernels, module, *environments]:
        session.add(row)
    session.flush()
    minute = 0
    for machine in machines:
        for kernel in kernels:
            if machine.name == "minipc" and kernel.version not in ("7.0.13", "7.1.13"):
                continue
            for repeat in range(2 if kernel.version == "7.3.4" else 1):
                minute += 7
                environment = environments[kernel.version >= "7.1"]
                _run(
                    session,
                    folder,
                    machine,
                    kernel,
                    environment,
                    minute,
                    verdict="fail" if repeat < 2 else "",
                )
    npu4 = machines[1]
    _run(
        session,
        folder,
        npu4,
        kernels[4],
        environments[1],
        minute + 20,
        faults=[{"name": "drop-reply", "parameters": {"message": "EXEC"}}],
    )
    _run(
        session,
        folder,
        npu4,
        kernels[3],
        environments[1],
        minute + 30,
        verdict="panic",
        reason="the kernel panicked during test_commands.py::test_chain[24]",
        until=22,
    )
    _run(
        session,
        folder,
        machines[0],
        kernels[4],
        environments[1],
        minute + 40,
        verdict="interrupted",
        reason="the command was killed",
        until=9,
    )
    step = _run(session, folder, npu4, module, environments[1], minute + 50, until=1)
    _campaign(session, step)


def _run(
    session: Session,
    folder: Path,
    machine: Machine,
    kernel: Kernel,
    environment: Environment,
    minute: int,
    *,
    verdict: str | None = None,
    reason: str = "",
    faults: list[object] | None = None,
    until: int | None = None,
) -> Run:
    started = NOW - timedelta(minutes=400 - minute)
    run_id = f"{started:%Y%m%dT%H%M%S}-{hexes(machine.name + str(minute), 6)}"
    (folder / run_id).mkdir(parents=True, exist_ok=True)
    (folder / run_id / "kernel.log").write_text(LOG, "utf-8")
    (folder / run_id / "serial.log").write_text("SeaBIOS (version 1.17)\n\x1b[2J\x1b[1;1H" + LOG, "utf-8")
    outcomes = [outcome_of(test, kernel.version, machine.name) for test in TESTS]
    failed = sum(outcome == "failed" for outcome, _ in outcomes[:until])
    run = Run(
        id=run_id,
        machine_id=machine.id,
        kernel_id=kernel.id,
        environment_id=environment.id,
        suite="ioctl",
        suite_digest=hexes("suite", 16),
        requested=kernel.version,
        started_at=started,
        ended_at=started + timedelta(seconds=47),
        state="interrupted" if verdict == "interrupted" else "finished",
        verdict=verdict if verdict not in (None, "fail") else "fail" if failed else "pass",
        reason=reason or (f"{failed} tests failed" if failed else ""),
        boot_id=hexes(run_id, 32),
        seconds={
            "prepare": 1.4,
            "boot": 12.9,
            "connect": 1.1,
            "environment": 0.9,
            "suite": 24.0 + minute % 5,
            "collect": 1.2,
            "total": 41.5 + minute % 5,
        },
        faults=faults or [],
        folder=run_id,
    )
    session.add(run)
    session.flush()
    for position, test in enumerate(TESTS):
        outcome, message = outcomes[position]
        if until is not None and position >= until:
            outcome, message = (
                ("incomplete" if verdict == "panic" and position == until else "not-run"),
                reason,
            )
        session.add(
            Result(
                run_id=run_id,
                position=position,
                test=test,
                outcome=outcome,
                message=message,
                seconds=0.0 if outcome == "not-run" else 0.004 * (position + 1),
                values=values_of(test, kernel.version, machine.name, minute) if outcome == "passed" else {},
            )
        )
    session.add(
        Finding(
            run_id=run_id,
            line=5,
            log="kernel.log",
            signature="drm-init",
            klass="info",
            severity="ok",
            text=LOG.splitlines()[4],
            test=None,
        )
    )
    if kernel.version >= "7.2" and until is None:
        session.add(
            Finding(
                run_id=run_id,
                line=7,
                log="kernel.log",
                signature="tdr",
                klass="hang",
                severity="cmd-timeout",
                text=LOG.splitlines()[6],
                test="test_commands.py::test_timeout_recovery",
            )
        )
    if verdict == "panic":
        session.add(
            Finding(
                run_id=run_id,
                line=9,
                log="serial.log",
                signature="panic",
                klass="oops",
                severity="panic",
                text="Kernel panic - not syncing: Fatal exception",
                test="test_commands.py::test_chain[24]",
            )
        )
    return run


def _campaign(session: Session, run: Run) -> None:
    candidates = [{"id": hexes(f"c{at}"), "title": f"accel/amdxdna: step {at}"} for at in range(40)]
    campaign = Campaign(
        id="20261123T150000-b15ec7",
        kind="driver-history",
        machine="virtual-npu4",
        test="test_commands.py::test_timeout_recovery",
        good="v0.8",
        bad="HEAD",
        base_kernel="7.3.4",
        repository="https://example.org/xdna-driver.git",
        started_at=NOW - timedelta(minutes=50),
        ended_at=NOW - timedelta(minutes=46),
        state="finished",
        candidates=candidates,
        culprit=candidates[27]["id"],
        probability=0.97,
        reason="27 is bad, 26 is good",
        change_id=9,
        detail={"search": "halving"},
    )
    session.add(campaign)
    session.flush()
    for number, (at, verdict) in enumerate(
        [(20, "good"), (30, "bad"), (25, "good"), (28, "skip"), (27, "bad"), (26, "good")], 1
    ):
        session.add(
            CampaignStep(
                campaign_id=campaign.id,
                number=number,
                candidate=candidates[at]["id"],
                verdict=verdict,
                reason="did not build" if verdict == "skip" else "",
                run_id=run.id if verdict == "good" else None,
                seconds={"build": 9.1, "boot": 13.2, "test": 3.0},
            )
        )


@pytest.fixture(scope="session")
def published_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a site of these rows; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("published")
    database = Database(f"sqlite:///{folder / 'test.db'}")
    database.migrate()
    made = Site(database, folder / "runs")
    fill(made)
    publish(database, folder / "site", version="9.9", runs=made.runs, now=NOW)
    database.close()
    return folder / "site"


@pytest.fixture
def site(database: Database, tmp_path: Path) -> Site:
    """A filled database."""
    made = Site(database, tmp_path / "runs")
    fill(made)
    return made
