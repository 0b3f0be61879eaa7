"""The folder of a published site: each file replaced whole, only what changed, nothing that is not ours.

Order makes it safe: style sheet and leaves first, lists and the front page last, removals at the very end.
A reader, and the next publication after a kill, find whole pages whose links lead somewhere.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MANIFEST = "site.json"
LOCK = ".publish.lock"
MARKER = "xdnawatch-site"
# What a page of ours may be called: slugs.py and catalogue.py make nothing else.
_PATH = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9._-]*/)*[A-Za-z0-9][A-Za-z0-9._-]*\.(?:html|json|css|atom)", re.ASCII
)


class SiteError(Exception):
    """The site cannot be written there; the text says why and what to do."""

    exit_code = 2


class SiteBusyError(SiteError):
    """Another publication is writing to the same folder."""

    exit_code = 3


@dataclass
class Written:
    """What a publication did, counted in pages."""

    written: int = 0
    kept: int = 0
    removed: int = 0


@dataclass
class SiteFolder:
    """A folder being published to; made by ``opened``."""

    path: Path
    known: dict[str, dict[str, Any]]
    now: datetime
    done: Written = field(default_factory=Written)
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)

    def put(self, names: tuple[str, ...], digest: str, make: Callable[[datetime], tuple[bytes, ...]]) -> None:
        """Write the files of one page unless they are there already, made from the same ``digest``.

        ``make`` gets the time to show; an untouched page keeps the time of its last change. The first
        name is the page's own, under which it is remembered.
        """
        name = names[0]
        if name in self.seen:
            raise SiteError(f"two pages would have the name {name}: a defect of xdnawatch, please report it")
        if any(_PATH.fullmatch(n) is None or ".." in n.split("/") for n in names):
            raise SiteError(f"{names!r} are no names of pages: a defect of xdnawatch, please report it")
        before = self.known.get(name)
        if before is not None and before.get("digest") == digest and self._whole(names, before):
            self.seen[name] = before
            self.done.kept += 1
            return
        contents = make(self.now)
        for file, content in zip(names, contents, strict=True):
            _replace(self.path / file, content)
        self.seen[name] = {
            "digest": digest,
            "files": {file: len(content) for file, content in zip(names, contents, strict=True)},
            "generated": self.now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        self.done.written += 1

    def _whole(self, names: tuple[str, ...], before: dict[str, Any]) -> bool:
        sizes = before.get("files")
        if not isinstance(sizes, dict) or set(sizes) != set(names):
            return False
        try:
            return all((self.path / name).stat().st_size == sizes[name] for name in names)
        except OSError:
            return False

    def finish(self) -> None:
        """Remove pages that are no more, and remember what is there."""
        self._remember({**self.known, **self.seen})
        now = {file for entry in self.seen.values() for file in entry["files"]}
        for name, entry in self.known.items():
            gone = [f for f in entry.get("files", ()) if f not in now and _PATH.fullmatch(f)]
            for file in gone:
                (self.path / file).unlink(missing_ok=True)
                with suppress(OSError):  # the folder has other pages
                    (self.path / file).parent.rmdir()
            self.done.removed += bool(gone) and name not in self.seen
        self._remember(self.seen)

    def _remember(self, entries: dict[str, dict[str, Any]]) -> None:
        manifest = {"what": MARKER, "format": 1, "pages": dict(sorted(entries.items()))}
        _replace(self.path / MANIFEST, json.dumps(manifest, indent=1).encode("ascii") + b"\n")


@contextmanager
def opened(path: Path, now: datetime | None = None) -> Iterator[SiteFolder]:
    """Lock ``path`` for one publication; made if needed.

    Raises SiteError for a folder that holds other things, SiteBusyError when another process publishes
    there, OSError when it cannot be written. ``finish`` is the caller's: without it nothing is removed.
    """
    path.mkdir(parents=True, exist_ok=True)
    _manifest(path)  # refuse somebody else's folder before a lock is left in it
    handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SiteBusyError(f"another process publishes to {path} now; wait for it to end") from error
        known = _manifest(path)
        folder = SiteFolder(path, known or {}, now or datetime.now(UTC))
        if known is None:
            folder._remember({})  # a kill from here on must not make the folder look like somebody else's
        yield folder
    finally:
        os.close(handle)


def _manifest(path: Path) -> dict[str, dict[str, Any]] | None:
    """The pages of the last publication; None for an empty folder; SiteError for somebody else's."""
    try:
        found = json.loads((path / MANIFEST).read_text("utf-8"))
        if found["what"] == MARKER and isinstance(found["pages"], dict):
            return {str(k): v for k, v in found["pages"].items() if isinstance(v, dict)}
    except FileNotFoundError:
        if all(entry.name.startswith(".") for entry in path.iterdir()):
            return None
    except (ValueError, KeyError, TypeError):
        pass  # a broken or foreign site.json: said below
    raise SiteError(f"{path} holds other files than a site of xdnawatch; choose an empty or a new folder")


def _replace(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".new-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
