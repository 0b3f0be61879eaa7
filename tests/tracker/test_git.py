"""The git half: repositories, the driver's commits, and the first tag against git's own answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracker.calendar import (
    dated_order,
    next_window,
    parse_tag,
    previous_window,
    release_order,
    window_of_untagged,
)
from tracker.errors import GitError, NotARepositoryError
from tracker.git.commits import driver_commits, read_commits
from tracker.git.graph import first_tags, label
from tracker.git.repository import Repository, open_or_clone, safe_name

RunGit = Callable[..., str]
START = datetime(2025, 1, 1, tzinfo=UTC)


def test_tags_are_ordered_by_version_with_the_final_last() -> None:
    tags = [
        "v6.18",
        "v6.18-rc1",
        "v7.0-rc1",
        "v6.19",
        "v6.18-rc10",
        "v6.18-rc2",
        "v6.18.1",
        "next-20260101",
        "v2.6.39",
    ]
    assert release_order(tags) == [
        "v2.6.39",
        "v6.18-rc1",
        "v6.18-rc2",
        "v6.18-rc10",
        "v6.18",
        "v6.19",
        "v7.0-rc1",
    ]
    assert release_order(["v7.1.2", "v7.1", "v7.1.10"], stable=True) == ["v7.1", "v7.1.2", "v7.1.10"]
    days = ["drm-misc-next-2026-05-28", "drm-misc-next-2026-04-20-1", "drm-misc-next-2026-04-20"]
    assert dated_order(days) == [
        "drm-misc-next-2026-04-20", "drm-misc-next-2026-04-20-1", "drm-misc-next-2026-05-28",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after"),
    [("7.1", "7.2"), ("6.19", "7.0"), ("4.19", "4.20"), ("4.20", "5.0"), ("2.6.39", "3.0")],
)
def test_the_release_that_follows(before: str, after: str) -> None:
    assert next_window(before) == after
    assert previous_window(after) == before


def test_windows_of_tags() -> None:
    assert [parse_tag(t).window for t in ("v7.1-rc1", "v7.1", "v7.1.4")] == ["7.1"] * 3  # type: ignore[union-attr]
    assert parse_tag("v7.1-rc1-dontuse") is None
    assert window_of_untagged("v7.1") == "7.2"
    assert window_of_untagged("v7.2-rc3") == "7.2"
    assert window_of_untagged(None) is None


def random_history(folder: Path, run_git: RunGit, seed: int, size: int, tag_every: int) -> list[str]:
    """A random graph with merges, tags that rise with time, through fast-import. The commit ids, in order."""
    folder.mkdir(exist_ok=True)
    run_git(folder, "init", "--quiet", "--bare", "--initial-branch=main")
    chance = random.Random(seed)
    stream: list[str] = []
    tags: list[tuple[int, int]] = []
    for number in range(1, size + 1):
        when = int((START + timedelta(hours=number)).timestamp())
        count = min(number - 1, chance.choice((1, 1, 1, 2, 3)))
        parents = sorted(chance.sample(range(max(1, number - 12), number), k=count))
        stream.append(
            f"commit refs/heads/b{number}\nmark :{number}\ncommitter T <t@x> {when} +0000\ndata 1\nx\n"
        )
        if parents:
            stream.append(f"from :{parents[-1]}\n")
            stream += [f"merge :{parent}\n" for parent in parents[:-1]]
        stream.append("\n")
        if number % tag_every == 0:
            tags.append((len(tags) + 1, number))
            stream.append(f"tag v7.{len(tags)}\nfrom :{number}\ntagger T <t@x> {when} +0000\ndata 1\nt\n")
    marks = folder / "marks"
    run_git(folder, "fast-import", "--quiet", f"--export-marks={marks}", data="".join(stream).encode())
    pairs = [line.split() for line in marks.read_text().splitlines()]
    return [sha for _, sha in sorted((int(mark[1:]), sha) for mark, sha in pairs if int(mark[1:]) <= size)]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), size=st.integers(5, 60), tag_every=st.integers(3, 15))
def test_the_first_tag_is_the_one_git_describe_contains_gives(
    seed: int, size: int, tag_every: int, tmp_path_factory: pytest.TempPathFactory, run_git: RunGit
) -> None:
    folder = tmp_path_factory.mktemp("graph") / "r.git"
    commits = random_history(folder, run_git, seed, size, tag_every)
    repository = Repository(folder)
    refs = {ref.name: ref.commit for ref in repository.tags()}
    order = [(name, refs[name]) for name in release_order(refs)]
    found = first_tags(repository, order, commits, heads=commits)
    named = run_git(folder, "name-rev", "--tags", "--annotate-stdin", data="\n".join(commits).encode())
    for commit, line in zip(commits, named.splitlines(), strict=True):
        _, _, name = line.partition(" (tags/")
        expected = name.split("^")[0].split("~")[0].rstrip(")") or None
        assert found[commit] == expected
    some = commits[size // 2]
    if found[some] is not None:
        described = run_git(folder, "describe", "--contains", some)
        assert described.split("~")[0].split("^")[0] == found[some]


def test_labels_need_only_the_frontier() -> None:
    """Octopus and criss-cross by hand: D is tagged 0, E 1; both contain B, only E contains C."""
    ids = {name: name * 40 for name in "abcde"}
    lines = [
        f"{ids['e']} {ids['b']} {ids['c']}",
        f"{ids['d']} {ids['b']}",
        f"{ids['c']} {ids['a']}",
        f"{ids['b']} {ids['a']}",
        ids["a"],
    ]
    assert {commit[0]: rank for commit, rank in label(lines, {ids["d"]: 0, ids["e"]: 1}, 2)} == {
        "e": 1, "d": 0, "c": 1, "b": 0, "a": 0,
    }  # fmt: skip


def test_unreachable_and_untagged_commits(tmp_path: Path, run_git: RunGit) -> None:
    commits = random_history(tmp_path / "r.git", run_git, 3, 10, 4)
    repository = Repository(tmp_path / "r.git")
    refs = {ref.name: ref.commit for ref in repository.tags()}
    order = [(name, refs[name]) for name in release_order(refs)]
    found = first_tags(repository, order, [commits[0], commits[-1], "f" * 40], heads=[commits[-1]])
    assert found == {commits[0]: "v7.1", commits[-1]: None}
    assert first_tags(repository, [], commits, heads=[]) == {}


@pytest.fixture
def kernel(tmp_path: Path, run_git: RunGit) -> Path:
    """A little kernel tree: a driver commit, a foreign one, one that touches both, a merge."""
    folder = tmp_path / "kernel"
    (folder / "drivers/accel/amdxdna").mkdir(parents=True)
    run_git(folder, "init", "--quiet", "--initial-branch=master")

    def commit(message: str, files: dict[str, str], day: int) -> None:
        for name, text in files.items():
            (folder / name).write_text(text)
        run_git(folder, "add", "-A")
        run_git(folder, "commit", "--quiet", "-m", message, when=START + timedelta(days=day))

    commit("start", {"README": "x\n"}, 0)
    commit("accel/amdxdna: Add\n\nText.\n\nLink: https://patch.msgid.link/a@x\nCc: b <b@x>",
           {"drivers/accel/amdxdna/a.c": "one\n"}, 1)  # fmt: skip
    commit("foreign: x", {"drivers/other.c": "x\n"}, 2)
    run_git(folder, "checkout", "--quiet", "-b", "side", "HEAD~1")
    commit("treewide: both", {"drivers/accel/amdxdna/a.c": "one\ntwo\n", "drivers/more.c": "y\n"}, 3)
    run_git(folder, "checkout", "--quiet", "master")
    run_git(folder, "merge", "--quiet", "--no-edit", "side", when=START + timedelta(days=4))
    return folder


def test_the_drivers_commits_are_read_whole(kernel: Path) -> None:
    repository = Repository(kernel)
    head = repository.resolve("HEAD")
    assert head is not None
    found = list(read_commits(repository, driver_commits(repository, ["drivers/accel/amdxdna"], head)))
    assert [commit.title for commit in found] == ["accel/amdxdna: Add", "treewide: both"]
    assert found[0].trailers == (("Link", "https://patch.msgid.link/a@x"), ("Cc", "b <b@x>"))
    assert found[0].author_date == START + timedelta(days=1)
    assert found[1].files == ("drivers/accel/amdxdna/a.c", "drivers/more.c")
    assert found[1].diff_hash is not None


def test_a_commit_in_another_character_set(kernel: Path, run_git: RunGit) -> None:
    (kernel / "drivers/accel/amdxdna/b.c").write_bytes(b"b\n")
    run_git(kernel, "add", "-A")
    run_git(
        kernel,
        "-c",
        "i18n.commitEncoding=ISO-8859-1",
        "commit",
        "--quiet",
        "-F",
        "-",
        data=b"amdxdna: M\xe4rz",
    )
    repository = Repository(kernel)
    head = repository.resolve("HEAD")
    assert head is not None
    assert next(read_commits(repository, [head])).title == "amdxdna: März"


def test_no_repository_and_failing_git(tmp_path: Path, kernel: Path) -> None:
    with pytest.raises(NotARepositoryError, match="does not exist"):
        Repository(tmp_path / "absent")
    (tmp_path / "plain").mkdir()
    with pytest.raises(NotARepositoryError, match="not a git repository"):
        Repository(tmp_path / "plain")
    repository = Repository(kernel)
    assert repository.resolve("no-such-branch") is None
    assert repository.resolve("--upload-pack=x") is None
    with pytest.raises(GitError, match="rev-list"):
        list(repository.rev_list(["no-such-branch"]))


def test_missing_and_large_objects(kernel: Path) -> None:
    blobs = list(
        Repository(kernel).blobs(
            ["HEAD:README", "HEAD:absent", "HEAD:drivers/more.c"], limit=1, start_bytes=1
        )
    )
    assert [(blob.name, blob.data, blob.size) for blob in blobs] == [
        ("HEAD:README", b"x", 2),
        ("HEAD:absent", None, 0),
        ("HEAD:drivers/more.c", b"y", 2),
    ]


def test_names_of_clones_stay_in_their_folder() -> None:
    assert "/" not in safe_name("../../etc/x")
    assert not safe_name("..").startswith(".")


class Recorded:
    """A progress that keeps what it was told."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int | None, int]] = []

    def start(self, what: str, total: int | None = None) -> None:
        self.steps.append((what, total, 0))

    def advance(self, count: int = 1) -> None:
        what, total, done = self.steps[-1]
        self.steps[-1] = (what, total, done + count)

    def finish(self, text: str) -> None:
        raise AssertionError("who asked for the clone says the end")


def test_a_clone_and_a_fetch_show_how_far_they_are(tmp_path: Path, run_git: Callable[..., str]) -> None:
    run_git(tmp_path, "init", "--quiet", "there")
    for number in range(30):
        (tmp_path / "there" / f"file{number}").write_text(str(number) * 100)
        run_git(tmp_path / "there", "add", ".")
        run_git(tmp_path / "there", "commit", "--quiet", "-m", f"commit {number}")
    shown = Recorded()
    location = (tmp_path / "there").as_uri()
    assert open_or_clone(location, tmp_path / "clones", "a tree", shown, blobless=False).tags() == []
    received = [step for step in shown.steps if step[0] == "a tree: receiving objects"]
    assert received == [("a tree: receiving objects", 90, 90)]  # commit, tree and file of each
    shown.steps.clear()
    open_or_clone(location, tmp_path / "clones", "a tree", shown)
    assert shown.steps == [("a tree: fetching", None, 0)]
