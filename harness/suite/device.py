"""One open NPU node: ioctls that raise OSError, buffers, mappings, contexts, commands.

A ``Device`` is one client of the driver. It keeps no state of its own beside the descriptor and the mappings
it made, and it never retries what the kernel refused: a refusal is a result here.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, TypeVar

from harness.suite import drm, packets, uapi

COMMAND_TIMEOUT = 5.0  # seconds: the driver itself gives up after 2 (TDR) or 5 (mailbox)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]
_MAP_FIXED = 0x10
_MAP_NORESERVE = 0x4000
_MAP_FAILED = ctypes.c_void_p(-1).value

S = TypeVar("S", bound=ctypes.Structure)


def error_name(error: OSError) -> str:
    """The kernel's name of an errno: "EINVAL"; Python calls 95 ENOTSUP, the kernel EOPNOTSUPP."""
    if error.errno == errno.EOPNOTSUPP:
        return "EOPNOTSUPP"
    return errno.errorcode.get(error.errno or 0, str(error.errno))


def _raise(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")


class Mapping:
    """Memory of this process, unmapped once by ``close``."""

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size

    def write(self, data: bytes, offset: int = 0) -> None:
        """Copy bytes in; IndexError when they do not fit."""
        self._check(offset, len(data))
        ctypes.memmove(self.address + offset, data, len(data))

    def read(self, size: int, offset: int = 0) -> bytes:
        """Copy bytes out; IndexError when there are not so many."""
        self._check(offset, size)
        return ctypes.string_at(self.address + offset, size)

    def words(self, values: Sequence[int]) -> None:
        """Write 32-bit little-endian words from the start."""
        self.write(b"".join(value.to_bytes(4, "little") for value in values))

    def word(self, index: int = 0) -> int:
        """Read one 32-bit word."""
        return int.from_bytes(self.read(4, 4 * index), "little")

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or offset + size > self.size or not self.address:
            raise IndexError(f"{size} bytes at {offset} are outside a mapping of {self.size}")

    def close(self) -> None:
        """Unmap; a second call does nothing."""
        if self.address:
            _libc.munmap(self.address, self.size)
            self.address = 0


def anonymous(size: int) -> Mapping:
    """Private zeroed memory, page aligned."""
    address = _libc.mmap(
        None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0
    )
    if address == _MAP_FAILED:
        _raise(f"mmap of {size} bytes")
    return Mapping(int(address), size)


@dataclass(frozen=True)
class Buffer:
    """A buffer object of one client. ``address`` is the device's, ``mapping`` is None for DEV buffers."""

    handle: int
    size: int
    kind: int
    address: int
    mapping: Mapping | None

    @property
    def memory(self) -> Mapping:
        """The CPU mapping of a buffer that has one."""
        if self.mapping is None:
            raise ValueError(f"buffer {self.handle} is not mapped")
        return self.mapping


@dataclass(frozen=True)
class Context:
    """A hardware context and the sync object on which its commands complete."""

    handle: int
    syncobj: int


class Device:
    """An open node. Closing it makes the kernel release everything of this client.

    ``scribbles``: the driver's calls, of every client of this process, that were refused and yet changed
    their argument; whoever looks takes them away.
    """

    scribbles: ClassVar[list[str]] = []

    def __init__(self, node: str) -> None:
        self.node = node
        self.fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
        self._mappings: list[Mapping] = []

    @classmethod
    def around(cls, descriptor: int) -> Device:
        """The client behind a descriptor that came from elsewhere; closing ends this descriptor alone."""
        made = cls.__new__(cls)
        made.node, made.fd, made._mappings = "", descriptor, []
        return made

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unmap and close; a second call does nothing."""
        for mapping in self._mappings:
            mapping.close()
        self._mappings.clear()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    # -- calls --------------------------------------------------------------------------------------------

    def ioctl(self, request: int, argument: ctypes.Structure) -> None:
        """One ioctl in place; OSError with the kernel's errno. A signal restarts it."""
        before = bytes(argument)
        while _libc.ioctl(self.fd, request, ctypes.byref(argument)) < 0:
            number = ctypes.get_errno()
            if number != errno.EINTR:
                if bytes(argument) != before and uapi.is_driver(request):
                    self.scribbles.append(f"{type(argument).__name__} ({errno.errorcode[number]})")
                ctypes.set_errno(number)
                _raise(type(argument).__name__)

    def version(self) -> tuple[str, int, int, int]:
        """Driver name, major, minor, patch level (DRM_IOCTL_VERSION)."""
        name = ctypes.create_string_buffer(64)
        version = drm.Version(name=ctypes.addressof(name), name_len=63)
        self.ioctl(drm.VERSION, version)
        return (
            name.value.decode("ascii", "replace"),
            version.version_major,
            version.version_minor,
            version.version_patchlevel,
        )

    def info(self, param: int, payload: S) -> S:
        """GET_INFO into ``payload``, which may carry input; returns it."""
        self.info_at(param, ctypes.addressof(payload), ctypes.sizeof(payload))
        return payload

    def info_at(self, param: int, address: int, size: int) -> int:
        """GET_INFO with any address and size; returns buffer_size as the driver left it."""
        argument = uapi.GetInfo(param=param, buffer_size=size, buffer=address)
        self.ioctl(uapi.GET_INFO, argument)
        return int(argument.buffer_size)

    def set_state(self, param: int, payload: ctypes.Structure) -> None:
        """SET_STATE from ``payload``."""
        self.ioctl(
            uapi.SET_STATE,
            uapi.SetState(param=param, buffer_size=ctypes.sizeof(payload), buffer=ctypes.addressof(payload)),
        )

    def power_mode(self) -> int:
        """The power mode now."""
        return int(self.info(uapi.Info.POWER_MODE, uapi.GetPowerMode()).power_mode)

    def set_power_mode(self, mode: int) -> None:
        """Ask for a power mode (root only)."""
        self.set_state(uapi.State.POWER_MODE, uapi.SetPowerMode(power_mode=mode))

    def metadata(self) -> uapi.QueryAieMetadata:
        """Rows, columns and tiles of the array."""
        return self.info(uapi.Info.AIE_METADATA, uapi.QueryAieMetadata())

    # -- buffers ------------------------------------------------------------------------------------------

    def create_bo(self, kind: int, size: int, *, vaddr: int = 0, flags: int = 0) -> int:
        """CREATE_BO; the handle."""
        argument = uapi.CreateBo(flags=flags, vaddr=vaddr, size=size, type=kind)
        self.ioctl(uapi.CREATE_BO, argument)
        return int(argument.handle)

    def wrap(self, address: int, size: int) -> int:
        """A buffer over memory of this process (6.18 and later); the handle."""
        table = uapi.VaTable(num_entries=1)
        block = ctypes.create_string_buffer(bytes(table) + bytes(uapi.VaEntry(vaddr=address, len=size)))
        return self.create_bo(uapi.Bo.SHARE, size, vaddr=ctypes.addressof(block))

    def bo_info(self, handle: int) -> uapi.GetBoInfo:
        """GET_BO_INFO."""
        argument = uapi.GetBoInfo(handle=handle)
        self.ioctl(uapi.GET_BO_INFO, argument)
        return argument

    def buffer(self, kind: int, size: int, *, align: int = 0) -> Buffer:
        """A new buffer, mapped unless it lives in the heap. ``align``: of its CPU address, a power of two.

        The device address is read after the mapping: with shared virtual addresses the mapping makes it.
        """
        handle = self.create_bo(kind, size)
        mapping = None
        if kind != uapi.Bo.DEV:
            mapping = self.map(handle, size, align=align)
        return Buffer(handle, size, kind, int(self.bo_info(handle).xdna_addr), mapping)

    def heap(self, size: int = uapi.HEAP_CHUNK) -> Buffer:
        """The client's device heap, mapped aligned as the firmware wants it."""
        return self.buffer(uapi.Bo.DEV_HEAP, size, align=uapi.HEAP_CHUNK)

    def map(self, handle: int, size: int, *, align: int = 0) -> Mapping:
        """Map a buffer shared and writable; OSError as mmap(2) says."""
        return self.map_at(int(self.bo_info(handle).map_offset), size, align=align)

    def map_at(self, offset: int, size: int, *, align: int = 0) -> Mapping:
        """Map the node itself at an offset, valid or not.

        Python's own mmap duplicates the descriptor, and before 7.0 the driver destroyed a client's contexts
        whenever any duplicate was closed: hence the C library's.
        """
        address, flags = None, mmap.MAP_SHARED
        if align:
            room = _libc.mmap(
                None,
                size + align,
                0,
                mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE,
                -1,
                0,
            )
            if room == _MAP_FAILED:
                _raise(f"reserving {size + align} bytes")
            address, flags = (int(room) + align - 1) & ~(align - 1), flags | _MAP_FIXED
            if address > room:
                _libc.munmap(room, address - room)
            _libc.munmap(address + size, room + align - address)
        result = _libc.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, self.fd, offset)
        if result == _MAP_FAILED:
            _raise(f"mmap at offset {offset:#x}")
        mapping = Mapping(int(result), size)
        self._mappings.append(mapping)
        return mapping

    def free(self, buffer: Buffer | int) -> None:
        """Unmap a buffer and close its handle."""
        handle = buffer if isinstance(buffer, int) else buffer.handle
        if isinstance(buffer, Buffer) and buffer.mapping is not None:
            buffer.mapping.close()
            if buffer.mapping in self._mappings:
                self._mappings.remove(buffer.mapping)
        self.ioctl(drm.GEM_CLOSE, drm.GemClose(handle=handle))

    def sync(
        self,
        handle: int,
        size: int,
        *,
        offset: int = 0,
        direction: int = uapi.Direction.TO_DEVICE,
    ) -> None:
        """SYNC_BO: make CPU caches and memory agree."""
        self.ioctl(uapi.SYNC_BO, uapi.SyncBo(handle=handle, direction=direction, offset=offset, size=size))

    def export(self, handle: int) -> int:
        """A dma-buf descriptor of a buffer; the caller closes it."""
        argument = drm.PrimeHandle(handle=handle, flags=os.O_CLOEXEC | os.O_RDWR, fd=-1)
        self.ioctl(drm.PRIME_HANDLE_TO_FD, argument)
        return int(argument.fd)

    def adopt(self, descriptor: int) -> int:
        """The handle of an imported dma-buf."""
        argument = drm.PrimeHandle(fd=descriptor)
        self.ioctl(drm.PRIME_FD_TO_HANDLE, argument)
        return int(argument.handle)

    # -- contexts and commands ----------------------------------------------------------------------------

    def create_context(self, *, tiles: int, priority: int = uapi.Priority.NORMAL, **qos: int) -> Context:
        """CREATE_HWCTX over ``tiles`` core tiles; further words go into the QoS request."""
        wish = uapi.QosInfo(priority=priority, **qos)
        argument = uapi.CreateHwctx(
            qos_p=ctypes.addressof(wish), max_opc=2048, num_tiles=tiles, mem_size=0x10000
        )
        self.ioctl(uapi.CREATE_HWCTX, argument)
        return Context(int(argument.handle), int(argument.syncobj_handle))

    def destroy_context(self, context: Context) -> None:
        """DESTROY_HWCTX, then the sync object, which belongs to user space."""
        self.ioctl(uapi.DESTROY_HWCTX, uapi.DestroyHwctx(handle=context.handle))
        self.ioctl(drm.SYNCOBJ_DESTROY, drm.SyncobjDestroy(handle=context.syncobj))

    def configure(self, context: Context, units: Sequence[int]) -> None:
        """CONFIG_HWCTX: one compute unit for each DEV buffer handle."""
        data = bytes(uapi.ConfigCu(num_cus=len(units))) + b"".join(
            bytes(uapi.CuConfig(cu_bo=handle)) for handle in units
        )
        block = ctypes.create_string_buffer(data, len(data))
        self.ioctl(
            uapi.CONFIG_HWCTX,
            uapi.ConfigHwctx(
                handle=context.handle,
                param_type=uapi.Config.CU,
                param_val=ctypes.addressof(block),
                param_val_size=len(data),
            ),
        )

    def execute(self, context: Context, command: Buffer, arguments: Sequence[int] = ()) -> int:
        """EXEC_CMD: submit one command buffer; the sequence number on the context's sync object."""
        handles = (ctypes.c_uint32 * max(len(arguments), 1))(*arguments)
        argument = uapi.ExecCmd(
            hwctx=context.handle,
            type=uapi.Submit.EXEC_BUF,
            cmd_handles=command.handle,
            args=ctypes.addressof(handles) if arguments else 0,
            cmd_count=1,
            arg_count=len(arguments),
        )
        self.ioctl(uapi.EXEC_CMD, argument)
        return int(argument.seq)

    def wait(self, context: Context, sequence: int, timeout: float = COMMAND_TIMEOUT) -> None:
        """Wait for a sequence number on the context's time line; OSError(ETIME) when it does not come."""
        handle, point = ctypes.c_uint32(context.syncobj), ctypes.c_uint64(sequence)
        self.ioctl(
            drm.SYNCOBJ_TIMELINE_WAIT,
            drm.SyncobjTimelineWait(
                handles=ctypes.addressof(handle),
                points=ctypes.addressof(point),
                timeout_nsec=time.monotonic_ns() + int(timeout * 1e9),
                count_handles=1,
                flags=drm.WAIT_FOR_SUBMIT,
            ),
        )

    def run(
        self, context: Context, command: Buffer, words: Sequence[int], arguments: Sequence[int] = ()
    ) -> int:
        """Write a command, submit it, wait for it; the state the driver left in its header."""
        command.memory.words(words)
        self.wait(context, self.execute(context, command, arguments))
        return packets.state(command.memory.word())

    # -- lists --------------------------------------------------------------------------------------------

    def contexts(self) -> list[uapi.HwctxEntry]:
        """All contexts the caller may see (GET_ARRAY, 6.18 and later)."""
        room = (uapi.HwctxEntry * 64)()
        argument = uapi.GetArray(
            param=uapi.Array.HW_CONTEXT_ALL,
            element_size=ctypes.sizeof(uapi.HwctxEntry),
            num_element=len(room),
            buffer=ctypes.addressof(room),
        )
        self.ioctl(uapi.GET_ARRAY, argument)
        return list(room[: argument.num_element])

    def array(self, param: int, element: S) -> tuple[S, int]:
        """GET_ARRAY of one element, which may carry input: (element, number filled)."""
        argument = uapi.GetArray(
            param=param,
            element_size=ctypes.sizeof(element),
            num_element=1,
            buffer=ctypes.addressof(element),
        )
        self.ioctl(uapi.GET_ARRAY, argument)
        return element, int(argument.num_element)
