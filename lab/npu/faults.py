"""Named faults with parameters, and the plan that says when each strikes.

A fault is written ``name:key=value,key=value``. Where a fault concerns messages, ``message`` is a name or a
pattern (``CHAIN_EXEC_*``); ``nth`` counts the occasions from 1 (left out: every occasion), ``count`` says how
often it strikes (left out: once with ``nth``, else without end), ``after`` lets it sleep for that many
seconds of the model's life. Each row names the finding that a run with it must produce: ids of the
kernel-log signatures, or what a test sees.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from lab.npu.messages import MESSAGE_NAMES
from lab.npu.trace import Trace

ValueType = Literal["integer", "number", "text", "message", "protocol"]
Value = int | float | str | None


class FaultError(Exception):
    """A fault that does not exist, or a parameter that does not fit it."""


@dataclass(frozen=True)
class Parameter:
    """One parameter; ``default`` None means "not given"."""

    name: str
    type: ValueType
    default: Value
    meaning: str


@dataclass(frozen=True)
class FaultKind:
    """A fault the model can play: what it does and what a run with it must show."""

    name: str
    does: str
    finding: str
    parameters: tuple[Parameter, ...] = ()
    once: bool = False  # strikes once unless ``count`` says otherwise


_NTH = Parameter("nth", "integer", None, "which occasion, from 1; left out: every one")
_COUNT = Parameter("count", "integer", None, "how often; left out: once with nth, else without end")
_AFTER = Parameter("after", "number", 0.0, "seconds of the model's life before it may strike")
_TIMING = (_NTH, _COUNT, _AFTER)


def _kind(name: str, does: str, finding: str, *parameters: Parameter, once: bool = False) -> FaultKind:
    return FaultKind(name, does, finding, (*parameters, *_TIMING), once)


def _on(default: str | None, meaning: str = "name or pattern of the message") -> Parameter:
    return Parameter("message", "message", default, meaning)


_SMU_COMMAND = Parameter("command", "text", "*", "name or pattern of the SMU command (POWER_ON, SET_*)")
_PSP_COMMAND = Parameter("command", "text", "*", "name or pattern of the PSP command (VALIDATE, START)")

_KINDS: tuple[FaultKind, ...] = (
    _kind("drop", "the message is consumed and never answered", "tdr, mbox-timeout", _on("*")),
    _kind(
        "late",
        "the answer comes late, and everything behind it on that channel",
        "none below the driver's limits (mailbox 5 s, commands 2 s), else tdr or mbox-timeout",
        _on("*"),
        Parameter("ms", "number", 1000.0, "milliseconds"),
    ),
    _kind("duplicate", "the answer is sent twice", "mbox-bad, then tdr or mbox-timeout", _on("*")),
    _kind(
        "wrong-size",
        "the answer is longer or shorter than the driver's structure",
        "mbox-bad",
        _on("*"),
        Parameter("delta", "integer", 4, "bytes more (or less), a multiple of 4"),
    ),
    _kind(
        "malformed",
        "the answer's header is wrong",
        "mbox-bad",
        _on("*"),
        Parameter("part", "text", "id", "id, magic, size or zero-size"),
    ),
    _kind(
        "reorder",
        "the answer waits for the next one on its channel and follows it",
        "none while several messages are under way, else tdr or mbox-timeout",
        _on("*"),
    ),
    _kind(
        "fail",
        "the message is answered with a status and nothing is done",
        "the caller's ioctl or command fails; ctx-noavail for CREATE_CONTEXT with 0x2000003",
        _on("*"),
        Parameter("status", "integer", 0x4000002, "firmware status"),
    ),
    _kind(
        "hung-command",
        "a command is taken and its context never answers a command again",
        "tdr, tdr-report where the firmware has health reports",
        _on("*EXEC*"),
        once=True,
    ),
    _kind(
        "wrong-result",
        "a test kernel's output is inverted, the command still reports success",
        "the data compare of a test fails",
        _on("*EXEC*"),
    ),
    _kind(
        "skipped-work",
        "a command reports success and nothing was done",
        "the data compare of a test fails",
        _on("*EXEC*"),
    ),
    _kind(
        "firmware-not-alive", "the firmware never comes up after the secure processor's start", "fw-not-alive"
    ),
    _kind(
        "slow-boot",
        "the firmware comes up late",
        "none below 1 s, else fw-not-alive",
        Parameter("ms", "number", 500.0, "milliseconds"),
    ),
    _kind(
        "bad-magic",
        "the management channel's description has another magic",
        "mbox-magic, fw-not-alive",
        Parameter("magic", "integer", 0x30EC000, "the word in its place"),
    ),
    _kind(
        "unsupported-protocol",
        "the firmware announces a protocol version no driver takes",
        "fw-proto-refused (since 7.0), fw-proto (before)",
        Parameter("protocol", "protocol", "9.0", "major.minor"),
    ),
    _kind(
        "psp-error",
        "a command of the secure processor fails",
        "psp",
        _PSP_COMMAND,
        Parameter("status", "integer", 0x5, "the error answered"),
    ),
    _kind("psp-hang", "the secure processor takes a command and is never ready again", "psp", _PSP_COMMAND),
    _kind(
        "smu-error",
        "a power controller command fails",
        "smu-failed",
        _SMU_COMMAND,
        Parameter("response", "integer", 0xFF, "the response word"),
    ),
    _kind("smu-hang", "a power controller command is never answered", "smu-timeout", _SMU_COMMAND),
    _kind(
        "suspend-stuck",
        "SUSPEND is answered but the firmware never shows that it sleeps",
        "suspend, by the wait-mode register (since 7.0), none before",
    ),
    _kind("failed-suspend", "SUSPEND is answered with an error", "suspend"),
    _kind("failed-resume", "RESUME is answered with an error", "resume"),
    _kind(
        "lost-interrupt", "the answer is written but no interrupt is raised", "mbox-timeout or tdr", _on("*")
    ),
    _kind(
        "spurious-interrupt",
        "interrupts come without an answer",
        "none",
        _on("*", "after which message"),
        Parameter("times", "integer", 1, "interrupts each time, at most 1000"),
    ),
    _kind(
        "interrupt-storm",
        "interrupts come without end from that message on",
        "none",
        _on("*", "after which message it begins"),
        Parameter("ms", "number", 1.0, "milliseconds between two, at least 0.1"),
        once=True,
    ),
    _kind(
        "garbage",
        "the answer is random bytes, header and all",
        "mbox-bad, then tdr or mbox-timeout; fw-not-alive when the driver's first question is answered so",
        _on("*"),
    ),
    _kind(
        "ring-corruption",
        "the answer ring's tail is set to nonsense",
        "mbox-bad or a mailbox warning",
        _on("*", "instead of the answer to which message"),
        Parameter("tail", "integer", 0x3, "the value the host reads"),
    ),
    _kind(
        "async-error",
        "the array reports an error, before the message is handled",
        "async-error, GET_ARRAY HW_LAST_ASYNC_ERR",
        _on("*EXEC*", "on which message"),
        Parameter("row", "integer", 2, "row"),
        Parameter("column", "integer", 1, "column"),
        Parameter("module", "integer", 1, "0 memory, 1 core, 2 PL"),
        Parameter("id", "integer", 55, "event id"),
        once=True,
    ),
    _kind(
        "dma-out-of-range",
        "the device writes to an address that nobody mapped",
        "io-page-fault where the IOMMU translates (since 7.1), else only the trace's dma-error",
        _on("*EXEC*", "on which message"),
        Parameter("address", "integer", 0xDEAD000, "bus address"),
        Parameter("size", "integer", 4, "bytes, at most 4096"),
        once=True,
    ),
)

FAULTS: Mapping[str, FaultKind] = {kind.name: kind for kind in _KINDS}

_MALFORMED_PARTS = frozenset({"id", "magic", "size", "zero-size"})


@dataclass(frozen=True)
class PlannedFault:
    """A fault with its values."""

    kind: FaultKind
    values: Mapping[str, Value]

    def integer(self, name: str) -> int:
        """The value of an integer parameter."""
        value = self.values[name]
        assert isinstance(value, int), name
        return value

    def number(self, name: str) -> float:
        """The value of a number parameter."""
        value = self.values[name]
        assert isinstance(value, int | float), name
        return float(value)

    def text(self, name: str) -> str:
        """The value of a text, message or protocol parameter."""
        value = self.values[name]
        assert isinstance(value, str), name
        return value

    def concerns(self, subject: str | None) -> bool:
        """Whether the fault's pattern takes this message or command."""
        pattern = self.values.get("message", self.values.get("command"))
        if not isinstance(pattern, str):
            return True
        return pattern == "*" or (subject is not None and fnmatchcase(subject, pattern))


def parse_protocol(text: str) -> tuple[int, int]:
    """``6.24`` -> (6, 24). Raises FaultError."""
    major, dot, minor = text.partition(".")
    if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()):
        raise FaultError(f"{text!r} is not a protocol version such as 6.24")
    return int(major), int(minor)


def parse_fault(text: str) -> PlannedFault:
    """Read ``name:key=value,key=value``. Raises FaultError, which names what would be right."""
    name, _, rest = text.partition(":")
    kind = FAULTS.get(name)
    if kind is None:
        raise FaultError(f"no fault {name!r}; known are {', '.join(FAULTS)}")
    known = {parameter.name: parameter for parameter in kind.parameters}
    values: dict[str, Value] = {parameter.name: parameter.default for parameter in kind.parameters}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals or key not in known:
            raise FaultError(f"fault {name!r} has no parameter {key!r}; it has {', '.join(known)}")
        values[key] = _value(known[key], value)
    _check(kind, values)
    return PlannedFault(kind, values)


def _value(parameter: Parameter, text: str) -> Value:
    try:
        match parameter.type:
            case "integer":
                return int(text, 0)
            case "number":
                return float(text)
            case "protocol":
                parse_protocol(text)
                return text
            case "message":
                if not any(fnmatchcase(name, text) for name in MESSAGE_NAMES):
                    raise FaultError(
                        f"{text!r} matches no message; known are {', '.join(sorted(MESSAGE_NAMES))}"
                    )
                return text
            case "text":
                return text
    except ValueError as error:
        raise FaultError(f"{parameter.name}={text!r} is not a {parameter.type}") from error


def _check(kind: FaultKind, values: Mapping[str, Value]) -> None:
    for name, low, high in (
        ("nth", 1, 1 << 32),
        ("count", 1, 1 << 32),
        ("ms", 0, 600_000),
        ("after", 0, 86_400),
        ("times", 1, 1000),
        ("delta", -2044, 1024),
        ("size", 1, 4096),
        ("row", 0, 255),
        ("column", 0, 255),
        ("module", 0, (1 << 32) - 1),
        ("id", 0, 255),
        ("address", 0, (1 << 64) - 4096),
        ("tail", 0, (1 << 32) - 1),
        ("status", 0, (1 << 32) - 1),
        ("response", 0, (1 << 32) - 1),
        ("magic", 0, (1 << 32) - 1),
    ):
        value = values.get(name)
        if isinstance(value, int | float) and not low <= value <= high:
            raise FaultError(f"{kind.name}: {name}={value} is not within {low}..{high}")
    delta = values.get("delta")
    if isinstance(delta, int) and (delta % 4 or delta == 0):
        raise FaultError(f"{kind.name}: delta={delta} is not a multiple of 4 other than 0")
    if "part" in values and values["part"] not in _MALFORMED_PARTS:
        raise FaultError(f"{kind.name}: part is one of {', '.join(sorted(_MALFORMED_PARTS))}")


class _Armed:
    """A planned fault and how often it has met its occasion."""

    def __init__(self, fault: PlannedFault) -> None:
        self.fault = fault
        self.seen = 0
        self.struck = 0

    def strikes(self, age: float) -> bool:
        values = self.fault.values
        nth, count = values["nth"], values["count"]
        if age < self.fault.number("after"):
            return False
        self.seen += 1
        if isinstance(nth, int) and self.seen < nth:
            return False
        limit = count if isinstance(count, int) else 1 if nth is not None or self.fault.kind.once else None
        if limit is not None and self.struck >= limit:
            return False
        self.struck += 1
        return True


class FaultPlan:
    """The faults of one device. Counting goes on through resets and reconnects."""

    def __init__(
        self,
        faults: Iterable[PlannedFault] = (),
        trace: Trace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._armed = [_Armed(fault) for fault in faults]
        self._trace = trace
        self._clock = clock
        self._began = clock()

    def strike(self, name: str, *, subject: str | None = None) -> PlannedFault | None:
        """The fault of that name that strikes on this occasion, if one does; it is recorded."""
        for armed in self._armed:
            fault = armed.fault
            if fault.kind.name != name or not fault.concerns(subject):
                continue
            if armed.strikes(self._clock() - self._began):
                if self._trace is not None:
                    self._trace.event("fault", name=name, subject=subject, occasion=armed.seen)
                return fault
        return None
