"""One cache folder that several processes may share: locks, atomic files, atomic folders.

Everything below the cache can be made again. A file or folder that exists under its final name is complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.machine import LabError

#: Longest wait for another process that fills the same part of the cache, seconds.
LOCK_TIMEOUT = 1800.0
#: Seconds since the last use of what other inputs made.
KEPT_UNUSED = 3 * 86400.0


@contextmanager
def locked(cache: Path, name: str, *, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the cache's lock ``name``; another process waits for it. LabError after ``timeout`` seconds."""
    folder = cache / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LabError(
            f"the cache {cache} cannot be written: {error}; choose another cache folder"
        ) from error
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabError(
                        f"another process has held {folder / name} for {timeout:.0f} s; end it and try again"
                    ) from None
                time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that readers see the old content or all of the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
        Path(name).rename(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise LabError(f"cannot write {path}: {error}") from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def build_folder(cache: Path, target: Path, fill: Callable[[Path], None]) -> Path:
    """Make ``target`` by ``fill(temporary folder)`` unless it exists; other processes wait, then reuse it.

    An interrupted fill leaves only a folder ``.<name>.*`` that the next build of the same target removes.
    """
    if target.is_dir():
        return target
    with locked(cache, f"build-{target.name}"):
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in target.parent.glob(f".{target.name}.*"):
            shutil.rmtree(stale, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            temporary.chmod(0o755)
            fill(temporary)
            temporary.rename(target)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise LabError(f"cannot build {target}: {error}") from error
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return target


def remove_unused(paths: Iterable[Path], *, but: Path) -> None:
    """Of what is made anew when its inputs change: the versions besides ``but`` that nobody used for a while.

    Whoever uses one sets its time (os.utime).
    """
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            if path != but and time.time() - path.stat().st_mtime > KEPT_UNUSED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
