"""The firmware of the AIE4 virtual function: enough for the driver's probe and its partitions.

No context can be submitted to yet: a context's doorbell and host queue are not modelled, and
CREATE_HW_CONTEXT is refused as a gap of the model.
"""

from __future__ import annotations

from collections.abc import Callable

from lab.npu.firmware import Answer, Firmware, Refusal, Request, Surroundings
from lab.npu.firmware_aie2 import tile_info
from lab.npu.mailbox import Channel
from lab.npu.messages import Status

ERROR = 0x1
NOT_SUPPORTED = 0x2
MAX_PARTITIONS = 8


class Aie4Firmware(Firmware):
    """Partitions of columns; ids count from 1, since the driver takes 0 for "none"."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self.partitions: dict[int, tuple[int, int]] = {}
        self._handlers: dict[str, Callable[[Request], Answer]] = {
            "CREATE_PARTITION": self._create_partition,
            "DESTROY_PARTITION": self._destroy_partition,
            "CREATE_HW_CONTEXT": self._context_gap,
            "DESTROY_HW_CONTEXT": self._context_gap,
            "AIE_TILE_INFO": lambda _request: tile_info(around),
            "AIE_VERSION_INFO": lambda _request: (Status.SUCCESS, *around.generation.array.version),
        }

    def context_id(self, channel: Channel) -> int | None:
        return None

    def before(self, request: Request) -> None:
        """Nothing yet: the faults of commands need contexts."""

    def handle(self, request: Request) -> Answer:
        return self._handlers[request.kind.name](request)

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
        if self.partitions.pop(request.fields[0], None) is None:
            return self.bad_request(request, f"no partition {request.fields[0]}", ERROR)
        return (Status.SUCCESS,)

    def _context_gap(self, request: Request) -> Answer:
        self.around.trace.gap("message-not-modelled", name=request.kind.name)
        return Refusal(NOT_SUPPORTED)
