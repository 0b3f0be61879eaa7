"""The out-of-tree driver: every rung pairs what it should and nothing else, with direction and delay."""

from __future__ import annotations

import json
import os
import runpy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from db.database import Database
from db.git_tables import Commit
from tracker import answers
from tracker.errors import NoSuchChangeError
from tracker.git.commits import CommitFacts, renamed
from tracker.mail.headers import parse_address
from tracker.twin.answers import TwinLine, twin_answer
from tracker.twin.pairs import Upstream, clean_title, pair_commits
from tracker.twin.score import score_pairs
from xdnawatch.errors import UsageError

HERE = "drivers/accel/amdxdna/aie2_ctx.c"
THERE = "src/driver/amdxdna/aie2_ctx.c"
TODAY = datetime(2026, 6, 1, tzinfo=UTC)
TWIN = CommitFacts(
    sha="11" * 20, title="accel/amdxdna: Fix the thing for good", message="Fix",
    author=parse_address("Ada <ada@example.org>"), author_date=TODAY, commit_date=TODAY, trailers=(),
    files=(HERE,), diff_hash="h1", patch_id="p1", reverts=None, upstream=None, lines=(1, 2, 3, 4),
)  # fmt: skip
KERNEL = Upstream(
    change="fix", stage="upstream", ids=("ab" * 20,), message_id=None, title="accel/amdxdna: Some title",
    people=frozenset({"bea@example.org"}), date=TODAY - timedelta(days=10), files=frozenset(), diff_hash=None,
    patch_id=None, lines=frozenset(), text="",
)  # fmt: skip
OTHER = replace(KERNEL, change="other", ids=("cd" * 20,), title="accel/amdxdna: Nothing alike at all")
SAME_TITLE = replace(KERNEL, title=TWIN.title)


def titled(title: str, **more: Any) -> CommitFacts:
    return replace(TWIN, title=title, message=title, diff_hash=None, patch_id=None, lines=(), **more)


@pytest.mark.parametrize(
    ("twin", "upstream", "rule", "score"),
    [
        (titled("Sync abababab something"), KERNEL, "named commit", 1.0),
        (titled("x", upstream="ab" * 6), KERNEL, "named commit", 1.0),
        (
            titled("x", trailers=(("Link", "https://patch.msgid.link/one@example.org"),)),
            replace(KERNEL, ids=(), stage="posted", message_id="one@example.org"),
            "link",
            0.98,
        ),
        (TWIN, replace(KERNEL, diff_hash="h1"), "same lines", 0.98),
        (TWIN, replace(KERNEL, patch_id="p1"), "patch id", 0.97),
        (titled(TWIN.title), replace(SAME_TITLE, people=frozenset({"ada@example.org"})), "title", 0.95),
        (titled(TWIN.title), replace(SAME_TITLE, files=frozenset({HERE})), "title", 0.9),
        (titled(TWIN.title), SAME_TITLE, "title", 0.75),
        (titled("Fix the thing for good (#123)"), SAME_TITLE, "title", 0.75),
        (titled('Sync 9480dd7e ("accel/amdxdna: Fix the thing for good")'), SAME_TITLE, "title", 0.75),
        (titled("Sync: accel/amdxdna: Fix the thing for good"), SAME_TITLE, "title", 0.75),
        (
            titled("accel/amdxdna: Fix the thing for"),
            replace(SAME_TITLE, people=frozenset({"ada@example.org"})),
            "title",
            0.85,
        ),
        (
            replace(TWIN, diff_hash=None, patch_id=None),
            replace(
                KERNEL, title="accel/amdxdna: Fix this thing for good", files=frozenset({HERE}),
                lines=frozenset({1, 2, 3, 4}), people=frozenset({"ada@example.org"}),
            ),
            "likeness",
            None,
        ),
    ],
)  # fmt: skip
def test_each_rung(twin: CommitFacts, upstream: Upstream, rule: str, score: float | None) -> None:
    (pair,) = pair_commits([twin], [OTHER, upstream])
    assert (pair.change, pair.rule) == ("fix", rule)
    assert score is None or pair.score == score
    assert pair.evidence
    assert (pair.first, pair.days) == ("upstream", 10.0)


@pytest.mark.parametrize(
    ("twin", "upstream", "status"),
    [
        (titled("accel/amdxdna: Fix it"), replace(SAME_TITLE, title="accel/amdxdna: Fix it"), "twin-only"),
        (titled('Revert "accel/amdxdna: Fix the thing for good"'), SAME_TITLE, "twin-only"),
        (replace(TWIN, reverts="ff" * 20), replace(KERNEL, diff_hash="h1"), "twin-only"),
        (titled(TWIN.title), replace(SAME_TITLE, date=TODAY - timedelta(days=700)), "twin-only"),
        (titled("accel/amdxdna: Fix deadbeef handling"), replace(KERNEL, ids=("deadbeef" * 5,)), "twin-only"),
        (titled("Sync up upstream"), KERNEL, "sync"),
        (titled("take drm-misc-fixes to xdna-driver as main driver (#1129)"), KERNEL, "sync"),
    ],
)
def test_what_must_not_pair(twin: CommitFacts, upstream: Upstream, status: str) -> None:
    (pair,) = pair_commits([twin], [upstream])
    assert (pair.change, pair.status) == (None, status)


def test_two_changes_with_equal_lines_pair_by_title_only() -> None:
    one, two = (replace(KERNEL, change=name, diff_hash="h1", title=name) for name in ("a", "b"))
    assert pair_commits([TWIN], [one, two])[0].change is None
    wanted = replace(two, title=TWIN.title)
    assert pair_commits([TWIN], [one, wanted])[0].change == "b"


def test_reverts_within_the_twin_and_cherry_picks_between_its_branches() -> None:
    first = titled("accel/amdxdna: Own idea of the vendor", sha="01" * 20)
    undo = titled('Revert "accel/amdxdna: Own idea of the vendor"', sha="02" * 20, reverts="01" * 20)
    origin = replace(titled(TWIN.title), sha="03" * 20)
    pick = replace(titled("renamed on the branch"), sha="04" * 20, upstream="03" * 20)
    found = pair_commits([first, undo, origin, pick], [SAME_TITLE])
    assert [one.status for one in found] == ["undone", "undone", "upstream", "upstream"]
    assert (found[3].rule, found[3].change) == ("copy", "fix")


def test_who_was_first() -> None:
    later = replace(SAME_TITLE, date=TODAY + timedelta(days=30))
    (pair,) = pair_commits([titled(TWIN.title)], [later])
    assert (pair.first, pair.days) == ("twin", 30.0)
    posted = replace(SAME_TITLE, ids=(), stage="posted", message_id="m", date=TODAY - timedelta(days=50))
    (pair,) = pair_commits([titled(TWIN.title)], [later, posted])
    assert (pair.status, pair.first, pair.days) == ("upstream", "twin", 30.0)  # commits count, not postings
    (pair,) = pair_commits([titled(TWIN.title)], [posted])
    assert (pair.status, pair.first, pair.upstream) == ("posted", "upstream", None)


@pytest.mark.parametrize(
    ("title", "clean"),
    [
        ("Sync faebb7ba accel/amdxdna: A b", "accel/amdxdna: A b"),
        ("Synchronize the clock", "Synchronize the clock"),
        ("A b (#77)", "A b"),
        ('Revert "A b"', 'Revert "A b"'),
        ("Sync", "Sync"),
    ],
)
def test_titles_are_cleaned(title: str, clean: str) -> None:
    assert clean_title(title) == clean


def test_paths_are_mapped_in_headers_and_nowhere_else() -> None:
    diff = (
        f"diff --git a/{THERE} b/{THERE}\n--- a/{THERE}\n+++ b/{THERE}\n@@ -1 +1 @@\n-a\n+see {THERE}\n"
        "diff --git a/src/driver/amdxdna2/x.c b/src/driver/amdxdna2/x.c\n"
    )
    mapped = renamed(diff, {"src/driver/amdxdna": "drivers/accel/amdxdna"})
    assert mapped == diff.replace(f"a/{THERE}", f"a/{HERE}").replace(f"b/{THERE}", f"b/{HERE}")


def body(*numbers: int) -> str:
    return "".join(f"int line_{number};\n" for number in numbers)


@pytest.fixture
def trees(repo: Callable[[str], Any], tmp_path: Path) -> dict[str, Any]:
    """A kernel and its twin: equal lines at another path, a sync, a change only posted, an own one."""
    kernel, twin = repo("linux"), repo("xdna")
    kernel.commit("accel/amdxdna: Add the driver", {HERE: body(1, 2, 3)}, day=1)
    kernel.tag("v7.0-rc1", day=2)
    kernel.tag("v7.0", day=3)
    kernel.commit("accel/amdxdna: Count the lines once more", {HERE: body(1, 2, 3, 4)}, day=20)
    kernel.commit("accel/amdxdna: Only mainline has this one", {HERE: body(1, 2, 3, 4, 5)}, day=30)
    named = kernel.git("rev-parse", "main")
    kernel.commit("accel/amdxdna: Mainline alone", {HERE: body(1, 2, 3, 4, 5, 6)}, day=31)
    kernel.tag("v7.1-rc1", day=40)
    twin.commit("Initial code drop", {THERE: body(1, 2, 3), "README": "x\n"}, day=0)
    twin.commit("xdna: another title (#5)", {THERE: body(1, 2, 3, 4), "tests/a.c": "int t;\n"}, day=10)
    twin.commit(f"Sync {named[:8]} whatever", {THERE: body(1, 2, 3, 4, 9)}, day=35)
    twin.commit("accel/amdxdna: Waits on the list for review", {THERE: body(1, 2, 3, 4, 9, 10)}, day=50)
    twin.commit("xdna: an idea of the vendor's own", {THERE: body(7, 8)}, day=60)
    twin.commit("tools only", {"tools/x.sh": "true\n"}, day=61)
    mail = (
        f"From: Ada <ada@example.org>\nSubject: [PATCH] accel/amdxdna: Waits on the list for review\n"
        f"Date: {format_datetime(datetime(2026, 2, 10, tzinfo=UTC))}\nMessage-ID: <waits@example.org>\n\n"
        f"Text.\n---\n"
        f"diff --git a/{HERE} b/{HERE}\n--- a/{HERE}\n+++ b/{HERE}\n@@ -1 +1 @@\n-int z;\n+int q;\n-- \n2.4\n"
    )
    box = tmp_path / "list.mbox"
    box.write_text(f"From mboxrd@z Thu Jan  1 00:00:00 1970\n{mail}\n")
    return {"trees": {"mainline": kernel, "twin": twin}, "mails": box}


def lines(database: Database) -> dict[str, TwinLine]:
    return {one.title: one for one in twin_answer(database).lines}


def test_a_twin_is_paired_with_mainline_and_mails(
    trees: dict[str, Any], follow: Callable[..., Any], database: Database
) -> None:
    follow(**trees)
    found = lines(database)
    assert {title: one.status for title, one in found.items()} == {
        "Initial code drop": "upstream",
        "xdna: another title (#5)": "upstream",
        f"Sync {trees['trees']['mainline'].git('rev-parse', 'main~1')[:8]} whatever": "upstream",
        "accel/amdxdna: Waits on the list for review": "posted",
        "xdna: an idea of the vendor's own": "twin-only",
    }
    same = found["xdna: another title (#5)"]
    assert (same.rule, same.window, same.first, same.days) == ("same lines", "7.1", "twin", 10.0)
    assert same.change_title == "accel/amdxdna: Count the lines once more"
    assert [one.title for one in twin_answer(database).lacking] == ["accel/amdxdna: Mainline alone"]
    # A vendor's commit is no change of the kernel, and takes part in no window.
    titles = {line.title for line in answers.changes(database)}
    assert not any(title.startswith("xdna:") for title in titles)
    assert len(titles) == 5


def test_syncing_again_changes_nothing_and_a_rewound_twin_is_forgotten(
    trees: dict[str, Any], follow: Callable[..., Any], database: Database
) -> None:
    follow(**trees)
    before = twin_answer(database)
    follow(**trees)
    assert twin_answer(database) == before
    trees["trees"]["twin"].git("update-ref", "refs/heads/main", "main~2")
    follow(**trees)
    assert "xdna: an idea of the vendor's own" not in lines(database)
    with database.engine.connect() as connection:
        kept = connection.scalars(select(func.count()).where(Commit.title.startswith("xdna: an idea")))
        assert list(kept) == [0]
    assert len(answers.changes(database)) == 5


def test_without_a_twin_the_answer_says_what_to_do(database: Database, program: Callable[..., str]) -> None:
    with pytest.raises(NoSuchChangeError, match='role = "twin"'):
        twin_answer(database)


def test_the_command(trees: dict[str, Any], follow: Callable[..., Any], program: Callable[..., str]) -> None:
    follow(**trees)
    told = json.loads(program("twin", "--status", "upstream", "--first", "twin", "--json"))
    assert told["counts"] == {"upstream": 3, "posted": 1, "twin-only": 1}
    assert [one["title"] for one in told["commits"]] == ["xdna: another title (#5)", "Initial code drop"]
    assert "an idea of the vendor's own" in program("twin", "--status", "twin-only")
    assert "Mainline alone" in program("twin", "--lacking")
    assert "Out of tree" in program("show", "Count the lines")
    shown = json.loads(program("show", "Count the lines", "--json"))
    assert [one["rule"] for one in shown["out_of_tree"]] == ["same lines"]
    with pytest.raises(UsageError, match="'nonsense' is not known"):
        program("twin", "--status", "nonsense")


def test_the_score_counts_misses_extras_and_wrong_pairs() -> None:
    right, wrong, missed, extra, absent = (f"{number:02x}" * 20 for number in range(5))
    commits = [
        replace(titled("accel/amdxdna: Right title of a change"), sha=right),
        replace(titled("accel/amdxdna: Another title of a change"), sha=wrong),
        replace(titled("nothing"), sha=missed),
        replace(titled("accel/amdxdna: Extra title of a change"), sha=extra),
        replace(titled("accel/amdxdna: Absent title of a change"), sha=absent),
    ]
    side = [
        replace(KERNEL, change=title, title=f"accel/amdxdna: {title} title of a change")
        for title in ("Right", "Another", "Missed", "Extra")
    ]
    table = {
        right: "accel/amdxdna: Right title of a change",
        wrong: "accel/amdxdna: Missed title of a change",
        missed: "accel/amdxdna: Missed title of a change",
        extra: None,
        absent: "accel/amdxdna: Absent title of a change",
    }
    found = score_pairs(commits, side, table)
    assert (found.pairs, found.known, found.found, found.right, found.extra) == (4, 3, 3, 1, 1)
    assert [one.cause.split(";")[0].split(" by ")[0] for one in found.misses] == [
        "another change",
        "no rung gave one change",
        "the table has no pair",
        "its upstream side is in none of the trees",
    ]


@pytest.mark.real
def test_the_real_repository_scores(real_data: Path) -> None:
    """The command of benchmarks/twin_pairs.py on a clone of amd/xdna-driver."""
    clone = os.environ.get("XDNAWATCH_TWIN_GIT")
    if not clone:
        pytest.skip("no out-of-tree driver: XDNAWATCH_TWIN_GIT names no clone of amd/xdna-driver")
    program = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "twin_pairs.py"))
    by_title = program["score"](Path(clone), real_data)
    assert by_title.known >= 100
    assert by_title.recall >= 0.97
    assert by_title.precision >= 0.97
    by_lines = program["blind_score"](Path(clone))
    assert by_lines.recall >= 0.75
    assert by_lines.precision >= 0.97
