"""What surrounds the kernel, as frozen records: CVE records, firmware, user space, the twin.

They are what the derived half of ``db.around_tables`` holds; the rules are the tracker's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class CheckRecord:
    """What a CVE record says of one line of kernels, what its commits say, and whether they agree."""

    place: str
    says: str
    found: str
    verdict: str
    why: str


@dataclass(frozen=True)
class CveRecord:
    """A CVE record of the driver; ``change`` is the fix, None where no commit of it is known."""

    name: str
    state: str
    title: str
    published: datetime | None
    severity: str | None
    change: int | None
    rule: str | None
    score: float | None
    sample: bool
    checks: tuple[CheckRecord, ...] = ()

    @property
    def verdict(self) -> str:
        """differ when one check differs, else agree when one agrees, else unknown."""
        found = {check.verdict for check in self.checks}
        return next((word for word in ("differ", "agree") if word in found), "unknown")


@dataclass(frozen=True)
class FirmwareRecord:
    """A firmware name: the kernels that ask for it and the firmware release that first had it."""

    path: str
    device: str | None
    generations: tuple[str, ...]
    first_kernel: str | None
    last_kernel: str | None
    version: str | None
    since: str | None
    since_date: datetime | None
    verdict: str
    why: str
    sample: bool


@dataclass(frozen=True)
class FirmwareStepRecord:
    """One step of a name in a firmware tree: added, changed or removed."""

    path: str
    what: str
    version: str | None
    tag: str | None
    date: datetime
    sample: bool


@dataclass(frozen=True)
class TwinRecord:
    """A commit of an out-of-tree driver, and the change it is upstream (None: nothing).

    ``first``: "upstream" or "twin", which had it earlier, by ``days``.
    """

    tree: str
    sha: str
    title: str
    author: str
    date: datetime
    status: str
    change: int | None
    rule: str
    score: float
    evidence: str
    first: str | None
    days: float | None
    sample: bool


@dataclass(frozen=True)
class UserspaceRecord:
    """A release of user space. ``lacks``: (kernel, names that it does not answer), for kernels with a fit."""

    tree: str
    name: str
    kind: str  # tag, branch
    commit: str
    date: datetime | None
    version: str | None
    driver_version: str | None
    pins: tuple[str, ...]  # releases of what it pins
    lacks: tuple[tuple[str, tuple[str, ...]], ...]
    sample: bool


@dataclass(frozen=True)
class Around:
    """All of them."""

    cves: tuple[CveRecord, ...] = ()  # the latest published first
    firmware: tuple[FirmwareRecord, ...] = ()
    steps: tuple[FirmwareStepRecord, ...] = ()  # the latest first
    twins: tuple[TwinRecord, ...] = ()  # the latest first
    userspace: tuple[UserspaceRecord, ...] = ()  # the latest first
