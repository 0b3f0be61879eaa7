"""The lab's part of xdnawatch.toml: which machines there are. What they become: lab.inventory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lab.npu.generations import GENERATIONS
from lab.virtual.layers import LAYERS
from lab.virtual.watchdogs import CARDS

PROTOCOL = re.compile(r"^\d+\.\d+$")


class MachineSettings(BaseModel):
    """``[[machine]]``: one device under test; exactly one of ``virtual`` and ``ssh``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    virtual: str | None = None  # a generation of the virtual NPU: "npu4"
    protocol: str | None = None  # of the virtual firmware: "6.24"; default: the generation's own
    append: str = ""  # more kernel parameters for a virtual machine
    layers: tuple[str, ...] = ()  # optional parts of a virtual machine's guest: "xrt" (lab.virtual.layers)
    watchdog: str | None = None  # a virtual machine's hardware watchdog: "i6300esb" (lab.virtual.watchdogs)
    ssh: str | None = None  # "me@minipc" or a Host of the user's ssh configuration
    port: int | None = Field(default=None, ge=1, le=65535)
    identity: Path | None = None  # a private key; default: what ssh itself would use
    ssh_config: Path | None = None  # an ssh_config(5) file instead of the user's own

    @field_validator("identity", "ssh_config")
    @classmethod
    def _is_absolute(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        path = value.expanduser()
        if not path.is_absolute():
            raise ValueError(f"{value} must be an absolute path or start with ~")
        return path

    @field_validator("protocol")
    @classmethod
    def _is_protocol(cls, value: str | None) -> str | None:
        if value is not None and not PROTOCOL.match(value):
            raise ValueError(f"{value!r} is not a protocol version like 6.24")
        return value

    @model_validator(mode="after")
    def _one_way_in(self) -> MachineSettings:
        if (self.virtual is None) == (self.ssh is None):
            raise ValueError(f"machine {self.name!r} needs exactly one of 'virtual' and 'ssh'")
        if self.virtual is not None and self.virtual not in GENERATIONS:
            raise ValueError(f"virtual = {self.virtual!r}: there are {', '.join(GENERATIONS)}")
        if self.virtual is not None and any((self.port, self.identity, self.ssh_config)):
            raise ValueError(f"machine {self.name!r} is virtual: port, identity and ssh_config are for ssh")
        unknown = sorted(set(self.layers) - set(LAYERS))
        if unknown:
            raise ValueError(f"layers: no guest layer {unknown[0]!r}; there are {', '.join(LAYERS)}")
        if self.watchdog is not None and self.watchdog not in CARDS:
            raise ValueError(f"watchdog = {self.watchdog!r}: there are {', '.join(CARDS)}")
        if self.ssh is not None and (self.protocol or self.append or self.layers or self.watchdog):
            raise ValueError(
                f"machine {self.name!r} is real: "
                "protocol, append, layers and watchdog are for virtual machines"
            )
        if self.ssh is not None and (self.ssh.startswith("-") or not self.ssh.strip()):
            raise ValueError(f"ssh = {self.ssh!r} is no destination like me@minipc")
        return self


#: Always there, whatever the settings say; a listed machine of the same name replaces one.
BUILT_IN = tuple(
    MachineSettings(name=f"virtual-{generation}", virtual=generation) for generation in GENERATIONS
)


def known_machines(listed: Sequence[MachineSettings]) -> list[MachineSettings]:
    """The listed machines, then the built-in ones that they do not replace."""
    names = {machine.name for machine in listed}
    return [*listed, *(machine for machine in BUILT_IN if machine.name not in names)]
