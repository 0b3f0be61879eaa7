"""Hardware contexts: created, configured, destroyed, counted, separated; and what is refused."""

from __future__ import annotations

import ctypes
import os

import pytest

from harness.suite import drm, guard, uapi
from harness.suite.device import Buffer, Context, Device
from harness.suite.tests.conftest import Attempt, Expect, Record, Refuse
from harness.suite.tests.test_query import CONTEXTS

NOWHERE = 0x10
UNKNOWN = 0x7FFF0000


def test_create_and_destroy(device: Device, heap: Buffer, tiles: int, record: Record) -> None:
    """A context has a handle and a sync object, neither of them zero."""
    assert heap.size
    context = device.create_context(tiles=tiles)
    record("handle", context.handle)
    assert context.handle != uapi.INVALID_HANDLE
    assert context.syncobj != uapi.INVALID_HANDLE
    device.destroy_context(context)


def test_create_and_destroy_repeats(device: Device, heap: Buffer, tiles: int) -> None:
    """Ten contexts one after the other."""
    assert heap.size
    for _turn in range(10):
        device.destroy_context(device.create_context(tiles=tiles))


@pytest.mark.parametrize("priority", list(uapi.Priority), ids=lambda value: value.name.lower())
def test_priorities(device: Device, heap: Buffer, tiles: int, priority: int) -> None:
    """Each priority is accepted."""
    assert heap.size
    device.destroy_context(device.create_context(tiles=tiles, priority=priority))


def test_whole_array(
    device: Device, heap: Buffer, metadata: uapi.QueryAieMetadata, tiles: int, expect: Expect, record: Record
) -> None:
    """A context over every column is possible, and covers them all."""
    assert heap.size
    context = device.create_context(tiles=tiles * metadata.cols)
    try:
        if expect("get-array") == "ok":
            listed = [entry for entry in device.contexts() if entry.context_id == context.handle]
            assert len(listed) == 1
            record("columns", f"{listed[0].start_col}+{listed[0].num_col}")
            assert listed[0].num_col <= metadata.cols
    finally:
        device.destroy_context(context)


def test_context_limit(
    device: Device, heap: Buffer, tiles: int, pci: guard.PciDevice, record: Record
) -> None:
    """As many contexts as the generation allows exist together, and one more is refused."""
    assert heap.size
    made: list[Context] = []
    refused = ""
    try:
        while len(made) <= CONTEXTS[pci.generation] + 4:
            made.append(device.create_context(tiles=tiles))
    except OSError as error:
        refused = os.strerror(error.errno or 0)
    finally:
        for context in made:
            device.destroy_context(context)
    record("contexts", len(made))
    record("refusal", refused)
    assert len(made) >= 1
    assert len(made) <= CONTEXTS[pci.generation]
    # the place that was refused is free again
    device.destroy_context(device.create_context(tiles=tiles))


def test_closing_the_client_destroys_contexts(node: str, device: Device, tiles: int, expect: Expect) -> None:
    """A client that closes its node leaves no context behind."""
    if expect("get-array") != "ok":
        pytest.skip("contexts cannot be listed on this kernel")
    before = len(device.contexts())
    with Device(node) as client:
        client.heap()
        client.create_context(tiles=tiles)
        assert len(device.contexts()) == before + 1
    assert len(device.contexts()) == before


@pytest.mark.usefixtures("program")
def test_configure(device: Device, bare_context: Context, unit: Buffer) -> None:
    """A context takes a compute unit from a DEV buffer."""
    device.configure(bare_context, [unit.handle])


@pytest.mark.usefixtures("program")
def test_configure_several_units(device: Device, bare_context: Context, unit: Buffer) -> None:
    """A context takes four compute units."""
    device.configure(bare_context, [unit.handle] * 4)


@pytest.mark.negative
def test_configure_twice(device: Device, context: Context, unit: Buffer, attempt: Attempt) -> None:
    """A configured context is not configured again."""
    assert attempt(lambda: device.configure(context, [unit.handle])) == "EINVAL"


@pytest.mark.negative
@pytest.mark.parametrize("handle", [0, UNKNOWN])
def test_configure_unknown_buffer(
    device: Device, bare_context: Context, handle: int, attempt: Attempt
) -> None:
    """A compute unit's buffer must exist; afterwards the context can still be configured."""
    assert attempt(lambda: device.configure(bare_context, [handle])) == "EINVAL"


@pytest.mark.negative
@pytest.mark.usefixtures("program")
def test_configure_share_buffer(
    device: Device, bare_context: Context, share: Buffer, unit: Buffer, attempt: Attempt
) -> None:
    """A compute unit lives in the heap: other memory is EINVAL, and a right one is taken afterwards."""
    assert attempt(lambda: device.configure(bare_context, [share.handle])) == "EINVAL"
    device.configure(bare_context, [unit.handle])


def _configure(context: int, block: bytes, **change: int) -> tuple[uapi.ConfigHwctx, object]:
    memory = ctypes.create_string_buffer(block, len(block))
    wish = {
        "handle": context,
        "param_type": uapi.Config.CU,
        "param_val": ctypes.addressof(memory),
        "param_val_size": len(block),
    } | change
    return uapi.ConfigHwctx(**wish), memory


CONFIGURE: dict[str, tuple[str, bytes, dict[str, int]]] = {
    "pad": ("EINVAL", bytes(16), {"pad": 1}),
    "type-unknown": ("EINVAL", bytes(16), {"param_type": 77}),
    "context-unknown": ("EINVAL", b"\x01" + bytes(15), {"handle": UNKNOWN}),
    "context-zero": ("EINVAL", b"\x01" + bytes(15), {"handle": 0}),
    "unreadable": ("EFAULT", bytes(16), {"param_val": NOWHERE}),
    "too-large": ("E2BIG", bytes(16), {"param_val_size": uapi.PAGE + 1}),
    "no-units": ("EINVAL", bytes(16), {}),
    "units-pad": ("EINVAL", b"\x01\x00\x01" + bytes(13), {}),
    "units-cut": ("EINVAL", b"\x04" + bytes(15), {}),
    "units-empty": ("EINVAL", b"\x01" + bytes(7), {"param_val_size": 0}),
}


@pytest.mark.negative
@pytest.mark.parametrize("name", sorted(CONFIGURE))
def test_configure_refused(bare_context: Context, refuse: Refuse, name: str) -> None:
    """What CONFIG_HWCTX refuses: padding, types, contexts, memory, sizes, counts."""
    error, block, change = CONFIGURE[name]
    argument, memory = _configure(bare_context.handle, block, **change)
    refuse(error, uapi.CONFIG_HWCTX, argument)
    assert memory


CREATE: dict[str, tuple[str, dict[str, int]]] = {
    "ext": ("EINVAL", {"ext": 1}),
    "ext-flags": ("EINVAL", {"ext_flags": 1}),
    "qos-unreadable": ("EFAULT", {"qos_p": NOWHERE}),
    "no-tiles": ("EINVAL", {"num_tiles": 0}),
    "part-of-a-column": ("EINVAL", {"num_tiles": 1}),
    "too-many-tiles": ("EINVAL", {"num_tiles": 4096}),
    "tiles-overflow": ("EINVAL", {"num_tiles": 0xFFFFFFFF}),
}


@pytest.mark.negative
@pytest.mark.parametrize("name", sorted(CREATE))
def test_create_refused(heap: Buffer, tiles: int, refuse: Refuse, name: str) -> None:
    """What CREATE_HWCTX refuses: reserved fields, unreadable wishes, sizes the array does not have."""
    assert heap.size
    error, change = CREATE[name]
    qos = uapi.QosInfo(priority=uapi.Priority.NORMAL)
    wish = {"qos_p": ctypes.addressof(qos), "max_opc": 2048, "num_tiles": tiles} | change
    refuse(error, uapi.CREATE_HWCTX, uapi.CreateHwctx(**wish))


@pytest.mark.negative
def test_create_impossible_service(
    device: Device, heap: Buffer, tiles: int, attempt: Attempt, expect: Expect
) -> None:
    """A quality of service beyond the device is EINVAL where the driver looks at it."""
    assert heap.size
    made: list[Context] = []
    got = attempt(lambda: made.append(device.create_context(tiles=tiles, gops=1_000_000, fps=1000)))
    for context in made:
        device.destroy_context(context)
    assert got == expect("impossible-service")


@pytest.mark.negative
def test_create_without_heap(own: Device, tiles: int, attempt: Attempt) -> None:
    """A context needs its client's heap: ENOENT without."""
    assert attempt(lambda: own.create_context(tiles=tiles)) == "ENOENT"


DESTROY = {"unknown": {"handle": UNKNOWN}, "zero": {"handle": 0}, "all-ones": {"handle": 0xFFFFFFFF}}


@pytest.mark.negative
@pytest.mark.parametrize("name", sorted(DESTROY))
def test_destroy_unknown(refuse: Refuse, name: str) -> None:
    """Destroying what does not exist is EINVAL."""
    refuse("EINVAL", uapi.DESTROY_HWCTX, uapi.DestroyHwctx(**DESTROY[name]))


@pytest.mark.negative
def test_destroy_padding(bare_context: Context, refuse: Refuse) -> None:
    """Padding must be zero, and the context stays."""
    refuse("EINVAL", uapi.DESTROY_HWCTX, uapi.DestroyHwctx(handle=bare_context.handle, pad=1))


@pytest.mark.negative
def test_destroy_twice(device: Device, heap: Buffer, tiles: int, refuse: Refuse) -> None:
    """A destroyed context is gone."""
    assert heap.size
    context = device.create_context(tiles=tiles)
    device.destroy_context(context)
    refuse("EINVAL", uapi.DESTROY_HWCTX, uapi.DestroyHwctx(handle=context.handle))


@pytest.mark.negative
def test_destroy_foreign(own: Device, bare_context: Context, refuse: Refuse) -> None:
    """Another client's context cannot be destroyed."""
    refuse("EINVAL", uapi.DESTROY_HWCTX, uapi.DestroyHwctx(handle=bare_context.handle), on=own)


def test_sync_object_outlives_its_context(device: Device, heap: Buffer, tiles: int) -> None:
    """The sync object belongs to user space and is closed by it."""
    assert heap.size
    context = device.create_context(tiles=tiles)
    device.ioctl(uapi.DESTROY_HWCTX, uapi.DestroyHwctx(handle=context.handle))
    device.ioctl(drm.SYNCOBJ_DESTROY, drm.SyncobjDestroy(handle=context.syncobj))


def _debug(device: Device, context: Context, kind: int, handle: int) -> None:
    device.ioctl(
        uapi.CONFIG_HWCTX,
        uapi.ConfigHwctx(handle=context.handle, param_type=kind, param_val=handle),
    )


def test_debug_buffer(
    device: Device, context: Context, heap: Buffer, attempt: Attempt, expect: Expect
) -> None:
    """A DEV buffer becomes the context's debug buffer and ceases to be it (6.19 and later)."""
    assert heap.size
    handle = device.create_bo(uapi.Bo.DEV, uapi.PAGE)
    try:
        got = attempt(lambda: _debug(device, context, uapi.Config.ASSIGN_DBG_BUF, handle), "assign")
        assert got == expect("debug-buffer")
        if got == "ok":
            busy = attempt(lambda: _debug(device, context, uapi.Config.ASSIGN_DBG_BUF, handle), "again")
            _debug(device, context, uapi.Config.REMOVE_DBG_BUF, handle)
            assert busy == "EBUSY"
    finally:
        device.free(handle)


@pytest.mark.negative
@pytest.mark.parametrize("kind", [1, 2], ids=["assign", "remove"])
def test_debug_buffer_unknown(
    device: Device, context: Context, kind: int, attempt: Attempt, expect: Expect
) -> None:
    """A debug buffer must exist."""
    if expect("debug-buffer") != "ok":
        pytest.skip("no debug buffers on this kernel")
    assert attempt(lambda: _debug(device, context, kind, UNKNOWN)) == "EINVAL"


@pytest.mark.negative
def test_debug_buffer_not_assigned(
    device: Device, context: Context, unit: Buffer, attempt: Attempt, expect: Expect
) -> None:
    """A buffer that is not the debug buffer cannot be taken away."""
    if expect("debug-buffer") != "ok":
        pytest.skip("no debug buffers on this kernel")
    assert attempt(lambda: _debug(device, context, uapi.Config.REMOVE_DBG_BUF, unit.handle)) == "EINVAL"
