"""The words of a command buffer: header and payload as the driver reads them (amdxdna_ctx.h, ERT packets).

Header: bits 0-3 state, 10-11 extra compute-unit masks, 12-22 count of words after the header, 23-27 opcode.
The functions return words; writing them into a buffer is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.suite.uapi import Command, Opcode

COUNT_LIMIT = (1 << 11) - 1  # words after the header


def header(opcode: int, count: int, state: int = Command.NEW) -> int:
    """The first word of a command; ``count`` is in words, unchecked: tests send wrong ones on purpose."""
    return (state & 0xF) | (count & COUNT_LIMIT) << 12 | (opcode & 0x1F) << 23


def state(word: int) -> int:
    """The state in a header."""
    return word & 0xF


def start_cu(arguments: Sequence[int] = (3, 0x44), *, unit: int = 0) -> list[int]:
    """ERT_START_CU: run compute unit ``unit`` with plain words as arguments."""
    body = [1 << unit, *arguments]
    return [header(Opcode.START_CU, len(body)), *body]


def start_npu(
    instructions: int,
    size: int,
    arguments: Sequence[int] = (0x11, 0x22),
    *,
    unit: int = 0,
) -> list[int]:
    """ERT_START_NPU: run the instruction buffer at device address ``instructions`` of ``size`` bytes."""
    body = [1 << unit, instructions & 0xFFFFFFFF, instructions >> 32, size, 0, *arguments]
    return [header(Opcode.START_NPU, len(body)), *body]


def start_npu_preempt(
    instructions: int,
    size: int,
    save: tuple[int, int],
    restore: tuple[int, int],
    arguments: Sequence[int] = (),
    *,
    opcode: int = Opcode.START_NPU_PREEMPT,
) -> list[int]:
    """ERT_START_NPU_PREEMPT, or _ELF by ``opcode``: the instructions at ``instructions``, and those that save
    and restore the array's state when it is taken away, each (device address, size in bytes)."""
    places = [
        word for place in (instructions, save[0], restore[0]) for word in (place & 0xFFFFFFFF, place >> 32)
    ]
    body = [1, *places, size, save[1], restore[1], 0, *arguments]
    return [header(opcode, len(body)), *body]


def chain(handles: Sequence[int], *, count: int | None = None) -> list[int]:
    """ERT_CMD_CHAIN over the command buffers ``handles``; ``count`` lies about their number."""
    words = [count if count is not None else len(handles), 0, 0, 0, 0, 0]
    for handle in handles:
        words += [handle & 0xFFFFFFFF, handle >> 32]
    return [header(Opcode.CHAIN, len(words)), *words]
