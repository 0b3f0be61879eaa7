"""A compiler and a kernel's headers in a folder of their own, and a way to run commands inside it.

Debian's headers name their compiler (gcc-14), their kbuild tools and each other by absolute paths, and the
host may be anything. So the packages are unpacked into the cache and commands run with that folder as their
root (facts module-build.md sections 3a and 10: binutils is not pulled in by the headers).

What is built there was written by others: where the kernel allows it, a command sees nothing but the root
(read-only), its own work folder, an empty /tmp and no network. No set-up needs root; see ``LAUNCHERS``.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from debian.debian_support import Version

from harness.errors import HarnessError
from lab.cache import build_folder
from lab.leash import LeashedProcess
from lab.machine import Completed
from lab.packages.archive import unpack
from lab.packages.download import NotOnMirrorError
from lab.packages.index import Package
from lab.packages.store import Deb, PackageStore

SUITES = ("trixie-backports", "trixie")
TOOLCHAIN = (
    "gcc-14-for-host", "binutils", "make", "dash", "bash", "coreutils", "sed", "grep", "mawk", "findutils",
    "diffutils", "mount", "libelf1t64", "libssl3t64", "zlib1g",
)  # fmt: skip
#: Sanitizers, set-up tools and logins: nothing that compiles a module uses them.
UNUSED = (
    "libasan8", "liblsan0", "libtsan2", "libubsan1", "libhwasan0", "libgprofng0", "debconf", "libpam-modules",
    "libpam-modules-bin", "libpam-runtime", "gawk", "pahole",
)  # fmt: skip
LAYOUT = 1  # of the assembled root; a new number makes new roots
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
PROBE_TIMEOUT = 30.0  # seconds for one trial of a launcher
OUTPUT_LIMIT = 1 << 20  # bytes kept of a command's output and of its errors
FILE_LIMIT = 1 << 30  # bytes of any one file that a command writes, its output included
PATH = "/usr/local/bin:/usr/sbin:/usr/bin"


class BuildRootError(HarnessError):
    """No build root can be made or entered on this machine."""


@dataclass(frozen=True)
class Launcher:
    """One way to make a folder the root of a command."""

    name: str
    needs_root: bool
    unshare: tuple[str, ...]  # flags of unshare(1); empty: chroot(1) alone

    @property
    def isolated(self) -> bool:
        """Whether the command has its own mounts, network and processes."""
        return bool(self.unshare)


SPACES = ("--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child")

#: Tried in this order. The last is for containers that may neither make namespaces nor mount.
LAUNCHERS = (
    Launcher("user namespace", needs_root=False, unshare=("--user", "--map-root-user", *SPACES)),
    Launcher("namespaces of root", needs_root=True, unshare=SPACES),
    Launcher("plain chroot", needs_root=True, unshare=()),
)

#: $1 root, $2 work folder, then the command. The root is pivoted, so the host's files are out of reach. A
#: failing read-only remount costs only the protection of the cache; kbuild needs nothing of /proc.
ENTER = f"""
set -e
ulimit -f {FILE_LIMIT // 512}
root=$1 work=$2
shift 2
mount --bind "$root" "$root"
for device in null zero full random urandom; do mount --bind "/dev/$device" "$root/dev/$device"; done
mount -t proc proc "$root/proc" 2>/dev/null || :
mount -t tmpfs tmpfs "$root/tmp"
mount -o remount,bind,ro "$root" 2>/dev/null || :
mount --bind "$work" "$root/build"
cd "$root"
pivot_root . .
exec /usr/bin/sh -c 'umount -l . && cd /build && exec "$@"' sh "$@"
"""


@dataclass(frozen=True)
class Workspace:
    """A folder that is writable inside the root: ``folder`` on the host, ``inside`` in the root."""

    folder: Path
    inside: str


@dataclass(frozen=True)
class BuildRoot:
    """The root for one kernel release, ready to run commands."""

    folder: Path
    release: str  # uname -r of the kernel whose headers it holds
    launcher: Launcher
    cache: Path

    @property
    def headers(self) -> str:
        """The headers' folder inside the root, for ``make -C``."""
        return f"/usr/src/linux-headers-{self.release}"

    @property
    def common_headers(self) -> str:
        """The folder inside the root with what all architectures share."""
        return f"/usr/src/linux-headers-{self.release.removesuffix('-amd64')}-common"

    @contextmanager
    def workspace(self) -> Iterator[Workspace]:
        """An empty work folder, removed at the end."""
        parent = self.cache / "build-work" if self.launcher.isolated else self.folder / "build"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent, prefix="w-"))
        try:
            yield Workspace(folder, "/build" if self.launcher.isolated else f"/build/{folder.name}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def run(
        self,
        workspace: Workspace,
        argv: Sequence[str],
        *,
        timeout: float,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run one command in the root with the work folder as its working folder.

        ``timeout`` in seconds; a command that runs past it is killed with all its children and
        BuildRootError is raised. The environment is PATH, HOME, LC_ALL and what is given, nothing else.
        """
        variables = {"PATH": PATH, "HOME": workspace.inside, "LC_ALL": "C.UTF-8", **(environment or {})}
        command = ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), *argv]
        return _completed(self.launcher, self.folder, workspace, command, timeout)


def open_build_root(store: PackageStore, version: str, release: str) -> BuildRoot:
    """The build root for Debian's kernel ``release`` ("7.3.4+deb13-amd64", ``version`` is the package's).

    Fetches about 80 MB once and 15 MB more for each kernel. LabError when the packages cannot be had,
    BuildRootError when this machine offers no way to use another root.
    """
    toolchain = store.tree("toolchain", SUITES, TOOLCHAIN, exclude=UNUSED)

    def fill(folder: Path) -> None:
        _assemble(folder, [toolchain, _headers_tree(store, version, release)])

    name = f"{release}-{toolchain.name.rsplit('-', 1)[-1]}-{LAYOUT}"
    folder = build_folder(store.cache, store.cache / "build-roots" / name, fill)
    return BuildRoot(folder, release, choose_launcher(folder), store.cache)


def choose_launcher(folder: Path, launchers: Sequence[Launcher] = LAUNCHERS) -> Launcher:
    """The first launcher that runs the root's compiler; BuildRootError names why each one failed."""
    failures = []
    for launcher in launchers:
        if launcher.needs_root and os.geteuid() != 0:
            failures.append(f"{launcher.name}: not root")
            continue
        try:
            if not launcher.isolated:
                _make_devices(folder)
            with tempfile.TemporaryDirectory() as work:
                trial = _completed(
                    launcher,
                    folder,
                    Workspace(Path(work), "/build" if launcher.isolated else "/"),
                    ["x86_64-linux-gnu-gcc-14", "--version"],
                    PROBE_TIMEOUT,
                )
        except (OSError, BuildRootError) as error:
            failures.append(f"{launcher.name}: {error}")
            continue
        if trial.status == 0:
            return launcher
        reason = trial.stderr.decode("utf-8", "replace").strip().splitlines() or [f"status {trial.status}"]
        failures.append(f"{launcher.name}: {reason[-1][:200]}")
    raise BuildRootError(
        f"no way to enter the build root {folder} ({'; '.join(failures)}): "
        "allow unprivileged user namespaces, or run as root"
    )


def _completed(
    launcher: Launcher, root: Path, workspace: Workspace, argv: Sequence[str], timeout: float
) -> Completed:
    if launcher.unshare:
        command = [
            "unshare", *launcher.unshare, "sh", "-c", ENTER, "sh", str(root), str(workspace.folder), *argv
        ]  # fmt: skip
    else:
        inner = f'ulimit -f {FILE_LIMIT // 512} && cd "$1" && shift && exec "$@"'
        command = ["chroot", str(root), "/usr/bin/sh", "-c", inner, "sh", workspace.inside, *argv]
    environment = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"}
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        # unshare's child dies with it (--kill-child), and with that the whole process namespace.
        with LeashedProcess(command, stdout=stdout, stderr=stderr, env=environment) as process:
            status = process.wait(timeout)
        if status is None:
            raise BuildRootError(f"{argv[-1][:60]!r} in the build root ran past {timeout:.0f} s")
        return Completed(status, _tail(stdout), _tail(stderr))


def _tail(file: IO[bytes]) -> bytes:
    """The last OUTPUT_LIMIT bytes: a build's complaint is near its end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - OUTPUT_LIMIT))
    return file.read()


def _headers_tree(store: PackageStore, version: str, release: str) -> Path:
    """The unpacked headers, architecture part, common part and kbuild tools, of exactly one kernel."""

    def fill(folder: Path) -> None:
        for deb in _headers_debs(store, version, release):
            unpack(deb.path, folder, lambda name: not name.startswith("usr/share/"))
        if not (folder / "usr/src" / f"linux-headers-{release}" / "Makefile").is_file():
            raise BuildRootError(
                f"the header packages of {release} hold no Makefile: remove them from the cache"
            )

    return build_folder(store.cache, store.cache / "trees" / f"headers-{release}", fill)


def _headers_debs(store: PackageStore, version: str, release: str) -> list[Deb]:
    """Listed packages where the index has this version, else the pool, which keeps them for some time."""
    abi = release.removesuffix("-amd64")
    debs = []
    for name, architecture in (
        (f"linux-headers-{release}", "amd64"),
        (f"linux-headers-{abi}-common", "all"),
        (f"linux-kbuild-{abi}", "amd64"),
    ):
        listed = _listed(store, name, version)
        if listed is not None:
            debs += store.fetch([listed])
            continue
        try:
            debs.append(
                store.fetch_file(f"pool/main/l/linux/{name}_{version}_{architecture}.deb", sha256=None)
            )
        except NotOnMirrorError as error:
            raise BuildRootError(
                f"{name} {version} is neither in the index nor in the pool; choose a newer base kernel"
            ) from error
    return debs


def _listed(store: PackageStore, name: str, version: str) -> Package | None:
    for suite in SUITES:
        package = store.index(suite).get(name)
        if package is not None and Version(package.version) == Version(version):
            return package
    return None


def _assemble(folder: Path, trees: Sequence[Path]) -> None:
    """Put trees together by hard links, and add what maintainer scripts would have made."""
    for tree in trees:
        shutil.copytree(tree, folder, symlinks=True, dirs_exist_ok=True, copy_function=_link)
    for name in ("bin", "sbin", "lib", "lib64"):
        if not (folder / name).exists():
            (folder / name).symlink_to(f"usr/{name}")
    for name in ("dev", "proc", "tmp", "build", "usr/bin", "usr/local/bin"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in DEVICES:
        (folder / "dev" / name).touch()
    if not (folder / "usr/bin/awk").exists():
        (folder / "usr/bin/awk").symlink_to("mawk")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _make_devices(folder: Path) -> None:
    """Device nodes for a plain chroot, where nothing can be mounted."""
    for name, numbers in DEVICES.items():
        node = folder / "dev" / name
        if not node.is_char_device():
            node.unlink(missing_ok=True)
            os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(*numbers))
            node.chmod(0o666)
