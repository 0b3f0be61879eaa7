"""CREATE_BO, GET_BO_INFO, SYNC_BO, mmap refused."""

from __future__ import annotations

import ctypes

import pytest

from harness.suite import drm, uapi
from harness.suite.device import Buffer, Device
from harness.suite.tests.conftest import Attempt, Expect, Refuse

pytestmark = pytest.mark.negative
NOWHERE = 0x10
UNKNOWN = 0x7FFF0000

CREATE: dict[str, dict[str, int]] = {
    "flags": {"flags": 1},
    "flags-high": {"flags": 1 << 63},
    "type-invalid": {"type": uapi.Bo.INVALID},
    "type-unknown": {"type": 77},
    "type-huge": {"type": 0xFFFFFFFF},
    "heap-not-multiple": {"type": uapi.Bo.DEV_HEAP, "size": uapi.HEAP_CHUNK + uapi.PAGE},
    "dev-empty": {"type": uapi.Bo.DEV, "size": 0},
    "va-table-unreadable": {"vaddr": NOWHERE},
}


@pytest.mark.parametrize("name", sorted(CREATE))
def test_create_refused(own: Device, refuse: Refuse, name: str) -> None:
    """Flags, types, sizes and tables that are not allowed are EINVAL."""
    wish = {"type": uapi.Bo.SHARE, "size": uapi.PAGE} | CREATE[name]
    refuse("EINVAL", uapi.CREATE_BO, uapi.CreateBo(**wish), on=own)


@pytest.mark.parametrize("kind", [uapi.Bo.SHARE, uapi.Bo.CMD], ids=["share", "command"])
def test_create_empty(device: Device, kind: int, attempt: Attempt) -> None:
    """A buffer of no bytes is refused with the allocator's errno: EINVAL, or ENOSPC where it maps IOVAs."""
    assert attempt(lambda: device.create_bo(kind, 0)) in ("EINVAL", "ENOSPC")


def test_heap_of_no_bytes(own: Device, attempt: Attempt) -> None:
    """An empty heap is refused; ENOSPC is the allocator's word for it in older drivers."""
    assert attempt(lambda: own.create_bo(uapi.Bo.DEV_HEAP, 0)) in ("EINVAL", "ENOSPC")


def test_heap_of_one_page(own: Device, attempt: Attempt, expect: Expect) -> None:
    """A heap is a multiple of 64 MiB since 7.1; smaller ones were taken before."""
    assert attempt(lambda: own.create_bo(uapi.Bo.DEV_HEAP, uapi.PAGE)) == expect("heap-odd-size")


def test_dev_without_heap(own: Device, attempt: Attempt) -> None:
    """A DEV buffer without a heap is refused: EAGAIN, or EINVAL as older drivers say."""
    got = attempt(lambda: own.create_bo(uapi.Bo.DEV, uapi.PAGE))
    assert got in ("EAGAIN", "EINVAL")


def test_dev_larger_than_heap(device: Device, heap: Buffer, attempt: Attempt) -> None:
    """A DEV buffer larger than the heap is refused: more heap is asked for, or there is no room."""
    got = attempt(lambda: device.create_bo(uapi.Bo.DEV, heap.size + uapi.PAGE))
    assert got in ("EAGAIN", "EINVAL", "ENOSPC")


@pytest.mark.suspect(
    "7.1: refusing a second heap takes down the allocator of the first, with a kernel warning"
)
def test_second_heap(device: Device, heap: Buffer, attempt: Attempt, expect: Expect) -> None:
    """A second heap is refused where the heap cannot grow."""
    assert heap.size
    if expect("second-heap") == "ok":
        pytest.skip("the heap may grow on this kernel and device: see test_limits.py")
    assert attempt(lambda: device.create_bo(uapi.Bo.DEV_HEAP, uapi.HEAP_CHUNK)) == expect("second-heap")


def test_huge_share(device: Device, attempt: Attempt) -> None:
    """More memory than any address space is refused and the machine goes on."""
    got = attempt(lambda: device.create_bo(uapi.Bo.SHARE, 1 << 62))
    assert got in ("ENOMEM", "EINVAL", "ENOSPC", "EFBIG")


def test_size_wraps(device: Device, attempt: Attempt) -> None:
    """A size that rounds up to nothing is refused."""
    got = attempt(lambda: device.create_bo(uapi.Bo.SHARE, (1 << 64) - 1))
    assert got in ("ENOMEM", "EINVAL", "ENOSPC", "EFBIG")


def test_va_table_of_unreadable_entries(device: Device, attempt: Attempt) -> None:
    """A table that says more entries than can be read is refused."""
    table = uapi.VaTable(num_entries=1 << 20)
    address = ctypes.addressof(table)
    got = attempt(lambda: device.create_bo(uapi.Bo.SHARE, uapi.PAGE, vaddr=address))
    assert got in ("EINVAL", "EFAULT")


@pytest.mark.suspect(
    "the count of a va_table is not bounded: any user can cause a kernel warning (kvmalloc), 7.3.4"
)
def test_va_table_count_overflow(device: Device, attempt: Attempt) -> None:
    """A count whose bytes overflow is refused."""
    table = uapi.VaTable(num_entries=0xFFFFFFFF)
    address = ctypes.addressof(table)
    got = attempt(lambda: device.create_bo(uapi.Bo.SHARE, uapi.PAGE, vaddr=address))
    assert got in ("EINVAL", "EFAULT", "ENOMEM", "E2BIG")


@pytest.mark.parametrize("descriptor", [-1, 0x7FFF])
def test_va_table_bad_descriptor(device: Device, descriptor: int, attempt: Attempt) -> None:
    """A table without entries names a dma-buf: a descriptor that is none is EBADF."""
    table = uapi.VaTable(dmabuf_fd=descriptor)
    address = ctypes.addressof(table)
    assert attempt(lambda: device.create_bo(uapi.Bo.SHARE, uapi.PAGE, vaddr=address)) == "EBADF"


@pytest.mark.parametrize("field", ["ext", "ext_flags", "pad"])
def test_info_reserved_fields(share: Buffer, refuse: Refuse, field: str) -> None:
    """Reserved fields must be zero."""
    refuse("EINVAL", uapi.GET_BO_INFO, uapi.GetBoInfo(handle=share.handle, **{field: 1}))


@pytest.mark.parametrize("handle", [0, UNKNOWN, 0xFFFFFFFF])
def test_info_unknown_handle(refuse: Refuse, handle: int) -> None:
    """A handle that is none is ENOENT."""
    refuse("ENOENT", uapi.GET_BO_INFO, uapi.GetBoInfo(handle=handle))


def test_info_closed_handle(device: Device, refuse: Refuse) -> None:
    """A handle that was closed is ENOENT."""
    handle = device.create_bo(uapi.Bo.SHARE, uapi.PAGE)
    device.free(handle)
    refuse("ENOENT", uapi.GET_BO_INFO, uapi.GetBoInfo(handle=handle))


def test_info_foreign_handle(own: Device, share: Buffer, refuse: Refuse) -> None:
    """Another client's handle is ENOENT."""
    refuse("ENOENT", uapi.GET_BO_INFO, uapi.GetBoInfo(handle=share.handle), on=own)


def test_close_unknown_handle(refuse: Refuse) -> None:
    """Closing a handle that is none is EINVAL (DRM core)."""
    refuse("EINVAL", drm.GEM_CLOSE, drm.GemClose(handle=UNKNOWN))


@pytest.mark.parametrize("handle", [0, UNKNOWN])
def test_sync_unknown_handle(refuse: Refuse, handle: int) -> None:
    """Flushing a handle that is none is ENOENT."""
    refuse("ENOENT", uapi.SYNC_BO, uapi.SyncBo(handle=handle, size=64))


OUTSIDE = {"at-the-end": (65536, 64), "far-outside": (1 << 40, 64), "wraps": (4096, (1 << 64) - 64)}


@pytest.mark.logs("amdxdna_drm_sync_bo_ioctl")
@pytest.mark.parametrize("name", sorted(OUTSIDE))
def test_sync_outside(share: Buffer, refuse: Refuse, name: str, expect: Expect) -> None:
    """Flushing outside a buffer is EINVAL; before 7.2 the whole buffer was flushed."""
    offset, size = OUTSIDE[name]
    refuse(expect("sync-outside"), uapi.SYNC_BO, uapi.SyncBo(handle=share.handle, offset=offset, size=size))


@pytest.mark.suspect("refusing a flush outside its buffer raises a kernel warning any user can cause, 7.3.4")
def test_sync_outside_quietly(device: Device, share: Buffer, attempt: Attempt) -> None:
    """A refused flush leaves no warning in the kernel log."""
    attempt(lambda: device.sync(share.handle, 64, offset=1 << 40))


def test_export_unknown_handle(refuse: Refuse) -> None:
    """Exporting a handle that is none is ENOENT."""
    refuse("ENOENT", drm.PRIME_HANDLE_TO_FD, drm.PrimeHandle(handle=UNKNOWN, fd=-1))


def test_import_no_dma_buf(device: Device, refuse: Refuse) -> None:
    """Importing a descriptor that is no dma-buf is EINVAL."""
    with open("/dev/null", "rb") as file:  # noqa: PTH123 - its descriptor is what counts
        refuse("EINVAL", drm.PRIME_FD_TO_HANDLE, drm.PrimeHandle(fd=file.fileno()), on=device)


def test_map_beyond_the_end(device: Device, attempt: Attempt) -> None:
    """A mapping larger than its buffer is refused."""
    handle = device.create_bo(uapi.Bo.SHARE, uapi.PAGE)
    got = attempt(lambda: device.map(handle, 64 * uapi.PAGE))
    device.free(handle)
    assert got == "EINVAL"


def test_map_unknown_offset(device: Device, attempt: Attempt) -> None:
    """An offset that no buffer has is refused."""
    got = attempt(lambda: device.map_at(0x7F0000000000, uapi.PAGE))
    assert got in ("EINVAL", "EACCES")


def test_map_foreign_buffer(own: Device, device: Device, share: Buffer, attempt: Attempt) -> None:
    """The map offset of another client's buffer is EACCES."""
    offset = device.bo_info(share.handle).map_offset
    assert attempt(lambda: own.map_at(offset, uapi.PAGE)) == "EACCES"
