"""A kernel as the user names it: a Debian version, or the path of one of their own."""

from __future__ import annotations

from harness.kernels.debian import stock_kernel
from lab.machine import Candidate
from lab.packages.store import PackageStore
from lab.virtual.kernel_folder import folder_kernel, is_path


def named_kernel(store: PackageStore, words: str) -> Candidate:
    """``7.3.4``, ``7.3-rc7`` -> Debian's; ``./linux``, ``/tmp/k/bzImage`` -> what lies there.

    Raises LabError whose text says what there is instead; see stock_kernel and folder_kernel.
    """
    return folder_kernel(store, words) if is_path(words) else stock_kernel(store, words)
