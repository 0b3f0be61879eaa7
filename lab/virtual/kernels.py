"""Debian's kernels by version, unpacked and ready to boot.

Where the files are (Debian packages of linux and linux-signed-amd64):
up to 6.18 one ``linux-image-X``; from 6.19 ``linux-binary-X`` (vmlinuz) + ``linux-modules-X`` +
``linux-base-X`` (modules.builtin). vmlinuz lies in /boot up to 7.1 and in usr/lib/modules/X from 7.2.
amdxdna is built as a module from 6.18 on. The index lists ``linux-modules-X`` of recent versions only; the
pool keeps older ones for some time.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from debian.debian_support import Version

from lab.cache import build_folder, write_atomically
from lab.machine import Candidate, LabError
from lab.packages.archive import check_identity, unpack
from lab.packages.download import NotOnMirrorError
from lab.packages.index import Index, Package
from lab.packages.store import Deb, PackageStore

SUITES = ("trixie-backports", "trixie")
FIRST_WITH_DRIVER = (6, 18)
FIRST_SPLIT = (6, 19)
DEPMOD_TIMEOUT = 120.0  # seconds

#: ``linux-image-7.3.4+deb13-amd64`` -> release; no cloud, rt or unsigned flavours
IMAGE = re.compile(r"^linux-image-(?P<release>\d[\w.+~-]*-amd64)$")
OTHER_FLAVOUR = re.compile(r"-(cloud|rt|unsigned)(-|$)")
#: ``7.3.4-1~bpo13+1`` -> 7.3.4; ``7.3~rc7-1~exp1`` -> 7.3~rc7
UPSTREAM = re.compile(r"^(?:\d+:)?(?P<upstream>.+?)(?:-[^-]*)?$")
LEADING_NUMBERS = re.compile(r"^(\d+)\.(\d+)")


class UnknownKernelError(LabError):
    """There is no such kernel in the suites; the text lists those that are."""

    exit_code = 2  # the user's words are at fault


@dataclass(frozen=True)
class KernelPackage:
    """A kernel that a suite offers: ``version`` as users say it ("7.3.4"), ``release`` as uname says it."""

    version: str
    release: str
    suite: str
    package: Package
    cached: bool

    def numbers(self) -> tuple[int, int]:
        """Major and minor, for comparisons by release."""
        return numbers_of(self.version)


def numbers_of(version: str) -> tuple[int, int]:
    """("7.3.4") -> (7, 3); LabError when it does not start so."""
    match = LEADING_NUMBERS.match(version)
    if match is None:
        raise LabError(f"{version!r} is not a kernel version like 7.3.4")
    return int(match[1]), int(match[2])


def kernels_in(index: Index, cache: Path) -> list[KernelPackage]:
    """The plain amd64 kernels of one suite that can carry the driver, oldest first."""
    found = []
    for package in index.starting_with("linux-image-"):
        match = IMAGE.match(package.name)
        if match is None or OTHER_FLAVOUR.search(package.name):
            continue
        upstream = UPSTREAM.match(package.version)
        version = upstream["upstream"] if upstream else package.version
        if numbers_of(version) < FIRST_WITH_DRIVER:
            continue
        cached = (_folder(cache, match["release"])).is_dir()
        found.append(KernelPackage(version, match["release"], index.suite, package, cached))
    return sorted(found, key=lambda kernel: Version(kernel.package.version))


def available(store: PackageStore, *, experimental: bool = False) -> list[KernelPackage]:
    """Every kernel that can be asked for, oldest first; one entry per release."""
    suites = (*SUITES, "experimental") if experimental else SUITES
    kernels: dict[str, KernelPackage] = {}
    for suite in suites:
        for kernel in kernels_in(store.index(suite), store.cache):
            kernels.setdefault(kernel.release, kernel)
    return sorted(kernels.values(), key=lambda kernel: Version(kernel.package.version))


def cached_kernels(cache: Path) -> list[Candidate]:
    """The kernels that are unpacked in the cache, usable without the mirror."""
    found = [_candidate(file.parent) for file in sorted((cache / "kernels").glob("[!.]*/candidate.json"))]
    return sorted(found, key=lambda candidate: Version(candidate.version))


def kernel(store: PackageStore, version: str, *, experimental: bool = False) -> Candidate:
    """The Debian kernel of this version ("7.3.4") or release ("7.3.4+deb13-amd64"), fetched when missing.

    UnknownKernelError for a version that no suite has.
    """
    for candidate in cached_kernels(store.cache):
        if version in (candidate.version, candidate.release):
            return candidate
    offered = available(store, experimental=experimental)
    chosen = [k for k in offered if version in (k.version, k.release)]
    if not chosen:
        names = ", ".join(dict.fromkeys(k.version for k in offered))
        raise UnknownKernelError(f"no Debian kernel {version!r}; available: {names}")
    return _install(store, chosen[-1])


def _folder(cache: Path, release: str) -> Path:
    return cache / "kernels" / release


def _install(store: PackageStore, wanted: KernelPackage) -> Candidate:
    def fill(folder: Path) -> None:
        debs = _packages(store, wanted)
        for deb in debs:
            unpack(deb.path, folder, lambda name: not name.startswith("usr/share/"))
        modules = folder / "usr/lib/modules" / wanted.release
        if not (modules / "modules.dep").is_file():
            run_depmod(store, folder, wanted.release)
        vmlinuz = next(
            (p for p in (modules / "vmlinuz", folder / "boot" / f"vmlinuz-{wanted.release}") if p.is_file()),
            None,
        )
        if vmlinuz is None or not modules.is_dir():
            raise LabError(f"the packages of kernel {wanted.release} hold no vmlinuz or no modules")
        record = {
            "release": wanted.release,
            "version": wanted.version,
            "vmlinuz": str(vmlinuz.relative_to(folder)),
            "detail": {
                "package": f"{wanted.package.name} {wanted.package.version}",
                "suite": wanted.suite,
                # A package found by its name in the pool alone was not compared with an index's checksum.
                # "yes" is the normal case and needs no words
                "index_signature": _not_yes(store.index(wanted.suite).fact("signed")),
                "unchecked": ", ".join(deb.path.name for deb in debs if deb.checked != "index"),
            },
        }
        write_atomically(folder / "candidate.json", json.dumps(record, indent=1).encode())

    return _candidate(build_folder(store.cache, _folder(store.cache, wanted.release), fill))


def _not_yes(verdict: str) -> str:
    return "" if verdict == "yes" else verdict


def _candidate(folder: Path) -> Candidate:
    try:
        record = json.loads((folder / "candidate.json").read_text())
        release = str(record["release"])
        return Candidate(
            release=release,
            version=str(record["version"]),
            origin="debian",
            vmlinuz=folder / str(record["vmlinuz"]),
            modules=folder / "usr/lib/modules" / release,
            detail={key: str(value) for key, value in record["detail"].items() if value},
        )
    except (OSError, ValueError, KeyError) as error:
        raise LabError(f"the cached kernel {folder} is damaged ({error}); remove the folder") from error


def _packages(store: PackageStore, wanted: KernelPackage) -> list[Deb]:
    if wanted.numbers() < FIRST_SPLIT:
        return store.fetch([wanted.package])
    index = store.index(wanted.suite)
    debs = []
    for part in ("binary", "modules", "base"):
        name = f"linux-{part}-{wanted.release}"
        listed = index.get(name)
        if listed is not None and listed.version == wanted.package.version:
            debs += store.fetch([listed])
        else:
            debs.append(_from_pool(store, name, wanted))
    return debs


def _from_pool(store: PackageStore, name: str, wanted: KernelPackage) -> Deb:
    """A package that the index dropped, while the pool still has it.

    Its name follows from the listed linux-image, which depends on it by exact version. No checksum is listed
    any more, so the record says "pool". The modules in it are signed, and the kernel that checks the
    signatures comes from a package with a listed checksum: a changed module would taint it ("module
    verification failed").
    """
    filename = f"pool/main/l/linux/{name}_{wanted.package.version}_amd64.deb"
    if f"{name} (= {wanted.package.version})" not in wanted.package.depends:
        raise LabError(
            f"{wanted.package.name} {wanted.package.version} does not depend on {name} as expected"
        )
    try:
        deb = store.fetch_file(filename, sha256=None)
    except NotOnMirrorError as error:
        raise LabError(
            f"kernel {wanted.version}: {name} is neither in the index nor in the pool any more; "
            "choose a newer kernel"
        ) from error
    check_identity(deb.path, name, wanted.package.version)
    return deb


def run_depmod(store: PackageStore, root: Path, release: str) -> None:
    """Make modules.dep for ``root``/usr/lib/modules/``release`` with the depmod of Debian's kmod package."""
    tools = store.tree("kmod", ("trixie",), ("kmod",), exclude=("libc-bin",))
    link = root / "lib"
    if not link.is_symlink() and not link.exists():
        link.symlink_to("usr/lib")
    result = subprocess.run(
        [*loader_command(tools, "usr/bin/kmod", argv0="depmod"), "-b", str(root), release],
        capture_output=True,
        timeout=DEPMOD_TIMEOUT,
        check=False,
    )
    if result.returncode != 0:
        raise LabError(
            f"depmod for {release} failed: {result.stderr.decode('utf-8', 'replace').strip()[:500]}"
        )


def loader_command(tree: Path, program: str, *, argv0: str | None = None) -> list[str]:
    """The words that run a program of an unpacked tree through the tree's own dynamic loader."""
    name: Sequence[str] = ("--argv0", argv0) if argv0 else ()
    return [
        str(tree / "usr/lib64/ld-linux-x86-64.so.2"),
        *name,
        "--library-path",
        str(tree / "usr/lib/x86_64-linux-gnu"),
        str(tree / program),
    ]
