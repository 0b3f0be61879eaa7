"""What one inference test came to: outcome, reason, measured metrics, facts. Shapes only, no rules.

``Report.values`` is what a result row keeps: each metric under its name as db.metrics has it, each fact under
its name as plain JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from db.metrics import Metric
from harness.suite.contract import ENVIRONMENT_PREFIX

Outcome = Literal["passed", "failed", "skipped", "error"]
METRICS_LIMIT = 64  # metrics of one test; a program that prints more has gone mad


@dataclass(frozen=True)
class Missing:
    """What stands in the way of a test: the exact piece, and how to get it."""

    piece: str
    next_step: str

    @property
    def sentence(self) -> str:
        """Both in one."""
        return f"{self.piece}; {self.next_step}"

    @property
    def reason(self) -> str:
        """The reason of a skip; its prefix says that the machine lacks something, not the kernel."""
        return ENVIRONMENT_PREFIX + self.sentence


@dataclass(frozen=True)
class Installed:
    """A program or library that is there. ``path`` is on the machine; ``facts`` are worth recording."""

    name: str
    version: str  # "unknown" when it does not say
    path: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The outcome of one test. ``message`` says why it failed or was skipped."""

    outcome: Outcome
    message: str = ""
    metrics: tuple[Metric, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    expectations: tuple[Mapping[str, Any], ...] = ()  # rows of the release table (harness.suite.releases)

    @property
    def values(self) -> dict[str, Any]:
        """Facts and metrics by name, as a result row keeps them."""
        return {**self.facts, **{m.name: m.as_json() for m in self.metrics[:METRICS_LIMIT]}}


def passed(metrics: Sequence[Metric] = (), **facts: Any) -> Report:
    """It did what was expected."""
    return Report("passed", "", tuple(metrics), facts)


def failed(message: str, metrics: Sequence[Metric] = (), **facts: Any) -> Report:
    """It did something else than expected."""
    return Report("failed", message, tuple(metrics), facts)


def skipped(missing: Missing, **facts: Any) -> Report:
    """It could not run for lack of ``missing``."""
    return Report("skipped", missing.reason, (), facts)


def unreadable(message: str, **facts: Any) -> Report:
    """It ran, but what it said cannot be judged."""
    return Report("error", message, (), facts)
