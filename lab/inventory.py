"""Names -> machines."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lab.machine import LabError, Machine
from lab.packages.store import PackageStore
from lab.physical.ssh import SshMachine
from lab.settings import MachineSettings, known_machines
from lab.virtual.machine import VirtualMachine

#: ``me@minipc``, ``root@10.0.0.7``; anything else must be listed, so that a typo is not looked up as a host.
DESTINATION = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9\[][A-Za-z0-9.:\[\]%_-]*$")


class UnknownMachineError(LabError):
    """No machine has this name; the text lists those that exist."""

    exit_code = 2  # the user's words are at fault


def resolve(name: str, listed: Sequence[MachineSettings], store: PackageStore) -> Machine:
    """The machine of this name; ``user@host`` needs no entry. UnknownMachineError for any other name."""
    machines = known_machines(listed)
    for machine in machines:
        if machine.name == name:
            return _machine(machine, store)
    if DESTINATION.match(name):
        return SshMachine(name, name)
    names = ", ".join(machine.name for machine in machines)
    raise UnknownMachineError(
        f"no machine {name!r}; known: {names}; or user@host for a machine reached by SSH, "
        "or a [[machine]] in xdnawatch.toml"
    )


def _machine(settings: MachineSettings, store: PackageStore) -> Machine:
    if settings.virtual is not None:
        return VirtualMachine(
            settings.name,
            settings.virtual,
            store,
            protocol=settings.protocol,
            append=settings.append,
            layers=settings.layers,
            watchdog=settings.watchdog,
        )
    assert settings.ssh is not None, "the validator saw to it"
    return SshMachine(
        settings.name,
        settings.ssh,
        port=settings.port,
        identity=settings.identity,
        config=settings.ssh_config,
    )
