"""Sources from a git history without a checkout: which commits count, what a commit is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from harness.kernels.history import DriverHistory, HistoryError, SourcesError

Git = Callable[..., str]
Commit = Callable[[str, Mapping[str, str]], str]

DRIVER = "drivers/accel/amdxdna"
UAPI = "include/uapi/drm/amdxdna_accel.h"
CONFIGURE = "drivers/accel/tools/configure_kernel.sh"


@pytest.fixture
def in_tree(commit: Commit) -> str:
    """A kernel tree with the driver, the uapi header and much else."""
    return commit(
        "start", {f"{DRIVER}/Makefile": "a\n", f"{DRIVER}/x.c": "1\n", UAPI: "u\n", "mm/slab.c": "s\n"}
    )


def test_only_commits_of_the_module_are_candidates(repository: Path, commit: Commit, in_tree: str) -> None:
    commit("mm: not ours", {"mm/slab.c": "t\n"})
    first = commit("accel/amdxdna: one", {f"{DRIVER}/x.c": "2\n"})
    commit("docs: not ours", {"Documentation/x": "t\n"})
    second = commit("accel/amdxdna: header", {UAPI: "v\n"})
    commit("mm: at the end", {"mm/slab.c": "w\n"})
    found = DriverHistory(repository).commits(in_tree, "main")
    assert [(c.sha, c.title, c.author) for c in found] == [
        (in_tree, "start", "Test"),
        (first, "accel/amdxdna: one", "Test"),
        (second, "accel/amdxdna: header", "Test"),
    ]
    assert [c.parents for c in found] == [(), (in_tree,), (first,)]


def test_merges_keep_both_sides(repository: Path, git: Git, commit: Commit, in_tree: str) -> None:
    git("checkout", "--quiet", "-b", "side")
    side = commit("side", {f"{DRIVER}/side.c": "1\n"})
    git("checkout", "--quiet", "main")
    main = commit("main", {f"{DRIVER}/main.c": "1\n"})
    git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
    merge = git("rev-parse", "HEAD")
    found = {c.sha: c.parents for c in DriverHistory(repository).commits(in_tree, "main")}
    assert found == {in_tree: (), main: (in_tree,), side: (in_tree,), merge: (main, side)}


def test_a_branch_from_before_the_good_end_hangs_on_the_good_end(
    repository: Path, git: Git, commit: Commit, in_tree: str
) -> None:
    git("checkout", "--quiet", "-b", "old")
    git("checkout", "--quiet", "main")
    good = commit("good", {f"{DRIVER}/x.c": "2\n"})
    git("checkout", "--quiet", "old")
    old = commit("old", {f"{DRIVER}/old.c": "1\n"})
    git("checkout", "--quiet", "main")
    git("merge", "--quiet", "--no-ff", "-m", "merge", "old")
    found = {c.sha: c.parents for c in DriverHistory(repository).commits(good, "main")}
    assert found[old] == (good,)


def test_sources_are_the_modules_files_and_nothing_else(
    repository: Path, tmp_path: Path, commit: Commit, in_tree: str
) -> None:
    history = DriverHistory(repository)
    sources = history.sources(in_tree)
    assert sources.layout.name == "in-tree"
    target = tmp_path / "out"
    history.write(sources, target)
    written = {str(p.relative_to(target)): p.read_text() for p in target.rglob("*") if p.is_file()}
    assert written == {f"{DRIVER}/Makefile": "a\n", f"{DRIVER}/x.c": "1\n", UAPI: "u\n"}


def test_a_revert_is_the_same_module(repository: Path, git: Git, commit: Commit, in_tree: str) -> None:
    changed = commit("change", {f"{DRIVER}/x.c": "2\n"})
    git("revert", "--no-edit", changed)
    reverted = git("rev-parse", "HEAD")
    other = commit("mm: not ours", {"mm/slab.c": "t\n"})
    history = DriverHistory(repository)
    digests = {name: history.sources(name).digest for name in (in_tree, changed, reverted, other)}
    assert digests[in_tree] == digests[reverted] == digests[other] != digests[changed]


def test_the_vendors_layout_brings_its_script(repository: Path, tmp_path: Path, commit: Commit) -> None:
    sha = commit(
        "start", {f"{DRIVER}/Makefile": "", f"{DRIVER}/Kbuild": "", CONFIGURE: "#!/bin/sh\n", "big.bin": "b"}
    )
    history = DriverHistory(repository)
    sources = history.sources(sha)
    assert sources.layout.name == "vendor"
    assert {file.path for file in sources.files} == {f"{DRIVER}/Makefile", f"{DRIVER}/Kbuild", CONFIGURE}


def test_a_module_alone_is_taken_whole(repository: Path, commit: Commit) -> None:
    sha = commit("start", {"Kbuild": "obj-m := amdxdna.o\n", "amdxdna.c": "", "deep/x.h": ""})
    sources = DriverHistory(repository).sources(sha)
    assert sources.layout.name == "module"
    assert {file.path for file in sources.files} == {"Kbuild", "amdxdna.c", "deep/x.h"}


def test_a_commit_of_an_unknown_layout_is_skipped_with_the_reason(repository: Path, commit: Commit) -> None:
    sha = commit("start", {"README": "nothing"})
    with pytest.raises(SourcesError, match="none of the known places"):
        DriverHistory(repository).sources(sha)


def test_a_link_in_the_sources_is_refused(repository: Path, git: Git, commit: Commit, in_tree: str) -> None:
    (repository / DRIVER / "config_kernel.h").symlink_to("/etc/passwd")
    sha = commit("link", {})
    with pytest.raises(SourcesError, match="no regular file"):
        DriverHistory(repository).sources(sha)


def test_an_absent_blob_is_said_not_fetched(
    repository: Path, tmp_path: Path, git: Git, commit: Commit, in_tree: str
) -> None:
    """A partial clone lists files whose content it does not have."""
    blob = git("rev-parse", f"{in_tree}:{DRIVER}/x.c")
    (repository / ".git/objects" / blob[:2] / blob[2:]).unlink()
    history = DriverHistory(repository)
    with pytest.raises(SourcesError, match=r"does not hold the content of .*x\.c"):
        history.write(history.sources(in_tree), tmp_path / "out")


def test_hostile_titles_are_cleaned(repository: Path, commit: Commit, in_tree: str) -> None:
    commit("accel: \x1b[31mred\x1b[0m " + "x" * 5000, {f"{DRIVER}/x.c": "2\n"})
    title = DriverHistory(repository).commits(in_tree, "main")[-1].title
    assert "\x1b" not in title
    assert len(title) <= 300


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("nowhere", "main", "has no commit 'nowhere'"),
        ("--output=/tmp/x", "main", "has no commit"),
        ("main", "main", "no commit between"),
        ("main", "main~1", "is no ancestor of"),
    ],
)
def test_ends_that_cannot_be_used_are_errors_of_usage(
    repository: Path, commit: Commit, in_tree: str, good: str, bad: str, message: str
) -> None:
    commit("second", {f"{DRIVER}/x.c": "2\n"})
    with pytest.raises(HistoryError, match=message) as caught:
        DriverHistory(repository).commits(good, bad)
    assert caught.value.exit_code == 2


def test_a_folder_that_is_no_repository_is_said(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="no git repository"):
        DriverHistory(tmp_path)
    with pytest.raises(HistoryError, match="is no folder"):
        DriverHistory(tmp_path / "absent")
