"""The other side of the virtual NPU without QEMU: a vfio-user client, and a small driver on top of it.

Written from the specification and the driver's rules, not from the server's code: the wire formats are
spelled out again here, so that a mistake in one place does not cancel itself in the other.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.npu.generations import Generation, Register

VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO, GET_REGION_IO_FDS = 1, 2, 3, 4, 5, 6
GET_IRQ_INFO, SET_IRQS, REGION_READ, REGION_WRITE, DMA_READ, DMA_WRITE, RESET = 7, 8, 9, 10, 11, 12, 13
CONFIG = 7
TOMBSTONE = 0xDEADFACE
WAIT = 5.0


class RefusedError(Exception):
    """The server closed the connection."""


class ErrnoError(Exception):
    """The server answered an errno."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class FakeClient:
    """A vfio-user client. ``remote`` maps addresses to memory it serves by DMA messages."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(WAIT)
        self.sock.connect(str(path))
        self.remote: dict[int, bytearray] = {}
        self.remote_error = 0
        self.dma_messages = 0
        self.eventfds: list[int] = []
        self._id = 0

    def close(self) -> None:
        self.sock.close()
        while self.eventfds:
            os.close(self.eventfds.pop())

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def send(
        self,
        number: int,
        body: bytes = b"",
        fds: Sequence[int] = (),
        *,
        flags: int = 0,
        size: int | None = None,
    ) -> int:
        self._id = (self._id + 1) & 0xFFFF
        length = 16 + len(body) if size is None else size
        data = struct.pack("<HHIII", self._id, number, length, flags, 0) + body
        try:
            if fds:
                sent = socket.send_fds(self.sock, [data], list(fds))
                data = data[sent:]
            if data:
                self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise RefusedError from error
        return self._id

    def receive(self) -> tuple[int, int, int, int, bytes]:
        message_id, number, size, flags, error = struct.unpack("<HHIII", self._exactly(16))
        return message_id, number, flags, error, self._exactly(size - 16)

    def request(self, number: int, body: bytes = b"", fds: Sequence[int] = ()) -> bytes:
        asked = self.send(number, body, fds)
        while True:
            message_id, got, flags, error, answer = self.receive()
            if not flags & 1:
                self._serve_dma(message_id, got, answer)
                continue
            assert (message_id, got) == (asked, number)
            if flags & 0x20:
                assert not answer, "an error reply has no body"
                raise ErrnoError(error)
            return answer

    def hello(self, **capabilities: int) -> dict[str, int]:
        data = json.dumps({"capabilities": {"max_msg_fds": 8, **capabilities}}).encode() + b"\0"
        answer = self.request(VERSION, struct.pack("<HH", 0, 1) + data)
        assert struct.unpack_from("<HH", answer) == (0, 1)
        offered: dict[str, int] = json.loads(answer[4:].rstrip(b"\0"))["capabilities"]
        return offered

    def read(self, region: int, offset: int, count: int) -> bytes:
        answer = self.request(REGION_READ, struct.pack("<QII", offset, region, count))
        assert struct.unpack_from("<QII", answer) == (offset, region, count)
        return answer[16:]

    def write(self, region: int, offset: int, data: bytes, *, posted: bool = False) -> None:
        body = struct.pack("<QII", offset, region, len(data)) + data
        if posted:
            self.send(REGION_WRITE, body, flags=0x10)
        else:
            self.request(REGION_WRITE, body)

    def map_file(self, fd: int, address: int, size: int, offset: int = 0, flags: int = 3) -> None:
        self.request(DMA_MAP, struct.pack("<IIQQQ", 32, flags, offset, address, size), [fd])

    def map_remote(self, address: int, size: int) -> bytearray:
        self.request(DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, address, size))
        self.remote[address] = bytearray(size)
        return self.remote[address]

    def unmap(self, address: int, size: int) -> bytes:
        return self.request(DMA_UNMAP, struct.pack("<IIQQ", 24, 0, address, size))

    def wire(self, count: int, start: int = 0) -> None:
        for first in range(start, start + count, 8):
            fds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(min(8, start + count - first))]
            self.eventfds += fds
            self.request(SET_IRQS, struct.pack("<IIIII", 20, 0x24, 2, first, len(fds)), fds)

    def interrupts(self, vector: int) -> int:
        """How often a vector was raised since the last look."""
        try:
            return os.eventfd_read(self.eventfds[vector])
        except BlockingIOError:
            return 0

    def wait_interrupt(self, vector: int, timeout: float = WAIT) -> bool:
        """Whether a vector is raised; DMA messages are served meanwhile."""
        poll = select.poll()
        poll.register(self.eventfds[vector], select.POLLIN)
        poll.register(self.sock, select.POLLIN)
        end = time.monotonic() + timeout
        while ready := poll.poll(max(0.0, end - time.monotonic()) * 1000):
            if any(fd == self.eventfds[vector] for fd, _event in ready):
                return self.interrupts(vector) > 0
            message_id, number, flags, _error, body = self.receive()
            assert not flags & 1, "an answer that nobody waits for"
            self._serve_dma(message_id, number, body)
        return False

    def refused(self) -> bool:
        """Whether the server has closed the connection (waits for it)."""
        try:
            while self.sock.recv(4096):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return True

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                part = self.sock.recv(size - len(data))
            except ConnectionResetError as error:
                raise RefusedError from error
            if not part:
                raise RefusedError
            data += part
        return data

    def _serve_dma(self, message_id: int, number: int, body: bytes) -> None:
        self.dma_messages += 1
        address, count = struct.unpack_from("<QQ", body)
        base = next(
            (a for a, m in self.remote.items() if a <= address and address + count <= a + len(m)), None
        )
        if base is None or self.remote_error:
            error = self.remote_error or 14
            self.sock.sendall(struct.pack("<HHIII", message_id, number, 16, 0x21, error))
            return
        memory, place = self.remote[base], address - base
        answer = struct.pack("<QQ", address, count)
        if number == DMA_READ:
            answer += memory[place : place + count]
        else:
            memory[place : place + count] = body[16:]
        self.sock.sendall(struct.pack("<HHIII", message_id, number, 16 + len(answer), 1, 0) + answer)


class GuestRam:
    """A memfd shared with the device, as QEMU's memory-backend-memfd is."""

    def __init__(self, size: int) -> None:
        self.fd = os.memfd_create("ram")
        os.ftruncate(self.fd, size)
        self.bytes = mmap.mmap(self.fd, size)

    def close(self) -> None:
        self.bytes.close()
        os.close(self.fd)


@dataclass(frozen=True)
class Answer:
    id: int
    opcode: int
    payload: bytes


class Ring:
    """The driver's end of a channel, by the rules of its mailbox code; registers and rings by BAR offset."""

    def __init__(
        self, driver: FakeDriver, x2i: tuple[int, int, int], i2x: tuple[int, int, int], size: int, vector: int
    ) -> None:
        self.driver = driver
        self.x2i_tail, self.x2i_head, self.x2i_ring = x2i
        self.i2x_tail, self.i2x_head, self.i2x_ring = i2x
        self.size = size
        self.vector = vector
        self.tail = 0
        self.head = 0
        self._next = 0

    def send(self, opcode: int, payload: bytes) -> int:
        self._next += 1
        message_id = 0x1D000000 | self._next & 0xFF
        self.send_raw(
            struct.pack("<IIII", len(payload), len(payload) | 1 << 16, message_id, opcode) + payload
        )
        return message_id

    def send_raw(self, data: bytes) -> None:
        d = self.driver
        head = d.mailbox(self.x2i_head)
        if self.tail >= head and self.tail + len(data) > self.size - 4:
            d.sram_write(self.x2i_ring + self.tail, struct.pack("<I", TOMBSTONE))
            self.tail = 0
        d.sram_write(self.x2i_ring + self.tail, data)
        self.tail += len(data)
        d.mailbox_write(self.x2i_tail, self.tail)

    def poll(self) -> Answer | None:
        """The next answer in the ring, whether or not an interrupt came."""
        d = self.driver
        d.mailbox_write(self.i2x_head + 4, 0)
        while True:
            tail = d.mailbox(self.i2x_tail)
            assert tail <= self.size, "tail behind the ring"
            assert tail % 4 == 0, "tail not aligned"
            if self.head == tail:
                return None
            if self.head == self.size:
                self.head = 0
            total = struct.unpack("<I", d.sram(self.i2x_ring + self.head, 4))[0]
            if total == TOMBSTONE:
                assert self.head >= tail, "tombstone before the tail"
                self.head = 0
                d.mailbox_write(self.i2x_head, 0)
                continue
            assert total, "an empty message"
            assert total % 4 == 0, "a size that is not aligned"
            assert 16 + total <= self.size - self.head, "a message behind the ring's end"
            data = d.sram(self.i2x_ring + self.head, 16 + total)
            _size, word, message_id, opcode = struct.unpack_from("<IIII", data)
            assert word == total | 1 << 16
            self.head += 16 + total
            d.mailbox_write(self.i2x_head, self.head)
            return Answer(message_id, opcode, data[16:])

    def answer(self, timeout: float = WAIT) -> Answer | None:
        """Wait for the interrupt, then for the answer, as the driver does."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            got = self.poll()
            if got is not None:
                return got
            self.driver.client.wait_interrupt(self.vector, max(0.0, end - time.monotonic()))
        return self.poll()

    def call(self, opcode: int, layout: str, *values: int, timeout: float = WAIT) -> bytes:
        """Send and wait; the answer's payload."""
        message_id = self.send(opcode, struct.pack(layout, *values))
        got = self.answer(timeout)
        assert got is not None, f"no answer to {opcode:#x}"
        assert (got.id, got.opcode) == (message_id, opcode)
        return got.payload


class FakeDriver:
    """Probe, contexts and commands as amdxdna does them, on a FakeClient that has said hello."""

    def __init__(self, client: FakeClient, generation: Generation) -> None:
        self.client = client
        self.generation = generation
        self.layout = generation.mailbox

    def register(self, place: Register) -> int:
        value: int = struct.unpack("<I", self.client.read(place.bar, place.offset, 4))[0]
        return value

    def set_register(self, place: Register, value: int) -> None:
        self.client.write(place.bar, place.offset, struct.pack("<I", value))

    def sram(self, offset: int, count: int) -> bytes:
        return self.client.read(self.layout.sram_bar, offset, count)

    def sram_write(self, offset: int, data: bytes) -> None:
        self.client.write(self.layout.sram_bar, offset, data)

    def mailbox(self, offset: int) -> int:
        return self.register(Register(self.layout.register_bar, offset))

    def mailbox_write(self, offset: int, value: int) -> None:
        self.set_register(Register(self.layout.register_bar, offset), value)

    def psp(self, command: int) -> tuple[bool, int]:
        """Run a command: (ready, response)."""
        places = self.generation.psp
        assert places is not None
        assert self.register(places.status) & 0x80000000, "not ready before the command"
        for place, value in (
            (places.command, command),
            (places.argument0, 0x1000),
            (places.argument1, 0),
            (places.argument2, 0x8000 | command << 24),
            (places.interrupt, 0),
            (places.interrupt, 1),
        ):
            self.set_register(place, value)
        ready = bool(self.register(places.status) & 0x80000000)
        return ready, self.register(places.response)

    def smu(self, command: int, argument: int = 0, *, strike: bool = True) -> tuple[int, int]:
        """Run a command: (response, output). ``strike`` False: as drivers since June 2026 do on npu4."""
        places = self.generation.smu
        assert places is not None
        self.set_register(places.response, 0)
        self.set_register(places.argument, argument)
        self.set_register(places.command, command)
        if strike:
            self.set_register(places.interrupt, 0)
            self.set_register(places.interrupt, 1)
        return self.register(places.response), self.register(places.output)

    def alive(self) -> int:
        assert self.layout.alive_offset is not None
        value: int = struct.unpack("<I", self.sram(self.layout.alive_offset, 4))[0]
        return value

    def description(self) -> tuple[int, ...]:
        """The management channel's 16 words."""
        return struct.unpack("<16I", self.sram(self.alive() - self.layout.sram_base, 64))

    def boot(self) -> Ring:
        """Power on, start the firmware, open the management channel."""
        if not self.client.eventfds:
            self.client.wire(self.generation.vectors)
        self.smu(3)
        assert self.psp(1) == (True, 0)
        assert self.psp(2) == (True, 0)
        words = self.description()
        assert words[8] == 0x55504E5F
        return self._ring(words[0:4], words[4:8], words[9])

    def create_context(
        self, management: Ring, start: int = 0, columns: int = 1, pasid: int = 0
    ) -> tuple[int, Ring]:
        """A context's id and its channel."""
        payload = management.call(0x2, "<I6BH4I", 1, start, columns, 0, 0, 1, 0, pasid, 0, 0, 0, 3)
        assert len(payload) == 76
        status, number, vector, pairs, _unused, *queues = struct.unpack("<IIHBB16I", payload)
        assert (status, pairs) == (0, 1)
        x2i = (queues[1], queues[0], *queues[2:4])
        i2x = (queues[5], queues[4], *queues[6:8])
        return number, self._ring(x2i, i2x, vector)

    def _ring(self, x2i: Sequence[int], i2x: Sequence[int], vector: int) -> Ring:
        registers, sram = self.layout.register_base, self.layout.sram_base
        assert x2i[3] == i2x[3]
        ours = (x2i[0] - registers, x2i[1] - registers, x2i[2] - sram)
        theirs = (i2x[0] - registers, i2x[1] - registers, i2x[2] - sram)
        return Ring(self, ours, theirs, x2i[3], vector)
