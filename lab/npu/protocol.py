"""The vfio-user wire format: headers and bodies as frozen dataclasses, checked on the way in.

Source: QEMU 11.1 docs/interop/vfio-user (protocol 0.1, AF_UNIX). Everything is little endian on the hosts
this runs on. Two errors tell a mistake from a lie: RequestError is answered with an errno and the talk goes
on; ProtocolError means the stream cannot be trusted any more and the client is refused.
"""

from __future__ import annotations

import errno
import json
import struct
from dataclasses import dataclass
from enum import IntEnum

HEADER = struct.Struct("<HHIII")
_REGION_INFO = struct.Struct("<IIIIQQ")
MAX_TRANSFER = 1 << 20  # bytes of data in one region or DMA message, announced as max_data_xfer_size
MAX_MESSAGE = HEADER.size + 16 + MAX_TRANSFER
MAX_FDS = 8  # announced as max_msg_fds
MAX_VERSION = 4096  # bytes of JSON in a VERSION message

FLAG_REPLY = 0x1
FLAG_TYPE = 0xF
FLAG_NO_REPLY = 0x10
FLAG_ERROR = 0x20

REGION_CONFIG = 7
READ_WRITE, MAPPABLE, CAPABILITIES = 0x3, 0x4, 0x8  # of a region, VFIO_REGION_INFO_FLAG_*
SPARSE_MMAP = 1  # VFIO_REGION_INFO_CAP_SPARSE_MMAP
REGIONS = 9
IRQ_TYPES = 5
IRQ_MSIX = 2

DATA_NONE, DATA_BOOL, DATA_EVENTFD = 0x1, 0x2, 0x4
ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER = 0x8, 0x10, 0x20


class Command(IntEnum):
    """Message numbers of the protocol."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    GET_INFO = 4
    GET_REGION_INFO = 5
    GET_REGION_IO_FDS = 6
    GET_IRQ_INFO = 7
    SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    RESET = 13


class ProtocolError(Exception):
    """The peer broke the framing or the handshake; nothing it says afterwards can be believed."""


class RequestError(Exception):
    """A request this server declines; ``number`` is the errno it answers."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


@dataclass(frozen=True)
class Header:
    """The 16 bytes before every message; ``size`` includes them."""

    id: int
    command: int
    size: int
    flags: int
    error: int = 0

    @property
    def is_reply(self) -> bool:
        return self.flags & FLAG_TYPE == FLAG_REPLY

    @property
    def wants_reply(self) -> bool:
        return not self.flags & FLAG_NO_REPLY

    def pack(self) -> bytes:
        return HEADER.pack(self.id, self.command, self.size, self.flags, self.error)


def parse_header(data: bytes) -> Header:
    """Read a header of exactly 16 bytes. Raises ProtocolError for sizes and types that cannot be."""
    header = Header(*HEADER.unpack(data))
    if not HEADER.size <= header.size <= MAX_MESSAGE:
        raise ProtocolError(f"message size {header.size} is not within {HEADER.size}..{MAX_MESSAGE}")
    if header.flags & FLAG_TYPE not in (0, FLAG_REPLY):
        raise ProtocolError(f"message type {header.flags & FLAG_TYPE} is neither command nor reply")
    return header


def reply(request: Header, body: bytes = b"", error: int = 0) -> bytes:
    """The whole reply to ``request``; an error reply is the header alone."""
    if error:
        return Header(request.id, request.command, HEADER.size, FLAG_REPLY | FLAG_ERROR, error).pack()
    return Header(request.id, request.command, HEADER.size + len(body), FLAG_REPLY).pack() + body


def command(number: int, message_id: int, body: bytes = b"", *, no_reply: bool = False) -> bytes:
    """A whole command message."""
    flags = FLAG_NO_REPLY if no_reply else 0
    return Header(message_id, number, HEADER.size + len(body), flags).pack() + body


def unpack(layout: str, body: bytes, *, exact: bool = True) -> tuple[int, ...]:
    """Fields of a body. Raises RequestError(EINVAL) when it is too short, or too long where ``exact``."""
    size = struct.calcsize(layout)
    if len(body) < size or (exact and len(body) != size):
        raise RequestError(errno.EINVAL, f"body of {len(body)} bytes where {size} belong")
    return struct.unpack_from(layout, body)


@dataclass(frozen=True)
class Version:
    """A peer's protocol version and the capabilities this server cares for."""

    major: int
    minor: int
    max_transfer: int = MAX_TRANSFER


def parse_version(body: bytes) -> Version:
    """Read a VERSION body. Raises ProtocolError: without a handshake there is nothing to talk about."""
    if not 4 <= len(body) <= 4 + MAX_VERSION:
        raise ProtocolError(f"VERSION body of {len(body)} bytes")
    major, minor = struct.unpack_from("<HH", body)
    if major != 0:
        raise ProtocolError(f"protocol major {major} is not spoken here, only 0")
    transfer = MAX_TRANSFER
    text = body[4:].rstrip(b"\0")
    if text:
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ProtocolError("VERSION data is not JSON") from error
        capabilities = data.get("capabilities", {}) if isinstance(data, dict) else None
        if not isinstance(capabilities, dict):
            raise ProtocolError("VERSION capabilities are not an object")
        asked = capabilities.get("max_data_xfer_size", MAX_TRANSFER)
        if type(asked) is not int or asked < 8:
            raise ProtocolError(f"max_data_xfer_size {asked!r} is not a usable size")
        transfer = min(asked, MAX_TRANSFER)
    return Version(major, minor, transfer)


def version_body(minor: int) -> bytes:
    """This server's VERSION reply: no twin socket and no write batching, so neither must be handled."""
    capabilities = {"capabilities": {"max_msg_fds": MAX_FDS, "max_data_xfer_size": MAX_TRANSFER}}
    return struct.pack("<HH", 0, minor) + json.dumps(capabilities).encode() + b"\0"


def region_info(index: int, size: int, *, room: int = 0, mappable: int = 0) -> bytes:
    """A DEVICE_GET_REGION_INFO reply. ``room``: bytes the client has for it, told by its ``argsz``.

    ``mappable``: bytes from the region's start on that may be mapped from the file that comes along. Where
    that is not all of it a capability says so (struct vfio_region_info_cap_sparse_mmap of linux/vfio.h), and
    without room for it the client learns how much it needs.
    """
    flags = (READ_WRITE if size else 0) | (MAPPABLE if mappable else 0)
    if mappable in (0, size):
        return _REGION_INFO.pack(_REGION_INFO.size, flags, index, 0, size, 0)
    areas = struct.pack("<HHIIIQQ", SPARSE_MMAP, 1, 0, 1, 0, 0, mappable)
    needed = _REGION_INFO.size + len(areas)
    # QEMU refuses an offset of 0, which the kernel's own answer has where there is no room.
    head = _REGION_INFO.pack(needed, flags | CAPABILITIES, index, _REGION_INFO.size, size, 0)
    return head + areas if room >= needed else head


@dataclass(frozen=True)
class DmaMap:
    """A window of guest memory the device may touch; ``offset`` is into the file that came along."""

    offset: int
    address: int
    size: int
    readable: bool
    writeable: bool


def parse_dma_map(body: bytes) -> DmaMap:
    """Read a DMA_MAP body; flags other than readable and writeable are refused."""
    argsz, flags, offset, address, size = unpack("<IIQQQ", body)
    if argsz < 32 or flags & ~0x3:
        raise RequestError(errno.EINVAL, f"DMA_MAP with argsz {argsz}, flags {flags:#x}")
    return DmaMap(offset, address, size, bool(flags & 1), bool(flags & 2))


@dataclass(frozen=True)
class DmaUnmap:
    """A range of guest memory that is gone."""

    address: int
    size: int


def parse_dma_unmap(body: bytes) -> DmaUnmap:
    """Read a DMA_UNMAP body; a longer one (room for a bitmap) is accepted and its tail ignored."""
    argsz, flags, address, size = unpack("<IIQQ", body, exact=False)
    if argsz < 24 or flags:
        raise RequestError(errno.EINVAL, f"DMA_UNMAP with argsz {argsz}, flags {flags:#x}")
    return DmaUnmap(address, size)


@dataclass(frozen=True)
class RegionAccess:
    """A read (``data`` None) or write of ``count`` bytes of a region."""

    offset: int
    region: int
    count: int
    data: bytes | None = None


def parse_region_access(body: bytes, *, write: bool) -> RegionAccess:
    """Read a REGION_READ or REGION_WRITE body; ``count`` must be 1..MAX_TRANSFER and match the data."""
    offset, region, count = unpack("<QII", body, exact=not write)
    if not 1 <= count <= MAX_TRANSFER:
        raise RequestError(errno.EINVAL, f"access of {count} bytes")
    if not write:
        return RegionAccess(offset, region, count)
    if len(body) != 16 + count:
        raise RequestError(errno.EINVAL, f"write of {count} bytes carries {len(body) - 16}")
    return RegionAccess(offset, region, count, body[16:])


@dataclass(frozen=True)
class SetIrqs:
    """What to do with ``count`` interrupts of type ``index`` from ``start`` on."""

    flags: int
    index: int
    start: int
    count: int


def parse_set_irqs(body: bytes) -> SetIrqs:
    """Read a SET_IRQS body; exactly one data kind and one action must be named."""
    argsz, flags, index, start, count = unpack("<IIIII", body, exact=False)
    data, action = flags & 0x7, flags & 0x38
    if argsz < 20 or flags & ~0x3F or data.bit_count() != 1 or action.bit_count() != 1:
        raise RequestError(errno.EINVAL, f"SET_IRQS with argsz {argsz}, flags {flags:#x}")
    if index >= IRQ_TYPES:
        raise RequestError(errno.EINVAL, f"interrupt type {index} of {IRQ_TYPES}")
    return SetIrqs(flags, index, start, count)
