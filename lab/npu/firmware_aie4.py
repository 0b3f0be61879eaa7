"""The firmware of the AIE4 virtual function: partitions, contexts with a host queue and a doorbell each.

The driver only makes a context (CREATE_HW_CONTEXT); commands come from user space: packets in a queue in
guest memory, announced by a write to the context's doorbell page. The firmware runs them in order, writes
each one's state to its signal word, moves the queue's read index and raises the context's interrupt, on which
the driver's WAIT_CMD looks at the index again (aie4_ctx.c, Linux 7.2 and 7.3; facts section 5.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.npu import commands, host_queue, kernels
from lab.npu.firmware import Answer, Firmware, Refusal, Request, Surroundings
from lab.npu.firmware_aie2 import tile_info
from lab.npu.host_queue import ControlCode, Packet, QueueError, QueueHeader, State
from lab.npu.mailbox import Channel
from lab.npu.memory import DmaError
from lab.npu.messages import QUEUE_COMMAND, Status

ERROR = 0x1
NOT_SUPPORTED = 0x2
MAX_PARTITIONS = 8
DOORBELL_PAGE = 0x1000
_PASID = (1 << 20) - 1
NO_PASID = (0, _PASID)  # the driver sends "invalid" cut to 20 bits where IOVAs are forced


@dataclass
class QueueContext:
    """One context: ``header`` is the address of its queue's header."""

    id: int
    partition: int
    tiles: int
    priority: int
    header: int
    vector: int
    busy: bool = False  # a command's completion is planned
    hung: bool = False
    commands: int = 0


class Aie4Firmware(Firmware):
    """Partitions of columns and contexts; ids count from 1, since the driver takes 0 for "none"."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self.partitions: dict[int, tuple[int, int]] = {}
        self.contexts: dict[int, QueueContext] = {}
        self._handlers: dict[str, Callable[[Request], Answer]] = {
            "CREATE_PARTITION": self._create_partition,
            "DESTROY_PARTITION": self._destroy_partition,
            "CREATE_HW_CONTEXT": self._create_context,
            "DESTROY_HW_CONTEXT": self._destroy_context,
            "AIE_TILE_INFO": lambda _request: tile_info(around),
            "AIE_VERSION_INFO": lambda _request: (Status.SUCCESS, *around.generation.array.version),
        }

    def context_id(self, channel: Channel) -> int | None:
        return None

    def before(self, request: Request) -> None:
        """The faults of commands strike on queue packets, not on messages."""

    def handle(self, request: Request) -> Answer:
        return self._handlers[request.kind.name](request)

    def doorbell(self, page: int) -> None:
        """User space wrote to doorbell page ``page``, counted from the first."""
        context = self.contexts.get(page + 1)
        if context is None:
            self.around.trace.event(
                "bad-request", name="doorbell", reason=f"page {page} is nobody's", status=0
            )
            return
        self._drain(context)

    # --- partitions and contexts

    def _create_partition(self, request: Request) -> Answer:
        start, count = request.fields
        if not 1 <= count <= self.around.generation.array.columns - start:
            return self.bad_request(request, f"columns {start}+{count}", ERROR)
        number = next((n for n in range(1, MAX_PARTITIONS + 1) if n not in self.partitions), None)
        if number is None:
            return Refusal(ERROR)
        self.partitions[number] = (start, count)
        self.around.trace.event(
            "context", action="create-partition", partition=number, columns=[start, count]
        )
        return (Status.SUCCESS, number)

    def _destroy_partition(self, request: Request) -> Answer:
        number = request.fields[0]
        if self.partitions.pop(number, None) is None:
            return self.bad_request(request, f"no partition {number}", ERROR)
        for context in [one for one in self.contexts.values() if one.partition == number]:
            self._forget(context)
        return (Status.SUCCESS,)

    def _create_context(self, request: Request) -> Answer:
        partition, tiles, high, low, pasid, priority = request.fields
        around, generation = self.around, self.around.generation
        if partition not in self.partitions:
            return self.bad_request(request, f"no partition {partition}", ERROR)
        rows = generation.array.rows - 2
        if not 1 <= tiles <= self.partitions[partition][1] * rows:
            return self.bad_request(request, f"{tiles} tiles", ERROR)
        if pasid & _PASID not in NO_PASID:
            # A vfio-user device cannot walk a process's page tables, and here even the queue lies there.
            around.trace.gap("process-addresses", name=request.kind.name)
            return Refusal(NOT_SUPPORTED)
        number = next((n for n in range(1, generation.context_limit + 1) if n not in self.contexts), None)
        if number is None:
            return Refusal(ERROR)
        vector = 1 + (number - 1) % (generation.vectors - 1)
        self.contexts[number] = QueueContext(number, partition, tiles, priority, low | high << 32, vector)
        around.trace.event(
            "context", action="create", context=number, columns=list(self.partitions[partition]),
            pasid=pasid & _PASID, priority=priority,
        )  # fmt: skip
        assert generation.doorbell_offset is not None, "an AIE4 generation has doorbells"
        page = generation.doorbell_offset + (number - 1) * DOORBELL_PAGE
        return (Status.SUCCESS, number, page, vector)

    def _destroy_context(self, request: Request) -> Answer:
        context = self.contexts.get(request.fields[0])
        if context is None:
            return self.bad_request(request, f"no context {request.fields[0]}", ERROR)
        self._forget(context)
        return (Status.SUCCESS,)

    def _forget(self, context: QueueContext) -> None:
        del self.contexts[context.id]
        self.around.trace.event("context", action="destroy", context=context.id, commands=context.commands)

    # --- commands

    def _drain(self, context: QueueContext) -> None:
        """Run what the queue holds; with delays, one command at a time, the next when it is due."""
        while not context.busy and not context.hung:
            try:
                header = self._header(context)
                address = header.next_packet
                if address is None:
                    return None
                packet = host_queue.parse_packet(self.around.memory.read(address, host_queue.PACKET_SIZE))
            except DmaError as error:
                self.dma_failed("host-queue", error)
                return self._hang(context, "the queue is out of reach")
            except QueueError as error:
                self.around.trace.event("ring-error", channel=context.id, reason=str(error))
                return self._hang(context, str(error))
            if packet.opcode != host_queue.EXEC_BUF:
                self.around.trace.gap("queue-packet", opcode=packet.opcode)
                return self._hang(context, f"a packet with opcode {packet.opcode}")
            self._start(context, packet)
        return None

    def _header(self, context: QueueContext) -> QueueHeader:
        return host_queue.parse_header(self.around.memory.read(context.header, host_queue.HEADER.size))

    def _start(self, context: QueueContext, packet: Packet) -> None:
        faults, name = self.around.faults, QUEUE_COMMAND
        self.stray(name)
        if faults.strike("hung-command", subject=name) or faults.strike("drop", subject=name):
            return self._hang(context, "a fault")
        late = faults.strike("late", subject=name)
        wait = self.around.random.uniform(*self.around.delay) if self.around.delay[1] else 0.0
        wait += late.number("ms") / 1000 if late else 0.0
        if not wait:
            return self._finish(context, packet)
        context.busy = True

        def due() -> None:
            if self._alive and self.contexts.get(context.id) is context:
                context.busy = False
                self._finish(context, packet)
                self._drain(context)

        self.around.timers.call_at(self.around.timers.clock() + wait, due)
        return None

    def _finish(self, context: QueueContext, packet: Packet) -> None:
        """Do the work, say how it went, give the slot back, wake whoever waits."""
        faults, name = self.around.faults, QUEUE_COMMAND
        failure = faults.strike("fail", subject=name)
        works, state = ["refused"], State.ERROR
        if not failure:
            works, state = self._work(packet)
        try:
            header = self._header(context)
            if packet.signal:
                word = int.from_bytes(self.around.memory.read(packet.signal, 4), "little")
                self.around.memory.write(packet.signal, ((word & ~0xF) | state).to_bytes(4, "little"))
            self.around.memory.write(context.header, host_queue.READ_INDEX.pack(header.read_index + 1))
        except (DmaError, QueueError) as error:
            if isinstance(error, DmaError):
                self.dma_failed("host-queue", error)
            return self._hang(context, "the queue is gone")
        context.commands += 1
        result = "done" if state is State.COMPLETED else "failed at 0"
        self.around.trace.event("command", context=context.id, result=result, work=works[:32])
        if not faults.strike("lost-interrupt", subject=name):
            self.around.interrupt(context.vector)
        self.spurious(name, context.vector)
        self.storm(name, context.vector)
        return None

    def _work(self, packet: Packet) -> tuple[list[str], State]:
        faults, memory, name = self.around.faults, self.around.memory, QUEUE_COMMAND
        wrong = faults.strike("wrong-result", subject=name) is not None
        if faults.strike("skipped-work", subject=name):
            return ["skipped"], State.COMPLETED
        works: list[str] = []
        try:
            programs = (
                [packet.direct] if packet.direct else [self._indirect(place) for place in packet.entries]
            )
            for program in programs:
                words = (
                    memory.read(program.arguments, program.argument_size) if program.argument_size else b""
                )
                arguments = tuple(
                    int.from_bytes(words[place : place + 4], "little") for place in range(0, len(words), 4)
                )
                # The packet gives no size of the code: as much as a test kernel's descriptor is looked at.
                size = kernels.DESCRIPTOR.size
                outcome = commands.execute(
                    commands.Command(0, program.code, size, arguments), memory, wrong=wrong
                )
                works.append(outcome.work)
                if outcome.status:
                    return works, State.ERROR
        except DmaError as error:
            self.dma_failed("command", error)
            return [*works, f"failed: {error}"], State.ERROR
        except QueueError as error:
            return [*works, f"failed: {error}"], State.ERROR
        return works, State.COMPLETED

    def _indirect(self, address: int) -> ControlCode:
        return host_queue.parse_indirect(self.around.memory.read(address, host_queue.INDIRECT_SIZE))

    def _hang(self, context: QueueContext, why: str) -> None:
        context.hung = True
        self.around.trace.event("command", context=context.id, result="hung", work=[why])
