"""Guest memory as the device may see it: the windows the client mapped, and nothing else.

Backing files are read and written with pread and pwrite, one open file for each (device, inode): a client
that shrinks its file then gives a short read here, where a mapping would give SIGBUS. Pages are indexed,
since a 64 MiB heap behind an IOMMU arrives as 16,384 windows of one page (facts section 2). Windows that
come without a file are reached through the client itself (DMA_READ and DMA_WRITE messages).
"""

from __future__ import annotations

import bisect
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from lab.npu.protocol import DmaMap, DmaUnmap, RequestError

PAGE = 0x1000
ADDRESSES = 1 << 64
MAX_WINDOWS = 1 << 18  # 1 GiB of single pages
MAX_FILES = 64


class DmaError(Exception):
    """The device reached for memory it may not touch; on hardware the IOMMU would report a fault."""

    def __init__(self, address: int, size: int, reason: str) -> None:
        super().__init__(f"DMA of {size} bytes at {address:#x}: {reason}")
        self.address = address
        self.size = size
        self.reason = reason


class RemoteMemory(Protocol):
    """Guest memory by message, for windows without a file. Both raise DmaError."""

    def dma_read(self, address: int, size: int) -> bytes: ...

    def dma_write(self, address: int, data: bytes) -> None: ...


@dataclass
class _File:
    key: tuple[int, int]
    fd: int
    users: int = 0


@dataclass(frozen=True)
class _Window:
    address: int
    size: int
    offset: int
    file: _File | None
    readable: bool
    writeable: bool

    @property
    def end(self) -> int:
        return self.address + self.size


class GuestMemory:
    """The windows of one client. Owns the file descriptors it keeps and closes them in ``clear``."""

    def __init__(self, remote: RemoteMemory | None = None) -> None:
        self._remote = remote
        self._pages: dict[int, _Window] = {}
        self._ranges: list[_Window] = []  # more than a page each; sorted, disjoint
        self._files: dict[tuple[int, int], _File] = {}

    @property
    def windows(self) -> int:
        """How many windows are mapped."""
        return len(self._pages) + len(self._ranges)

    @property
    def files(self) -> int:
        """How many backing files are held open."""
        return len(self._files)

    def map(self, window: DmaMap, fd: int | None) -> None:
        """Add a window. The caller keeps ``fd``: what is needed of it is duplicated.

        Raises RequestError: EINVAL for sizes, alignment or files that cannot be, EEXIST for an overlap,
        ENOSPC when there are too many windows or files.
        """
        if window.size == 0 or (window.address | window.size | window.offset) % PAGE:
            raise RequestError(
                errno.EINVAL, f"window {window.address:#x}+{window.size:#x} is not whole pages"
            )
        if window.address + window.size > ADDRESSES:
            raise RequestError(errno.EINVAL, f"window {window.address:#x}+{window.size:#x} leaves 64 bits")
        if self.windows >= MAX_WINDOWS:
            raise RequestError(errno.ENOSPC, f"more than {MAX_WINDOWS} windows")
        if self._overlaps(window.address, window.size):
            raise RequestError(errno.EEXIST, f"window {window.address:#x}+{window.size:#x} is mapped already")
        file = None if fd is None else self._file(fd, window)
        entry = _Window(window.address, window.size, window.offset, file, window.readable, window.writeable)
        self._insert(entry)

    def unmap(self, gone: DmaUnmap) -> int:
        """Remove everything within the range and cut what reaches into it; returns how many windows it met.

        A range that was never mapped is fine: QEMU unmaps whole address spaces (facts section 5.1).
        Raises RequestError(EINVAL) for a range that is not whole pages.
        """
        if gone.size == 0 or (gone.address | gone.size) % PAGE or gone.address + gone.size > ADDRESSES:
            raise RequestError(errno.EINVAL, f"range {gone.address:#x}+{gone.size:#x} is not whole pages")
        end = gone.address + gone.size
        met = [*self._pages_within(gone.address, end), *self._ranges_within(gone.address, end)]
        for window in met:
            self._remove(window)
            for low, high in ((window.address, gone.address), (end, window.end)):
                if low < high:
                    offset = window.offset + low - window.address
                    self._insert(replace(window, address=low, size=high - low, offset=offset))
            self._release(window.file)
        return len(met)

    def read(self, address: int, size: int) -> bytes:
        """Bytes of guest memory. Raises DmaError when any of them is out of reach."""
        parts = []
        for window, start, count in self._spans(address, size):
            if not window.readable:
                raise DmaError(start, count, "the window is not readable")
            if window.file is None:
                parts.append(self._from_client().dma_read(start, count))
                continue
            parts.append(self._pread(window, window.file, start, count))
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Write guest memory; nothing is written unless all of it is within writeable windows."""
        spans = list(self._spans(address, len(data)))
        for window, start, count in spans:
            if not window.writeable:
                raise DmaError(start, count, "the window is not writeable")
        done = 0
        for window, start, count in spans:
            part = data[done : done + count]
            done += count
            if window.file is None:
                self._from_client().dma_write(start, part)
            else:
                self._pwrite(window, window.file, start, part)

    def write_beyond(self, address: int, data: bytes) -> None:
        """Write where no window is, through the client: its IOMMU then sees a device that strays.

        Raises DmaError when the client says no, as it should.
        """
        self._from_client().dma_write(address, data)

    def clear(self) -> None:
        """Forget all windows and close all files: the client is gone."""
        self._pages.clear()
        self._ranges.clear()
        for file in self._files.values():
            os.close(file.fd)
        self._files.clear()

    def _file(self, fd: int, window: DmaMap) -> _File:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise RequestError(errno.EINVAL, "the window's descriptor is not a regular file")
        if window.offset + window.size > facts.st_size:
            raise RequestError(errno.EINVAL, f"the window ends behind its file of {facts.st_size} bytes")
        key = (facts.st_dev, facts.st_ino)
        file = self._files.get(key)
        if file is None:
            if len(self._files) >= MAX_FILES:
                raise RequestError(errno.ENOSPC, f"more than {MAX_FILES} backing files")
            file = self._files[key] = _File(key, os.dup(fd))
        return file

    def _release(self, file: _File | None) -> None:
        if file is not None and file.users == 0 and self._files.pop(file.key, None) is not None:
            os.close(file.fd)

    def _insert(self, window: _Window) -> None:
        if window.file is not None:
            window.file.users += 1
        if window.size == PAGE:
            self._pages[window.address] = window
        else:
            bisect.insort(self._ranges, window, key=lambda entry: entry.address)

    def _remove(self, window: _Window) -> None:
        if window.file is not None:
            window.file.users -= 1
        if window.size == PAGE:
            del self._pages[window.address]
        else:
            self._ranges.remove(window)

    def _overlaps(self, address: int, size: int) -> bool:
        end = address + size
        return bool(self._ranges_within(address, end)) or any(self._pages_within(address, end))

    def _ranges_within(self, address: int, end: int) -> list[_Window]:
        first = bisect.bisect_right(self._ranges, address, key=lambda entry: entry.address)
        if first and self._ranges[first - 1].end > address:
            first -= 1
        last = bisect.bisect_left(self._ranges, end, key=lambda entry: entry.address)
        return self._ranges[first:last]

    def _pages_within(self, address: int, end: int) -> list[_Window]:
        if (end - address) // PAGE <= len(self._pages):
            wanted = range(address, end, PAGE)
            return [self._pages[page] for page in wanted if page in self._pages]
        return [window for page, window in self._pages.items() if address <= page < end]

    def _find(self, address: int) -> _Window | None:
        page = self._pages.get(address & ~(PAGE - 1))
        if page is not None:
            return page
        index = bisect.bisect_right(self._ranges, address, key=lambda entry: entry.address)
        if index and self._ranges[index - 1].end > address:
            return self._ranges[index - 1]
        return None

    def _spans(self, address: int, size: int) -> Iterator[tuple[_Window, int, int]]:
        end = address + size
        if address < 0 or end > ADDRESSES:
            raise DmaError(address, size, "the address leaves 64 bits")
        while address < end:
            window = self._find(address)
            if window is None:
                raise DmaError(address, end - address, "no window is mapped there")
            count = min(end, window.end) - address
            yield window, address, count
            address += count

    def _from_client(self) -> RemoteMemory:
        if self._remote is None:
            raise DmaError(0, 0, "the window has no file and the client cannot be asked")
        return self._remote

    @staticmethod
    def _pread(window: _Window, file: _File, start: int, count: int) -> bytes:
        try:
            data = os.pread(file.fd, count, window.offset + start - window.address)
        except OSError as error:
            raise DmaError(start, count, f"the backing file cannot be read: {error.strerror}") from error
        if len(data) != count:
            raise DmaError(start, count, "the backing file shrank")
        return data

    @staticmethod
    def _pwrite(window: _Window, file: _File, start: int, data: bytes) -> None:
        offset = window.offset + start - window.address
        # A write behind the end would make the client's file grow again.
        if os.fstat(file.fd).st_size < offset + len(data):
            raise DmaError(start, len(data), "the backing file shrank")
        try:
            written = os.pwrite(file.fd, data, offset)
        except OSError as error:
            raise DmaError(
                start, len(data), f"the backing file cannot be written: {error.strerror}"
            ) from error
        if written != len(data):
            raise DmaError(start, len(data), "the backing file took only a part")
