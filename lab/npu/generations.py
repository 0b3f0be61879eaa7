"""The generations of the device as tables: identity, register places, mailbox layout, array geometry.

Offsets, identities and limits are facts of the driver's register headers (drivers/accel/amdxdna/npu*_regs.c,
Linux 7.3; facts section 5.3). BAR sizes, ring sizes and the slots' order are the model's own choice: the
driver reads them from the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Family = Literal["aie2", "aie4"]
Protocol = tuple[int, int]


class GenerationError(Exception):
    """An unknown generation or an impossible protocol version."""


@dataclass(frozen=True)
class Register:
    """A 32-bit register: BAR index and byte offset."""

    bar: int
    offset: int


@dataclass(frozen=True)
class PspRegisters:
    """The secure processor's mailbox. On AIE2 ``command`` and ``status`` share a place, as do
    ``argument0`` and ``response``."""

    command: Register
    status: Register
    argument0: Register
    argument1: Register
    argument2: Register
    response: Register
    interrupt: Register
    wait_mode: Register


@dataclass(frozen=True)
class SmuRegisters:
    """The power controller's mailbox; ``command_triggers``: a write of the command starts it (npu4 on)."""

    command: Register
    argument: Register
    output: Register
    response: Register
    interrupt: Register
    command_triggers: bool


@dataclass(frozen=True)
class MailboxLayout:
    """Where channels live. Slot n has five registers at ``register_offset + n * 0x20`` and two rings of
    ``ring_size`` bytes at ``ring_offset + 2 * n * ring_size`` (host to firmware first).

    ``*_base`` are device addresses of the BARs' first byte. ``alive_offset`` is the SRAM word that points to
    the management channel's description; None: the description stands at ``info_offset`` from reset on.
    """

    sram_bar: int
    sram_base: int
    register_bar: int
    register_base: int
    register_offset: int
    ring_offset: int
    ring_size: int
    info_offset: int
    alive_offset: int | None
    slots: tuple[int, ...]


@dataclass(frozen=True)
class Array:
    """The AI engine's geometry and version as the firmware reports them; rows include shim and memory."""

    version: tuple[int, int]
    columns: int
    rows: int
    column_size: int  # bytes of one column's status dump


@dataclass(frozen=True)
class Generation:
    """Everything that tells one generation from another."""

    name: str
    family: Family
    device: int
    revision: int
    bars: Mapping[int, int]  # index -> size in bytes, power of two
    msix_bar: int
    vectors: int
    protocol: Protocol
    firmware: tuple[int, int, int, int]
    context_limit: int
    array: Array
    mailbox: MailboxLayout
    psp: PspRegisters | None = None
    smu: SmuRegisters | None = None
    device_revision: int = 0  # the fuse revision of GET_DEV_REVISION, 0: not answered
    doorbell_offset: int | None = None  # of the first context's doorbell page in the SRAM BAR (AIE4)


_NPU1 = Generation(
    name="npu1",
    family="aie2",
    device=0x1502,
    revision=0x00,
    bars={0: 0x80000, 1: 0x2000, 2: 0x40000, 4: 0x2000},
    msix_bar=1,
    vectors=16,
    protocol=(5, 8),
    firmware=(1, 5, 5, 391),
    context_limit=6,
    array=Array(version=(1, 1), columns=5, rows=6, column_size=0x1000),
    mailbox=MailboxLayout(
        sram_bar=2,
        sram_base=0x3080000,
        register_bar=4,
        register_base=0x30C0000,
        register_offset=0,
        ring_offset=0x20000,
        ring_size=0x1000,
        info_offset=0x100,
        alive_offset=0x3F000,
        slots=tuple(range(15)),  # the last slot's second ring would cover the alive word
    ),
    psp=PspRegisters(
        command=Register(0, 0x100A0),
        status=Register(0, 0x100A0),
        argument0=Register(0, 0x100A4),
        argument1=Register(0, 0x100A8),
        argument2=Register(0, 0x100BC),
        response=Register(0, 0x100A4),
        interrupt=Register(0, 0x10090),
        wait_mode=Register(0, 0x10034),
    ),
    smu=SmuRegisters(
        command=Register(0, 0x100AC),
        argument=Register(0, 0x100B4),
        output=Register(0, 0x100B4),
        response=Register(0, 0x100B0),
        interrupt=Register(0, 0x10094),
        command_triggers=False,
    ),
)

_NPU4 = Generation(
    name="npu4",
    family="aie2",
    device=0x17F0,
    revision=0x10,
    bars={0: 0x100000, 1: 0x2000, 2: 0x40000, 4: 0x1000, 5: 0x1000},
    msix_bar=1,
    vectors=32,
    protocol=(6, 24),
    firmware=(1, 1, 2, 64),
    context_limit=16,
    array=Array(version=(2, 0), columns=8, rows=6, column_size=0x1000),
    mailbox=MailboxLayout(
        sram_bar=2,
        sram_base=0x3600000,
        register_bar=0,
        register_base=0x3000000,
        register_offset=0x80000,
        ring_offset=0,
        ring_size=0x1000,
        info_offset=0x3F800,
        alive_offset=0x1E000,
        slots=(*range(15), *range(16, 31)),  # slot 15 is the alive word's page, slot 31 the description's
    ),
    psp=PspRegisters(
        command=Register(4, 0xAEC),
        status=Register(4, 0xAEC),
        argument0=Register(0, 0x10078),
        argument1=Register(0, 0x1007C),
        argument2=Register(0, 0x10090),
        response=Register(0, 0x10078),
        interrupt=Register(4, 0xA24),
        wait_mode=Register(0, 0x1003C),
    ),
    smu=SmuRegisters(
        command=Register(5, 0x900),
        argument=Register(5, 0x9F0),
        output=Register(5, 0x9F0),
        response=Register(5, 0x9F4),
        interrupt=Register(5, 0x0),
        command_triggers=True,
    ),
    device_revision=1,
)

_NPU3VF = Generation(
    name="npu3vf",
    family="aie4",
    device=0x17F3,
    revision=0x10,
    bars={0: 0x1000, 1: 0x2000, 2: 0x40000},
    msix_bar=1,
    vectors=8,
    protocol=(5, 10),
    firmware=(1, 0, 0, 0),
    context_limit=4,
    array=Array(version=(4, 0), columns=3, rows=6, column_size=0x1000),
    mailbox=MailboxLayout(
        sram_bar=2,
        sram_base=0,
        register_bar=0,
        register_base=0,
        register_offset=0,
        ring_offset=0x10000,
        ring_size=0x1000,
        info_offset=0,
        alive_offset=None,
        slots=(0,),
    ),
    doorbell_offset=0x20000,
)

GENERATIONS: Mapping[str, Generation] = {
    generation.name: generation
    for generation in (
        _NPU1,
        _NPU4,
        replace(_NPU4, name="npu5", revision=0x11, firmware=(1, 1, 2, 65), device_revision=5),
        replace(_NPU4, name="npu6", revision=0x20, device_revision=3),
        _NPU3VF,
    )
}


def generation_named(name: str, protocol: Protocol | None = None) -> Generation:
    """The generation of that name, with another firmware protocol when one is given.

    Raises GenerationError for an unknown name or a version that does not fit 32 bits.
    """
    try:
        generation = GENERATIONS[name]
    except KeyError:
        known = ", ".join(sorted(GENERATIONS))
        raise GenerationError(f"no generation {name!r}; known are {known}") from None
    if protocol is None:
        return generation
    if not all(0 <= part < 1 << 32 for part in protocol):
        raise GenerationError(f"protocol {protocol} does not fit two 32-bit numbers")
    return replace(generation, protocol=protocol)
