"""The tracker's further answers as frozen records: stable branches, carriers, kernels, ABI, forecasts.

They are what ``db.answer_tables`` holds, no more: the rules that made them are the tracker's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from reports.versions import kernel_version


@dataclass(frozen=True)
class BranchRecord:
    """A followed stable branch. ``ended``: no update for long, none is expected."""

    name: str
    base: str
    newest: str | None
    newest_date: datetime | None
    ended: bool
    sample: bool


@dataclass(frozen=True)
class BackportRecord:
    """One change of mainline in one stable branch; ``inherited``: the branch began with it."""

    change: int
    branch: str
    state: str
    version: str | None
    rule: str
    score: float
    evidence: tuple[str, ...]
    inherited: bool


@dataclass(frozen=True)
class BugRecord:
    """A bug that only a backport has; ``fix`` is the change that mends it."""

    branch: str
    fix: int
    cause: str
    since: str | None
    fixed: str | None


@dataclass(frozen=True)
class CarrierRecord:
    """Whether one line of kernels has a change: yes, no, queued, forecast or unknown."""

    kind: str
    name: str
    carries: str
    since: str | None
    date: datetime | None
    why: str


@dataclass(frozen=True)
class KnownKernelRecord:
    """A version of a line. ``added`` and ``removed`` are changes, against the version before it."""

    kind: str
    line: str
    version: str
    upstream: str
    date: datetime | None
    carried: int
    unknown: int
    sample: bool
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()


@dataclass(frozen=True)
class TouchedRecord:
    """What a change touches. ``verdict``: none, compatible, check or breaking, of the user interface."""

    source: str
    verdict: str
    uapi: tuple[Mapping[str, Any], ...]
    named: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Milestone:
    """A coming tag: days as ISO dates; ``probability`` that it is made in the range."""

    name: str
    earliest: str
    likely: str
    latest: str
    probability: float

    @classmethod
    def read(cls, stored: Any) -> Milestone | None:
        """From JSON; None for what is none."""
        if not isinstance(stored, Mapping):
            return None
        try:
            first, likely, last = (
                date.fromisoformat(str(stored[name])[:10]).isoformat()
                for name in ("earliest", "likely", "latest")
            )
            name = str(stored["name"])
            if kernel_version(name) is None:
                return None
            return cls(name, first, likely, last, float(stored["probability"]))
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class ComingRecord:
    """When a change is expected: its first tag, its release."""

    first: Milestone | None
    release: Milestone | None


@dataclass(frozen=True)
class DatesRecord:
    """The forecast of the coming tags, as of ``today``. ``stale``: tags since ``newest`` are not known."""

    today: str
    newest: str
    newest_days: tuple[str, ...]
    stale: bool
    rc8: float
    next_is_final: float
    following: tuple[Milestone, ...]

    @property
    def window(self) -> str | None:
        """The release that is being made."""
        return next((s.name.removeprefix("v") for s in self.following if "-rc" not in s.name), None)


@dataclass(frozen=True)
class Answers:
    """All of them."""

    branches: tuple[BranchRecord, ...] = ()  # the newest base first
    backports: tuple[BackportRecord, ...] = ()
    bugs: tuple[BugRecord, ...] = ()
    carriers: Mapping[int, tuple[CarrierRecord, ...]] = field(default_factory=dict)
    kernels: tuple[KnownKernelRecord, ...] = ()  # by line, oldest first
    touched: Mapping[int, TouchedRecord] = field(default_factory=dict)
    coming: Mapping[int, ComingRecord] = field(default_factory=dict)
    dates: DatesRecord | None = None
    backtest: Mapping[str, Any] | None = None
    backtest_at: datetime | None = None
