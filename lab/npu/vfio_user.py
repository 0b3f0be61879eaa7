"""The vfio-user server: one PCI device, one client at a time, and the next one when it leaves.

Every request is checked before the device sees it. A request that cannot be is answered with an errno; a
client that breaks the framing, floods descriptors or keeps asking for the impossible is refused: its
connection is closed, the trace says why, and the next client finds a device fresh from power-on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import struct
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from lab.npu import protocol
from lab.npu.connection import ClientGoneError, Connection, Received
from lab.npu.device import Interrupts
from lab.npu.memory import GuestMemory
from lab.npu.protocol import Command, ProtocolError, RequestError
from lab.npu.timers import Timers
from lab.npu.trace import Trace

HANDSHAKE_TIMEOUT = 10.0  # seconds from the connection to VERSION
MAX_MISTAKES = 1000  # declined requests before a client is refused
_DEVICE_FLAGS = 0x3  # reset is supported, PCI device
_EVENTFD = "anon_inode:[eventfd]"


class ServerError(Exception):
    """The socket cannot be listened on."""


class PciDevice(Protocol):
    """What the server needs of a device."""

    vectors: int

    def attach(self, memory: GuestMemory, interrupts: Interrupts) -> None: ...

    def detach(self) -> None: ...

    def reset(self) -> None: ...

    def region_size(self, index: int) -> int: ...

    def region_file(self, index: int) -> tuple[int, int] | None: ...

    def read(self, region: int, offset: int, count: int) -> bytes: ...

    def write(self, region: int, offset: int, data: bytes) -> None: ...


class EventFds:
    """The client's MSI-X interrupts, one eventfd for each vector."""

    def __init__(self) -> None:
        self._fds: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._fds)

    def trigger(self, vector: int) -> bool:
        """Raise one; a full counter means that the client has not even seen the last one."""
        fd = self._fds.get(vector)
        if fd is None:
            return False
        with contextlib.suppress(BlockingIOError):
            os.write(fd, struct.pack("=Q", 1))
        return True

    def assign(self, vector: int, fd: int) -> None:
        """Take ``fd`` for a vector. Raises RequestError when it is no eventfd: any other could block us."""
        if str(Path(f"/proc/self/fd/{fd}").readlink()) != _EVENTFD:
            raise RequestError(errno.EINVAL, "an interrupt's descriptor is not an eventfd")
        os.set_blocking(fd, False)
        self.release(vector)
        self._fds[vector] = fd

    def release(self, vector: int) -> None:
        fd = self._fds.pop(vector, None)
        if fd is not None:
            os.close(fd)

    def clear(self) -> None:
        for vector in list(self._fds):
            self.release(vector)


class Session:
    """One client from its handshake to its end."""

    def __init__(self, connection: Connection, device: PciDevice, trace: Trace) -> None:
        self.connection = connection
        self.memory = GuestMemory(connection)
        self.irqs = EventFds()
        self.greeted = False
        self._device = device
        self._trace = trace
        self._mistakes = 0
        self._current: Received | None = None  # what is being served
        self._answering: list[int] = []  # descriptors that go with the answer, owned by the device
        self._handlers: dict[int, Callable[[Received], bytes]] = {
            Command.DMA_MAP: self._dma_map,
            Command.DMA_UNMAP: self._dma_unmap,
            Command.GET_INFO: self._info,
            Command.GET_REGION_INFO: self._region_info,
            Command.GET_IRQ_INFO: self._irq_info,
            Command.SET_IRQS: self._set_irqs,
            Command.REGION_READ: self._region_read,
            Command.REGION_WRITE: self._region_write,
            Command.RESET: self._reset,
        }
        connection.overtaking, connection.asking = self._overtaking, self._before_dma
        device.attach(self.memory, self.irqs)

    def serve_one(self) -> None:
        """Receive a command and answer it. Raises ProtocolError and ClientGoneError."""
        self._serve(self.connection.receive())

    def _serve(self, received: Received) -> None:
        error, body = 0, b""
        self._answering.clear()
        outer, self._current = self._current, received
        try:
            body = self._dispatch(received)
        except RequestError as mistake:
            error = mistake.number
            self._declined(received, mistake)
        finally:
            self._current = outer
            received.close()
        if received.header.wants_reply:
            self.connection.send(protocol.reply(received.header, body, error), self._answering)

    def _overtaking(self, received: Received, waiting: Collection[Received]) -> bool:
        """A register that is asked for while a DMA answer is awaited (``_before_dma``).

        A write is answered at once and done in its turn. A read changes nothing: it is served, unless a write
        to the same place waits.
        """
        number = received.header.command
        if number == Command.REGION_WRITE:
            with contextlib.suppress(RequestError):  # it is told so in its turn
                self._access(received.body, write=True)
                self._acknowledge(received)
        elif number == Command.REGION_READ:
            place = slice(12)  # offset and region
            writes = [other for other in waiting if other.header.command == Command.REGION_WRITE]
            if len(writes) == len(waiting) and all(o.body[place] != received.body[place] for o in writes):
                self._serve(received)
                return True
        return False

    def _before_dma(self) -> None:
        """QEMU's processor that waits for a register keeps the lock that QEMU needs to answer a DMA message:
        both would wait for 5 s. The write that made us ask is therefore answered first."""
        if self._current is not None and self._current.header.command == Command.REGION_WRITE:
            self._acknowledge(self._current)

    def _acknowledge(self, received: Received) -> None:
        """Answer a write before its effects come, as a bus that posts writes does."""
        header = received.header
        if header.wants_reply:
            self.connection.send(protocol.reply(header, received.body[:16]))
            received.header = replace(header, flags=header.flags | protocol.FLAG_NO_REPLY)

    def check_greeting(self, deadline: float) -> None:
        """Raises ProtocolError when the client has not greeted in time: it keeps others out."""
        if not self.greeted and time.monotonic() >= deadline:
            raise ProtocolError(f"no VERSION within {HANDSHAKE_TIMEOUT:.0f} s")

    def close(self) -> None:
        """Give everything of the client back."""
        self._device.detach()
        self.irqs.clear()
        self.memory.clear()
        self.connection.close()

    def _dispatch(self, received: Received) -> bytes:
        number = received.header.command
        if not self.greeted:
            if number != Command.VERSION:
                raise ProtocolError(f"command {number} before VERSION")
            version = protocol.parse_version(received.body)
            self.connection.max_transfer = version.max_transfer
            self.greeted = True
            self._trace.event("client", action="connected", version=f"{version.major}.{version.minor}")
            return protocol.version_body(min(version.minor, 1))
        handler = self._handlers.get(number)
        if handler is None:
            raise RequestError(errno.ENOTSUP, f"command {number} is not supported")
        if received.fds and number not in (Command.DMA_MAP, Command.SET_IRQS):
            raise RequestError(errno.EINVAL, f"command {number} takes no descriptors")
        return handler(received)

    def _declined(self, received: Received, mistake: RequestError) -> None:
        self._mistakes += 1
        self._trace.event(
            "client-refused",
            command=received.header.command,
            errno=mistake.number,
            reason=str(mistake),
            disconnected=False,
        )
        if self._mistakes >= MAX_MISTAKES:
            raise ProtocolError(f"{MAX_MISTAKES} requests had to be declined")

    def _dma_map(self, received: Received) -> bytes:
        window = protocol.parse_dma_map(received.body)
        if len(received.fds) > 1:
            raise RequestError(errno.EINVAL, "DMA_MAP with more than one descriptor")
        self.memory.map(window, received.fds[0] if received.fds else None)
        return b""

    def _dma_unmap(self, received: Received) -> bytes:
        self.memory.unmap(protocol.parse_dma_unmap(received.body))
        return received.body[:24]

    def _info(self, received: Received) -> bytes:
        protocol.unpack("<IIII", received.body, exact=False)
        return struct.pack("<IIII", 16, _DEVICE_FLAGS, protocol.REGIONS, protocol.IRQ_TYPES)

    def _region_info(self, received: Received) -> bytes:
        room, _flags, index, *_rest = protocol.unpack("<IIIIQQ", received.body, exact=False)
        if index >= protocol.REGIONS:
            raise RequestError(errno.EINVAL, f"region {index} of {protocol.REGIONS}")
        file = self._device.region_file(index)
        if file is None:
            return protocol.region_info(index, self._device.region_size(index))
        self._answering.append(file[0])
        return protocol.region_info(index, self._device.region_size(index), room=room, mappable=file[1])

    def _irq_info(self, received: Received) -> bytes:
        index = protocol.unpack("<IIII", received.body, exact=False)[2]
        if index >= protocol.IRQ_TYPES:
            raise RequestError(errno.EINVAL, f"interrupt type {index} of {protocol.IRQ_TYPES}")
        count = self._device.vectors if index == protocol.IRQ_MSIX else 0
        return struct.pack("<IIII", 16, 1 if count else 0, index, count)

    def _set_irqs(self, received: Received) -> bytes:
        asked = protocol.parse_set_irqs(received.body)
        vectors = self._device.vectors if asked.index == protocol.IRQ_MSIX else 0
        if asked.start + asked.count > vectors:
            raise RequestError(errno.EINVAL, f"vectors {asked.start}+{asked.count} of {vectors}")
        if asked.flags == protocol.DATA_NONE | protocol.ACTION_TRIGGER and asked.count == 0:
            if asked.index == protocol.IRQ_MSIX:
                self.irqs.clear()
            return b""
        if asked.flags != protocol.DATA_EVENTFD | protocol.ACTION_TRIGGER:
            raise RequestError(errno.ENOTSUP, f"interrupt action {asked.flags:#x}")
        if len(received.fds) > asked.count:
            raise RequestError(errno.EINVAL, f"{len(received.fds)} descriptors for {asked.count} vectors")
        for vector in range(asked.start, asked.start + asked.count):
            if received.fds:
                self.irqs.assign(vector, received.fds[0])
                received.fds.pop(0)  # taken; it is ours to close only from now on
            else:
                self.irqs.release(vector)
        return b""

    def _region_read(self, received: Received) -> bytes:
        access = self._access(received.body, write=False)
        return received.body[:16] + self._device.read(access.region, access.offset, access.count)

    def _region_write(self, received: Received) -> bytes:
        access = self._access(received.body, write=True)
        assert access.data is not None
        self._device.write(access.region, access.offset, access.data)
        return received.body[:16]

    def _access(self, body: bytes, *, write: bool) -> protocol.RegionAccess:
        access = protocol.parse_region_access(body, write=write)
        size = self._device.region_size(access.region)
        if access.offset + access.count > size:
            raise RequestError(
                errno.EINVAL,
                f"{access.count} bytes at {access.offset:#x} of region {access.region}, {size} bytes",
            )
        return access

    def _reset(self, received: Received) -> bytes:
        if received.body:
            raise RequestError(errno.EINVAL, f"RESET with {len(received.body)} bytes")
        self._device.reset()
        return b""


class Server:
    """Listens on a path and serves one client after the other until it is told to stop."""

    def __init__(self, path: Path, device: PciDevice, trace: Trace, timers: Timers) -> None:
        self._path = path
        self._device = device
        self._trace = trace
        self._timers = timers
        self._stopping = False
        self._woken, self._waker = socket.socketpair()
        self._waker.settimeout(0)  # a full pipe already wakes the loop
        self._listener: socket.socket | None = None

    def listen(self) -> None:
        """Take the path. Raises ServerError when somebody else listens there or it cannot be made."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._remove_stale()
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen(1)
        except OSError as error:
            listener.close()
            raise ServerError(f"cannot listen on {self._path}: {error}; choose another path") from error
        self._listener = listener

    def stop(self) -> None:
        """Ask the loop to end; safe in a signal handler and from another thread."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._waker.send(b"x")

    def serve(self) -> None:
        """Serve until ``stop``; the path is gone afterwards."""
        assert self._listener is not None, "listen first"
        try:
            while not self._stopping:
                if self._wait(self._poll(self._listener.fileno()), None):
                    connection = Connection(self._listener.accept()[0])
                    self._serve_client(Session(connection, self._device, self._trace))
        finally:
            self._listener.close()
            self._woken.close()
            self._waker.close()
            self._path.unlink(missing_ok=True)

    def _serve_client(self, session: Session) -> None:
        deadline = time.monotonic() + HANDSHAKE_TIMEOUT
        poll = self._poll(session.connection.fileno())
        try:
            while not self._stopping:
                if session.connection.queued or self._wait(poll, None if session.greeted else deadline):
                    session.serve_one()
                else:
                    session.check_greeting(deadline)
                self._timers.run_due()
        except ClientGoneError:
            self._trace.event("client", action="gone")
        except ProtocolError as error:
            self._trace.event("client-refused", reason=str(error), disconnected=True)
        finally:
            session.close()

    def _poll(self, fd: int) -> select.poll:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        return poll

    def _wait(self, poll: select.poll, deadline: float | None) -> bool:
        """Wait for the descriptor, a timer, the deadline or a stop; True when the descriptor can be read."""
        seconds = self._timers.wait()
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            seconds = left if seconds is None else min(seconds, left)
        # Rounded up: waking a fraction of a millisecond early would make this loop spin.
        ready = poll.poll(None if seconds is None else seconds * 1000 + 1)
        return any(fd != self._woken.fileno() for fd, _event in ready)

    def _remove_stale(self) -> None:
        try:
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise ServerError(f"{self._path} exists and is no socket; choose another path")
        except FileNotFoundError:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink()
                return
        raise ServerError(f"somebody listens on {self._path}; choose another path")
