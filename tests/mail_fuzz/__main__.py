"""Mutated mails through the parser, as many as wanted; and inputs built to be slow.

    python -m tests.mail_fuzz [--seed S] [--count N] [--from FIRST] [--jobs J] [--save FOLDER]
    python -m tests.mail_fuzz --growth
    python -m tests.mail_fuzz --seed S --show NUMBER > reproducer.eml

Mail NUMBER of SEED is always the same mail (for the same corpus: with XDNAWATCH_REAL_DATA the real mails of
that folder join it). So a run that was stopped goes on with --from, and a failure is named by two numbers;
its mail is also written to FOLDER. Exit code 1 when a mail crashed the parser, took more than its time, or
broke a promise of tests/mail_fuzz/check.py.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import traceback
import zlib
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from tests.mail_fuzz.check import check_archive, check_mail, check_readers
from tests.mail_fuzz.growth import measure
from tests.mail_fuzz.mutate import mutated
from tests.mail_fuzz.shapes import corpus

SLOW = 3.0  # seconds of processor time for one mail
HANG = 120.0  # seconds without an end of one mail, by the wall clock: the worker is stopped
BLOCK = 250  # mails a report of a worker
EVERY_READER = 4  # one of so many mails goes through what comes behind the parser too
EVERY_ARCHIVE = 50  # and one of so many is read as an mbox


def run_one(raw: bytes, number: int) -> str | None:
    """What is wrong with reading this mail, or None."""
    start = time.perf_counter()
    try:
        mail = check_mail(raw)
        if number % EVERY_READER == 0:
            check_readers(mail, raw)
        if number % EVERY_ARCHIVE == 0:
            check_archive(raw)
    except Exception:  # any exception at all is the finding
        return traceback.format_exc(limit=-6)
    if time.perf_counter() - start < SLOW:
        return None
    start = time.process_time()  # the machine may have been busy: once more, by our own time alone
    check_readers(check_mail(raw), raw)
    taken = time.process_time() - start
    return f"it took {taken:.1f} s" if taken > SLOW else None


def work(seed: int, job: int, jobs: int, first: int, end: int, at: Synchronized[int], out: Any) -> None:
    """A worker: every ``jobs``-th number of first..end. Tells ("done", count) and ("bad", number, why)."""
    mails = corpus()
    since = 0
    for number in range(first + job, end, jobs):
        at.value = number
        problem = run_one(mutated(seed, number, mails), number)
        if problem is not None:
            out.put(("bad", number, problem))
        since += 1
        if since == BLOCK:
            out.put(("done", since, job))
            since = 0
    out.put(("done", since, job))
    out.put(("end", 0, job))


def fuzz(seed: int, first: int, count: int, jobs: int, save: Path) -> int:
    """The number of mails that failed."""
    mails = corpus()
    print(f"seed {seed}, mails {first} to {first + count - 1}, corpus of {len(mails)} "
          f"({zlib.crc32(b''.join(mails)):08x}), {jobs} processes", flush=True)  # fmt: skip
    out: Any = multiprocessing.Queue()
    at = [multiprocessing.Value("q", -1) for _ in range(jobs)]
    workers = [
        multiprocessing.Process(
            target=work, args=(seed, job, jobs, first, first + count, at[job], out), daemon=True
        )
        for job in range(jobs)
    ]
    for worker in workers:
        worker.start()
    failed = done = 0
    running = set(range(jobs))
    seen = [(-1, time.monotonic())] * jobs
    start = said = time.monotonic()

    def report(number: int, problem: str) -> None:
        save.mkdir(parents=True, exist_ok=True)
        file = save / f"{seed}-{number}.eml"
        file.write_bytes(mutated(seed, number, mails))
        print(f"FAILED: --seed {seed} --show {number} (kept as {file})\n{problem}", flush=True)

    while running:
        while True:
            try:
                kind, number, more = out.get(timeout=1)
            except multiprocessing.queues.Empty:  # type: ignore[attr-defined]
                break
            if kind == "bad":
                failed += 1
                report(number, more)
            elif kind == "done":
                done += number
            else:
                running.discard(more)
            if time.monotonic() - said > 20:
                said = time.monotonic()
                rate = done / (said - start)
                print(f"{done:>9} of {count} mails, {rate:.0f} a second, {failed} failed", flush=True)
        for job in sorted(running):
            if at[job].value != seen[job][0]:
                seen[job] = (at[job].value, time.monotonic())
            elif time.monotonic() - seen[job][1] > HANG or not workers[job].is_alive():
                failed += 1
                alive = workers[job].is_alive()
                why = f"no end after {HANG:.0f} s" if alive else f"the process died ({workers[job].exitcode})"
                report(at[job].value, f"{why}; this worker's other numbers are left out (see --from)")
                workers[job].kill()
                running.discard(job)
    print(f"{done} mails, {failed} failed, {time.monotonic() - start:.0f} s", flush=True)
    return failed


def growth() -> int:
    """The number of inputs whose time grows too fast."""
    slow = 0
    for one in measure():
        slow += one.slow
        mark = "SLOW" if one.slow else "    "
        first = f"{one.size / 1000:8.0f} kB {one.seconds * 1000:9.1f} ms"
        second = f"{one.larger / 1000:8.0f} kB {one.larger_seconds * 1000:9.1f} ms"
        print(f"{mark} {one.name:32}{first}{second}   x{one.ratio:.1f}", flush=True)
    print(f"{slow} inputs take more than their share")
    return slow


def main() -> int:
    """Run; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--save", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--growth", action="store_true", help="only the inputs built to be slow")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="write that mail to standard output")
    options = parser.parse_args()
    if options.show is not None:
        sys.stdout.buffer.write(mutated(options.seed, options.show, corpus()))
        return 0
    bad = growth() if options.growth else fuzz(
        options.seed, options.first, options.count, max(1, options.jobs), options.save
    )  # fmt: skip
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
