"""The mailbox memory is mapped by the client, as a BAR is: no message for its accesses, and no harm by it."""

from __future__ import annotations

import mmap
import os
import socket
import struct
from dataclasses import dataclass

import pytest

from lab.npu.registers import RegisterFile
from tests.npu.fake_client import GET_REGION_INFO, RESET, FakeClient
from tests.npu.served import Serve

MAPPABLE, CAPABILITIES = 0x4, 0x8  # VFIO_REGION_INFO_FLAG_MMAP, _CAPS
SPARSE_MMAP = 1
ROOM = 256


@dataclass(frozen=True)
class Region:
    flags: int
    size: int
    needed: int
    capabilities: bytes
    file: int | None


def region(client: FakeClient, index: int, *, room: int = ROOM) -> Region:
    client.send(GET_REGION_INFO, struct.pack("<IIIIQQ", room, 0, index, 0, 0, 0))
    data, files, _flags, _address = socket.recv_fds(client.sock, 4096, 8)
    needed, flags, seen, start, size, offset = struct.unpack_from("<IIIIQQ", data, 16)
    assert (seen, offset) == (index, 0)
    assert start in (0, 32), "QEMU takes no other place than behind the structure"
    assert bool(start) == bool(flags & CAPABILITIES)
    return Region(flags, size, needed, data[16 + start :] if start else b"", files[0] if files else None)


def test_what_is_mapped_and_what_is_read_by_message_are_one(serve: Serve) -> None:
    lab = serve("npu4")
    client = lab.client()
    found = region(client, lab.generation.mailbox.sram_bar)
    assert found.flags == 3 | MAPPABLE
    assert found.file is not None
    with mmap.mmap(found.file, found.size) as memory:
        memory[0x100:0x104] = b"here"
        assert client.read(lab.generation.mailbox.sram_bar, 0x100, 4) == b"here"
        client.write(lab.generation.mailbox.sram_bar, 0x104, b"ther")
        assert memory[0x104:0x108] == b"ther"
    os.close(found.file)


def test_registers_and_configuration_are_not_mapped(serve: Serve) -> None:
    lab = serve("npu4")
    client = lab.client()
    for index in set(range(9)) - {lab.generation.mailbox.sram_bar}:
        found = region(client, index)
        assert found.flags in (0, 3), index
        assert found.file is None, index


def test_doorbells_of_the_virtual_function_still_come_here(serve: Serve) -> None:
    """Only what lies before the first doorbell may be mapped, and a client without room learns how much."""
    lab = serve("npu3vf")
    client = lab.client()
    found = region(client, lab.generation.mailbox.sram_bar)
    assert found.flags == 3 | MAPPABLE | CAPABILITIES
    kind, _version, following, areas, _reserved, offset, size = struct.unpack("<HHIIIQQ", found.capabilities)
    assert (kind, following, areas, offset, size) == (SPARSE_MMAP, 0, 1, 0, lab.generation.doorbell_offset)
    short = region(client, lab.generation.mailbox.sram_bar, room=32)
    assert short.needed == found.needed > 32
    assert short.capabilities == b""
    for each in (found, short):
        assert each.file is not None
        os.close(each.file)


def test_a_client_cannot_take_the_memory_away(serve: Serve) -> None:
    """A file that shrank would end the model with SIGBUS."""
    lab = serve("npu4")
    client = lab.client()
    found = region(client, lab.generation.mailbox.sram_bar)
    assert found.file is not None
    with pytest.raises(PermissionError):
        os.ftruncate(found.file, 0)
    assert client.read(lab.generation.mailbox.sram_bar, 0, 4) is not None
    os.close(found.file)


def test_the_next_client_has_memory_of_its_own(serve: Serve) -> None:
    lab = serve("npu4")
    first = lab.client()
    old = region(first, lab.generation.mailbox.sram_bar)
    assert old.file is not None
    with mmap.mmap(old.file, old.size) as memory:
        first.close()
        second = lab.client()
        memory[0x100:0x104] = b"late"
        assert second.read(lab.generation.mailbox.sram_bar, 0x100, 4) == bytes(4)
    os.close(old.file)


def test_a_reset_clears_what_the_client_sees(serve: Serve) -> None:
    lab = serve("npu4")
    client = lab.client()
    found = region(client, lab.generation.mailbox.sram_bar)
    assert found.file is not None
    with mmap.mmap(found.file, found.size) as memory:
        memory[0x100:0x104] = b"here"
        client.request(RESET)
        assert memory[0x100:0x104] == bytes(4)
    os.close(found.file)


def test_no_descriptor_outlives_the_registers() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone count
    for _ in range(20):
        file = RegisterFile({2: 4096}, shared={2})
        file.renew()
        del file
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # noqa: PTH208
