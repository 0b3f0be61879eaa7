"""GET_ARRAY: contexts, the last asynchronous error, buffer usage; and what it refuses."""

from __future__ import annotations

import ctypes
import os

import pytest

from harness.suite import guard, uapi
from harness.suite.device import Buffer, Context, Device, anonymous
from harness.suite.tests.conftest import Attempt, Expect, Record, Refuse

NOWHERE = 0x10
ENTRY = ctypes.sizeof(uapi.HwctxEntry)


@pytest.fixture(autouse=True)
def _known(expect: Expect) -> None:
    if expect("get-array") != "ok":
        pytest.skip("no GET_ARRAY on this kernel")


def _ours(device: Device, context: Context) -> uapi.HwctxEntry:
    found = [
        entry
        for entry in device.contexts()
        if entry.pid == os.getpid() and entry.context_id == context.handle
    ]
    assert len(found) == 1
    return found[0]


def test_context_list(device: Device, bare_context: Context, pci: guard.PciDevice, record: Record) -> None:
    """The list has our context with pid, columns and an address space."""
    entry = _ours(device, bare_context)
    record("columns", f"{entry.start_col}+{entry.num_col}")
    record("state", entry.state)
    record("shared_addresses", entry.pasid not in (0, 0xFFFFFFFF))
    assert entry.num_col >= 1
    assert entry.start_col + entry.num_col <= 8, pci.generation
    assert entry.pad == 0


def test_context_list_without_any(own: Device) -> None:
    """Without contexts of ours the list has none of ours."""
    mine = [entry for entry in own.contexts() if entry.pid == os.getpid()]
    assert mine == []


def test_context_list_qos(device: Device, heap: Buffer, tiles: int, record: Record) -> None:
    """The quality of service that was asked for comes back."""
    assert heap.size
    context = device.create_context(tiles=tiles, priority=uapi.Priority.HIGH, gops=10, fps=30, latency=50)
    try:
        entry = _ours(device, context)
    finally:
        device.destroy_context(context)
    record("priority", entry.priority)
    assert (entry.gops, entry.fps, entry.latency) == (10, 30, 50)
    assert entry.priority == uapi.Priority.HIGH


def test_context_list_short_element(device: Device, bare_context: Context) -> None:
    """An element shorter than the structure gets its beginning."""
    room = (ctypes.c_uint8 * (16 * 8))(*[0xEE] * 128)
    argument = uapi.GetArray(
        param=uapi.Array.HW_CONTEXT_ALL, element_size=16, num_element=8, buffer=ctypes.addressof(room)
    )
    device.ioctl(uapi.GET_ARRAY, argument)
    assert argument.element_size == 16
    count = argument.num_element
    assert count >= 1
    handles = [int.from_bytes(bytes(room[16 * index : 16 * index + 4]), "little") for index in range(count)]
    assert bare_context.handle in handles
    assert set(room[16 * count :]) <= {0xEE}


def test_context_list_long_element(device: Device, bare_context: Context) -> None:
    """An element longer than the structure is answered with the structure's own size."""
    room = ctypes.create_string_buffer(b"\xee" * uapi.PAGE, uapi.PAGE)
    argument = uapi.GetArray(
        param=uapi.Array.HW_CONTEXT_ALL, element_size=uapi.PAGE, num_element=1, buffer=ctypes.addressof(room)
    )
    device.ioctl(uapi.GET_ARRAY, argument)
    assert argument.element_size == ENTRY
    assert argument.num_element >= 1
    assert bare_context.handle


def test_context_list_at_the_limits(device: Device, bare_context: Context) -> None:
    """The largest element and the largest count are taken together, and ours is in the list."""
    room = anonymous(uapi.MAX_ELEMENT_SIZE * uapi.MAX_ELEMENTS)
    argument = uapi.GetArray(
        param=uapi.Array.HW_CONTEXT_ALL,
        element_size=uapi.MAX_ELEMENT_SIZE,
        num_element=uapi.MAX_ELEMENTS,
        buffer=room.address,
    )
    device.ioctl(uapi.GET_ARRAY, argument)
    handles = [room.word(ENTRY * index // 4) for index in range(argument.num_element)]
    room.close()
    assert argument.element_size == ENTRY
    assert bare_context.handle in handles


def test_async_error_none(device: Device, attempt: Attempt, expect: Expect, record: Record) -> None:
    """A healthy device reports no asynchronous error, or the last one since its start."""
    error = uapi.AsyncError()
    got = attempt(lambda: device.array(uapi.Array.LAST_ASYNC_ERR, error))
    assert got == expect("async-error")
    record("err_code", hex(error.err_code))


def test_bo_usage_of_this_process(
    device: Device, heap: Buffer, share: Buffer, attempt: Attempt, expect: Expect, record: Record
) -> None:
    """Usage counts the heap and ordinary buffers of a process."""
    usage = uapi.BoUsage(pid=os.getpid())
    got = attempt(lambda: device.array(uapi.Array.BO_USAGE, usage))
    assert got == expect("bo-usage")
    if got != "ok":
        return
    record("total", usage.total_usage)
    record("internal", usage.internal_usage)
    record("heap", usage.heap_usage)
    assert usage.total_usage >= heap.size + share.size
    assert usage.internal_usage >= heap.size


def test_bo_usage_grows_and_shrinks(device: Device, expect: Expect) -> None:
    """A buffer is counted while it exists, and no longer."""
    if expect("bo-usage") != "ok":
        pytest.skip("no BO_USAGE on this kernel")

    def total() -> int:
        usage, _count = device.array(uapi.Array.BO_USAGE, uapi.BoUsage(pid=os.getpid()))
        return int(usage.total_usage)

    before = total()
    buffer = device.buffer(uapi.Bo.SHARE, 1 << 20)
    assert total() == before + (1 << 20)
    device.free(buffer)
    assert total() == before


def test_bo_usage_of_nobody(device: Device, attempt: Attempt, expect: Expect) -> None:
    """A process without the device uses nothing."""
    if expect("bo-usage") != "ok":
        pytest.skip("no BO_USAGE on this kernel")
    usage = uapi.BoUsage(pid=1)
    attempt(lambda: device.array(uapi.Array.BO_USAGE, usage))
    assert (usage.total_usage, usage.internal_usage, usage.heap_usage) == (0, 0, 0)


REFUSED = {
    "pad": ("EINVAL", {"pad": 1}),
    "no-elements": ("EINVAL", {"num_element": 0}),
    "no-size": ("EINVAL", {"element_size": 0}),
    "size-over-limit": ("EINVAL", {"element_size": uapi.MAX_ELEMENT_SIZE + 1}),
    "count-over-limit": ("EINVAL", {"num_element": uapi.MAX_ELEMENTS + 1}),
    "size-overflow": ("EINVAL", {"element_size": 0x80000001, "num_element": 2}),
    "unknown": ("EOPNOTSUPP", {"param": 98}),
    "unknown-high": ("EOPNOTSUPP", {"param": 0xFFFFFFFF}),
}


@pytest.mark.negative
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused(refuse: Refuse, name: str) -> None:
    """Padding, sizes, counts and parameters that are not allowed."""
    error, change = REFUSED[name]
    room = (uapi.HwctxEntry * 4)()
    wish = {
        "param": uapi.Array.HW_CONTEXT_ALL,
        "element_size": ENTRY,
        "num_element": 4,
        "buffer": ctypes.addressof(room),
    } | change
    refuse(error, uapi.GET_ARRAY, uapi.GetArray(**wish))
    assert not any(bytes(room))


@pytest.mark.negative
@pytest.mark.suspect("the list of contexts answers success although it could not be written: EFAULT is lost")
def test_context_list_bad_address(device: Device, bare_context: Context, attempt: Attempt) -> None:
    """A list with something in it and nowhere to put it is EFAULT."""
    assert bare_context.handle
    argument = uapi.GetArray(
        param=uapi.Array.HW_CONTEXT_ALL, element_size=ENTRY, num_element=4, buffer=NOWHERE
    )
    assert attempt(lambda: device.ioctl(uapi.GET_ARRAY, argument)) == "EFAULT"


@pytest.mark.negative
def test_async_error_bad_address(refuse: Refuse, expect: Expect) -> None:
    """The last error at an address outside the process is EFAULT."""
    if expect("async-error") != "ok":
        pytest.skip("no LAST_ASYNC_ERR on this kernel")
    argument = uapi.GetArray(param=uapi.Array.LAST_ASYNC_ERR, element_size=24, num_element=1, buffer=NOWHERE)
    refuse("EFAULT", uapi.GET_ARRAY, argument)


@pytest.mark.negative
@pytest.mark.parametrize(
    ("pid", "count", "error"),
    [(0, 1, "EINVAL"), (1, 2, "EINVAL")],
    ids=["no-pid", "two-elements"],
)
def test_bo_usage_refused(refuse: Refuse, expect: Expect, pid: int, count: int, error: str) -> None:
    """Usage is of one process, and one must be named."""
    if expect("bo-usage") != "ok":
        pytest.skip("no BO_USAGE on this kernel")
    usage = (uapi.BoUsage * 2)(uapi.BoUsage(pid=pid), uapi.BoUsage(pid=pid))
    argument = uapi.GetArray(
        param=uapi.Array.BO_USAGE, element_size=32, num_element=count, buffer=ctypes.addressof(usage)
    )
    refuse(error, uapi.GET_ARRAY, argument)


@pytest.mark.negative
def test_bo_usage_bad_address(refuse: Refuse, expect: Expect) -> None:
    """Usage at an address outside the process is EFAULT."""
    if expect("bo-usage") != "ok":
        pytest.skip("no BO_USAGE on this kernel")
    argument = uapi.GetArray(param=uapi.Array.BO_USAGE, element_size=32, num_element=1, buffer=NOWHERE)
    refuse("EFAULT", uapi.GET_ARRAY, argument)
