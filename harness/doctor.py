"""A checklist for a machine with an NPU and a question: each point ok, warn or bad, with cause and next step.

The facts come from the machine in two round trips (``look``: harness.examine and harness.doctor_probe);
judging them (``diagnose``) is pure. A point that cannot be judged because an earlier one is bad is
``skipped``: one cause is named once. The rules come from reports of broken NPUs (facts: amdxdna, sections 0
and 5) and from drivers/accel/amdxdna of 6.14 to 7.3.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness import doctor_driver, doctor_use, environment
from harness.doctor_facts import Check, Facts, State
from harness.environment import REPORT_LIMIT, ExamineError
from harness.untrusted import clean_values
from lab.machine import Shell

# In the order in which a person would look: what is bad makes those behind it doubtful.
CHECKS: tuple[Callable[[Facts], Check], ...] = (
    doctor_driver.kernel, doctor_driver.device, doctor_driver.driver, doctor_driver.loading,
    doctor_driver.secure_boot, doctor_driver.origin, doctor_driver.iommu, doctor_driver.firmware,
    doctor_driver.node, doctor_use.permission, doctor_use.trial, doctor_use.memlock, doctor_use.xrt,
    doctor_use.power, doctor_use.log, doctor_use.tools,
)  # fmt: skip
SCHEMA = 1  # of Checkup.as_json; rises when a field changes its meaning


@dataclass(frozen=True)
class Checkup:
    """The whole list, in the order in which a person would look."""

    checks: tuple[Check, ...]
    facts: Mapping[str, Any]  # as the machine told them, cleaned

    @property
    def cause(self) -> Check | None:
        """The first thing that is bad: mend it before looking at the rest."""
        return next((check for check in self.checks if check.state is State.BAD), None)

    @property
    def exit_code(self) -> int:
        """0 when nothing is bad, 3 when the environment is (docs/architecture.md, promises)."""
        return 0 if self.cause is None else 3

    def as_json(self) -> dict[str, Any]:
        """For programs: ``checks`` in order, ``cause`` the id of the first bad one or null."""
        return {
            "schema": SCHEMA,
            "cause": self.cause.id if self.cause else None,
            "checks": [check.as_json() for check in self.checks],
            "facts": dict(self.facts),
        }


def examine(shell: Shell, *, timeout: float) -> Checkup:
    """Look at the machine behind ``shell`` and go through the list; ``timeout`` holds for each look.

    A machine without a usable Python is a finding. Raises ShellLostError or ShellTimeoutError when the
    machine is gone.
    """
    try:
        report = environment.collect(shell, timeout=timeout)
    except ExamineError as error:
        problem = error.problem
        check = Check("python", State.BAD, problem.cause, problem.cause, problem.next_step)
        return Checkup((check,), {})
    return diagnose(report, probe(shell, timeout=timeout))


def probe(shell: Shell, *, timeout: float) -> dict[str, Any]:
    """What harness.doctor_probe says on the machine; an answer that is none is ``{"errors": ...}``."""
    program = importlib.resources.files("harness").joinpath("doctor_probe.py").read_bytes()
    done = shell.run(["python3", "-I", "-"], timeout=timeout, stdin=program)
    try:
        found = json.loads(done.stdout[:REPORT_LIMIT])
    except ValueError:
        found = None
    if done.status != 0 or not isinstance(found, dict):
        return {"errors": {"probe": f"status {done.status}"}}
    return clean_values(found, REPORT_LIMIT)


def diagnose(report: Mapping[str, Any], probed: Mapping[str, Any]) -> Checkup:
    """Go through the list: ``report`` as harness.examine, ``probed`` as harness.doctor_probe told it."""
    facts = Facts(report, probed)
    return Checkup(tuple(check(facts) for check in CHECKS), {**report, "probe": dict(probed)})
