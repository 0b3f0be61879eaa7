"""The git epochs of a public-inbox server, kept as a folder of ``git/0.git``, ``git/1.git`` ...

Which epochs there are, and which of them moved, is in the list's ``manifest.js.gz`` (public-inbox
design_www): its fingerprints spare a fetch of what stayed the same, and name a new epoch as soon as it is
there. Reading the folder is `tracker.mail.inbox`'s work.
"""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tracker.errors import SourceError
from tracker.git.repository import open_or_clone, safe_name
from tracker.mail.polite import PoliteClient, RefusedError
from tracker.progress import Progress

MAX_MANIFEST = 16 * 1024 * 1024  # bytes, unpacked
MAX_EPOCHS = 200
_TYPES = ("application/gzip", "application/x-gzip", "application/octet-stream", "application/json")
# The key of an epoch in the manifest: /dri-devel/git/0.git
_EPOCH = re.compile(r"^/[\w.~/-]{1,300}/git/(\d{1,4})\.git$")
_SEEN = "manifest.json"


def is_single_repository(location: str) -> bool:
    """Whether a URL names one repository (``.../git/0.git``, ``.../0``) rather than a whole list."""
    last = urlsplit(location).path.rstrip("/").rpartition("/")[2]
    return last.endswith(".git") or last.isdigit()


def update_mirror(
    location: str, clones: Path, name: str, progress: Progress, client: PoliteClient | None = None
) -> Path:
    """Clone or fetch the epochs that changed; the folder that `InboxReader` reads. Raises SourceError."""
    folder = clones / f"{safe_name(name)}.inbox"
    with client or PoliteClient(location.rstrip("/") + "/") as http:
        epochs = _manifest(http, location.rstrip("/") + "/")
    seen = _seen(folder)
    for number, (path, fingerprint) in sorted(epochs.items()):
        kept = folder / "git" / f"{number}.git" / "HEAD"
        if kept.exists() and seen.get(str(number)) == fingerprint:
            continue
        parts = urlsplit(location)
        url = f"{parts.scheme}://{parts.netloc}{path}"
        open_or_clone(
            url, folder / "git", str(number), progress, blobless=False, shown_as=f"{name}, epoch {number}"
        )
        seen[str(number)] = fingerprint
        _remember(folder, seen)
    return folder


def _manifest(http: PoliteClient, base: str) -> dict[int, tuple[str, str]]:
    """Epoch number -> (path on the server, fingerprint of its refs)."""
    try:
        _, packed = http.get(f"{base}manifest.js.gz", _TYPES, limit=MAX_MANIFEST)
    except RefusedError as error:
        raise SourceError(
            f"{base} has no manifest.js.gz ({error}); is it the URL of a list of a public-inbox server?"
            " A single repository is given with its .git"
        ) from error
    try:
        unzip = zlib.decompressobj(wbits=31)
        plain = unzip.decompress(packed, MAX_MANIFEST) if packed.startswith(b"\x1f\x8b") else packed
        found: Any = json.loads(plain)
    except (ValueError, zlib.error, RecursionError) as error:
        raise SourceError(f"{base}manifest.js.gz is damaged: {error}") from error
    own = urlsplit(base).path
    epochs: dict[int, tuple[str, str]] = {}
    for path, entry in found.items() if isinstance(found, dict) else ():
        match = _EPOCH.match(path)
        # The manifest of a whole server lists every list's epochs: only this one's are followed.
        if (
            match is not None
            and path.startswith(f"{own}git/")
            and ".." not in path
            and isinstance(entry, dict)
        ):
            epochs[int(match[1])] = (path, str(entry.get("fingerprint", "")))
    if not epochs or len(epochs) > MAX_EPOCHS:
        raise SourceError(f"{base}manifest.js.gz names {len(epochs)} epochs of this list")
    return epochs


def _seen(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / _SEEN).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _remember(folder: Path, seen: dict[str, str]) -> None:
    """Atomically: a kill leaves the old file or the new one, and at worst one fetch is done again."""
    part = folder / f"{_SEEN}.part"
    part.write_text(json.dumps(seen), "utf-8")
    part.replace(folder / _SEEN)
