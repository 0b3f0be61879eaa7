"""Hardware contexts of the AIE2 firmware: their channel, columns and the host memory mapped for them."""

from __future__ import annotations

from dataclasses import dataclass, field

from lab.npu.mailbox import Channel
from lab.npu.memory import DmaError, GuestMemory

HEAP_BASE = 0x4000000  # device address of the first byte of the heap (facts section 5.6)
HEAP_CHUNK = 64 << 20


@dataclass(frozen=True)
class HeapChunk:
    """A piece of the heap: device addresses from ``device`` on are bus addresses from ``bus`` on."""

    device: int
    bus: int
    size: int


@dataclass
class Context:
    """One context. ``pasid`` is non-zero where addresses are virtual ones of the process (SVA), which a
    vfio-user device cannot walk: such memory is out of the model's reach."""

    id: int
    channel: Channel
    start_column: int
    columns: int
    pasid: int
    priority: int
    heap: list[HeapChunk] = field(default_factory=list)
    hung: bool = False
    commands: int = 0

    def add_heap(self, bus: int, size: int) -> None:
        """Map the next chunk of the heap behind those that are there."""
        device = HEAP_BASE + sum(chunk.size for chunk in self.heap)
        self.heap.append(HeapChunk(device, bus, size))


class ContextMemory:
    """Guest memory as a context's commands address it: the heap by device address, else by bus address."""

    def __init__(self, context: Context, memory: GuestMemory) -> None:
        self._context = context
        self._memory = memory

    def read(self, address: int, size: int) -> bytes:
        """Raises DmaError, also for memory that only the process could reach."""
        return b"".join(self._memory.read(start, count) for start, count in self._spans(address, size))

    def write(self, address: int, data: bytes) -> None:
        """Raises DmaError; nothing of a span is written then."""
        done = 0
        for start, count in self._spans(address, len(data)):
            self._memory.write(start, data[done : done + count])
            done += count

    def _spans(self, address: int, size: int) -> list[tuple[int, int]]:
        if self._context.pasid:
            raise DmaError(address, size, "the context uses the process's addresses (SVA)")
        heap = self._context.heap
        end = address + size
        if not heap or not heap[0].device <= address < heap[-1].device + heap[-1].size:
            return [(address, size)]
        spans = []
        for chunk in heap:
            start, stop = max(address, chunk.device), min(end, chunk.device + chunk.size)
            if start < stop:
                spans.append((chunk.bus + start - chunk.device, stop - start))
        if sum(count for _start, count in spans) != size:
            raise DmaError(address, size, "the range leaves the heap")
        return spans


class ContextTable:
    """The contexts of one firmware life; ids count from 1 and are reused."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._contexts: dict[int, Context] = {}

    def __len__(self) -> int:
        return len(self._contexts)

    def free_id(self) -> int | None:
        """The lowest id nobody has, None when the firmware is full."""
        return next((number for number in range(1, self._limit + 1) if number not in self._contexts), None)

    def add(self, context: Context) -> None:
        self._contexts[context.id] = context

    def get(self, number: int) -> Context | None:
        return self._contexts.get(number)

    def remove(self, number: int) -> Context | None:
        return self._contexts.pop(number, None)

    def of_channel(self, channel: Channel) -> Context | None:
        """The context a channel belongs to, None for the management channel."""
        return next((entry for entry in self._contexts.values() if entry.channel is channel), None)

    def clear(self) -> None:
        self._contexts.clear()
