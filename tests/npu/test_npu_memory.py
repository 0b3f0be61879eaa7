"""Guest memory: windows, and the reach of a device that is lied to."""

from __future__ import annotations

import errno
import gc
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.npu.memory import ADDRESSES, PAGE, DmaError, GuestMemory
from lab.npu.protocol import DmaMap, DmaUnmap, RequestError
from tests.npu.fake_client import GuestRam

PAGES = 32


@pytest.fixture
def ram() -> Iterator[GuestRam]:
    made = GuestRam(PAGES * PAGE)
    yield made
    made.close()


def window(address: int, size: int = PAGE, offset: int = 0, *, flags: str = "rw") -> DmaMap:
    return DmaMap(offset, address, size, "r" in flags, "w" in flags)


def open_files() -> int:
    gc.collect()  # of devices of other tests
    return len(list(Path("/proc/self/fd").iterdir()))


@settings(max_examples=150)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 63), st.integers(1, 12)), max_size=40), st.randoms())
def test_windows_behave_like_a_table_of_pages(
    steps: list[tuple[bool, int, int]], chance: random.Random
) -> None:
    """Against the obvious model: a dict from page to file offset."""
    ram = GuestRam(PAGES * PAGE)
    for page in range(PAGES):
        ram.bytes[page * PAGE] = page
    memory, model = GuestMemory(), dict[int, int]()
    try:
        for add, start, count in steps:
            pages = range(start, start + count)
            if not add:
                memory.unmap(DmaUnmap(start * PAGE, count * PAGE))
                for page in pages:
                    model.pop(page, None)
                continue
            offset = chance.randrange(PAGES - count + 1)
            clash = any(page in model for page in pages)
            asked = window(start * PAGE, count * PAGE, offset * PAGE)
            if clash:
                with pytest.raises(RequestError) as caught:
                    memory.map(asked, ram.fd)
                assert caught.value.number == errno.EEXIST
            else:
                memory.map(asked, ram.fd)
                model |= {page: offset + index for index, page in enumerate(pages)}
        for page in range(80):
            if page in model:
                assert memory.read(page * PAGE, 1)[0] == model[page]
            else:
                with pytest.raises(DmaError):
                    memory.read(page * PAGE, 1)
        assert memory.files == (1 if model else 0)
    finally:
        memory.clear()
        ram.close()


def test_data_crosses_windows(ram: GuestRam) -> None:
    memory = GuestMemory()
    memory.map(window(0x10000, PAGE, 5 * PAGE), ram.fd)
    memory.map(window(0x11000, 2 * PAGE, 0), ram.fd)
    data = bytes(range(256)) * 20
    memory.write(0x10F00, data)
    assert memory.read(0x10F00, len(data)) == data
    assert ram.bytes[6 * PAGE - 256 : 6 * PAGE] == data[:256]
    assert ram.bytes[: len(data) - 256] == data[256:]
    memory.clear()


def test_a_write_that_leaves_its_window_writes_nothing(ram: GuestRam) -> None:
    memory = GuestMemory()
    memory.map(window(0x10000), ram.fd)
    with pytest.raises(DmaError):
        memory.write(0x10FF0, b"x" * 32)
    assert ram.bytes[:PAGE] == bytes(PAGE)
    memory.clear()


def test_read_only_and_write_only_windows(ram: GuestRam) -> None:
    memory = GuestMemory()
    memory.map(window(0x1000, flags="r"), ram.fd)
    memory.map(window(0x3000, flags="w"), ram.fd)
    with pytest.raises(DmaError, match="not writeable"):
        memory.write(0x1000, b"x")
    with pytest.raises(DmaError, match="not readable"):
        memory.read(0x3000, 1)
    memory.clear()


@pytest.mark.parametrize(
    ("asked", "number"),
    [
        (window(0x1000, 0), errno.EINVAL),
        (window(0x1001), errno.EINVAL),
        (window(0x1000, 0x800), errno.EINVAL),
        (window(0x1000, PAGE, 0x10), errno.EINVAL),
        (window(ADDRESSES - PAGE, 2 * PAGE), errno.EINVAL),
        (window(0x1000, PAGE, PAGES * PAGE), errno.EINVAL),
        (window(0x1000, 1 << 62), errno.EINVAL),
    ],
)
def test_windows_that_cannot_be_are_declined(ram: GuestRam, asked: DmaMap, number: int) -> None:
    memory = GuestMemory()
    before = open_files()
    with pytest.raises(RequestError) as caught:
        memory.map(asked, ram.fd)
    assert caught.value.number == number
    assert memory.windows == 0
    assert open_files() == before


def test_a_pipe_is_no_memory() -> None:
    read, write = os.pipe()
    with pytest.raises(RequestError):
        GuestMemory().map(window(0x1000), read)
    os.close(read)
    os.close(write)


def test_thousands_of_windows_of_one_file_hold_one_descriptor(ram: GuestRam) -> None:
    """A 64 MiB heap behind an IOMMU comes as 16,384 windows: a descriptor each would end at ulimit 1024."""
    memory = GuestMemory()
    before = open_files()
    for page in range(16384):
        memory.map(window((0x100000 + page) * PAGE, PAGE, page % PAGES * PAGE), ram.fd)
    assert (memory.windows, memory.files, open_files()) == (16384, 1, before + 1)
    memory.unmap(DmaUnmap(0, 1 << 63))
    assert (memory.windows, memory.files, open_files()) == (0, 0, before)


def test_a_file_that_shrinks_is_a_dma_error_and_no_crash(ram: GuestRam) -> None:
    memory = GuestMemory()
    memory.map(window(0x1000, 4 * PAGE), ram.fd)
    os.ftruncate(ram.fd, PAGE)
    assert memory.read(0x1000, PAGE) == bytes(PAGE)
    with pytest.raises(DmaError, match="shrank"):
        memory.read(0x2000, PAGE)
    with pytest.raises(DmaError, match="shrank"):
        memory.write(0x2000, b"x")
    assert os.fstat(ram.fd).st_size == PAGE
    memory.clear()


def test_a_file_opened_read_only_cannot_be_written(ram: GuestRam) -> None:
    fd = os.open(f"/proc/self/fd/{ram.fd}", os.O_RDONLY)
    memory = GuestMemory()
    memory.map(window(0x1000), fd)
    os.close(fd)
    with pytest.raises(DmaError, match="cannot be written"):
        memory.write(0x1000, b"x")
    memory.clear()


def test_clear_closes_everything(ram: GuestRam) -> None:
    memory = GuestMemory()
    before = open_files()
    memory.map(window(0x1000), ram.fd)
    memory.clear()
    assert open_files() == before
    with pytest.raises(DmaError):
        memory.read(0x1000, 1)
