"""Work that is really done: output is compared with what the program must have written.

The simulated device runs test kernels of its own (docs/virtual-npu.md): a descriptor of 16 bytes, the
addresses of its buffers as argument words. A command that "completes" without having run is caught here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence

import pytest

from harness.suite import packets, uapi
from harness.suite.device import Buffer, Context, Device
from harness.suite.tests.conftest import Record

DESCRIPTOR = struct.Struct("<4sHHII")
COPY, FILL, ADD, CHECKSUM = 1, 2, 3, 4
DONE = uapi.Command.COMPLETED
LENGTH = 16384  # bytes of each buffer
UNTOUCHED = b"\x5a"

Program = Callable[..., list[int]]


def descriptor(operation: int, length: int = LENGTH, value: int = 0) -> bytes:
    """A test kernel; ``length`` in bytes of each buffer."""
    return DESCRIPTOR.pack(b"XDNW", 1, operation, length, value)


def addresses(buffers: Sequence[Buffer]) -> list[int]:
    """Device addresses as argument words, low word first."""
    return [word for one in buffers for word in (one.address & 0xFFFFFFFF, one.address >> 32)]


def pattern(seed: int, size: int = LENGTH) -> bytes:
    """Bytes that repeat nowhere within 64 KiB."""
    return struct.pack(
        f"<{size // 4}I", *((index * 2654435761 + seed) & 0xFFFFFFFF for index in range(size // 4))
    )


@pytest.fixture
def buffers(device: Device, program: None) -> Iterator[list[Buffer]]:
    """Two inputs and an output that the device can reach; with the process's addresses it cannot."""
    assert program is None
    made = [device.buffer(uapi.Bo.SHARE, LENGTH) for _turn in range(3)]
    if made[0].address in (made[0].memory.address, (1 << 64) - 1):
        for one in made:
            device.free(one)
        pytest.skip(
            "addresses: the driver hands out the process's own (SVA), which the simulated device cannot reach"
        )
    made[0].memory.write(pattern(1))
    made[1].memory.write(pattern(0x9E3779B9))
    made[2].memory.write(UNTOUCHED * LENGTH)
    yield made
    for one in made:
        device.free(one)


@pytest.fixture
def npu(device: Device, heap: Buffer, unit: Buffer) -> Program:
    """The words of a START_NPU whose instructions are the given test kernel, in the heap."""

    def words(kernel: bytes, arguments: Sequence[Buffer], *, place: int = 0) -> list[int]:
        heap.memory.write(kernel, unit.address - heap.address + place)
        device.sync(unit.handle, len(kernel), offset=place)
        return packets.start_npu(unit.address + place, len(kernel), addresses(arguments))

    return words


def handles(buffers: Sequence[Buffer]) -> list[int]:
    return [one.handle for one in buffers]


def compare(device: Device, buffer: Buffer, expected: bytes, record: Record) -> None:
    """The output byte for byte; where it first differs goes into the result."""
    device.sync(
        buffer.handle, len(expected)
    )  # flushes the CPU's lines; FROM_DEVICE is for debug buffers only
    got = buffer.memory.read(len(expected))
    if got == expected:
        return
    first = next(index for index, (one, other) in enumerate(zip(got, expected, strict=True)) if one != other)
    record("first_difference", first)
    untouched = got == UNTOUCHED * len(got)
    pytest.fail(
        "the command completed, but nothing was written"
        if untouched
        else f"the output differs from byte {first} on: {got[first : first + 8].hex()}, "
        f"expected {expected[first : first + 8].hex()}"
    )


def added() -> bytes:
    left, right = (struct.unpack(f"<{LENGTH // 4}I", pattern(seed)) for seed in (1, 0x9E3779B9))
    return struct.pack(f"<{LENGTH // 4}I", *((a + b) & 0xFFFFFFFF for a, b in zip(left, right, strict=True)))


def test_copy(
    device: Device, context: Context, command: Buffer, buffers: list[Buffer], npu: Program, record: Record
) -> None:
    """What was copied is there."""
    used = [buffers[0], buffers[2]]
    assert device.run(context, command, npu(descriptor(COPY), used), handles(used)) == DONE
    compare(device, buffers[2], pattern(1), record)


def test_add(
    device: Device, context: Context, command: Buffer, buffers: list[Buffer], npu: Program, record: Record
) -> None:
    """Two inputs are added word by word."""
    assert device.run(context, command, npu(descriptor(ADD), buffers), handles(buffers)) == DONE
    compare(device, buffers[2], added(), record)


def test_checksum(
    device: Device, context: Context, command: Buffer, buffers: list[Buffer], npu: Program, record: Record
) -> None:
    """The device saw the very bytes that were written; behind its two words nothing is touched."""
    used = [buffers[0], buffers[2]]
    assert device.run(context, command, npu(descriptor(CHECKSUM), used), handles(used)) == DONE
    expected = struct.pack("<II", zlib.crc32(pattern(1)), LENGTH) + UNTOUCHED * 64
    compare(device, buffers[2], expected, record)


@pytest.mark.parametrize("length", [4, 4096, LENGTH])
def test_fill(
    device: Device,
    context: Context,
    command: Buffer,
    buffers: list[Buffer],
    npu: Program,
    length: int,
    record: Record,
) -> None:
    """As much as was asked for is filled, not a byte more."""
    used = [buffers[2]]
    words = npu(descriptor(FILL, length, 0xC0FFEE), used)
    assert device.run(context, command, words, handles(used)) == DONE
    whole = struct.pack("<I", 0xC0FFEE) * (length // 4)
    compare(device, buffers[2], whole.ljust(LENGTH, UNTOUCHED), record)


def test_copy_by_unit(
    device: Device, context: Context, command: Buffer, buffers: list[Buffer], record: Record
) -> None:
    """START_CU does its work, too: the kernel stands in the argument words."""
    used = [buffers[0], buffers[2]]
    inline = list(struct.unpack("<4I", descriptor(COPY)))
    words = packets.start_cu([*inline, *addresses(used)])
    assert device.run(context, command, words, handles(used)) == DONE
    compare(device, buffers[2], pattern(1), record)


def test_chain_runs_every_link_in_order(
    device: Device, context: Context, command: Buffer, buffers: list[Buffer], npu: Program, record: Record
) -> None:
    """A chain's links run one after the other: fill, then add on top of it."""
    one, _two, out = buffers
    links = [device.buffer(uapi.Bo.CMD, uapi.PAGE) for _turn in range(2)]
    links[0].memory.words(npu(descriptor(FILL, LENGTH, 7), [out]))
    links[1].memory.words(npu(descriptor(ADD), [one, out, out], place=64))
    words = packets.chain([link.handle for link in links])
    state = device.run(context, command, words, handles(buffers))
    for link in links:
        device.free(link)
    assert state == DONE
    values = struct.unpack(f"<{LENGTH // 4}I", pattern(1))
    compare(
        device, out, struct.pack(f"<{LENGTH // 4}I", *((value + 7) & 0xFFFFFFFF for value in values)), record
    )
