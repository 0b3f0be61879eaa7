"""The second, small archive of the initramfs: the modules that one kernel needs in the guest."""

from __future__ import annotations

import io
import lzma
import shutil
from pathlib import Path

import zstandard

from lab.machine import Candidate, LabError
from lab.packages.store import PackageStore
from lab.virtual.cpio import CpioWriter
from lab.virtual.kernels import run_depmod
from lab.workfolder import work_folder

#: What the guest loads by name: its network card and the driver under test.
MODULES = ("virtio_net", "amdxdna")


def module_closure(modules: Path, names: tuple[str, ...]) -> list[str]:
    """The modules ``names`` and all they need, as paths of modules.dep in loading order; built-in ones are
    absent.
    """
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {module_name(path): path for path in needs}
    order: list[str] = []
    for name in names:
        if name in by_name:
            chain = (*reversed(needs[by_name[name]]), by_name[name])
            order += [module for module in chain if module not in order]
    return order


def module_name(path: str) -> str:
    """``kernel/drivers/.../gpu-sched.ko.xz`` -> ``gpu_sched``, as the kernel names it."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def modules_archive(store: PackageStore, candidate: Candidate, further: tuple[str, ...] = ()) -> bytes:
    """A compressed archive with the modules that the candidate needs, and modules.dep for them.

    ``further``: modules besides the network card's and the driver. ``candidate.module`` takes the place of
    the stock amdxdna. A kernel that has no such module boots without it, and the environment says so;
    LabError when a module of one's own was to replace it.
    """
    with work_folder() as root:
        place = root / "usr/lib/modules" / candidate.release
        paths = module_closure(candidate.modules, (*MODULES, *further))
        place.mkdir(parents=True)
        if candidate.module is not None and not any(module_name(path) == "amdxdna" for path in paths):
            raise LabError(f"kernel {candidate.release} has no amdxdna module that another could replace")
        for path in paths:
            target = place / path.removesuffix(".xz").removesuffix(".zst")
            target.parent.mkdir(parents=True, exist_ok=True)
            if candidate.module is not None and module_name(path) == "amdxdna":
                target.write_bytes(candidate.module.read_bytes())
            else:
                target.write_bytes(_uncompressed(candidate.modules / path))
        for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
            if (candidate.modules / name).is_file():
                shutil.copyfile(candidate.modules / name, place / name)
        run_depmod(store, root, candidate.release)
        (root / "lib").unlink()
        packed = io.BytesIO()
        writer = CpioWriter(packed)
        writer.add_tree(root)
        writer.finish()
    return zstandard.ZstdCompressor(level=3).compress(packed.getvalue())


def _uncompressed(module: Path) -> bytes:
    content = module.read_bytes()
    if module.suffix == ".xz":
        return lzma.decompress(content)
    if module.suffix == ".zst":
        return zstandard.ZstdDecompressor().decompressobj().decompress(content)
    return content
