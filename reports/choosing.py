"""What a person typed -> the two runs to compare."""

from __future__ import annotations

from collections.abc import Sequence

from reports.catalogue import Catalogue
from reports.records import MachineRecord, RunRecord
from reports.verdicts import conclusive, kernel_order


class ChoiceError(Exception):
    """Nothing, or too much, fits what was typed; the text lists what would."""

    exit_code = 2


def choose_pair(
    catalogue: Catalogue, before: str, after: str, machine: str | None, suite: str | None = None
) -> tuple[RunRecord, RunRecord]:
    """The runs that speak for two kernels on a machine.

    ``before`` and ``after`` are a version ("7.3.4"), a release (uname -r), a kernel's label or a run id.
    Without ``machine``, the only machine that has both is taken; without ``suite`` (a family: "ioctl",
    "inference") the main suite's runs where it ran. Raises ChoiceError.
    """
    by_id = [catalogue.runs.get(text) for text in (before, after)]
    if by_id[0] is not None and by_id[1] is not None:
        return by_id[0], by_id[1]
    machines = [m for m in catalogue.machines if machine is None or m.name == machine]
    if not machines:
        known = ", ".join(m.name for m in catalogue.machines) or "none yet"
        raise ChoiceError(f"no run was made on {machine or 'any machine'}; machines with runs: {known}")
    fitting = [
        (left, right)
        for one in machines
        if (left := _run(catalogue, before, one, suite)) and (right := _run(catalogue, after, one, suite))
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(left.machine.name for left, _ in fitting)
        raise ChoiceError(f"several machines ran both kernels: {names}; choose one with --machine")
    raise ChoiceError(
        f"no machine{f' {machine}' if machine else ''} has a run of both {before} and {after}"
        f"{f' of the suite {suite}' if suite else ''}; "
        f"kernels with runs: {_known(catalogue, machines)}"
    )


def _run(catalogue: Catalogue, text: str, machine: MachineRecord, suite: str | None) -> RunRecord | None:
    run = catalogue.runs.get(text)
    if run is not None:
        return run if run.machine.id == machine.id else None
    found = [
        cell.run
        for kernel in catalogue.kernels
        if text in (kernel.version, kernel.release, kernel.label)
        and (cell := catalogue.cell(kernel, machine, suite)) is not None
    ]
    # A stock kernel before one with another driver, a judged run before one that says nothing.
    found.sort(key=lambda r: (not (r.kernel and r.kernel.stock), not conclusive(r)))
    return found[0] if found else None


def _known(catalogue: Catalogue, machines: Sequence[MachineRecord]) -> str:
    kernels = [k for k in catalogue.kernels if any(catalogue.cell(k, m) for m in machines)]
    return ", ".join(k.label for k in sorted(kernels, key=kernel_order)) or "none yet"
