"""Byte code for Python files that are sent to the guest, made here by the guest's own Python.

An emulated processor takes seconds to compile what this machine compiles in a fraction of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from lab.cache import build_folder, remove_unused
from lab.machine import LabError
from lab.virtual.kernels import loader_command

PYTHON = "python3.13"
COMPILE_TIMEOUT = 120.0  # seconds


def compile_folders(tree: Path, folders: Sequence[Path], strip: Path) -> None:
    """Put byte code beside every Python file of ``folders``, by the Python of an unpacked Debian ``tree``.

    ``strip``: what is taken from the front of the paths that tracebacks show. Whoever imports the code does
    not look whether the source is still the same (PEP 552, unchecked). LabError says what Python said.
    """
    result = subprocess.run(
        [
            # -B, -f: what Python itself imports meanwhile must not be kept with the files' times, which the
            # guest's files do not have
            *loader_command(tree, f"usr/bin/{PYTHON}"), "-S", "-B", "-m", "compileall", "-q", "-f",
            "--invalidation-mode", "unchecked-hash", "-s", str(strip), *map(str, folders),
        ],
        env={"PYTHONHOME": str(tree / "usr"), "PATH": os.defpath},
        capture_output=True,
        timeout=COMPILE_TIMEOUT,
        check=False,
    )  # fmt: skip
    if result.returncode != 0:
        said = (result.stdout + result.stderr).decode("utf-8", "replace").strip()[-500:]
        raise LabError(f"byte-compiling Python files for the guest failed: {said}")


def bytecode(cache: Path, tree: Path, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The byte code of the Python files among ``files``, by their places below the same folder.

    Kept in the cache by the files' content. Files that this Python cannot compile get none: the guest says
    what is wrong with them when it imports them.
    """
    sources = {name: data for name, data in files.items() if name.endswith(".py")}
    digest = hashlib.sha256((tree / "packages.json").read_bytes())
    for name in sorted(sources):
        digest.update(f"{name}\0{len(sources[name])}\0".encode() + sources[name])
    place = cache / "bytecode" / digest.hexdigest()[:16]

    def fill(folder: Path) -> None:
        for name, data in sources.items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise LabError(f"{name!r} is no place below a folder")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        with contextlib.suppress(LabError):  # of a file with a mistake; the others are compiled
            compile_folders(tree, [folder], folder)
        remove_unused(place.parent.glob("[!.]*"), but=place)

    build_folder(cache, place, fill)
    os.utime(place)
    return {made.relative_to(place).as_posix(): made.read_bytes() for made in place.rglob("*.pyc")}
