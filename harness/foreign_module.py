"""Makes somebody else's amdxdna module of the kernel's own. This file runs ON a guest, as root.

    foreign_module.py OLD NEW

The signature is taken off and OLD, which must stand in the module once, becomes NEW, of the same length: the
kernel then takes it for a module built elsewhere (intree=Y gone: "out-of-tree") or for another kernel
(vermagic changed: "version magic"). It lies where DKMS puts modules, before the kernel's own. Standard
library only.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

SIGNED = b"~Module signature appended~\n"  # include/linux/module_signature.h
DESCRIPTION = 12  # bytes before that mark; the last four are the signature's size, big endian


def foreign(module: bytes, old: bytes, new: bytes) -> bytes:
    """The module as another's. ValueError when OLD is not there exactly once, or NEW is longer or shorter."""
    if module.endswith(SIGNED):
        end = len(module) - len(SIGNED)
        size = int.from_bytes(module[end - 4 : end], "big")
        module = module[: end - DESCRIPTION - size]
    if module.count(old) != 1 or len(old) != len(new):
        raise ValueError(
            f"{old!r} stands {module.count(old)} times in the module; wanted once, of one length"
        )
    return module.replace(old, new)


def main(old: str, new: str) -> None:
    """Write it for the kernel that runs."""
    folder = Path("/lib/modules", platform.release())
    own = next(folder.joinpath("kernel").rglob("amdxdna.ko"))
    place = folder / "updates/dkms/amdxdna.ko"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(foreign(own.read_bytes(), old.encode(), new.encode()))


if __name__ == "__main__":
    main(*sys.argv[1:3])
