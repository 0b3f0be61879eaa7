"""What the doctor's points are made of: states, checks, and the machine's facts by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from harness.environment import version_of
from harness.kernel_log import LogFinding, scan
from harness.remedies import family_of
from harness.signatures import known_signatures

FAILED_TO_COME_UP = frozenset({"probe-fail", "load-fail"})
ONE_PROBE = 10.0  # seconds between the first and the last line of one failed probe, at most


class State(StrEnum):
    """What a point came to."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """One point. ``cause`` names what is wrong, ``next_step`` what to do; empty when nothing is."""

    id: str
    state: State
    said: str
    cause: str = ""
    next_step: str = ""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


class Facts:
    """What the machine told, by part; a part that is missing is empty."""

    def __init__(self, report: Mapping[str, Any], probed: Mapping[str, Any]) -> None:
        self.report = report
        self.probed = probed
        self.npus = list_of(report, "npus")
        self.npu: Mapping[str, Any] = self.npus[0] if self.npus else {}
        self.nodes = list_of(report, "nodes")
        self.module = part_of(report, "module")
        self.user = part_of(report, "user")
        self.kernel = part_of(report, "kernel")
        self.release = str(self.kernel.get("release") or "")
        self.version = version_of(self.release)
        self.loaded = bool(self.module.get("loaded"))
        self.words = str(self.kernel.get("command_line") or "").split()  # of the kernel command line
        self.family = family_of(part_of(report, "machine"))

    def of_report(self, name: str) -> Mapping[str, Any]:
        """A part of harness.examine's answer."""
        return part_of(self.report, name)

    def of_probe(self, name: str) -> Mapping[str, Any]:
        """A part of harness.doctor_probe's answer."""
        return part_of(self.probed, name)

    @cached_property
    def log(self) -> list[str]:
        """Kernel messages about the NPU, oldest first; empty where the log cannot be read."""
        lines = self.of_probe("log").get("lines")
        return [str(line) for line in lines] if isinstance(lines, list) else []

    @cached_property
    def failure(self) -> LogFinding | None:
        """Why the driver did not come up the last time, None when the log does not say.

        Of the lines of the last failed probe the first is the cause, unless a later one names an
        environment: the driver reports consequences (a power-off that fails) as errors, too.
        """
        lines = (line.encode() for line in self.log)
        found = scan(lines, "kernel log", known_signatures()).findings
        came_up = max((at for at, one in enumerate(found) if one.signature == "driver-ready"), default=-1)
        failed = [one for one in found[came_up + 1 :] if one.severity in FAILED_TO_COME_UP]
        if not failed:
            return None
        last = failed[-1].time or 0.0
        recent = [one for one in failed if last - (one.time or 0.0) <= ONE_PROBE]
        return next((one for one in recent if one.environment), recent[0])


def ok(name: str, said: str) -> Check:
    """Nothing to do."""
    return Check(name, State.OK, said)


def warn(name: str, cause: str, next_step: str) -> Check:
    """Works, but a reader of results or a user of XRT must know."""
    return Check(name, State.WARN, cause, cause, next_step)


def bad(name: str, cause: str, next_step: str) -> Check:
    """The NPU cannot be used until this is mended."""
    return Check(name, State.BAD, cause, cause, next_step)


def skipped(name: str, why: str) -> Check:
    """An earlier point is bad; this one cannot be judged."""
    return Check(name, State.SKIPPED, why)


def part_of(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = facts.get(name)
    return part if isinstance(part, Mapping) else {}


def list_of(facts: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    part = facts.get(name)
    return [item for item in part if isinstance(item, Mapping)] if isinstance(part, list) else []
