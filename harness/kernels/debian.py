"""A stock Debian kernel as a candidate to judge: version -> files, ready to boot."""

from __future__ import annotations

from lab.machine import Candidate
from lab.packages.store import PackageStore
from lab.virtual.kernels import kernel

EXPERIMENTAL_MARK = "~rc"  # Debian's way to write a release candidate: "7.3~rc7"


def stock_kernel(store: PackageStore, version: str, *, experimental: bool = False) -> Candidate:
    """The newest Debian build of ``version`` ("7.3.4", "7.3-rc7"), downloaded where it is missing.

    Release candidates are looked up in Debian's experimental suite, too, everything else only when
    ``experimental`` says so.
    Raises UnknownKernelError (a LabError) naming the versions that exist.
    """
    debian = version.replace("-rc", EXPERIMENTAL_MARK)
    return kernel(store, debian, experimental=experimental or EXPERIMENTAL_MARK in debian)
