"""Buffer objects: created, described, mapped, flushed, shared, closed."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest

from harness.suite import uapi
from harness.suite.child import ChildError, as_user
from harness.suite.device import Buffer, Device, anonymous
from harness.suite.tests.conftest import Attempt, Expect, Record

MIB = 1 << 20


def test_heap(heap: Buffer, record: Record) -> None:
    """The heap begins where the firmware expects it, and its CPU address is aligned to its size."""
    record("address", hex(heap.address))
    assert heap.address == uapi.HEAP_BASE
    assert heap.memory.address % uapi.HEAP_CHUNK == 0


def test_heap_memory(heap: Buffer) -> None:
    """First and last byte of the heap hold what is written."""
    for offset in (heap.size // 2, heap.size - 4):
        heap.memory.write(b"\xa5\x5a\x0f\xf0", offset)
        assert heap.memory.read(4, offset) == b"\xa5\x5a\x0f\xf0"


@pytest.mark.parametrize("size", [1, 4096, 4097, MIB], ids=["byte", "page", "page+1", "mebibyte"])
def test_share_buffer(device: Device, size: int, record: Record) -> None:
    """Ordinary memory of any size is zeroed, writable and has an address for the device or none."""
    pages = (size + uapi.PAGE - 1) // uapi.PAGE * uapi.PAGE
    buffer = device.buffer(uapi.Bo.SHARE, pages) if size == pages else None
    if buffer is None:
        handle = device.create_bo(uapi.Bo.SHARE, size)
        buffer = Buffer(handle, pages, uapi.Bo.SHARE, 0, device.map(handle, pages))
    assert buffer.memory.read(pages) == bytes(pages)
    buffer.memory.write(b"\x5a" * size)
    assert buffer.memory.read(size) == b"\x5a" * size
    record("device_address", device.bo_info(buffer.handle).xdna_addr != uapi.INVALID_ADDR)
    device.free(buffer)


def test_command_buffer(command: Buffer) -> None:
    """A command buffer is mapped and zeroed."""
    assert command.memory.read(uapi.PAGE) == bytes(uapi.PAGE)


def test_dev_buffer(device: Device, heap: Buffer, record: Record) -> None:
    """A DEV buffer lives inside the heap, has no map offset, and the CPU sees it through the heap."""
    handle = device.create_bo(uapi.Bo.DEV, 32768)
    info = device.bo_info(handle)
    record("map_offset", hex(info.map_offset))
    record("vaddr_known", info.vaddr != uapi.INVALID_ADDR)
    assert info.map_offset == uapi.INVALID_ADDR
    assert heap.address <= info.xdna_addr
    assert info.xdna_addr + 32768 <= heap.address + heap.size
    if info.vaddr != uapi.INVALID_ADDR:
        assert info.vaddr - heap.memory.address == info.xdna_addr - heap.address
    device.free(handle)


def test_dev_buffers_do_not_overlap(device: Device, heap: Buffer) -> None:
    """Sixteen DEV buffers have sixteen disjoint places."""
    assert heap.size
    handles = [device.create_bo(uapi.Bo.DEV, 8192) for _turn in range(16)]
    places = sorted(device.bo_info(handle).xdna_addr for handle in handles)
    for handle in handles:
        device.free(handle)
    assert all(second - first >= 8192 for first, second in pairwise(places))


def test_dev_buffer_space_is_reused(device: Device, heap: Buffer) -> None:
    """Half the heap can be taken and given back, twice."""
    for _turn in range(2):
        handle = device.create_bo(uapi.Bo.DEV, heap.size // 2)
        device.free(handle)


def test_dev_buffer_odd_size(device: Device, heap: Buffer) -> None:
    """A DEV buffer of one byte takes a page of its own."""
    assert heap.size
    first, second = device.create_bo(uapi.Bo.DEV, 1), device.create_bo(uapi.Bo.DEV, 1)
    places = [device.bo_info(handle).xdna_addr for handle in (first, second)]
    device.free(first)
    device.free(second)
    assert abs(places[0] - places[1]) >= uapi.PAGE
    assert all(place % uapi.PAGE == 0 for place in places)


@pytest.mark.parametrize("direction", [0, 1], ids=["to-device", "from-device"])
def test_sync_share(device: Device, share: Buffer, direction: int, attempt: Attempt) -> None:
    """Flushing ordinary memory works; from the device it also asks the context of a debug buffer."""
    got = attempt(lambda: device.sync(share.handle, share.size, direction=direction))
    assert got == ("ok" if direction == uapi.Direction.TO_DEVICE else got)
    assert got in ("ok", "EINVAL", "EOPNOTSUPP")


@pytest.mark.parametrize("direction", [2, 0xFFFFFFFF])
def test_sync_direction_is_not_checked(share: Buffer, device: Device, direction: int) -> None:
    """A direction that is none is taken as any other: the driver flushes both ways (all releases)."""
    device.sync(share.handle, share.size, direction=direction)


def test_sync_dev(device: Device, unit: Buffer) -> None:
    """Flushing a DEV buffer works."""
    device.sync(unit.handle, unit.size)


def test_sync_part(device: Device, share: Buffer) -> None:
    """A part of a buffer can be flushed."""
    device.sync(share.handle, 100, offset=5000)


def test_handles_are_not_zero(device: Device) -> None:
    """Zero is never a handle."""
    handle = device.create_bo(uapi.Bo.SHARE, uapi.PAGE)
    assert handle != uapi.INVALID_HANDLE
    device.free(handle)


def test_create_and_close_repeats(device: Device) -> None:
    """A hundred buffers made and closed one after the other leave no handle behind."""
    first = device.create_bo(uapi.Bo.SHARE, uapi.PAGE)
    device.free(first)
    for _turn in range(100):
        handle = device.create_bo(uapi.Bo.SHARE, uapi.PAGE)
        device.free(handle)
    assert device.create_bo(uapi.Bo.SHARE, uapi.PAGE) == first
    device.free(first)


def test_closing_the_client_releases_buffers(node: str) -> None:
    """A client that closes its node without closing its buffers leaves nothing behind."""
    for _turn in range(3):
        with Device(node) as client:
            client.buffer(uapi.Bo.SHARE, MIB)
            client.buffer(uapi.Bo.CMD, uapi.PAGE)


def test_mapping_outlives_the_handle(device: Device) -> None:
    """Memory stays mapped after its handle was closed."""
    handle = device.create_bo(uapi.Bo.SHARE, uapi.PAGE)
    mapping = device.map(handle, uapi.PAGE)
    mapping.write(b"still here")
    device.free(handle)
    assert mapping.read(10) == b"still here"


def test_two_mappings_show_one_memory(device: Device, share: Buffer) -> None:
    """What is written through one mapping is read through the other."""
    second = device.map(share.handle, share.size)
    share.memory.write(b"one memory", 512)
    assert second.read(10, 512) == b"one memory"


def test_user_memory(device: Device, attempt: Attempt) -> None:
    """Memory of the process becomes a buffer (6.18 and later), and stays when the buffer goes."""
    memory = anonymous(4 * uapi.PAGE)
    memory.write(b"mine")
    handles: list[int] = []
    got = attempt(lambda: handles.append(device.wrap(memory.address, memory.size)))
    assert got == "ok"
    device.free(handles[0])
    assert memory.read(4) == b"mine"
    memory.close()


@pytest.mark.suspect(
    "user memory cannot be flushed since 7.3-rc2 and 7.2.7: it counts as imported, is refused by the fix "
    "0ba8e0f90039 and the refusal raises a kernel warning"
)
def test_user_memory_sync(device: Device, attempt: Attempt) -> None:
    """Memory of the process that became a buffer can be flushed as any other buffer."""
    memory = anonymous(4 * uapi.PAGE)
    handle = device.wrap(memory.address, memory.size)
    got = attempt(lambda: device.sync(handle, memory.size))
    device.free(handle)
    memory.close()
    assert got == "ok"


@pytest.mark.negative
@pytest.mark.logs("__kvmalloc_node")  # a length warns as a count does: docs/defects/va-table-count.md
@pytest.mark.parametrize("case", ["unaligned-address", "unaligned-size", "overflow"])
def test_user_memory_refused(device: Device, case: str, attempt: Attempt) -> None:
    """User memory is whole pages that exist."""
    memory = anonymous(4 * uapi.PAGE)
    address, size = {
        "unaligned-address": (memory.address + 8, uapi.PAGE),
        "unaligned-size": (memory.address, uapi.PAGE + 8),
        "overflow": (memory.address, (1 << 64) - uapi.PAGE),
    }[case]
    got = attempt(lambda: device.wrap(address, size))
    memory.close()
    assert got in (("EINVAL",) if case != "overflow" else ("EINVAL", "ENOMEM", "EFAULT"))


@pytest.mark.negative
@pytest.mark.crash
@pytest.mark.suspect("a table entry of no bytes makes the kernel dereference a null page list (Oops), 7.3.4")
def test_user_memory_empty(node: str, record: Record) -> None:
    """A table entry of no bytes is EINVAL. In a child, as the kernel may kill whoever asks."""
    memory = anonymous(uapi.PAGE)

    def ask() -> object:
        with Device(node) as device:
            return device.wrap(memory.address, 0)

    try:
        got = as_user(os.getuid(), ask)
    except ChildError as error:
        got = str(error)
    memory.close()
    record("result", got)
    assert got == "EINVAL"


@pytest.mark.negative
def test_user_memory_unmapped(device: Device, attempt: Attempt) -> None:
    """User memory that is not mapped is EFAULT, or ENOMEM as drivers say that count pinned pages."""
    memory = anonymous(uapi.PAGE)
    address = memory.address
    memory.close()
    assert attempt(lambda: device.wrap(address, uapi.PAGE)) in ("EFAULT", "ENOMEM")


def test_export_and_import(device: Device, share: Buffer, node: str) -> None:
    """A buffer handed to another client as dma-buf is the same memory."""
    share.memory.write(b"shared across clients")
    descriptor = device.export(share.handle)
    try:
        with Device(node) as other:
            handle = other.adopt(descriptor)
            mapping = other.map(handle, share.size)
            assert mapping.read(21) == b"shared across clients"
            mapping.write(b"answered")
            other.free(handle)
    finally:
        os.close(descriptor)
    assert share.memory.read(8) == b"answered"


def test_import_into_the_exporter(device: Device, share: Buffer) -> None:
    """Importing one's own buffer gives its handle back."""
    descriptor = device.export(share.handle)
    try:
        assert device.adopt(descriptor) == share.handle
    finally:
        os.close(descriptor)


@pytest.mark.negative
@pytest.mark.logs("amdxdna_drm_sync_bo_ioctl")
def test_sync_imported(device: Device, share: Buffer, own: Device, attempt: Attempt, expect: Expect) -> None:
    """Flushing an imported buffer is refused since 7.3-rc2 and 7.2.7: the exporter owns its caches."""
    assert _sync_imported(device, share, own, attempt) == expect("sync-imported")


@pytest.mark.negative
@pytest.mark.suspect(
    "refusing to flush an imported buffer raises a kernel warning that any user can cause, 7.3.4"
)
def test_sync_imported_quietly(device: Device, share: Buffer, own: Device, attempt: Attempt) -> None:
    """Whether refused or not, flushing an imported buffer leaves no warning in the kernel log."""
    assert _sync_imported(device, share, own, attempt) in ("ok", "EOPNOTSUPP")


def _sync_imported(device: Device, share: Buffer, other: Device, attempt: Attempt) -> str:
    descriptor = device.export(share.handle)
    try:
        handle = other.adopt(descriptor)
        got = attempt(lambda: other.sync(handle, share.size))
        other.free(handle)
    finally:
        os.close(descriptor)
    return got


@pytest.mark.negative
def test_export_dev_buffer(device: Device, heap: Buffer, attempt: Attempt, expect: Expect) -> None:
    """A buffer inside the heap is not shareable since 7.3 and 7.2.7.

    Descriptor and handle are closed here and now: left to the end of the client, as older kernels allow, the
    buffer is freed after its client (see test_exported_dev_buffer_and_its_client).
    """
    assert heap.size
    handle = device.create_bo(uapi.Bo.DEV, uapi.PAGE)
    descriptors: list[int] = []
    got = attempt(lambda: descriptors.append(device.export(handle)))
    for descriptor in descriptors:
        os.close(descriptor)
    device.free(handle)
    assert got == expect("export-dev-buffer")


@pytest.mark.negative
@pytest.mark.crash
def test_exported_dev_buffer_and_its_client(node: str, record: Record, expect: Expect) -> None:
    """A client ends with an exported heap buffer: without 9480dd7e the kernel uses it after it was freed."""
    assert expect("export-dev-buffer") == "EOPNOTSUPP"

    def end() -> object:
        with Device(node) as client:
            client.heap()
            return client.export(client.create_bo(uapi.Bo.DEV, uapi.PAGE))

    try:
        got = as_user(os.getuid(), end)
    except ChildError as error:
        got = str(error)
    record("result", got)
    assert got == "EOPNOTSUPP"
