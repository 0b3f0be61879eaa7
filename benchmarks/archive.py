"""A whole list's archive through `xdnawatch track sync`: time, memory, and the second sync.

    python benchmarks/archive.py [ARCHIVE] [--mails N]

ARCHIVE is a public-inbox v2 archive (a bare repository or a folder of epochs); without it one of N mails is
synthesised, of which one in 400 is the driver's. Two drivers are followed: one of which the archive has few
mails, and one that owns every file, so that the whole list is kept and worked through. Each sync is the
program itself, in a process of its own; its peak memory is the largest of it and of the git processes it
starts. Exit code 1 when a sync needs more than 300 MiB, when the driver's few mails are not picked out within
10 s by the clock (on two cores that are free: git unpacks on one, the sieve works on the other), or when the
second sync of an unchanged source costs more than 2 s of processor time, its start included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_MEMORY = 300.0  # MiB
MOST_PICKED = 10.0  # seconds by the clock
MOST_SECOND = 2.0  # seconds of processor time
DRIVERS = {
    "few mails": ("drivers/accel/amdxdna", "amdxdna"),
    "whole list": ("drivers", "patch"),
}
EVERYWHERE = (
    '["drivers", "arch", "Documentation", "include", "kernel", "mm", "fs", "net", "tools", "MAINTAINERS"]'
)


@dataclass(frozen=True)
class Cost:
    """Of one run of the program: seconds by the wall clock and of processor time, and peak MiB."""

    wall: float
    processor: float
    peak: float


def mails(count: int) -> Iterator[bytes]:
    """Patches in two versions with replies, as a list has them; all text is made up."""
    for number in range(count):
        work, step = divmod(number, 4)
        folder = "drivers/accel/amdxdna" if work % 100 == 0 else f"drivers/platform/x86/d{work % 150}"
        title = f"{folder.split('/')[-1]}: Mend part {work}"
        version, reply = ("", False) if step == 0 else (" v2", step != 2)
        name = f"{work}-{'v2' if step >= 2 else 'v1'}@list.example"
        own = f"{number}-reply@list.example" if reply else name
        year = 2015 + work * 10 // (count // 4 + 1)
        head = (
            f"From: Person {work % 300} <p{work % 300}@list.example>\n"
            f"Subject: {'Re: ' if reply else ''}[PATCH{'' if step < 2 else version}] {title}\n"
            f"Date: Mon, {1 + work % 28} Jan {year} 10:{step * 10:02}:00 +0000\n"
            f"Message-ID: <{own}>\n" + (f"In-Reply-To: <{name}>\n" if reply else "")
        )
        lines = "".join(f"+\tstep_{work}_{line}(it, {version or 1!r});\n" for line in range(60))
        diff = (
            f"It was wrong in case {work}.\n\nSigned-off-by: P <p{work % 300}@list.example>\n---\n"
            f"diff --git a/{folder}/f{work % 7}.c b/{folder}/f{work % 7}.c\n--- a/{folder}/f{work % 7}.c\n"
            f"+++ b/{folder}/f{work % 7}.c\n@@ -1,1 +1,60 @@\n-\told_{work}(it);\n{lines}"
        )
        quoted = "".join(f"> {line}\n" for line in diff.split("\n"))
        text = f"On Monday P wrote:\n{quoted}\nThis wants a lock around it, I think.\n" if reply else diff
        yield (head + "\n" + text).encode()


def pack(raws: Iterator[bytes], epoch: Path) -> None:
    """A public-inbox v2 archive of one epoch."""
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=master", str(epoch)], check=True)
    with subprocess.Popen(
        ["git", f"--git-dir={epoch}", "fast-import", "--quiet"], stdin=subprocess.PIPE
    ) as importer:
        assert importer.stdin is not None
        for raw in raws:
            importer.stdin.write(
                b"commit refs/heads/master\ncommitter T <t@example.org> 1700000000 +0000\ndata 1\nm\n"
                b"deleteall\nM 100644 inline m\ndata %d\n" % len(raw) + raw + b"\n"
            )


def run(*arguments: str) -> Cost:
    """The program with these arguments."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "xdnawatch", *arguments]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def main() -> int:
    """Run and print; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("archive", nargs="?", type=Path)
    parser.add_argument("--mails", type=int, default=40_000)
    options = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        archive = options.archive
        if archive is None:
            archive = folder / "0.git"
            pack(mails(options.mails), archive)
        start = run("--version")
        print(f"the program's own start: {start.wall:.1f} s, {start.processor:.1f} s of processor time")
        for name, (path, word) in DRIVERS.items():
            settings = folder / f"{path.replace('/', '-')}.toml"
            paths = f'["{path}"]' if name == "few mails" else EVERYWHERE
            settings.write_text(
                f'[paths]\ndata = "{folder / word}"\n[driver]\nname = "{word}"\npaths = {paths}\n'
                f'subject_words = ["{word}"]\n'
                f'[[source]]\nname = "list"\nkind = "public-inbox"\nlocation = "{archive.resolve()}"\n'
            )
            first, second = (run("-c", str(settings), "track", "sync") for _ in range(2))
            for order, cost in (("first", first), ("second", second)):
                text = f"{cost.wall:7.1f} s {cost.processor:7.1f} s of processor time {cost.peak:6.0f} MiB"
                print(f"{name:12}{order:8}{text}", flush=True)
                bad += cost.peak > MOST_MEMORY
            bad += second.processor > MOST_SECOND
            bad += name == "few mails" and first.wall > MOST_PICKED
    print("every limit holds" if not bad else f"{bad} limits do not hold")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
