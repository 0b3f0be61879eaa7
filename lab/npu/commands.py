"""Commands as the driver hands them to the firmware: single ones, and chains read from guest memory.

The layouts are those of the driver's slot structures (aie2_msg_priv.h; facts section 5.6). A chain's slots
follow each other without padding, each as long as its argument count says.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lab.npu import kernels
from lab.npu.memory import DmaError
from lab.npu.messages import Status

MAX_COMMANDS = 256
MAX_CHAIN = 1 << 16  # bytes; the driver's buffer is one page
MAX_ARGUMENTS = 64  # words of one command

_UNIT_SLOT = struct.Struct("<II")  # unit, words
_DPU_SLOT = struct.Struct("<QIIII")  # instructions, size, properties, unit, words
_NPU_SLOT = struct.Struct(
    "<IQQQIIIIII"
)  # type, instructions, save, restore, 3 sizes, properties, unit, words


class ChainError(Exception):
    """A chain that cannot be read as one; ``index`` is the command at fault."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"command {index}: {reason}")
        self.index = index


@dataclass(frozen=True)
class Command:
    """One command: where its instructions are (0: none) and its argument words."""

    unit: int
    instructions: int
    instruction_size: int
    arguments: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a command; ``work`` tells the trace what was done."""

    status: int
    work: str


def parse_chain(name: str, data: bytes, count: int) -> list[Command]:
    """Read ``count`` slots of the chain message ``name``. Raises ChainError."""
    if not 1 <= count <= MAX_COMMANDS:
        raise ChainError(0, f"{count} commands")
    found: list[Command] = []
    place = 0
    for index in range(count):
        layout = {"CHAIN_EXEC_BUFFER_CF": _UNIT_SLOT, "CHAIN_EXEC_DPU": _DPU_SLOT}.get(name, _NPU_SLOT)
        if place + layout.size > len(data):
            raise ChainError(index, f"its slot at {place} leaves the chain of {len(data)} bytes")
        fields = layout.unpack_from(data, place)
        place += layout.size
        words = fields[-1]
        if words > MAX_ARGUMENTS or place + 4 * words > len(data):
            raise ChainError(index, f"{words} argument words leave the chain of {len(data)} bytes")
        arguments = struct.unpack_from(f"<{words}I", data, place)
        place += 4 * words
        match layout:
            case _ if layout is _UNIT_SLOT:
                found.append(Command(fields[0], 0, 0, arguments))
            case _ if layout is _DPU_SLOT:
                found.append(Command(fields[3], fields[0], fields[1], arguments))
            case _:
                found.append(Command(fields[8], fields[1], fields[4], arguments))
    return found


def execute(command: Command, memory: kernels.Memory, *, wrong: bool = False) -> Outcome:
    """Run a command's test kernel; anybody else's program is only completed."""
    try:
        if command.instructions:
            if command.instruction_size < kernels.DESCRIPTOR.size:
                return Outcome(Status.SUCCESS, "opaque")
            descriptor = memory.read(command.instructions, kernels.DESCRIPTOR.size)
            words = command.arguments
        else:
            inline = kernels.DESCRIPTOR_WORDS
            descriptor = struct.pack(f"<{min(inline, len(command.arguments))}I", *command.arguments[:inline])
            words = command.arguments[inline:]
        kernel = kernels.parse_kernel(descriptor, words)
        if kernel is None:
            return Outcome(Status.SUCCESS, "opaque")
        kernels.run(kernel, memory, wrong=wrong)
    except DmaError as error:
        return Outcome(Status.AIE_DMA_ERROR, f"failed: {error}")
    except kernels.KernelError as error:
        return Outcome(Status.INVALID_INSTRUCTION, f"failed: {error}")
    return Outcome(Status.SUCCESS, kernel.operation.name.lower())
