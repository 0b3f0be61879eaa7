"""The out-of-tree driver's commits against known pairs: recall, precision, each miss with its cause.

    python benchmarks/twin_pairs.py --clone XDNA_DRIVER [--data FOLDER]

``--clone`` is a git repository of amd/xdna-driver, ``--data`` a folder with xdna_driver_map.json and
commits.json. Without a clone it says so. Two figures:

*titles and ids*: the table's commits against a history made from commits.json. Titles, authors, releases and
ids are real, the diffs are not, so the rungs that compare lines stay out; most of the table was itself made
by equal titles, so this shows that nothing is lost or mixed up rather than how clever the rules are.
*lines alone*: the repository's own cherry-picks between its branches, of which the original is known. Their
titles, texts, authors and ids are taken away; left are real diffs, often changed on the way.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tracker.git.commits import CommitFacts, driver_commits, read_commits
from tracker.git.repository import Repository
from tracker.mail.headers import Address
from tracker.sample import SampleCommit, SampleFacts, load_facts, write_history
from tracker.settings import TWIN_FOLDERS, DriverProfile
from tracker.twin.pairs import Upstream, upstream_commit
from tracker.twin.score import TwinScore, score_pairs


def upstream_side(data: Path, folder: Path) -> Iterator[Upstream]:
    """The commits of a history made from the record, each also under its real id."""
    rows = json.loads((data / "commits.json").read_text())["commits"]
    facts = SampleFacts(
        tags=load_facts().tags,
        commits=tuple(
            SampleCommit(
                row["title"], row["author"] or "Unknown", row["mainline_cycle"], 1, row["sha"], inferred=False
            )
            for row in rows
        ),
    )
    write_history(facts, folder / "history.git")
    repository = Repository(folder / "history.git")
    real = {row["title"]: row["sha"] for row in rows if row["sha"]}
    for branch, stage in (("master", "upstream"), ("drm-misc-next", "applied")):
        head = repository.resolve(branch)
        assert head is not None
        for commit in read_commits(repository, driver_commits(repository, DriverProfile().paths, head)):
            ids = (real[commit.title], commit.sha) if commit.title in real else (commit.sha,)
            yield upstream_commit(commit.title, stage, commit, ids)


def twin_side(clone: Path, table: dict[str, str | None]) -> list[CommitFacts]:
    """The table's commits that touch the driver, the oldest first."""
    repository = Repository(clone)
    present = [sha for sha in table if repository.resolve(sha) is not None]
    commits = [one for one in read_commits(repository, present, TWIN_FOLDERS) if one.files]
    return sorted(commits, key=lambda one: (one.commit_date, one.sha))


def score(clone: Path, data: Path) -> TwinScore:
    """The score of the rules on the table."""
    rows = json.loads((data / "xdna_driver_map.json").read_text())["rows"]
    table = {row["xdna_commit"]: row["upstream_title"] for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        return score_pairs(twin_side(clone, table), upstream_side(data, Path(folder)), table)


def blind_score(clone: Path) -> TwinScore:
    """The score of the rungs that compare lines, on the cherry-picks of the repository itself."""
    repository = Repository(clone)
    every = list(repository.rev_list(["--all", "--no-merges", "--reverse", "--", *TWIN_FOLDERS]))
    commits = [one for one in read_commits(repository, every, TWIN_FOLDERS) if one.files]
    by_sha = {one.sha: one for one in commits}
    picks = [one for one in commits if one.upstream in by_sha]
    picked = {one.sha for one in picks}
    hidden = [
        replace(
            one, title=f"commit {number}", message="", upstream=None, trailers=(), author=Address("", ""),
            reverts=None,
        )
        for number, one in enumerate(picks)
        if by_sha[str(one.upstream)].reverts is None and not one.title.startswith("Revert")
    ]  # fmt: skip
    # An original stands for every commit of its title and author: branches hold copies of one another.
    key = {one.sha: f"{one.title} / {one.author.email}" for one in commits}
    side = [
        replace(upstream_commit(key[one.sha], "upstream", one, (one.sha,)), title=key[one.sha])
        for one in commits
        if one.sha not in picked
    ]
    originals = {one.change for one in side}
    kept = [one for one in hidden if key[str(by_sha[one.sha].upstream)] in originals]
    return score_pairs(kept, side, {one.sha: key[str(by_sha[one.sha].upstream)] for one in kept})


def main() -> None:
    """Print the scores."""
    parser = argparse.ArgumentParser(description="Score the pairing of the out-of-tree driver.")
    parser.add_argument("--clone", type=Path, default=os.environ.get("XDNAWATCH_TWIN_GIT"))
    parser.add_argument("--data", type=Path, default=os.environ.get("XDNAWATCH_REAL_DATA", "../shared/data"))
    options = parser.parse_args()
    table = Path(options.data) / "xdna_driver_map.json"
    if options.clone is None or not table.is_file():
        print(
            "left out: give --clone (a git repository of amd/xdna-driver) and --data (xdna_driver_map.json)"
        )
        return
    for name, found in (
        ("titles and ids", score(Path(options.clone), Path(options.data))),
        ("lines alone", blind_score(Path(options.clone))),
    ):
        print(f"{name}: {found.pairs} pairs, {found.known} with their upstream side in the history")
        print(f"  recall {found.recall:.3f} ({found.right}/{found.known})")
        print(f"  precision {found.precision:.3f} ({found.right}/{found.found}); {found.extra} unlisted")
        for miss in found.misses:
            print(f"  miss: {miss.sha[:12]} {miss.title}")
            print(f"    expected {miss.expected!r}, found {miss.found!r}: {miss.cause}")


if __name__ == "__main__":
    main()
