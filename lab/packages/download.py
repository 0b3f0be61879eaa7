"""Download a file over http: resumed when interrupted, checked by SHA-256, atomic under its final name."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.machine import LabError

if TYPE_CHECKING:
    import httpx  # imported by what downloads: most boots find all they need in the cache

#: Called with (name, bytes so far, bytes in all or None). Called from worker threads.
Progress = Callable[[str, int, int | None], None]

CONNECT_TIMEOUT = 20.0  # seconds to reach the mirror
READ_TIMEOUT = 60.0  # seconds without a byte
ATTEMPTS = 4  # one download, each attempt going on where the last one broke
PAUSE = 0.1  # seconds before the second attempt, doubled each time
LARGEST = 4 << 30  # bytes


class DownloadError(LabError):
    """A file could not be fetched, or is not what its index says."""


class NotOnMirrorError(DownloadError):
    """The mirror answers that there is no such file (404)."""


@dataclass(frozen=True)
class Fetched:
    """A complete file: where, its SHA-256, whether that was compared with a known one."""

    path: Path
    sha256: str
    checked: bool


def no_progress(_name: str, _done: int, _total: int | None) -> None:
    """Say nothing."""


def new_client() -> httpx.Client:
    """An http client with the lab's timeouts; it follows redirects and the environment's proxies."""
    import httpx

    timeout = httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
    # No content decoding: a .deb and a Packages.xz are wanted as they lie there, and Range counts raw bytes.
    return httpx.Client(timeout=timeout, follow_redirects=True, headers={"Accept-Encoding": "identity"})


def download(
    client: httpx.Client,
    url: str,
    target: Path,
    *,
    sha256: str | None,
    size: int | None = None,
    progress: Progress = no_progress,
) -> Fetched:
    """Fetch ``url`` to ``target``; the part file ``<target>.part`` survives an interruption and is continued.

    ``sha256`` None means that nothing is known to compare with; the result says so. A wrong checksum removes
    the part file and raises. NotOnMirrorError on 404.
    """
    import httpx

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    failure: Exception | None = None
    restarted = False
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2**attempt)
        try:
            _continue(client, url, part, size, target.name, progress)
        except httpx.HTTPError as error:
            failure = error
            continue
        except OSError as error:
            raise DownloadError(f"cannot write {part}: {error}") from error
        digest = _digest(part)
        if sha256 is None or digest == sha256:
            part.rename(target)
            return Fetched(target, digest, checked=sha256 is not None)
        part.unlink()
        failure = DownloadError(f"{url}: SHA-256 is {digest}, the index says {sha256}")
        if restarted:
            break
        restarted = True  # an old part of another version may be to blame: once more from the start
    if isinstance(failure, DownloadError):
        raise DownloadError(f"{failure}; the mirror may be in the middle of an update: try again later")
    raise DownloadError(
        f"{url}: {failure or 'no answer'}; check the network and run the command again: it resumes"
    )


def _continue(
    client: httpx.Client, url: str, part: Path, size: int | None, name: str, progress: Progress
) -> None:
    """Fetch what is missing of ``part``."""
    import httpx

    have = part.stat().st_size if part.exists() else 0
    if size is not None and have >= size:
        return
    headers = {"Range": f"bytes={have}-"} if have else {}
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == 404:
            raise NotOnMirrorError(f"{url}: the mirror has no such file (404)")
        if answer.status_code == 416:  # the part is as long as the file, or longer: let the checksum decide
            return
        if answer.status_code >= 500:
            raise httpx.RemoteProtocolError(f"the mirror answers {answer.status_code}")
        if answer.status_code not in (200, 206):
            raise DownloadError(f"{url}: the mirror answers {answer.status_code} {answer.reason_phrase}")
        if answer.status_code == 200:
            have = 0  # the server ignores ranges: from the start
        length = answer.headers.get("content-length", "")
        total = have + int(length) if length.isdigit() else size
        with part.open("ab" if have else "wb") as file:
            for chunk in answer.iter_raw():
                have += len(chunk)
                if have > LARGEST:
                    raise DownloadError(f"{url}: more than {LARGEST >> 30} GiB, that is no package")
                file.write(chunk)
                progress(name, have, total)
        if total is not None and have < total:
            raise httpx.RemoteProtocolError(f"connection ended after {have} of {total} bytes")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
