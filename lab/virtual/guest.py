"""The guest's root image: Debian packages, pytest, an ssh server and our init, built without root.

Two archives make an initramfs, the kernel unpacks them one after the other: the *base* (everything that is
the same for all kernels; cached by a hash of its inputs) and a small one with a kernel's modules. An
initramfs with everything in it boots within a second of the fastest disk layout tried and needs no stage 1.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lab.cache import build_folder, locked, remove_unused, write_atomically
from lab.machine import LabError
from lab.packages.store import PackageStore
from lab.virtual.bytecode import PYTHON, compile_folders
from lab.virtual.cpio import CpioWriter
from lab.virtual.kernels import loader_command
from lab.workfolder import work_folder

SUITES = ("trixie",)
#: dash is the shell: busybox's would run its own applets in place of the programs of kmod and util-linux.
ROOTS = (
    "busybox-static", "dash", "python3.13", "python3.13-minimal", "libpython3.13-minimal",
    "libpython3.13-stdlib", "libc6", "kmod", "dropbear-bin", "util-linux",
)  # fmt: skip
#: Wanted by the packages above, not by what we do with them.
EXCLUDE = (
    "media-types", "netbase", "tzdata", "libdb5.3t64", "libreadline8t64", "readline-common",
    "debconf", "debianutils", "openssl-provider-legacy", "libsystemd0", "libudev1", "libpam0g",
    "libpam-modules", "libpam-runtime", "libaudit1", "libcrypt1-dev",
    "util-linux-extra", "login", "gcc-14-base", "libsqlite3-0",
)  # fmt: skip
#: The project's own pytest and what it needs, copied from where they are installed: all pure Python.
DISTRIBUTIONS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
#: pytest imports pygments when it starts; of its thousand files it needs these families' few.
PYGMENTS_KEPT = (
    "lexers/__init__.py", "lexers/_mapping.py", "lexers/python.py", "lexers/special.py", "lexers/diff.py",
    "styles/__init__.py", "styles/_mapping.py", "styles/default.py",
    "formatters/__init__.py", "formatters/_mapping.py", "formatters/terminal.py",
)  # fmt: skip
PYGMENTS_TRIMMED = ("lexers/", "styles/", "formatters/")
#: Dropped from the unpacked packages, relative to the root.
TRIMMED = (
    "usr/share", "usr/lib/python3.13/test", "usr/lib/python3.13/pydoc_data", "usr/lib/python3.13/_pyrepl",
    "usr/lib/python3.13/ensurepip", "usr/lib/python3.13/idlelib", "usr/lib/python3.13/turtledemo",
    "usr/lib/python3.13/config-*", "usr/lib/python3.13/sitecustomize.p*",
    "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/x86_64-linux-gnu/libmvec*",
    "usr/lib/x86_64-linux-gnu/engines-3", "usr/lib/x86_64-linux-gnu/ossl-modules",
    "usr/lib/x86_64-linux-gnu/libBroken*", "usr/lib/x86_64-linux-gnu/libthread_db*", "usr/lib/systemd",
    "etc/init.d",
    "packages.json",
)  # fmt: skip
FIRMWARE_FOLDERS = ("1502_00", "17f0_10", "17f0_11", "17f0_20")
#: The virtual firmware processor does not look at the content; 7.0 and later ask for npu_7.sbin first.
FIRMWARE_NAMES = ("npu.sbin", "npu_7.sbin")
USER, OUTSIDER, RENDER = 1000, 1001, 105
KEYGEN_TIMEOUT = 30.0
LISTING_TIMEOUT = 30.0
#: What our init writes to the kernel log first.
INIT_SPEAKS = b"xdnawatch-guest: init"
#: ... and when its ssh server can be reached.
NETWORK_UP = b"xdnawatch-guest: network"
#: ... and when it has loaded the driver, or could not.
DRIVER_TRIED = b"xdnawatch-guest: modprobe"
#: ``	libpam.so.0 => /lib/x86_64-linux-gnu/libpam.so.0 (0x00007f...)`` or ``=> not found``
RESOLVED = re.compile(r"=> (\S+)")
INIT = Path(__file__).with_name("init.sh")


@dataclass(frozen=True)
class GuestKeys:
    """The cache's own ssh keys: ours to log in with, and the guest's, pinned from the first connection."""

    identity: Path
    host_public: str  # "ssh-ed25519 AAAA..."


@dataclass(frozen=True)
class GuestImage:
    """The base archive and the keys that fit it. ``digest`` names it in boot facts."""

    base: Path
    digest: str
    keys: GuestKeys
    tree: Path  # the Debian packages it was made of, unpacked


def guest_image(store: PackageStore) -> GuestImage:
    """The base image, built when its inputs changed: packages, pytest's version, init, keys, the code that
    builds it."""
    keys = guest_keys(store.cache)
    tree = store.tree("guest", SUITES, ROOTS, exclude=EXCLUDE)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in DISTRIBUTIONS]
    inputs = hashlib.sha256()
    for part in (
        (tree / "packages.json").read_bytes(),
        json.dumps(versions).encode(),
        INIT.read_bytes(),
        *(Path(__file__).with_name(name).read_bytes() for name in ("guest.py", "bytecode.py")),
        keys.host_public.encode(),
        keys.identity.with_suffix(".pub").read_bytes(),
    ):
        inputs.update(hashlib.sha256(part).digest())
    digest = inputs.hexdigest()[:16]
    image = store.cache / "guest" / f"base-{digest}.cpio"
    if not image.is_file():
        with locked(store.cache, "guest-base"):
            if not image.is_file():
                _build(tree, keys, image)
                remove_unused(image.parent.glob("base-*"), but=image)
    os.utime(image)
    return GuestImage(image, digest, keys, tree)


def guest_keys(cache: Path) -> GuestKeys:
    """The key pairs of this cache, generated once."""

    def fill(folder: Path) -> None:
        for name in ("identity", "host"):
            subprocess.run(
                [
                    "ssh-keygen",
                    "-q",
                    "-t",
                    "ed25519",
                    "-N",
                    "",
                    "-C",
                    f"xdnawatch-{name}",
                    "-f",
                    str(folder / name),
                ],
                check=True,
                capture_output=True,
                timeout=KEYGEN_TIMEOUT,
            )

    try:
        folder = build_folder(cache, cache / "guest" / "keys", fill)
    except (FileNotFoundError, subprocess.SubprocessError) as error:
        raise LabError(f"ssh-keygen failed ({error}): install openssh-client") from error
    kind, key, *_ = (folder / "host.pub").read_text().split()
    return GuestKeys(folder / "identity", f"{kind} {key}")


def _build(tree: Path, keys: GuestKeys, image: Path) -> None:
    with work_folder() as work:
        root = work / "root"
        shutil.copytree(tree, root, symlinks=True)
        _trim(root)
        _add_pytest(root)
        python = (root / "usr/lib" / PYTHON, root / "usr/lib/python3/dist-packages")
        compile_folders(root, python, root)  # the first pytest takes 5 s instead of 11
        _add_system(root, tree, keys)
        packed = io.BytesIO()
        _pack(root, packed)
        # Not compressed: unpacking zstd costs the emulated CPU 1.5 s of each boot, 40 MB of disk cost
        # nothing.
        write_atomically(image, packed.getvalue())


def _trim(root: Path) -> None:
    for pattern in TRIMMED:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for folder in ("usr/bin", "usr/sbin"):
        for program in sorted((root / folder).iterdir()):
            if not program.is_symlink() and _lacks_library(root, f"{folder}/{program.name}"):
                program.unlink()  # busybox's applet takes its place: su without PAM, for one


def _lacks_library(root: Path, program: str) -> bool:
    """Whether a program needs a library that EXCLUDE kept out, as the tree's own loader resolves it.

    The loader also looks into this machine's folders, so a library counts only when it lies in the tree.
    """
    listing = loader_command(root, program)
    listing.insert(1, "--list")
    result = subprocess.run(listing, capture_output=True, timeout=LISTING_TIMEOUT, check=False)
    places = RESOLVED.findall(result.stdout.decode("utf-8", "replace"))
    return any(not place.startswith(f"{root}/") for place in places)


def _add_pytest(root: Path) -> None:
    target = root / "usr/lib/python3/dist-packages"
    for name in DISTRIBUTIONS:
        distribution = importlib.metadata.distribution(name)
        files = distribution.files
        if files is None:
            raise LabError(f"the installed {name} does not list its files: reinstall it with pip")
        for file in files:
            if ".." in file.parts or file.suffix == ".pyc" or not _pygments_kept(file.as_posix()):
                continue
            place = target / file.as_posix()
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(str(distribution.locate_file(file))), place)


def _pygments_kept(name: str) -> bool:
    if not name.startswith("pygments/"):
        return True
    inner = name.removeprefix("pygments/")
    return not inner.startswith(PYGMENTS_TRIMMED) or inner in PYGMENTS_KEPT


def _add_system(root: Path, tree: Path, keys: GuestKeys) -> None:
    for name in ("bin", "sbin", "lib", "lib64"):
        link = root / name
        if not link.is_symlink():
            link.symlink_to(f"usr/{name}")
    for name, program in (("sh", "dash"), ("python3", PYTHON), ("python", PYTHON)):
        link = root / "usr/bin" / name
        if not os.path.lexists(link):
            link.symlink_to(program)
    busybox = root / "usr/bin/busybox"
    listing = subprocess.run([str(busybox), "--list"], capture_output=True, text=True, timeout=30, check=True)
    (root / "usr/sbin").mkdir(exist_ok=True)
    for applet in listing.stdout.split():
        if not any(os.path.lexists(root / place / applet) for place in ("usr/bin", "usr/sbin")):
            (root / "usr/bin" / applet).symlink_to("busybox")
    for folder in ("proc", "sys", "dev", "tmp", "run", "mnt", "var/log", "etc/dropbear", "root/.ssh", "home"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for device in FIRMWARE_FOLDERS:
        for firmware in FIRMWARE_NAMES:
            _write(root, f"usr/lib/firmware/amdnpu/{device}/{firmware}", "virtual firmware".ljust(4096, "\0"))
    people = (("root", 0, "/root"), ("user", USER, "/home/user"), ("outsider", OUTSIDER, "/home/outsider"))
    _write(root, "etc/passwd", "".join(f"{n}:x:{i}:{i}::{h}:/bin/sh\n" for n, i, h in people))
    groups = "".join(f"{n}:x:{i}:\n" for n, i, _ in people)
    _write(root, "etc/group", groups + f"render:x:{RENDER}:user\nvideo:x:44:user\nnogroup:x:65534:\n")
    _write(root, "etc/shadow", "".join(f"{n}:*:19000:0:99999:7:::\n" for n, _, _ in people), 0o600)
    _write(root, "etc/shells", "/bin/sh\n")
    _write(root, "etc/hosts", "127.0.0.1 localhost xdnawatch-guest\n")
    _write(
        root, "etc/os-release", 'ID=xdnawatch-guest\nNAME="xdnawatch guest"\nPRETTY_NAME="xdnawatch guest"\n'
    )
    _write(root, "etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
    public = keys.identity.with_suffix(".pub").read_text()
    for _name, _number, home in people:
        place = home.lstrip("/")
        _write(root, f"{place}/.ssh/authorized_keys", public, 0o600)
        (root / place).chmod(0o700)
        (root / place / ".ssh").chmod(0o700)
    converter = next(
        p for p in ("usr/bin/dropbearconvert", "usr/lib/dropbear/dropbearconvert") if (tree / p).exists()
    )
    host_key = root / "etc/dropbear/dropbear_ed25519_host_key"
    result = subprocess.run(
        [
            *loader_command(tree, converter),
            "openssh",
            "dropbear",
            str(keys.identity.with_name("host")),
            str(host_key),
        ],
        capture_output=True,
        timeout=KEYGEN_TIMEOUT,
        check=False,
    )
    if result.returncode != 0:
        raise LabError(f"dropbearconvert failed: {result.stderr.decode('utf-8', 'replace').strip()[:300]}")
    host_key.chmod(0o600)
    _write(root, "init", INIT.read_text(), 0o755)


def _write(root: Path, name: str, text: str, mode: int = 0o644) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _owner(name: str) -> tuple[int, int]:
    for folder, number in (("home/user", USER), ("home/outsider", OUTSIDER)):
        if name == folder or name.startswith(folder + "/"):
            return number, number
    return 0, 0


def _pack(root: Path, out: IO[bytes]) -> None:
    writer = CpioWriter(out)
    writer.add_tree(root, _owner)
    writer.add("dev/console", 0o020600, device=(5, 1))
    writer.add("dev/null", 0o020666, device=(1, 3))
    writer.finish()


def write_initramfs(base: Path, modules: bytes, target: Path) -> None:
    """Both archives one after the other; the kernel skips zero bytes between them (init/initramfs.c)."""
    with target.open("wb") as out, base.open("rb") as source:
        shutil.copyfileobj(source, out, 1 << 20)
        out.write(bytes(-out.tell() % 4))
        out.write(modules)
