"""A kernel of one's own: a bzImage and its modules in a folder, as a candidate to boot.

What is taken: the root of an unpacked kernel package, an INSTALL_PATH / INSTALL_MOD_PATH tree, a build tree
after ``make`` and ``make modules_install INSTALL_MOD_PATH=.``, or a bzImage with its modules beside it. The
release is read from the bzImage itself (Documentation/arch/x86/boot.rst, kernel_version), so modules of
another kernel are noticed before anything boots. Nothing is written into the folder.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
from pathlib import Path

from lab.cache import build_folder
from lab.machine import Candidate, LabError
from lab.packages.store import PackageStore
from lab.virtual.kernels import run_depmod

#: Where a bzImage lies below the folder, the likeliest first.
IMAGES = (
    "vmlinuz*", "bzImage*", "boot/vmlinuz*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz",
    "arch/x86/boot/bzImage",
)  # fmt: skip
MODULES = ("lib/modules", "usr/lib/modules", ".")
HEADER = 0x10000  # bytes of a bzImage in which its setup header and version string lie
MAGIC, MAGIC_AT, VERSION_AT, BASE = b"HdrS", 0x202, 0x20E, 0x200
#: ``7.4.0-rc2-next-20261101 (me@host) #1 SMP`` -> the release, what uname -r says
RELEASE = re.compile(rb"[\w.+~-]{1,64}")
#: ``7.4.0-rc2-dirty`` -> 7.4.0-rc2
VERSION = re.compile(r"\d+\.\d+(?:\.\d+)?(?:-rc\d+)?")


class KernelFolderError(LabError):
    """There is no kernel to boot at this path; the text says what was looked for."""

    exit_code = 2  # the user's words are at fault


def is_path(text: str) -> bool:
    """Whether the words for a kernel mean a file or folder: they have a slash, as ./linux or ~/k/bzImage."""
    return "/" in text


def folder_kernel(store: PackageStore, text: str) -> Candidate:
    """The kernel at a path: a folder, or a bzImage whose modules lie near it.

    KernelFolderError when there is no bzImage, more than one, or no modules of its release.
    """
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise KernelFolderError(f"{path} does not exist")
    image = path if path.is_file() else _image(path)
    release = image_release(image)
    match = VERSION.match(release)
    if match is None:
        raise KernelFolderError(f"{image} calls itself {release!r}, which is no kernel release")
    modules = _modules(image, path, release)
    digest = _digest(image, modules)
    if not (modules / "modules.dep").is_file():
        modules = _with_dependencies(store, modules, release, digest)
    return Candidate(
        release=release,
        version=match[0],
        origin=f"folder:{digest[:12]}",
        vmlinuz=image,
        modules=modules,
        detail={"path": str(path), "digest": digest},
    )


def image_release(image: Path) -> str:
    """What `uname -r` will say, from the setup header of a bzImage."""
    try:
        with image.open("rb") as handle:
            head = handle.read(HEADER)
    except OSError as error:
        raise KernelFolderError(f"cannot read {image}: {error.strerror}") from error
    if head[MAGIC_AT : MAGIC_AT + len(MAGIC)] != MAGIC:
        raise KernelFolderError(
            f"{image} is no bzImage (an ELF vmlinux cannot be booted: take arch/x86/boot/bzImage)"
        )
    (offset,) = struct.unpack_from("<H", head, VERSION_AT)
    match = RELEASE.match(head, BASE + offset)
    if not offset or match is None:
        raise KernelFolderError(f"{image} does not say its release")
    return match[0].decode("ascii", "replace")


def _image(folder: Path) -> Path:
    for pattern in IMAGES:
        found = sorted(path.resolve() for path in folder.glob(pattern) if path.is_file())
        if len(set(found)) > 1:
            names = ", ".join(str(path) for path in found[:5])
            raise KernelFolderError(f"{folder} has several kernels ({names}): name one")
        if found:
            return found[0]
    raise KernelFolderError(f"no bzImage in {folder}: looked for {', '.join(IMAGES)}")


def _modules(image: Path, path: Path, release: str) -> Path:
    places = [root / base / release for root in dict.fromkeys((path, *image.parents)) for base in MODULES]
    for place in places:
        if (place / "kernel").is_dir():
            return place.resolve()
    raise KernelFolderError(
        f"no modules of {release} beside {image}: expected a folder lib/modules/{release} "
        "(`make modules_install INSTALL_MOD_PATH=FOLDER`)"
    )


def _digest(image: Path, modules: Path) -> str:
    """Names this kernel: of the bzImage's bytes, and of each module's path, size and time."""
    with image.open("rb") as handle:
        total = hashlib.file_digest(handle, "sha256")
    for path in sorted((modules / "kernel").rglob("*.ko*")):
        status = path.stat()
        total.update(f"{path.relative_to(modules)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return total.hexdigest()


def _with_dependencies(store: PackageStore, modules: Path, release: str, digest: str) -> Path:
    """A copy with modules.dep in the cache: an unpacked package has none until depmod ran."""

    def fill(folder: Path) -> None:
        shutil.copytree(modules, folder / "usr/lib/modules" / release, symlinks=True)
        run_depmod(store, folder, release)

    made = build_folder(store.cache, store.cache / "kernel-folders" / digest[:16], fill)
    return made / "usr/lib/modules" / release
