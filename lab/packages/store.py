"""Packages on this disk: download what is missing, remember how each one was checked, keep it for good.

A .deb is kept in the cache even after unpacking: a mirror's index drops old kernels' modules, and a pool
drops them some time later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from lab.cache import build_folder, locked, write_atomically
from lab.packages.archive import unpack
from lab.packages.closure import closure
from lab.packages.download import Progress, download, new_client, no_progress
from lab.packages.index import Index, Package, open_index
from lab.packages.sources import mirror_address

PARALLEL = 4


@dataclass(frozen=True)
class Deb:
    """A package file in the cache. ``checked`` is "index" (SHA-256 as listed) or "pool" (not listed)."""

    path: Path
    sha256: str
    checked: str


class PackageStore:
    """Access to a Debian mirror with a cache. Nothing is fetched before it is needed."""

    def __init__(self, cache: Path, mirror: str | None = None, *, progress: Progress = no_progress) -> None:
        self.cache = cache
        self.progress = progress
        self._setting = mirror

    @cached_property
    def mirror(self) -> str:
        """The mirror's address: the setting, else apt's; looked up only when something must be fetched."""
        return mirror_address(self._setting)

    def index(self, suite: str) -> Index:
        """The index of one suite, fresh enough (see lab.packages.index)."""
        return open_index(self.cache, self.mirror, suite, progress=self.progress)

    def indices(self, suites: Sequence[str]) -> list[Index]:
        """The indices of several suites, the preferred one first."""
        return [self.index(suite) for suite in suites]

    def fetch(self, packages: Sequence[Package]) -> list[Deb]:
        """The files of these packages, in their order, downloaded where missing."""
        with ThreadPoolExecutor(PARALLEL) as pool:
            return list(pool.map(self._fetch_listed, packages))

    def _fetch_listed(self, package: Package) -> Deb:
        return self.fetch_file(package.filename, sha256=package.sha256, size=package.size)

    def fetch_file(self, filename: str, *, sha256: str | None, size: int | None = None) -> Deb:
        """One file of the mirror's pool. Without ``sha256`` it is recorded as not checked against an index.

        NotOnMirrorError when the mirror has no such file.
        """
        name = PurePosixPath(filename).name
        target = self.cache / "debs" / name
        with locked(self.cache, f"deb-{name}"):
            cached = self._cached(target)
            if cached is not None and (sha256 is None or cached.sha256 == sha256):
                return cached
            with new_client() as client:
                fetched = download(
                    client,
                    f"{self.mirror}/{filename}",
                    target,
                    sha256=sha256,
                    size=size,
                    progress=self.progress,
                )
            deb = Deb(target, fetched.sha256, "index" if fetched.checked else "pool")
            record = {"sha256": deb.sha256, "checked": deb.checked, "mirror": self.mirror, "file": filename}
            write_atomically(_record_path(target), json.dumps(record).encode())
            return deb

    def _cached(self, target: Path) -> Deb | None:
        record = _record_path(target)
        if not (target.is_file() and record.is_file()):
            return None
        content = json.loads(record.read_text())
        return Deb(target, str(content["sha256"]), str(content["checked"]))

    def cached(self, filename: str) -> Deb | None:
        """The file if the cache has it; the mirror is not asked."""
        return self._cached(self.cache / "debs" / PurePosixPath(filename).name)

    def tree(
        self, kind: str, suites: Sequence[str], roots: Sequence[str], *, exclude: Sequence[str] = ()
    ) -> Path:
        """A folder with ``roots`` and their closure unpacked, and ``packages.json`` that lists them with
        versions.

        Cached under a hash of what was asked for, not of today's versions: a cached tree is used without
        asking the mirror, and stays the same from run to run until it is removed.
        """
        request = json.dumps([kind, list(suites), list(roots), sorted(exclude)])
        digest = hashlib.sha256(request.encode()).hexdigest()[:12]

        def fill(folder: Path) -> None:
            packages = closure(self.indices(suites), roots, exclude=exclude)
            debs = self.fetch(packages)
            for deb in debs:
                unpack(deb.path, folder)
            listing = [
                {
                    "name": package.name,
                    "version": package.version,
                    "sha256": deb.sha256,
                    "checked": deb.checked,
                }
                for package, deb in zip(packages, debs, strict=True)
            ]
            write_atomically(folder / "packages.json", json.dumps(listing, indent=1).encode())

        return build_folder(self.cache, self.cache / "trees" / f"{kind}-{digest}", fill)


def _record_path(deb: Path) -> Path:
    return deb.with_name(deb.name + ".json")
