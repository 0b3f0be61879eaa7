"""A folder of mails, one file each: ``*.eml`` anywhere below it, or a Maildir's ``cur`` and ``new``.

The cursor is a digest of the listing (names, sizes, times); inside a sync it is the last name that was
read, so a killed sync goes on there. A changed folder is read again: known mails cost only their head.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from tracker.errors import SourceError
from tracker.mail.mbox import KEEP_OF_OVERSIZED
from tracker.mail.message import MAX_MAIL
from tracker.mail.source import Cursor, RawMail


class EmlReader:
    """A folder of mails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, cursor: Cursor) -> Iterator[RawMail]:
        """Mails in the order of their names."""
        names, digest = self._listing()
        if cursor.get("digest") == digest and cursor.get("done"):
            return
        after = str(cursor.get("after", "")) if cursor.get("digest") == digest else ""
        for name in names:
            if name <= after:
                continue
            position: Cursor = {"digest": digest, "after": name}
            try:
                size = (self.folder / name).stat().st_size
                with (self.folder / name).open("rb") as stream:
                    raw = stream.read(MAX_MAIL if size <= MAX_MAIL else KEEP_OF_OVERSIZED)
            except OSError as error:
                yield RawMail(name, b"", 0, position, f"cannot read {name}: {error.strerror}")
                continue
            if raw.startswith(b"From "):  # saved with its envelope line
                _, _, raw = raw.partition(b"\n")
            yield RawMail(name, raw, size, position)

    def end_cursor(self, cursor: Cursor) -> Cursor:
        """The whole listing has been read."""
        return {**cursor, "done": True} if cursor else cursor

    def fetch(self, location: str) -> bytes | None:
        """One file again. ``location`` comes from our own listing; it never leaves the folder."""
        path = (self.folder / location).resolve()
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            return None
        with path.open("rb") as stream:
            return stream.read(MAX_MAIL)

    def _listing(self) -> tuple[list[str], str]:
        if not self.folder.is_dir():
            raise SourceError(f'{self.folder} is not a folder; for a single file use kind = "mbox"')
        names: list[str] = []
        digest = hashlib.sha1(usedforsecurity=False)
        for folder, _, files in os.walk(self.folder, followlinks=False):
            maildir = Path(folder).name in ("cur", "new")
            for file in files:
                if file.endswith(".eml") or maildir:
                    names.append(str((Path(folder) / file).relative_to(self.folder)))
        names.sort()
        for name in names:
            try:
                stat = (self.folder / name).stat()
            except OSError:
                continue
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        return names, digest.hexdigest()
