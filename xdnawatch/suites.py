"""The suites that a night may run, each with the machines and the patience it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.inference import InferenceSuite
from harness.inference.bench import SUITE as INFERENCE
from harness.runner import RunOptions
from harness.suite_stream import Suite, ioctl_suite
from lab.inventory import resolve
from lab.machine import Machine
from lab.settings import MachineSettings, known_machines
from xdnawatch.cli.context import AppContext
from xdnawatch.cli.lab import open_store

LAYER = "xrt"  # what a virtual machine's guest gets for the inference suite: Debian's XRT
# A model that is compiled anew or benchmarked takes up to an hour; each program has its own time besides.
INFERENCE_OPTIONS = RunOptions(suite=4 * 3600.0)


@dataclass(frozen=True)
class Prepared:
    """One suite, the machines to run it on by their names, and how long to wait for it."""

    suite: Suite
    machines: Mapping[str, Machine]
    options: RunOptions = field(default_factory=RunOptions)


def prepared(app: AppContext, name: str, machines: Iterable[str]) -> Prepared:
    """The suite of that name. Raises LabError for a machine that is not known: a typo costs no night."""
    listed: Sequence[MachineSettings] = app.settings.machine
    with open_store(app) as store:
        if name == INFERENCE:
            with_xrt = with_layer(listed)
            found = {machine: resolve(machine, with_xrt, store) for machine in dict.fromkeys(machines)}
            return Prepared(InferenceSuite(), found, INFERENCE_OPTIONS)
        found = {machine: resolve(machine, listed, store) for machine in dict.fromkeys(machines)}
    return Prepared(ioctl_suite(), found)


def with_layer(listed: Sequence[MachineSettings]) -> list[MachineSettings]:
    """Every virtual machine with XRT in its guest."""
    return [
        machine.model_copy(update={"layers": tuple(dict.fromkeys((*machine.layers, LAYER)))})
        if machine.virtual is not None
        else machine
        for machine in known_machines(listed)
    ]
