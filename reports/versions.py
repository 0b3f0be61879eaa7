"""Order of kernel versions and tags, and which kernel carries what landed under which tag.

Covers "v7.1-rc3" (git tags), "7.3~rc7" (Debian), "7.1.13" (stable) and "7.3.4+deb13-amd64" (uname -r).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

# "v7.1-rc3", "7.3~rc7-amd64", "7.1.13+deb13-amd64"
_VERSION = re.compile(
    r"^v?(?P<major>\d{1,4})\.(?P<minor>\d{1,4})(?:\.(?P<patch>\d{1,5}))?(?:[-~]rc(?P<rc>\d{1,3}))?"
)
_RELEASED = 10_000  # sorts a release after every one of its candidates


class KernelVersion(NamedTuple):
    """(major, minor, rc, patch), where a release has an ``rc`` above every candidate's."""

    major: int
    minor: int
    rc: int
    patch: int

    @property
    def window(self) -> str:
        """The release it belongs to: "7.1" for 7.1-rc3 and for 7.1.13."""
        return f"{self.major}.{self.minor}"


LOWEST = KernelVersion(0, 0, 0, 0)


@lru_cache(maxsize=8192)
def kernel_version(text: str) -> KernelVersion | None:
    """Read a version or tag; None when it does not start like one."""
    found = _VERSION.match(text.strip())
    if found is None:
        return None
    rc = int(found["rc"]) if found["rc"] is not None else _RELEASED
    return KernelVersion(int(found["major"]), int(found["minor"]), rc, int(found["patch"] or 0))


def sort_key(text: str) -> tuple[KernelVersion, str]:
    """A total order for display; what is no version sorts first."""
    return (kernel_version(text) or LOWEST, text)


def carries(kernel: str, tags: Iterable[str]) -> bool:
    """Whether a stock kernel contains a commit whose first tags are ``tags`` (one a tree).

    A mainline tag is contained in every later version. A stable tag ("v7.1.9") only in later versions of
    the same series: 7.2 does not contain what was backported to 7.1.9 because of that tag.
    """
    version = kernel_version(kernel)
    if version is None:
        return False
    for tag in tags:
        landed = kernel_version(tag)
        if landed is None:
            continue
        stable_only = landed.patch > 0
        if stable_only and landed.window != version.window:
            continue
        if landed <= version:
            return True
    return False
