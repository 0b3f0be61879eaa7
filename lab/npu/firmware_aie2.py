"""The firmware of npu1 and npu4 to npu6: management messages and command execution (facts section 5.6)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from lab.npu import commands
from lab.npu.contexts import Context, ContextMemory, ContextTable
from lab.npu.faults import PlannedFault
from lab.npu.firmware import Answer, Firmware, Refusal, Request, Surroundings
from lab.npu.mailbox import Channel, Message
from lab.npu.memory import DmaError
from lab.npu.messages import EXECUTION_NAMES, MessageKind, Status

ALL_CONTEXTS = 0xFF  # UPDATE_PROPERTY for every context
MAX_ASYNC_BUFFERS = 64
TELEMETRY_TYPES = 5
TELEMETRY_VERSION = (1, 0)
TELEMETRY_SIZE = 256
HEALTH_VERSION = (1, 0)
IDLE_COUNTER = 0xFFFFFFFF  # what the health report says while nothing runs
COLUMN_STATUS_BYTE = b"\xa5"


@dataclass(frozen=True)
class _AsyncBuffer:
    """A buffer the driver registered for array errors, and the message that waits for its answer."""

    channel: Channel
    message: Message
    kind: MessageKind
    address: int
    size: int


class Aie2Firmware(Firmware):
    """Contexts with a channel each; commands are read from guest memory where it can be reached."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self.contexts = ContextTable(around.generation.context_limit)
        self.runtime: dict[int, int] = {}
        self._async_buffers: list[_AsyncBuffer] = []
        self._handlers: dict[str, Callable[[Request], Answer]] = {
            "CREATE_CONTEXT": self._create_context,
            "DESTROY_CONTEXT": self._destroy_context,
            "GET_TELEMETRY": self._telemetry,
            "SYNC_BO": self._sync,
            "QUERY_COL_STATUS": self._column_status,
            "QUERY_AIE_TILE_INFO": lambda _request: tile_info(around),
            "QUERY_AIE_VERSION": lambda _request: (Status.SUCCESS, *around.generation.array.version),
            "CONFIG_CU": self._configure_units,
            "CONFIG_DEBUG_BO": self._debug_buffer,
            "SUSPEND": lambda request: self._sleep(request, waiting=True),
            "RESUME": lambda request: self._sleep(request, waiting=False),
            "ASSIGN_MGMT_PASID": self._accept,
            "MAP_HOST_BUFFER": self._map_host_buffer,
            "ADD_HOST_BUFFER": self._map_host_buffer,
            "GET_FIRMWARE_VERSION": lambda _request: (Status.SUCCESS, *around.generation.firmware),
            "SET_RUNTIME_CONFIG": self._set_runtime,
            "GET_RUNTIME_CONFIG": lambda request: (Status.SUCCESS, self.runtime.get(request.fields[0], 0)),
            "REGISTER_ASYNC_EVENT_MSG": self._register_async,
            "START_FW_TRACE": self._accept,
            "STOP_FW_TRACE": self._accept,
            "SET_FW_TRACE_CATEGORIES": self._accept,
            "UPDATE_PROPERTY": self._update_property,
            "GET_APP_HEALTH": self._health,
            "CONFIG_FW_LOG": self._accept,
            "GET_DEV_REVISION": lambda _request: (Status.SUCCESS, around.generation.device_revision, 0),
            "CALIBRATE_CLOCK": self._accept,
            "GET_PROTOCOL_VERSION": lambda _request: (Status.SUCCESS, *around.generation.protocol),
        }
        self._handlers |= dict.fromkeys(("EXECUTE_BUFFER_CF", "EXEC_DPU"), self._execute_single)
        self._handlers |= dict.fromkeys(
            ("CHAIN_EXEC_BUFFER_CF", "CHAIN_EXEC_DPU", "CHAIN_EXEC_NPU"), self._execute_chain
        )

    def context_id(self, channel: Channel) -> int | None:
        context = self.contexts.of_channel(channel)
        return None if context is None else context.id

    def handle(self, request: Request) -> Answer:
        return self._handlers[request.kind.name](request)

    def before(self, request: Request) -> None:
        faults, name = self.around.faults, request.kind.name
        self.stray(name)
        error = faults.strike("async-error", subject=name)
        if error:
            self._raise_async_error(error)

    def _accept(self, _request: Request) -> Answer:
        return (Status.SUCCESS,)

    # --- contexts

    def _create_context(self, request: Request) -> Answer:
        _type, start, columns, _unused, _r0, pairs, _r1, pasid, _p0, _p1, _target, priority = request.fields
        around = self.around
        if pairs < 1 or not 1 <= columns <= around.generation.array.columns - start:
            reason = f"columns {start}+{columns} of {around.generation.array.columns}, {pairs} queue pairs"
            return self.bad_request(request, reason, Status.MANAGEMENT_INVALID_PARAMETER)
        number = self.contexts.free_id()
        if number is None:
            return Refusal(Status.NOT_AVAILABLE)
        slot = around.generation.mailbox.slots[number]
        channel = around.open_channel(slot, number)
        self.contexts.add(Context(number, channel, start, columns, pasid, priority))
        around.trace.event(
            "context",
            action="create",
            context=number,
            columns=[start, columns],
            pasid=pasid,
            priority=priority,
        )
        places = channel.addresses
        return (
            *(Status.SUCCESS, number, channel.vector, 1, 0),
            *(places.x2i_head, places.x2i_tail, places.x2i_ring, places.ring_size),
            *(places.i2x_head, places.i2x_tail, places.i2x_ring, places.ring_size),
        )

    def _destroy_context(self, request: Request) -> Answer:
        context = self.contexts.remove(request.fields[0])
        if context is None:
            return self.bad_request(request, f"no context {request.fields[0]}")
        self.around.close_channel(context.channel)
        self.around.trace.event("context", action="destroy", context=context.id, commands=context.commands)
        return (Status.SUCCESS,)

    def _map_host_buffer(self, request: Request) -> Answer:
        number, address, size = request.fields
        context = self.contexts.get(number)
        if context is None:
            return self.bad_request(request, f"no context {number}")
        if request.kind.name == "MAP_HOST_BUFFER":
            context.heap.clear()
        context.add_heap(address, size)
        return (Status.SUCCESS,)

    def _update_property(self, request: Request) -> Answer:
        number = request.fields[1]
        if number != ALL_CONTEXTS and self.contexts.get(number) is None:
            return self.bad_request(request, f"no context {number}")
        return (Status.SUCCESS,)

    # --- the device as a whole

    def _sleep(self, request: Request, *, waiting: bool) -> Answer:
        faults = self.around.faults
        if faults.strike("failed-suspend" if waiting else "failed-resume"):
            return Refusal(Status.INVALID_COMMAND)
        if not (waiting and faults.strike("suspend-stuck")):
            self.around.wait_mode(waiting)
        return (Status.SUCCESS,)

    def _set_runtime(self, request: Request) -> Answer:
        kind, value = request.fields
        if len(self.runtime) < 256 or kind in self.runtime:
            self.runtime[kind] = value
        return (Status.SUCCESS,)

    def _telemetry(self, request: Request) -> Answer:
        kind, address, size = request.fields
        if kind >= TELEMETRY_TYPES:
            return self.bad_request(request, f"telemetry type {kind}")
        data = bytes(range(TELEMETRY_SIZE))[:size]
        if not self.dma_write("telemetry", address, data):
            return Refusal(Status.INVALID_INPUT_BUFFER)
        return (*TELEMETRY_VERSION, len(data), Status.SUCCESS)

    def _column_status(self, request: Request) -> Answer:
        address, size, columns, _bitmap = request.fields
        # Without a context the driver asks for no columns and still takes a dump (measured, facts section 1).
        length = min(size, self.around.generation.array.column_size * max(columns, 1))
        if not self.dma_write("column-status", address, COLUMN_STATUS_BYTE * length):
            return Refusal(Status.INVALID_INPUT_BUFFER)
        return (Status.SUCCESS, length)

    def _health(self, request: Request) -> Answer:
        number, size, address = request.fields
        context = self.contexts.get(number)
        if context is None:
            return self.bad_request(request, f"no context {number}")
        # Counters anybody recognises as the model's.
        progress = (0x1111, 0x2222, 0x3333) if context.hung else (IDLE_COUNTER, IDLE_COUNTER, 0)
        length = 24 + 4 * 133 + 4
        report = struct.pack("<HHIIIII", *HEALTH_VERSION, length, number, *progress)
        report = report.ljust(length - 4, b"\0") + struct.pack("<I", context.commands & 0xFFFFFFFF)
        if size < length:
            return (Status.BUFFER_SIZE_INVALID, length)
        if not self.dma_write("app-health", address, report):
            return Refusal(Status.INVALID_INPUT_BUFFER)
        return (Status.SUCCESS, length)

    def _register_async(self, request: Request) -> Answer:
        address, size = request.fields
        if len(self._async_buffers) >= MAX_ASYNC_BUFFERS:
            return Refusal(Status.ASYNC_EVENTS_FULL)
        self._async_buffers.append(
            _AsyncBuffer(request.channel, request.message, request.kind, address, size)
        )
        return None

    def _raise_async_error(self, fault: PlannedFault) -> None:
        if not self._async_buffers:
            self.around.trace.event("async-error", delivered=False, reason="no buffer is registered")
            return
        buffer = self._async_buffers.pop(0)
        row, column, module, event = (fault.integer(name) for name in ("row", "column", "module", "id"))
        report = struct.pack("<III", 1, 0, 0) + struct.pack("<BBxxIBxxx", row, column, module, event)
        delivered = self.dma_write("async-error", buffer.address, report[: buffer.size])
        self.around.trace.event(
            "async-error", delivered=delivered, row=row, column=column, module=module, id=event
        )
        message = replace(buffer.message, payload=buffer.kind.answer(Status.SUCCESS, 0))
        self.answer(buffer.channel, message, buffer.kind.name)

    # --- commands

    def _context(self, request: Request) -> Context:
        context = self.contexts.of_channel(request.channel)
        assert context is not None, "the message's scope was checked"
        return context

    def _configure_units(self, request: Request) -> Answer:
        count, *units = request.fields
        if count > len(units):
            return self.bad_request(request, f"{count} units")
        return (Status.SUCCESS,)

    def _debug_buffer(self, request: Request) -> Answer:
        if request.fields[2] > 1:
            return self.bad_request(request, f"operation {request.fields[2]}")
        return (Status.SUCCESS,)

    def _sync(self, request: Request) -> Answer:
        # Device memory to host memory: the model has one memory, so there is nothing to move.
        return (Status.SUCCESS,)

    def _execute_single(self, request: Request) -> Answer:
        fields = request.fields
        if request.kind.name == "EXEC_DPU":
            command = commands.Command(fields[3], fields[0], fields[1], fields[4:])
        else:
            command = commands.Command(fields[0], 0, 0, fields[1:])
        if self._context(request).pasid:
            failed = self._execute(request, [], opaque=1)  # its program is at an address of the process
        else:
            failed = self._execute(request, [command])
        if failed is None:
            return None
        return (failed[1],)

    def _execute_chain(self, request: Request) -> Answer:
        address, size, count = request.fields[-3:]
        context = self._context(request)
        if not context.heap:
            # Seen from the driver's restart after a timeout (facts section 7): the list cannot be found.
            self.bad_request(request, "a chain before MAP_HOST_BUFFER")
            return (Status.INVALID_INPUT_BUFFER, 0, Status.INVALID_INPUT_BUFFER)
        if size > commands.MAX_CHAIN:
            return (Status.INVALID_PARAMETER, 0, Status.INVALID_PARAMETER)
        if context.pasid:
            # The list is at an address of the process, which no vfio-user device can walk.
            failed = self._execute(request, [], opaque=count)
        else:
            try:
                data = ContextMemory(context, self.around.memory).read(address, size)
                chain = commands.parse_chain(request.kind.name, data, count)
            except DmaError as error:
                self.dma_failed("command-chain", error)
                return (Status.INVALID_INPUT_BUFFER, 0, Status.INVALID_INPUT_BUFFER)
            except commands.ChainError as error:
                self.bad_request(request, str(error))
                return (Status.INVALID_PARAMETER, error.index, Status.INVALID_PARAMETER)
            failed = self._execute(request, chain)
        if failed is None:
            return None
        index, status = failed
        return (status, index, status)

    def _execute(
        self, request: Request, chain: list[commands.Command], *, opaque: int = 0
    ) -> tuple[int, int] | None:
        """Run a chain. Index and status of the failed command, (0, 0) when all went well, None for a hang."""
        context, name, faults = self._context(request), request.kind.name, self.around.faults
        assert name in EXECUTION_NAMES
        if context.hung or faults.strike("hung-command", subject=name):
            context.hung = True
            self._note(context, [], "hung")
            return None
        wrong = faults.strike("wrong-result", subject=name) is not None
        skipped = faults.strike("skipped-work", subject=name) is not None
        memory = ContextMemory(context, self.around.memory)
        works = ["opaque: the process's addresses"] * min(opaque, 1)
        for index, command in enumerate(chain):
            outcome = commands.Outcome(Status.SUCCESS, "skipped")
            if not skipped:
                outcome = commands.execute(command, memory, wrong=wrong)
            works.append(outcome.work)
            if outcome.status:
                self._note(context, works, f"failed at {index}")
                return index, outcome.status
        context.commands += len(chain) or opaque
        self._note(context, works, "done")
        return 0, Status.SUCCESS

    def _note(self, context: Context, works: list[str], result: str) -> None:
        self.around.trace.event("command", context=context.id, result=result, work=works[:32])


def tile_info(around: Surroundings) -> tuple[int, ...]:
    """The fields of the array's geometry: one shim row, one memory row, core rows above them."""
    array = around.generation.array
    cores = array.rows - 2
    return (
        *(Status.SUCCESS, array.column_size, *array.version, array.columns, array.rows),
        *(cores, 1, 1, 2, 1, 0),  # rows of cores, memory, shim; where each begins
        *(2, 6, 2),  # DMA channels of core, memory, shim
        *(16, 64, 16),  # locks
        *(128, 128, 128),  # events
    )
