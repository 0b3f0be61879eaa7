"""First tag of every commit of a synthetic history: one pass against git's own ways, in one run.

    python benchmarks/first_tag.py [--commits N] [--tags T] [--sample K] [--repository PATH] [--floor-only]

The history has the shape of mainline: a first-parent chain with side branches of random length, tags in
rising order and date; mainline itself has about 1,400,000 commits and 900 tags. Compared are: reading
`git rev-list --topo-order --parents` and throwing it away (the floor), our pass for all commits and for a
driver's 200, `git name-rev --annotate-stdin` for all commits, and `git describe --contains` for a sample,
scaled up. The answers are compared too. Each pass of ours runs in a process of its own, whose peak memory is
printed. --floor-only leaves git's slower ways out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from tracker.calendar import release_order
from tracker.git.graph import first_tags, label
from tracker.git.repository import Repository


def build(folder: Path, commits: int, tags: int) -> None:
    """A bare repository with that many commits and tags."""
    subprocess.run(["git", "init", "--quiet", "--bare", str(folder)], check=True)
    chance = random.Random(20261123)
    when = 1_500_000_000
    mainline: list[int] = [1]
    with subprocess.Popen(
        ["git", f"--git-dir={folder}", "fast-import", "--quiet"], stdin=subprocess.PIPE, text=True
    ) as importer:
        assert importer.stdin is not None
        put = importer.stdin.write
        put(f"commit refs/heads/master\nmark :1\ncommitter T <t@x> {when} +0000\ndata 1\nx\n\n")
        number, next_tag, tagged = 1, commits // tags, 0
        while number < commits:
            length = min(chance.choice((1, 2, 4, 9, 20)), commits - number - 1)
            parent = mainline[-min(len(mainline), chance.choice((1, 5, 30)))]
            for _ in range(max(1, length)):
                number += 1
                when += 30
                put(
                    f"commit refs/heads/side\nmark :{number}\ncommitter T <t@x> {when} +0000\n"
                    f"data 1\nx\nfrom :{parent}\n\n"
                )
                parent = number
            if number >= commits:
                break
            number += 1
            when += 30
            put(
                f"commit refs/heads/master\nmark :{number}\ncommitter T <t@x> {when} +0000\ndata 1\nm\n"
                f"from :{mainline[-1]}\nmerge :{parent}\n\n"
            )
            mainline.append(number)
            if number >= next_tag:
                tagged += 1
                next_tag += commits // tags
                put(f"tag v5.{tagged}\nfrom :{number}\ntagger T <t@x> {when} +0000\ndata 1\nt\n")
    if importer.returncode != 0:
        raise SystemExit("git fast-import failed")


def apart(work: Callable[[], object]) -> tuple[float, float]:
    """(seconds, peak memory in MiB) of the work in a process of its own."""
    here, there = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        taken, _ = seconds(work)
        there.send((taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    answer: tuple[float, float] = here.recv()
    child.join()
    return answer


def seconds(work: Callable[[], object]) -> tuple[float, object]:
    """How long it takes, and what it gives."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--commits", type=int, default=100_000)
    parser.add_argument("--tags", type=int, default=40)
    parser.add_argument("--sample", type=int, default=20)
    parser.add_argument("--repository", type=Path, help="measure this one instead of a synthetic history")
    parser.add_argument("--floor-only", action="store_true", help="only the floor and our pass")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.repository or Path(temporary) / "graph.git"
        if options.repository is None:
            build(folder, options.commits, options.tags)
        measure(folder, options.sample, floor_only=options.floor_only)


def measure(folder: Path, sample: int, *, floor_only: bool) -> None:
    """Time every way on one repository."""
    git = ["git", f"--git-dir={Repository(folder).git_dir}"]
    repository = Repository(folder)
    refs = {ref.name: ref.commit for ref in repository.tags()}
    order = [(name, refs[name]) for name in release_order(refs)]
    starts = list(dict.fromkeys(refs[name] for name, _ in order))
    read = [*git, "rev-list", "--topo-order", "--parents", *starts]

    def floor_pass() -> float:
        return seconds(lambda: subprocess.run(read, stdout=subprocess.DEVNULL))[0]

    few = list(islice(repository.rev_list(["--reverse", "--skip=99"], stdin=starts[:1]), 200))
    floor, (driver, driver_peak) = floor_pass(), apart(lambda: first_tags(repository, order, few))

    def everything() -> object:
        return first_tags(repository, order, repository.rev_list(["--topo-order"], stdin=starts))

    def labels() -> int:
        """The pass itself, without keeping an answer for each commit."""
        ranks = {commit: rank for rank, (_, commit) in enumerate(order)}
        lines = repository.rev_list(["--topo-order", "--parents"], stdin=starts)
        return sum(1 for _ in label(lines, ranks, len(order)))

    ours, peak = apart(labels)
    floor = min(floor, floor_pass())
    print(f"rev-list --parents alone        {floor:12.2f} s")
    ratio = f"{ours / floor:.2f} x the reading"
    print(f"one pass, every commit          {ours:12.2f} s   {ratio}, peak {peak:.0f} MiB")
    print(f"one pass, a driver's {len(few):<11}{driver:12.2f} s   peak {driver_peak:.0f} MiB")
    if floor_only:
        return
    commits = list(repository.rev_list(["--topo-order"], stdin=starts))
    ours, answers = seconds(everything)
    assert isinstance(answers, dict)
    names, text = seconds(
        lambda: subprocess.run(
            [*git, "name-rev", "--tags", "--annotate-stdin"],
            input="\n".join(commits).encode(),
            capture_output=True,
            check=True,
        ).stdout.decode()
    )
    equal = sum(
        (line.partition(" (tags/")[2].split("^")[0].split("~")[0].rstrip(")") or None) == answers.get(commit)
        for commit, line in zip(commits, str(text).splitlines(), strict=True)
    )
    chosen = random.Random(1).sample(commits, min(sample, len(commits)))
    described, _ = seconds(
        lambda: [
            subprocess.run([*git, "describe", "--contains", commit], capture_output=True, check=False)
            for commit in chosen
        ]
    )
    scaled = described / len(chosen) * len(commits)
    print(f"{len(commits)} commits, {len(order)} tags; {equal} answers equal to name-rev")
    for name, value in (
        ("one pass, all answers kept", ours),
        ("name-rev --annotate-stdin", names),
        (f"describe --contains (from {len(chosen)})", scaled),
    ):
        print(f"{name:32}{value:12.2f} s   {value / ours:10.2f} x one pass")


if __name__ == "__main__":
    main()
