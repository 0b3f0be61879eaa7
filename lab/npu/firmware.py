"""What every generation's firmware has in common: messages in, answers out, faults on the way.

A message that the tables do not know, in name or in size, is a gap of the model: recorded as ``model-gap``
and answered with "invalid command", so that nobody takes the model's ignorance for a kernel's regression.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

from lab.npu.faults import FaultPlan
from lab.npu.generations import Generation
from lab.npu.mailbox import MESSAGE_HEADER, Channel, Message, RingError, encode
from lab.npu.memory import DmaError, GuestMemory
from lab.npu.messages import MESSAGES, MessageKind, Scope, Status
from lab.npu.timers import Timers
from lab.npu.trace import Trace

SHORTEST_PAUSE = 1e-4  # seconds between two interrupts of a storm
PAYLOAD_SHOWN = 64  # bytes of a payload in the trace


@dataclass(frozen=True)
class Refusal:
    """A handler's "no": answered in the right size with this status."""

    status: int


@dataclass(frozen=True)
class Request:
    """One message with its fields by the table."""

    channel: Channel
    message: Message
    kind: MessageKind
    fields: tuple[int, ...]


Answer = tuple[int, ...] | Refusal | None
"""Fields of the response, a refusal, or None: answered later or never."""


@dataclass(frozen=True)
class Surroundings:
    """What a firmware stands in. ``wait_mode`` shows the sleeping bit, ``open_channel`` takes a slot and a
    vector, ``close_channel`` gives them back, ``interrupt`` raises a vector. ``delay`` is seconds."""

    generation: Generation
    memory: GuestMemory
    trace: Trace
    faults: FaultPlan
    timers: Timers
    random: random.Random
    delay: tuple[float, float]
    wait_mode: Callable[[bool], None]
    open_channel: Callable[[int, int], Channel]
    close_channel: Callable[[Channel], None]
    interrupt: Callable[[int], None]


class Firmware(ABC):
    """One life of the firmware, from its boot to the next reset."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self._kinds = MESSAGES[around.generation.family]
        self._alive = True

    @abstractmethod
    def handle(self, request: Request) -> Answer:
        """Do what a known message of the right size asks."""

    @abstractmethod
    def context_id(self, channel: Channel) -> int | None:
        """The context whose channel it is, None for the management channel."""

    def stop(self) -> None:
        """The firmware is gone: what was planned must not happen any more."""
        self._alive = False

    def serve(self, channel: Channel) -> None:
        """Take what the host wrote. A broken ring silences the channel for good."""
        if channel.dead or not self._alive:
            return
        try:
            for message in channel.take():
                self._receive(channel, message)
        except RingError as error:
            self.around.trace.event("ring-error", channel=channel.slot, reason=str(error))

    def dma_write(self, purpose: str, address: int, data: bytes) -> bool:
        """Write guest memory; where that is impossible the trace says so and False comes back."""
        try:
            self.around.memory.write(address, data)
        except DmaError as error:
            self.dma_failed(purpose, error)
            return False
        return True

    def dma_failed(self, purpose: str, error: DmaError) -> None:
        """Record that the model could not reach guest memory."""
        self.around.trace.event(
            "dma-error", purpose=purpose, address=error.address, size=error.size, reason=error.reason
        )

    def bad_request(self, request: Request, reason: str, status: int = Status.INVALID_PARAMETER) -> Refusal:
        """The driver asked for something that cannot be: recorded, and refused."""
        self.around.trace.event("bad-request", name=request.kind.name, reason=reason, status=status)
        return Refusal(status)

    @abstractmethod
    def before(self, request: Request) -> None:
        """Let faults strike that come with a message, before it is handled."""

    def stray(self, name: str) -> None:
        """Write where nobody mapped anything, when that is planned."""
        stray = self.around.faults.strike("dma-out-of-range", subject=name)
        if stray:
            try:
                data = b"\xee" * stray.integer("size")
                self.around.memory.write_beyond(stray.integer("address"), data)
            except DmaError as failure:
                self.dma_failed("dma-out-of-range", failure)

    def spurious(self, name: str, vector: int) -> None:
        """Raise an interrupt without cause, when that is planned."""
        spurious = self.around.faults.strike("spurious-interrupt", subject=name)
        if spurious:
            for _ in range(spurious.integer("times")):
                self.around.interrupt(vector)

    def storm(self, name: str, vector: int) -> None:
        """Begin to raise interrupts without end, when that is planned."""
        planned = self.around.faults.strike("interrupt-storm", subject=name)
        if planned:
            self._blow(vector, max(SHORTEST_PAUSE, planned.number("ms") / 1000))

    def _blow(self, vector: int, pause: float) -> None:
        if self._alive:
            self.around.interrupt(vector)
            timers = self.around.timers
            timers.call_at(timers.clock() + pause, lambda: self._blow(vector, pause))

    def doorbell(self, page: int) -> None:
        """User space wrote to a doorbell page, counted from the first; most generations have none."""
        self.around.trace.gap("unknown-register", doorbell=page)

    def answer(self, channel: Channel, message: Message, name: str) -> None:
        """Send an answer, with the faults and delays that are planned for it."""
        faults = self.around.faults
        late = faults.strike("late", subject=name)
        wait = self.around.random.uniform(*self.around.delay) if self.around.delay[1] else 0.0
        if late:
            wait += late.number("ms") / 1000
        data = self._spoilt(encode(message), message, name)
        now = self.around.timers.clock()
        due = max(now + wait, channel.not_before)
        channel.not_before = due
        if due <= now:
            self._deliver(channel, data, message, name)
        else:
            self.around.timers.call_at(due, lambda: self._deliver(channel, data, message, name))

    def _receive(self, channel: Channel, message: Message) -> None:
        trace, faults = self.around.trace, self.around.faults
        kind = self._kinds.get(message.opcode)
        name = kind.name if kind else f"0x{message.opcode:x}"
        trace.event(
            "message",
            direction="request",
            channel=channel.slot,
            context=self.context_id(channel),
            id=message.id,
            opcode=message.opcode,
            name=name,
            size=len(message.payload),
            payload=message.payload[:PAYLOAD_SHOWN].hex(),
        )
        if kind is None:
            trace.gap("unknown-message", opcode=message.opcode, size=len(message.payload))
            self._refuse_unknown(channel, message, name)
            return
        fields = kind.parse(message.payload)
        if fields is None:
            trace.gap("message-size", name=name, opcode=message.opcode, size=len(message.payload))
            self._refuse_unknown(channel, message, name)
            return
        request = Request(channel, message, kind, fields)
        dropped = faults.strike("drop", subject=name)
        self.before(request)
        if dropped:
            return
        failure = faults.strike("fail", subject=name)
        result = Refusal(failure.integer("status")) if failure else self._result(request)
        if result is None:
            return
        payload = kind.refusal(result.status) if isinstance(result, Refusal) else kind.answer(*result)
        if isinstance(result, Refusal) and name.startswith("CHAIN_EXEC"):
            # The driver takes a failed chain only with the failed command's own status.
            payload = kind.answer(result.status, 0, result.status)
        self.answer(channel, replace(message, payload=payload), name)

    def _result(self, request: Request) -> Answer:
        kind, around = request.kind, self.around
        if not kind.supported_by(around.generation):
            major, minor = around.generation.protocol
            around.trace.gap("message-of-another-protocol", name=kind.name, protocol=f"{major}.{minor}")
            return Refusal(Status.INVALID_COMMAND)
        scope = Scope.MANAGEMENT if self.context_id(request.channel) is None else Scope.CONTEXT
        if kind.scope is not scope:
            return self.bad_request(request, f"sent on a {scope} channel", Status.INVALID_COMMAND)
        return self.handle(request)

    def _refuse_unknown(self, channel: Channel, message: Message, name: str) -> None:
        payload = int(Status.INVALID_COMMAND).to_bytes(4, "little")
        self.answer(channel, replace(message, payload=payload), name)

    def _spoilt(self, data: bytes, message: Message, name: str) -> bytes:
        faults = self.around.faults
        if faults.strike("garbage", subject=name):
            return self.around.random.randbytes(len(data))
        resized = faults.strike("wrong-size", subject=name)
        if resized:
            size = max(4, len(message.payload) + resized.integer("delta"))
            payload = message.payload[:size].ljust(size, b"\0")
            data = encode(replace(message, payload=payload))
        malformed = faults.strike("malformed", subject=name)
        if malformed:
            head = bytearray(data)
            match malformed.text("part"):
                case "id":
                    head[8:12] = (message.id ^ 0x1F).to_bytes(4, "little")
                case "magic":
                    head[8:12] = (message.id ^ 0xFF000000).to_bytes(4, "little")
                case "size":
                    head[0:4] = (0x7FFC).to_bytes(4, "little")
                case _:
                    head[0:4] = bytes(4)
            data = bytes(head)
        return data

    def _deliver(self, channel: Channel, data: bytes, message: Message, name: str) -> None:
        if not self._alive or channel.dead:
            return
        faults = self.around.faults
        corruption = faults.strike("ring-corruption", subject=name)
        if corruption:
            channel.point_tail(corruption.integer("tail"))
            channel.dead = True
            return
        if faults.strike("reorder", subject=name):
            channel.held.append(data)
            return
        copies = 2 if faults.strike("duplicate", subject=name) else 1
        announce = faults.strike("lost-interrupt", subject=name) is None
        held, channel.held = channel.held, []
        for part in [data] * copies + held:
            if not channel.send_raw(part, announce=announce):
                self.around.trace.event(
                    "ring-error", channel=channel.slot, reason="the host does not read answers"
                )
        self.around.trace.event(
            "message",
            direction="answer",
            channel=channel.slot,
            context=self.context_id(channel),
            id=message.id,
            opcode=message.opcode,
            name=name,
            size=len(data) - MESSAGE_HEADER.size,
            payload=data[MESSAGE_HEADER.size :][:PAYLOAD_SHOWN].hex(),
        )
        self.spurious(name, channel.vector)
        self.storm(name, channel.vector)
