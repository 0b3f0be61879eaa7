"""A suite's package index: fetched, verified against the signed Release, kept as a small SQLite file.

The text of ``Packages`` for trixie is 50 MB; parsing it into Python objects for each command would cost
seconds. One pass over its paragraphs fills a table with the seven fields that the lab needs, once per change
of the index.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from debian import deb822

from lab.cache import locked
from lab.machine import LabError
from lab.packages.download import DownloadError, Progress, download, new_client, no_progress

if TYPE_CHECKING:
    import httpx

#: Seconds before the mirror is asked again whether a suite changed.
FRESH = 12 * 3600.0
SCHEMA = "2"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FIELDS = ("Package", "Version", "Filename", "Size", "SHA256", "Pre-Depends", "Depends", "Provides")
PACKAGES = "main/binary-amd64/Packages.xz"

#: ``Depends: libc6 (>= 2.34),`` at the start of a line of a paragraph; continuation lines are not needed.
FIELD_LINE = re.compile(rb"^(" + b"|".join(f.encode() for f in FIELDS) + rb"): (.*)$", re.M)
#: ``foo (= 1.2)`` in a Provides field -> ``foo``
PROVIDED = re.compile(r"^\s*([^\s(]+)")


@dataclass(frozen=True)
class Package:
    """One binary package of a suite. ``filename`` is relative to the mirror; ``depends`` has Pre-Depends
    first.
    """

    name: str
    version: str
    filename: str
    size: int
    sha256: str
    depends: str


class Index:
    """One suite's packages, read from its SQLite file."""

    def __init__(self, suite: str, path: Path) -> None:
        self.suite = suite
        self._path = path

    def _query(self, sql: str, values: tuple[str, ...]) -> list[tuple[str, ...]]:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as connection:
            return connection.execute(sql, values).fetchall()

    def get(self, name: str) -> Package | None:
        """The package of this exact name; the last listed where there are several versions."""
        rows = self._query(
            "select name, version, filename, size, sha256, depends from package where name = ? "
            "order by rowid desc limit 1",
            (name,),
        )
        return _package(rows[0]) if rows else None

    def providers(self, name: str) -> list[str]:
        """Names of packages that provide the virtual package ``name``, as listed."""
        rows = self._query("select package from provides where name = ? order by rowid", (name,))
        return [row[0] for row in rows]

    def starting_with(self, prefix: str) -> list[Package]:
        """Every package whose name starts with ``prefix``."""
        rows = self._query(
            "select name, version, filename, size, sha256, depends from package where name >= ? and name < ?",
            (prefix, prefix + "\U0010ffff"),
        )
        return [_package(row) for row in rows]

    def fact(self, name: str) -> str:
        """``signed`` ("yes", or why not), ``mirror``, ``sha256`` of the index text."""
        rows = self._query("select value from meta where name = ?", (name,))
        return rows[0][0] if rows else ""


def _package(row: tuple[str, ...]) -> Package:
    name, version, filename, size, sha256, depends = row
    return Package(name, version, filename, int(size), sha256, depends)


def paragraphs(text: bytes) -> Iterator[dict[str, str]]:
    """The wanted fields of each paragraph of a Packages file."""
    for paragraph in text.split(b"\n\n"):
        fields = {
            key.decode(): value.decode("utf-8", "replace") for key, value in FIELD_LINE.findall(paragraph)
        }
        if "Package" in fields and "Filename" in fields:
            yield fields


def open_index(
    cache: Path, mirror: str, suite: str, *, progress: Progress = no_progress, fresh: float = FRESH
) -> Index:
    """The index of ``suite``; the mirror is asked only when the cached one is older than ``fresh`` seconds.

    When the mirror cannot be reached an older cached index is used: packages in the cache stay usable
    offline.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", suite):
        raise LabError(f"{suite!r} is not the name of a Debian suite")
    path = cache / "indices" / f"{suite}.sqlite"
    index = Index(suite, path)
    if _usable(index, path, mirror) and time.time() - path.stat().st_mtime < fresh:
        return index
    with locked(cache, f"index-{suite}"):
        usable = _usable(index, path, mirror)
        if usable and time.time() - path.stat().st_mtime < fresh:
            return index
        try:
            _refresh(cache, mirror, suite, index if usable else None, path, progress)
        except DownloadError:
            if not usable:
                raise
        except sqlite3.Error as error:
            raise LabError(f"the index of {suite} cannot be stored in {cache}: {error}") from error
    return index


def _usable(index: Index, path: Path, mirror: str) -> bool:
    try:
        return path.is_file() and index.fact("schema") == SCHEMA and index.fact("mirror") == mirror
    except sqlite3.Error:
        return False


def _refresh(cache: Path, mirror: str, suite: str, old: Index | None, path: Path, progress: Progress) -> None:
    base = f"{mirror}/dists/{suite}"
    folder = cache / "indices"
    with tempfile.TemporaryDirectory(dir=_made(folder)) as work, new_client() as client:
        release, signed = _release(client, base, suite, Path(work))
        expected = release.get(PACKAGES)
        if expected is None:
            raise DownloadError(f"{base}/InRelease lists no {PACKAGES}; is {mirror} a Debian mirror?")
        if old is not None and old.fact("sha256") == expected:
            os.utime(path)
            return
        part = folder / f"{suite}-{expected[:16]}.xz"
        fetched = download(client, f"{base}/{PACKAGES}", part, sha256=expected, progress=progress)
        new = Path(work) / "new.sqlite"
        meta = {"schema": SCHEMA, "mirror": mirror, "sha256": expected, "signed": signed}
        _store(new, lzma.decompress(fetched.path.read_bytes()), meta.items())
        new.rename(path)
        fetched.path.unlink()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _release(client: httpx.Client, base: str, suite: str, work: Path) -> tuple[dict[str, str], str]:
    """path -> SHA-256 of a suite's InRelease, and whether its signature was checked ("yes" or why not)."""
    signed_file = download(client, f"{base}/InRelease", work / "InRelease", sha256=None).path
    text, verdict = _verified(signed_file, suite)
    release = deb822.Release(text)
    return {str(entry["name"]): str(entry["sha256"]) for entry in release.get("SHA256", [])}, verdict


def _verified(file: Path, suite: str) -> tuple[bytes, str]:
    """The signed text; gpgv and Debian's keyring are used where the machine has them.

    A bad signature is an error. A signature by a key that this machine's keyring does not know (an older
    release's keyring) is recorded, not refused: the checksums then guard against damage, not against malice.
    """
    content = file.read_bytes()
    gpgv = shutil.which("gpgv")
    if gpgv is None or not KEYRING.is_file():
        return content, "no gpgv or no Debian keyring on this machine"
    result = subprocess.run(
        [gpgv, "--status-fd", "2", "--keyring", str(KEYRING), "--output", "-", str(file)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    status = result.stderr.decode("utf-8", "replace")
    if "[GNUPG:] BADSIG" in status:
        raise DownloadError(f"the signature of {suite}'s InRelease is bad: do not trust this mirror")
    if "[GNUPG:] GOODSIG" in status and result.stdout:
        return result.stdout, "yes"
    return content, "signed by keys that this machine's Debian keyring does not hold"


def _store(path: Path, text: bytes, meta: Iterable[tuple[str, str]]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("pragma synchronous = off")  # the file gets its name only when complete
        connection.executescript(
            "create table package (name text, version text, filename text, size text, sha256 text, "
            "depends text);"
            "create table provides (name text, package text);"
            "create table meta (name text primary key, value text);"
        )
        for fields in paragraphs(text):
            depends = ", ".join(fields[key] for key in ("Pre-Depends", "Depends") if fields.get(key))
            connection.execute(
                "insert into package values (?, ?, ?, ?, ?, ?)",
                (
                    fields["Package"],
                    fields.get("Version", ""),
                    fields["Filename"],
                    fields.get("Size", "0"),
                    fields.get("SHA256", ""),
                    depends,
                ),
            )
            for part in fields.get("Provides", "").split(","):
                match = PROVIDED.match(part)
                if match:
                    connection.execute("insert into provides values (?, ?)", (match[1], fields["Package"]))
        connection.executescript(
            "create index package_name on package (name); create index provides_name on provides (name);"
        )
        connection.executemany("insert into meta values (?, ?)", list(meta))
