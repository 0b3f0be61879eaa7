"""Commands do their work on guest memory: a test can compare data, and skipped work shows."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.npu import kernels
from lab.npu.commands import ChainError, parse_chain
from lab.npu.messages import Status
from tests.npu.fake_client import FakeDriver, GuestRam, Ring
from tests.npu.served import Lab, Serve

HEAP = 0x4000000  # device address
HEAP_BUS = 0xFFFF_0000_0000
BUFFERS = 0x10_0000
LIST, PROGRAM = 0x1000, 0x3000  # offsets within the heap


@dataclass
class Bench:
    """A context with a heap of 64 pages and 64 pages of buffers, all in one file."""

    lab: Lab
    driver: FakeDriver
    management: Ring
    number: int
    ring: Ring
    ram: GuestRam

    def heap(self, offset: int, data: bytes) -> None:
        self.ram.bytes[offset : offset + len(data)] = data

    def buffer(self, offset: int, size: int) -> bytes:
        return self.ram.bytes[64 * 4096 + offset : 64 * 4096 + offset + size]

    def fill(self, offset: int, data: bytes) -> None:
        self.ram.bytes[64 * 4096 + offset : 64 * 4096 + offset + len(data)] = data

    def chain(self, *slots: bytes, opcode: int = 0x18) -> tuple[int, int, int]:
        """Run slots as a chain: status, failed index, its status."""
        data = b"".join(slots)
        self.heap(LIST, data)
        if opcode == 0x18:
            payload = self.ring.call(opcode, "<IIQII", 0, 0, HEAP + LIST, len(data), len(slots))
        else:
            payload = self.ring.call(opcode, "<QII8x", HEAP + LIST, len(data), len(slots))
        status, index, failed = struct.unpack("<III", payload)
        return status, index, failed


@pytest.fixture
def bench(serve: Serve) -> Iterator[Bench]:
    yield from build(serve())


def build(lab: Lab) -> Iterator[Bench]:
    driver = lab.driver()
    ram = GuestRam(128 * 4096)
    for page in range(64):  # the heap comes page by page, as behind an IOMMU
        driver.client.map_file(ram.fd, HEAP_BUS + page * 4096, 4096, page * 4096)
    driver.client.map_file(ram.fd, BUFFERS, 64 * 4096, 64 * 4096)
    management = driver.boot()
    number, ring = driver.create_context(management)
    assert management.call(0x106, "<IQQ", number, HEAP_BUS, 64 << 20) == bytes(4)
    yield Bench(lab, driver, management, number, ring, ram)
    ram.close()


def descriptor(operation: int, length: int, value: int = 0, *, version: int = 1) -> bytes:
    return struct.pack("<4sHHII", b"XDNW", version, operation, length, value)


def words(*addresses: int) -> tuple[int, ...]:
    return tuple(word for address in addresses for word in (address & 0xFFFFFFFF, address >> 32))


def npu_slot(
    arguments: tuple[int, ...], instructions: int = HEAP + PROGRAM, size: int = 16, kind: int = 2
) -> bytes:
    head = struct.pack("<IQQQIIIIII", kind, instructions, 0, 0, size, 0, 0, 0, 0, len(arguments))
    return head + struct.pack(f"<{len(arguments)}I", *arguments)


def dpu_slot(arguments: tuple[int, ...]) -> bytes:
    return struct.pack("<QIIII", HEAP + PROGRAM, 16, 0, 0, len(arguments)) + struct.pack(
        f"<{len(arguments)}I", *arguments
    )


def cf_slot(arguments: tuple[int, ...]) -> bytes:
    return struct.pack("<II", 0, len(arguments)) + struct.pack(f"<{len(arguments)}I", *arguments)


OK = (0, 0, 0)


def test_copy_across_the_heap_and_the_buffers(bench: Bench) -> None:
    bench.heap(PROGRAM, descriptor(1, 8192))
    data = bytes(range(256)) * 32
    bench.fill(0x800, data)
    assert bench.chain(npu_slot(words(BUFFERS + 0x800, HEAP + 0x10800))) == OK
    assert bench.ram.bytes[0x10800 : 0x10800 + 8192] == data


def test_fill_add_and_checksum(bench: Bench) -> None:
    bench.heap(PROGRAM, descriptor(2, 64, 0xDEADBEEF))
    assert bench.chain(npu_slot(words(BUFFERS))) == OK
    assert bench.buffer(0, 68) == struct.pack("<I", 0xDEADBEEF) * 16 + bytes(4)
    bench.fill(0x1000, struct.pack("<I", 0x30000000) * 16)
    bench.heap(PROGRAM, descriptor(3, 64))
    assert bench.chain(npu_slot(words(BUFFERS, BUFFERS + 0x1000, BUFFERS + 0x2000))) == OK
    assert bench.buffer(0x2000, 64) == struct.pack("<I", 0x0EADBEEF) * 16
    bench.heap(PROGRAM, descriptor(4, 64))
    assert bench.chain(npu_slot(words(BUFFERS + 0x2000, BUFFERS + 0x3000))) == OK
    crc = zlib.crc32(struct.pack("<I", 0x0EADBEEF) * 16)
    assert bench.buffer(0x3000, 8) == struct.pack("<II", crc, 64)


def test_every_way_to_submit_runs_the_kernel(bench: Bench) -> None:
    program = descriptor(2, 4, 1)
    bench.heap(PROGRAM, program)
    inline = struct.unpack("<4I", program)
    address = words(BUFFERS)
    done = (OK, bytes(4))  # a chain's answer, a single command's
    ways: tuple[Callable[[], object], ...] = (
        lambda: bench.chain(npu_slot(address)),
        lambda: bench.chain(npu_slot((*inline, *address), instructions=0, size=0, kind=1)),
        lambda: bench.chain(dpu_slot(address), opcode=0x13),
        lambda: bench.chain(cf_slot((*inline, *address)), opcode=0x12),
        lambda: bench.ring.call(0xC, "<20I", 0, *inline, *address, *[0] * 13),
        lambda: bench.ring.call(0x10, "<Q38I", HEAP + PROGRAM, 16, 0, 0, *address, *[0] * 33),
    )
    for number, run in enumerate(ways):
        bench.fill(0, bytes(4))
        assert run() in done, number
        assert bench.buffer(0, 4) == b"\1\0\0\0", number


def test_a_chain_runs_in_order_and_stops_at_the_first_failure(bench: Bench) -> None:
    bench.heap(PROGRAM, descriptor(2, 4, 7))
    good = npu_slot(words(BUFFERS))
    later = npu_slot(words(BUFFERS + 0x100))
    lost = npu_slot(words(0x9999_0000))
    status, index, failed = bench.chain(good, lost, later)
    assert (status, index, failed) == (Status.AIE_DMA_ERROR, 1, Status.AIE_DMA_ERROR)
    assert bench.buffer(0, 4) == struct.pack("<I", 7)
    assert bench.buffer(0x100, 4) == bytes(4)


@pytest.mark.parametrize(
    "program",
    [
        descriptor(99, 4),
        descriptor(1, 4, version=2),
        descriptor(1, 6),
        descriptor(1, 17 << 20),
        descriptor(3, 4),
    ],
)
def test_a_kernel_that_cannot_be_is_an_invalid_instruction(bench: Bench, program: bytes) -> None:
    bench.heap(PROGRAM, program)
    assert bench.chain(npu_slot(words(BUFFERS, BUFFERS)))[0] == Status.INVALID_INSTRUCTION


def test_anybody_elses_program_is_completed_and_said_to_be_opaque(bench: Bench) -> None:
    bench.heap(PROGRAM, b"\x06\x03\x01\x00" * 4)
    assert bench.chain(npu_slot((1, 2, 3))) == OK
    assert bench.lab.events("command")[-1]["work"] == ["opaque"]


@pytest.mark.parametrize(
    ("address", "size", "count"),
    [
        (HEAP + LIST, 20, 1),  # shorter than a slot
        (HEAP + LIST, 64, 0),
        (HEAP + LIST, 64, 5),
        (HEAP + LIST, 1 << 17, 1),
        (HEAP + (64 << 20) - 4, 64, 1),  # leaves the heap
        (0x1234_5000, 64, 1),
        ((1 << 64) - 8, 64, 1),
    ],
)
def test_a_list_that_cannot_be_read_fails_the_command(
    bench: Bench, address: int, size: int, count: int
) -> None:
    bench.heap(LIST, npu_slot((1, 2, 3)))
    payload = bench.ring.call(0x18, "<IIQII", 0, 0, address, size, count)
    assert struct.unpack("<III", payload)[0] != 0
    assert bench.chain(npu_slot((1,))) == OK


def test_a_context_with_a_pasid_is_out_of_reach_and_completes(serve: Serve) -> None:
    lab = serve()
    driver = lab.driver()
    management = driver.boot()
    number, ring = driver.create_context(management, pasid=1)
    management.call(0x106, "<IQQ", number, 0x7F00_0000_0000, 64 << 20)
    payload = ring.call(0x18, "<IIQII", 0, 0, HEAP, 64, 2)
    assert struct.unpack("<III", payload) == OK
    assert lab.events("command")[-1]["work"] == ["opaque: the process's addresses"]


@pytest.mark.parametrize(
    ("opcode", "layout", "head"),
    [(0x10, "<Q38I", (HEAP + PROGRAM, 16)), (0xC, "<20I", ())],
    ids=["EXEC_DPU", "EXECUTE_BUFFER_CF"],
)
def test_a_single_command_of_a_context_with_a_pasid_completes_unseen(
    serve: Serve, opcode: int, layout: str, head: tuple[int, ...]
) -> None:
    """Kernel 6.18 sends these: its START_NPU failed on a program that the model only could not read."""
    lab = serve()
    driver = lab.driver()
    _number, ring = driver.create_context(driver.boot(), pasid=1)
    fields = (*head, *[0] * (len(struct.unpack(layout, bytes(struct.calcsize(layout)))) - len(head)))
    assert ring.call(opcode, layout, *fields) == bytes(4)
    assert lab.events("command")[-1]["work"] == ["opaque: the process's addresses"]


def test_a_chain_before_the_heap_is_the_drivers_mistake(serve: Serve) -> None:
    lab = serve()
    driver = lab.driver()
    _number, ring = driver.create_context(driver.boot())
    assert struct.unpack("<III", ring.call(0x18, "<IIQII", 0, 0, HEAP, 64, 1))[0] != 0
    assert "MAP_HOST_BUFFER" in lab.events("bad-request")[0]["reason"]


def test_a_heap_of_several_chunks_is_one_range_of_device_addresses(bench: Bench) -> None:
    bus = HEAP_BUS + (1 << 40)
    bench.driver.client.map_file(bench.ram.fd, bus, 4096, 63 * 4096)
    assert bench.management.call(0x115, "<IQQ", bench.number, bus, 64 << 20) == bytes(4)
    bench.heap(PROGRAM, descriptor(2, 16, 5))
    assert bench.chain(npu_slot(words(HEAP + (64 << 20) + 0x10))) == OK
    assert bench.ram.bytes[63 * 4096 + 0x10 : 63 * 4096 + 0x20] == struct.pack("<I", 5) * 4


def test_a_health_report_is_written_where_the_driver_asks(bench: Bench) -> None:
    payload = bench.management.call(0x114, "<IIQ", bench.number, 560, BUFFERS)
    assert struct.unpack_from("<II", payload) == (0, 560)
    major, minor, size, context = struct.unpack_from("<HHII", bench.buffer(0, 12))
    assert (major, minor, size, context) == (1, 0, 560, bench.number)
    assert struct.unpack_from("<I", bench.management.call(0x114, "<IIQ", bench.number, 8, BUFFERS))[0] != 0


class Bytes:
    """Memory for kernels alone."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.data[address : address + size])

    def write(self, address: int, data: bytes) -> None:
        self.data[address : address + len(data)] = data


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=50))
def test_add_is_modulo_two_to_the_32(pairs: list[tuple[int, int]]) -> None:
    memory, length = Bytes(1024), 4 * len(pairs)
    memory.write(0, struct.pack(f"<{len(pairs)}I", *(a for a, _ in pairs)))
    memory.write(256, struct.pack(f"<{len(pairs)}I", *(b for _, b in pairs)))
    kernel = kernels.parse_kernel(descriptor(3, length), words(0, 256, 512))
    assert kernel is not None
    kernels.run(kernel, memory)
    expected = [(a + b) % 2**32 for a, b in pairs]
    assert list(struct.unpack(f"<{len(pairs)}I", memory.read(512, length))) == expected


@given(
    st.sampled_from(["CHAIN_EXEC_NPU", "CHAIN_EXEC_DPU", "CHAIN_EXEC_BUFFER_CF"]),
    st.binary(max_size=400),
    st.integers(-1, 300),
)
def test_parsing_a_chain_fails_only_as_a_chain(name: str, data: bytes, count: int) -> None:
    try:
        commands = parse_chain(name, data, count)
    except ChainError:
        return
    assert len(commands) == count
