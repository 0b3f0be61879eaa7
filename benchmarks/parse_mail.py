"""Mails parsed per second: tracker.mail against b4's LoreMessage, on the same mails, in one run.

    python benchmarks/parse_mail.py [MBOX ...] [--mails N] [--rounds R]

Without an mbox the project's own sample mails are used, repeated. Both sides read bytes that are already
in memory and give headers, decoded body, in-body author, trailers and whether there is a diff. The third
line adds what b4 does not do in that step: the diff parsed, its files, patch id and path-qualified hash.
Each figure is the best of R rounds; the ratio is what matters, on a shared machine too.
"""

from __future__ import annotations

import argparse
import email
import email.policy
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import b4

from tracker.mail.mbox import MboxReader
from tracker.mail.message import Mail, parse_mail
from tracker.sample import load_facts, write_mails


def read_corpus(files: list[Path], wanted: int) -> list[bytes]:
    """Raw mails of the files, in order, at most ``wanted``."""
    raws = [item.raw for file in files for item in MboxReader(file).read({})]
    if not raws:
        raise SystemExit("no mail in the given files")
    return (raws * (wanted // len(raws) + 1))[:wanted] if len(raws) < wanted and not files else raws[:wanted]


def best_rate(work: Callable[[bytes], object], raws: Iterable[bytes], rounds: int) -> float:
    """Mails per second of processor time, the best of some rounds: another load does not matter much."""
    mails = list(raws)
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for raw in mails:
            work(raw)
        best = min(best, time.process_time() - start)
    return len(mails) / best


def ours(raw: bytes) -> object:
    """Headers, body, kind, in-body author, trailers, diff text: all that is otherwise read on first use."""
    return _every_value(parse_mail(raw))


def ours_with_diff(raw: bytes) -> object:
    """The same, and the diff with its fingerprints."""
    mail = parse_mail(raw)
    return _every_value(mail), mail.diff.diff_hash, mail.diff.patch_id


def _every_value(mail: Mail) -> object:
    head = mail.head
    heads = (head.message_id, head.subject, head.author, head.date, head.parents, head.list_id)
    return heads, mail.kind, mail.trailers, mail.text.author


def theirs(raw: bytes) -> object:
    """b4 as b4 itself does it: its own email policy, then LoreMessage."""
    return b4.LoreMessage(email.message_from_bytes(raw, policy=b4.emlpolicy))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("mbox", nargs="*", type=Path)
    parser.add_argument("--mails", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = list(options.mbox)
        if not files:
            sample = Path(folder) / "sample.mbox"
            write_mails(load_facts(), sample)
            files = [sample]
        raws = read_corpus(files, options.mails)
    size = sum(len(raw) for raw in raws) / len(raws)
    print(f"{len(raws)} mails, {size:.0f} bytes each, best of {options.rounds}")
    b4_rate = best_rate(theirs, raws, options.rounds)
    for name, work in (("tracker, parse", ours), ("tracker, parse and diff", ours_with_diff)):
        rate = best_rate(work, raws, options.rounds)
        print(f"{name:26}{rate:9.0f} mails/s   {rate / b4_rate:6.1f} x b4")
    print(f"{'b4 LoreMessage':26}{b4_rate:9.0f} mails/s   {1.0:6.1f} x b4")


if __name__ == "__main__":
    main()
