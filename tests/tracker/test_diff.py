"""Diffs: files, fingerprints, damage; the patch id is git's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracker.mail.diff import parse_diff


def test_files_and_lines(driver_diff: Callable[..., str]) -> None:
    diff = parse_diff("words before\n" + driver_diff("a/b.c") + driver_diff("c/d.c") + "-- \n2.34.1\n")
    assert diff.paths == ("a/b.c", "c/d.c")
    assert diff.files[0].changed("+") == ["\tint a = 2;"]
    assert diff.files[0].changed("-") == ["\tint a = 1;"]
    assert diff.files[0].headings == ("static int f(void)",)
    assert diff.damaged is None


def test_equal_lines_in_two_files_are_two_changes(driver_diff: Callable[..., str]) -> None:
    """Real: intel-vbtn and intel-hid got the same fix on the same day."""
    assert parse_diff(driver_diff("x/vbtn.c")).diff_hash != parse_diff(driver_diff("x/hid.c")).diff_hash


def test_line_numbers_and_context_do_not_count(driver_diff: Callable[..., str]) -> None:
    text = driver_diff()
    moved = text.replace("@@ -1,3 +1,3 @@", "@@ -91,3 +91,3 @@").replace(" before();", " else_before();")
    assert parse_diff(text).diff_hash == parse_diff(moved).diff_hash
    assert parse_diff(text).patch_id != parse_diff(moved).patch_id


def test_blanks_stripped_on_the_way_do_not_count(driver_diff: Callable[..., str]) -> None:
    text = driver_diff().replace(" before();\n", " \n")
    assert parse_diff(text).patch_id == parse_diff(text.replace("\n \n", "\n\n")).patch_id


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_diff_that_is_cut_short_says_so_and_has_no_fingerprint(
    cut: int, driver_diff: Callable[..., str]
) -> None:
    text = "\n".join(driver_diff().split("\n")[: -cut - 1])
    diff = parse_diff(text)
    assert diff.damaged is not None
    assert diff.diff_hash is None
    assert diff.paths == ("drivers/accel/amdxdna/aie2_ctx.c",)


def test_a_wrapped_line_is_damage(driver_diff: Callable[..., str]) -> None:
    diff = parse_diff(driver_diff().replace("-\tint a = 1;", "-\tint\na = 1;"))
    assert diff.damaged is not None
    assert "broken" in diff.damaged


def test_signature_is_no_removed_line(driver_diff: Callable[..., str]) -> None:
    with_signature = parse_diff(driver_diff() + "-- \n2.34.1\n")
    assert with_signature.diff_hash == parse_diff(driver_diff()).diff_hash


def test_renames_deletions_and_quoted_names() -> None:
    text = (
        'diff --git "a/t\\303\\251.c" "b/t\\303\\251.c"\ndeleted file mode 100644\n'
        '--- "a/t\\303\\251.c"\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n'
        "diff --git a/old.c b/new.c\nsimilarity index 100%\nrename from old.c\nrename to new.c\n"
    )
    assert parse_diff(text).paths == ("té.c", "new.c")


@given(st.text(alphabet=st.sampled_from("+- @\\\ndifgtab/c.0123456789,"), max_size=400))
def test_any_text_is_borne(text: str) -> None:
    parse_diff(text)
    parse_diff("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n" + text)


LINES = st.lists(
    st.sampled_from(["", "a", "b ", "\tc", "d d", "-- ", "+++ x", "@@ -1 +1 @@", "é"]), max_size=12
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(old=st.lists(LINES, min_size=2, max_size=2), new=st.lists(LINES, min_size=2, max_size=2))
def test_the_patch_id_is_gits(
    old: list[list[str]], new: list[list[str]], tmp_path: Path, run_git: Callable[..., str]
) -> None:
    """Random contents of two files, diffed by git; ``git patch-id --stable`` is the judge."""
    folder = tmp_path / "repository"
    if not folder.exists():
        folder.mkdir()
        run_git(folder, "init", "--quiet")
    trees = []
    for contents in (old, new):
        for index, lines in enumerate(contents):
            text = "".join(f"{line}\n" for line in lines)
            (folder / f"file{index}.c").write_text(text if len(lines) % 3 else text.rstrip("\n"))
        run_git(folder, "add", "-A")
        trees.append(run_git(folder, "write-tree"))
    diff = run_git(folder, "diff-tree", "-p", "-r", *trees) + "\n"
    expected = run_git(folder, "patch-id", "--stable", data=diff.encode())
    parsed = parse_diff(diff)
    if not expected:
        assert parsed.patch_id is None or not parsed.files
    else:
        assert parsed.damaged is None
        assert parsed.patch_id == expected.split()[0]
