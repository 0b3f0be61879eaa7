"""What each version of a line of kernels has that the version before it has not. Pure.

A line is mainline, one stable branch, or one suite of a distribution. Whether a kernel has a change is
decided by `tracker.where.carried` alone, the same for all three.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from tracker.calendar import Version
from tracker.where import Reach, carried


@dataclass(frozen=True)
class Known:
    """One version of a line. ``kind``: mainline, stable or distribution; ``tag``: what it is made from."""

    kind: str
    line: str
    version: str
    tag: str
    upstream: Version
    date: datetime | None
    sample: bool = False


@dataclass(frozen=True)
class Contents:
    """A kernel against its predecessor. ``added`` and ``removed`` are keys of changes.

    ``carried``: how many changes it has; ``unknown``: of how many that cannot be said.
    """

    kernel: Known
    carried: int
    unknown: int
    added: tuple[str, ...]
    removed: tuple[str, ...]


def contents(kernels: Iterable[Known], reaches: Mapping[str, Reach]) -> list[Contents]:
    """Judge the kernels of one line, given oldest first. Those from before the driver are left out.

    The first of a line has no predecessor, so nothing is new in it. A change is new in a kernel of whose
    predecessor it is not known that it has the change.
    """
    found: list[Contents] = []
    earliest = min((reach.first for reach in reaches.values() if reach.first is not None), default=None)
    before: dict[str, str] | None = None
    for kernel in kernels:
        if earliest is not None and kernel.upstream < earliest and not _updated(kernel, reaches):
            before = dict.fromkeys(reaches, "no")
            continue
        now = {key: carried(kernel.upstream, reach)[0] for key, reach in reaches.items()}
        count = list(now.values()).count("yes")
        if count or found:
            old = now if before is None else before
            found.append(
                Contents(
                    kernel,
                    count,
                    list(now.values()).count("unknown"),
                    tuple(key for key, has in now.items() if has == "yes" and old[key] != "yes"),
                    tuple(key for key, has in now.items() if has == "no" and old[key] == "yes"),
                )
            )
        before = now
    return found


def _updated(kernel: Known, reaches: Mapping[str, Reach]) -> bool:
    """Whether an update of the kernel's series brought any change."""
    return any(kernel.upstream.window in reach.updates for reach in reaches.values())
