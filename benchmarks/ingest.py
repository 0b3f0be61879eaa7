"""Mails into SQLite: `tracker` against `public-inbox-index`, on the same mails, in one run.

    python benchmarks/ingest.py [MBOX] [--mails N]

The mails are packed into a public-inbox v2 archive (one commit a mail). Then the tracker reads the archive
into an empty database twice: with a profile that keeps every patch it can (the work of a whole list), and
with the driver's own profile (what a user has). `public-inbox-index -L full` indexes the same archive where
it is installed. Without an mbox the project's sample mails are used.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from db.database import Database
from tracker.ingest_mail import ingest_mail
from tracker.mail.mbox import MboxReader
from tracker.progress import Silent
from tracker.sample import load_facts, write_mails
from tracker.settings import DriverProfile, SourceSettings

EVERYTHING = DriverProfile(
    name="everything",
    paths=(
        "arch",
        "block",
        "drivers",
        "Documentation",
        "fs",
        "include",
        "kernel",
        "MAINTAINERS",
        "mm",
        "net",
        "tools",
    ),
    subject_words=("patch", "platform", "x86", "linux"),
)


def pack(raws: list[bytes], inbox: Path) -> None:
    """A public-inbox v2 archive with one epoch."""
    epoch = inbox / "git" / "0.git"
    epoch.parent.mkdir(parents=True)
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


def ours(inbox: Path, profile: DriverProfile, folder: Path) -> tuple[float, int]:
    """(seconds, mails stored)."""
    database = Database(f"sqlite:///{folder / (profile.name + '.db')}")
    database.migrate()
    settings = SourceSettings(name="list", kind="public-inbox", location=str(inbox))
    start = time.perf_counter()
    count = ingest_mail(database, settings, profile, folder, Silent())
    taken = time.perf_counter() - start
    start = time.perf_counter()
    ingest_mail(database, settings, profile, folder, Silent())
    print(
        f"  ({profile.name}: a second sync of the unchanged archive took {time.perf_counter() - start:.3f} s)"
    )
    database.close()
    return taken, count.new


def theirs(inbox: Path, folder: Path) -> float | None:
    """Seconds of public-inbox-index, or None where it is not installed."""
    if shutil.which("public-inbox-index") is None or shutil.which("public-inbox-init") is None:
        return None
    copy = folder / "pi"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PI_CONFIG": str(folder / "config")}
    address = ("bench", str(copy), "http://localhost/bench", "bench@localhost")
    subprocess.run(
        ["public-inbox-init", "-V2", "-L", "full", *address], check=True, capture_output=True, env=environment
    )
    shutil.rmtree(copy / "git" / "0.git", ignore_errors=True)
    shutil.copytree(inbox / "git" / "0.git", copy / "git" / "0.git")
    start = time.perf_counter()
    subprocess.run(
        ["public-inbox-index", "-L", "full", "-j1", str(copy)],
        check=True,
        capture_output=True,
        env=environment,
    )
    return time.perf_counter() - start


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("mbox", nargs="?", type=Path)
    parser.add_argument("--mails", type=int, default=2400)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = options.mbox
        if source is None:
            source = folder / "sample.mbox"
            write_mails(load_facts(), source)
        raws = [item.raw for item in MboxReader(source).read({})][: options.mails]
        pack(raws, folder / "inbox")
        print(f"{len(raws)} mails, {sum(map(len, raws)) / len(raws):.0f} bytes each")
        rates = {}
        for profile in (EVERYTHING, DriverProfile()):
            taken, stored = ours(folder / "inbox", profile, folder)
            rates[profile.name] = len(raws) / taken
            print(f"tracker, {profile.name:12}{rates[profile.name]:10.0f} mails/s   {stored} stored")
        other = theirs(folder / "inbox", folder)
        if other is None:
            print("public-inbox-index is not installed: no comparison (Debian: public-inbox)")
        else:
            rate = len(raws) / other
            print(f"public-inbox-index   {rate:10.0f} mails/s")
            for name, value in rates.items():
                print(f"  tracker, {name}: {value / rate:.1f} x")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process {peak:.0f} MiB (the mails themselves are held for packing)")


if __name__ == "__main__":
    main()
