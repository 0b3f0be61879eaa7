"""Unpack a .deb into a folder without root: bin, sbin and lib merged into usr, nothing written outside.

A package is foreign input: names with "..", and links that would lead a later member out of the folder, are
refused. Owners and device nodes are dropped; permissions are kept without set-user-id.
"""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, cast

import zstandard
from debian.arfile import ArError, ArFile, ArMember
from debian.debfile import DebError, DebFile

from lab.machine import LabError

MERGED = ("bin", "sbin", "lib", "lib64")


class PackageError(LabError):
    """A .deb that is damaged or hostile."""


def unpack(deb: Path, folder: Path, wanted: Callable[[str], bool] = lambda _name: True) -> int:
    """Write the files of ``deb`` below ``folder``; returns how many. ``wanted`` sees the merged path."""
    count = 0
    try:
        with deb.open("rb") as file:
            archive = ArFile(fileobj=file)
            member = next((m for m in archive.getmembers() if m.name.startswith("data.tar")), None)
            if member is None:
                raise PackageError(f"{deb.name} has no data.tar: it is no Debian package")
            with (
                closing(_decompressed(member, member.name)) as stream,
                tarfile.open(fileobj=stream, mode="r|") as tar,
            ):
                for entry in tar:
                    name = merged_name(entry.name)
                    if name and wanted(name):
                        _extract(tar, entry, folder, name)
                        count += 1
    except (ArError, tarfile.TarError, lzma.LZMAError, zstandard.ZstdError, EOFError, ValueError) as error:
        raise PackageError(
            f"{deb.name} is damaged ({error}): remove it from the cache and fetch it again"
        ) from error
    except OSError as error:
        raise LabError(f"cannot unpack {deb.name} into {folder}: {error}") from error
    return count


def check_identity(deb: Path, name: str, version: str) -> None:
    """Raise PackageError unless the package says of itself that it is ``name`` in ``version``."""
    try:
        with DebFile(str(deb)) as package:
            control = package.debcontrol()
    except (ArError, DebError, tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise PackageError(f"{deb.name} is damaged ({error}): remove it and fetch it again") from error
    found = (str(control.get("Package")), str(control.get("Version")))
    if found != (name, version):
        raise PackageError(
            f"{deb.name} holds {' '.join(found)}, not {name} {version}: remove it from the cache"
        )


def _decompressed(member: ArMember, name: str) -> IO[bytes]:
    if name.endswith(".xz"):
        return cast(IO[bytes], lzma.open(cast(IO[bytes], member), "rb"))
    if name.endswith(".zst"):
        return zstandard.ZstdDecompressor().stream_reader(cast(IO[bytes], member))
    if name.endswith(".gz"):
        return cast(IO[bytes], gzip.open(member, "rb"))
    return cast(IO[bytes], member)


def merged_name(name: str) -> str:
    """``./lib/x`` -> ``usr/lib/x``; PackageError for a name that climbs or is absolute; "" for the root."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise PackageError(f"a member named {name!r} would be written outside the folder")
    parts = path.parts
    if parts and parts[0] in MERGED:
        parts = ("usr", *parts)
    return "/".join(parts)


def _extract(tar: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path, name: str) -> None:
    target = folder / name
    if entry.isdir():
        if not target.is_dir():
            _check_parent(folder, target)
            target.mkdir(parents=True, exist_ok=True)
        return
    if name in {f"usr/{directory}" for directory in MERGED} or name in MERGED:
        return  # base-files' own links for merged usr: the caller makes them
    _check_parent(folder, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.exists():
        target.unlink()
    if entry.issym():
        target.symlink_to(entry.linkname)
    elif entry.islnk():
        source = folder / merged_name(entry.linkname)
        _check_parent(folder, source)
        os.link(source, target, follow_symlinks=False)
    elif entry.isfile():
        content = tar.extractfile(entry)
        if content is None:
            raise PackageError(f"member {name!r} has no content")
        with target.open("wb") as out:
            shutil.copyfileobj(content, out, 1 << 20)
        target.chmod(entry.mode & 0o777)


def _check_parent(folder: Path, target: Path) -> None:
    """Refuse to write through a link: an earlier member could have pointed it out of the folder."""
    current = target.parent
    while current != folder:
        if current.is_symlink() and not current.resolve().is_relative_to(folder.resolve()):
            raise PackageError(f"{target} would be written through the link {current}")
        current = current.parent
