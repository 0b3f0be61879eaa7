"""One client's socket: whole messages in and out, with their file descriptors, under deadlines."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from lab.npu.memory import DmaError
from lab.npu.protocol import (
    FLAG_ERROR,
    HEADER,
    MAX_FDS,
    MAX_TRANSFER,
    Command,
    Header,
    ProtocolError,
    command,
    parse_header,
)

MESSAGE_TIMEOUT = 5.0  # seconds for the rest of a message that has begun, either way
DMA_TIMEOUT = 5.0  # seconds for the client's answer to a DMA message
MAX_QUEUED = 256  # commands that may overtake a DMA answer
_ROOM = socket.CMSG_SPACE(MAX_FDS * 4)
_TRUNCATED = int(socket.MSG_CTRUNC)  # the enumeration's own "&" costs more than a message's parsing


class ClientGoneError(Exception):
    """The client closed its end between two messages."""


@dataclass
class Received:
    """A message and the descriptors that came with it, which are closed unless somebody takes them."""

    header: Header
    body: bytes
    fds: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Close what nobody took."""
        while self.fds:
            os.close(self.fds.pop())


class Connection:
    """Owns the socket. Every method may raise ProtocolError: the client must then be dropped.

    ``asking`` is called before a DMA message is sent.
    ``overtaking`` is offered each command that comes while a DMA answer is awaited, with those that wait
    already, and says whether it served it; what it does not serve waits as well.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.max_transfer = MAX_TRANSFER
        self._socket = sock
        # The kernel keeps the time of one call; Python's own time limits would cost a poll(2) for each.
        sock.settimeout(None)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, _timeval(MESSAGE_TIMEOUT))
        self._queue: deque[Received] = deque()
        self.asking: Callable[[], None] = lambda: None
        self.overtaking: Callable[[Received, Collection[Received]], bool] = lambda _received, _queue: False
        self._next_id = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def queued(self) -> bool:
        """Whether a command waits that came while a DMA answer was awaited."""
        return bool(self._queue)

    def receive(self) -> Received:
        """The next command. Raises ClientGoneError at the end of the stream."""
        if self._queue:
            return self._queue.popleft()
        received = self._receive(time.monotonic() + MESSAGE_TIMEOUT)
        if received.header.is_reply:
            received.close()
            raise ProtocolError(f"an unasked reply, id {received.header.id}")
        return received

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a whole message; a client that does not read is refused."""
        try:
            if descriptors:
                data = data[socket.send_fds(self._socket, [data], descriptors) :]
            self._socket.sendall(data)
        except BlockingIOError as error:
            raise ProtocolError("the client does not read its answers") from error
        except OSError as error:
            raise ClientGoneError(str(error)) from error

    def dma_read(self, address: int, size: int) -> bytes:
        """Read guest memory through the client. Raises DmaError when the client says no."""
        parts = []
        while size:
            count = min(size, self.max_transfer)
            body = self._ask(Command.DMA_READ, struct.pack("<QQ", address, count), address, count)
            if len(body) != 16 + count or struct.unpack_from("<QQ", body) != (address, count):
                raise ProtocolError("the answer to DMA_READ does not fit the question")
            parts.append(body[16:])
            address += count
            size -= count
        return b"".join(parts)

    def dma_write(self, address: int, data: bytes) -> None:
        """Write guest memory through the client. Raises DmaError when the client says no."""
        for start in range(0, len(data), self.max_transfer):
            part = data[start : start + self.max_transfer]
            place = address + start
            body = struct.pack("<QQ", place, len(part)) + part
            answer = self._ask(Command.DMA_WRITE, body, place, len(part))
            # The specification's reply has a 4-byte count, existing clients echo all 16 bytes.
            if len(answer) not in (12, 16) or struct.unpack_from("<QI", answer) != (place, len(part)):
                raise ProtocolError("the answer to DMA_WRITE does not fit the question")

    def close(self) -> None:
        """Close the socket and every descriptor that is still on its way."""
        while self._queue:
            self._queue.popleft().close()
        with contextlib.suppress(OSError):
            self._socket.close()

    def _ask(self, number: Command, body: bytes, address: int, size: int) -> bytes:
        self._next_id = self._next_id + 1 & 0xFFFF
        asked = self._next_id
        self.asking()
        self.send(command(number, asked, body))
        deadline = time.monotonic() + DMA_TIMEOUT
        while True:
            received = self._receive(deadline)
            header = received.header
            if not header.is_reply:
                if self.overtaking(received, self._queue):
                    continue
                if len(self._queue) >= MAX_QUEUED:
                    received.close()
                    raise ProtocolError("the client does not answer a DMA message")
                self._queue.append(received)
                continue
            received.close()  # no descriptor belongs to such a reply
            if header.id != asked or header.command != number:
                raise ProtocolError(f"a reply to {header.command}, id {header.id}, where {number} was asked")
            if header.flags & FLAG_ERROR:
                raise DmaError(address, size, f"the client answered errno {header.error}")
            return received.body

    def _receive(self, deadline: float) -> Received:
        fds: list[int] = []
        try:
            head = self._exactly(HEADER.size, fds, deadline, first=True)
            header = parse_header(head)
            body = self._exactly(header.size - HEADER.size, fds, deadline)
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return Received(header, body, fds)

    def _exactly(self, size: int, fds: list[int], deadline: float, *, first: bool = False) -> bytes:
        parts: list[bytes] = []
        missing = size
        while missing:
            if time.monotonic() >= deadline:
                raise ProtocolError(f"a message stopped {missing} bytes before its end")
            try:
                data, ancillary, flags, _address = self._socket.recvmsg(missing, _ROOM)
            except BlockingIOError as error:
                raise ProtocolError(f"a message stopped {missing} bytes before its end") from error
            except OSError as error:
                raise ClientGoneError(str(error)) from error
            for _level, _kind, packed in ancillary:  # nothing but SCM_RIGHTS comes unasked
                fds += struct.unpack_from(f"={len(packed) // 4}i", packed)
            if flags & _TRUNCATED or len(fds) > MAX_FDS:
                raise ProtocolError(f"more than {MAX_FDS} descriptors in one message")
            if not data:
                if first and not parts:
                    raise ClientGoneError("end of stream")
                raise ProtocolError(f"the stream ended {missing} bytes before a message's end")
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)


def _timeval(seconds: float) -> bytes:
    """struct timeval of time(7) on 64 bits."""
    whole = int(seconds)
    return struct.pack("@qq", whole, int((seconds - whole) * 1_000_000))
