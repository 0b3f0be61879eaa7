"""The test kernels: small programs of our own that the model really runs on guest memory.

A kernel is a descriptor of 16 bytes, little endian, found at the command's instruction buffer, or in the
first four argument words of a command that has none (ERT_START_CU):

    0  4 bytes  magic "XDNW"
    4  u16      version, 1
    6  u16      operation, see ``Operation``
    8  u32      length: bytes of each buffer, a multiple of 4, at most 16 MiB
    12 u32      value: the pattern of FILL

The buffers' addresses follow as pairs of argument words, low word first: inputs, then the output. Commands
without the magic are anybody else's programs; the model does not run them.
"""

from __future__ import annotations

import array
import struct
import sys
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

MAGIC = b"XDNW"
VERSION = 1
DESCRIPTOR = struct.Struct("<4sHHII")
DESCRIPTOR_WORDS = DESCRIPTOR.size // 4
MAX_LENGTH = 16 << 20


class Operation(IntEnum):
    """What a kernel does; in brackets the buffers it takes."""

    NOTHING = 0  # []
    COPY = 1  # [in, out]
    FILL = 2  # [out] with the 32-bit value
    ADD = 3  # [a, b, out] 32-bit words, modulo 2**32
    CHECKSUM = 4  # [in, out] CRC-32 of the input and its length, two words


BUFFERS = {
    Operation.NOTHING: 0,
    Operation.COPY: 2,
    Operation.FILL: 1,
    Operation.ADD: 3,
    Operation.CHECKSUM: 2,
}


class KernelError(Exception):
    """A descriptor with our magic that says something impossible."""


class Memory(Protocol):
    """What a kernel may touch; both methods raise lab.npu.memory.DmaError."""

    def read(self, address: int, size: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...


@dataclass(frozen=True)
class Kernel:
    """A checked descriptor with its buffers' addresses."""

    operation: Operation
    length: int
    value: int
    buffers: tuple[int, ...]


def parse_kernel(descriptor: bytes, words: tuple[int, ...]) -> Kernel | None:
    """Read a descriptor and the argument words behind it; None when it is not one of ours.

    Raises KernelError.
    """
    if len(descriptor) < DESCRIPTOR.size or descriptor[:4] != MAGIC:
        return None
    _magic, version, number, length, value = DESCRIPTOR.unpack_from(descriptor)
    if version != VERSION or number not in set(Operation):
        raise KernelError(f"version {version}, operation {number}")
    operation = Operation(number)
    if length % 4 or length > MAX_LENGTH:
        raise KernelError(f"length {length}")
    count = BUFFERS[operation]
    if len(words) < 2 * count:
        raise KernelError(f"{len(words)} argument words for {count} buffers")
    buffers = tuple(words[2 * index] | words[2 * index + 1] << 32 for index in range(count))
    return Kernel(operation, length, value, buffers)


def run(kernel: Kernel, memory: Memory, *, wrong: bool = False) -> None:
    """Do the work; ``wrong`` inverts the output's bits (a fault's work)."""
    if kernel.operation is Operation.NOTHING:
        return
    inputs = [memory.read(address, kernel.length) for address in kernel.buffers[:-1]]
    output = _compute(kernel, inputs)
    if wrong:
        output = bytes(byte ^ 0xFF for byte in output)
    memory.write(kernel.buffers[-1], output)


def _compute(kernel: Kernel, inputs: list[bytes]) -> bytes:
    match kernel.operation:
        case Operation.COPY:
            return inputs[0]
        case Operation.FILL:
            return struct.pack("<I", kernel.value) * (kernel.length // 4)
        case Operation.CHECKSUM:
            return struct.pack("<II", zlib.crc32(inputs[0]), kernel.length)
        case Operation.ADD:
            left, right = (_words(data) for data in inputs)
            total = array.array("I", ((a + b) & 0xFFFFFFFF for a, b in zip(left, right, strict=True)))
            return _bytes(total)
        case Operation.NOTHING:
            return b""


def _words(data: bytes) -> array.array[int]:
    words = array.array("I", data)
    if sys.byteorder == "big":
        words.byteswap()
    return words


def _bytes(words: array.array[int]) -> bytes:
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()
