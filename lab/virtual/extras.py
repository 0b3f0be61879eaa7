"""Optional layers of the guest: further archives that the kernel unpacks over the base image.

A layer is a named set of Debian packages without what the base already has. It is a plain cpio archive like
the base and the modules (see lab.virtual.guest), built without root and cached by a hash of its content's
versions, so a boot without layers costs nothing and one with them costs their unpacking.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.cache import locked, write_atomically
from lab.packages.store import PackageStore
from lab.virtual import guest, test_design
from lab.virtual.cpio import CpioWriter
from lab.virtual.layers import Layer

ALIGNMENT = 4  # bytes: a cpio archive begins on a multiple of it (init/initramfs.c)


@dataclass(frozen=True)
class LayerImage:
    """A layer's archive on disk. ``versions`` maps package names to versions, for boot facts."""

    name: str
    archive: Path
    digest: str
    versions: dict[str, str]

    @property
    def fact(self) -> str:
        """One line that names it: ``xrt 1:2.25.0-4~bpo13+1 (0123456789abcdef)`` by its first package."""
        first = next(iter(self.versions.values()), "empty")
        return f"{self.name} {first} ({self.digest})"


def layer_image(store: PackageStore, wanted: Layer) -> LayerImage:
    """The archive of a layer, built when its packages or its recipe changed."""
    base = store.tree("guest", guest.SUITES, guest.ROOTS, exclude=guest.EXCLUDE)
    present = {str(package["name"]) for package in json.loads((base / "packages.json").read_text())}
    tree = store.tree(
        f"layer-{wanted.name}", wanted.suites, wanted.roots, exclude=sorted({*present, *wanted.exclude})
    )
    listing = (tree / "packages.json").read_bytes()
    inputs = hashlib.sha256()
    sources = (Path(__file__), Path(test_design.__file__))
    for part in (listing, json.dumps(asdict(wanted)).encode(), *(source.read_bytes() for source in sources)):
        inputs.update(hashlib.sha256(part).digest())
    digest = inputs.hexdigest()[:16]
    archive = store.cache / "guest" / f"{wanted.name}-{digest}.cpio"
    if not archive.is_file():
        with locked(store.cache, f"guest-{wanted.name}"):
            if not archive.is_file():
                write_atomically(archive, _packed(tree, base, wanted))
    versions = {str(package["name"]): str(package["version"]) for package in json.loads(listing)}
    return LayerImage(wanted.name, archive, digest, versions)


def _packed(tree: Path, base: Path, wanted: Layer) -> bytes:
    with tempfile.TemporaryDirectory(prefix="xdnw-layer-") as work:
        root = Path(work) / "root"
        shutil.copytree(tree, root, symlinks=True)
        for pattern in wanted.trimmed:
            for path in root.glob(pattern):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if wanted.test_kernels:
            place = root / test_design.PLACE
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(test_design.build((tree, base)))
        packed = io.BytesIO()
        writer = CpioWriter(packed)
        writer.add_tree(root)
        writer.finish()
    return packed.getvalue()


def append_archives(initramfs: Path, archives: Sequence[Path]) -> None:
    """Add archives to an initramfs, in their order; a later file of the same name wins."""
    with initramfs.open("ab") as out:
        for archive in archives:
            out.write(bytes(-out.tell() % ALIGNMENT))
            with archive.open("rb") as source:
                shutil.copyfileobj(source, out, 1 << 20)
