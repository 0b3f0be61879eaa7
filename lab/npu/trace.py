"""The device's own record: one JSON object a line, with monotonic time, bounded in size.

The trace says what the driver asked and what the model answered. It does not judge: whether a run counts is
decided by its readers. Kinds that make a run unusable (``model-gap``) or explain it (``fault``) have room of
their own, so that a flood of ordinary messages cannot push them out.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import IO, Literal

EventKind = Literal[
    "start",
    "client",
    "client-refused",
    "psp",
    "smu",
    "boot",
    "message",
    "context",
    "command",
    "irq",
    "async-error",
    "dma-error",
    "ring-error",
    "bad-request",
    "fault",
    "model-gap",
    "reset",
    "truncated",
    "stop",
]

SCHEMA = 1
"""Raised when the meaning of a field changes or one is taken away; new fields and kinds do not raise it."""

KEPT: frozenset[EventKind] = frozenset(
    {
        "start",
        "client-refused",
        "fault",
        "model-gap",
        "ring-error",
        "bad-request",
        "dma-error",
        "reset",
        "stop",
    }
)
"""Kinds that may use the reserve when the ordinary room is used up."""

TEXT_LIMIT = 400  # characters of any string that came from outside

Field = str | int | float | bool | list[int] | list[str] | dict[str, int] | None


class Trace:
    """Writes events to a text stream, or only counts them when there is none.

    ``limit`` and ``reserve`` are bytes; ``clock`` gives seconds of the monotonic clock.
    """

    def __init__(
        self,
        stream: IO[str] | None = None,
        *,
        limit: int = 64 << 20,
        reserve: int = 4 << 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts: Counter[EventKind] = Counter()
        self._stream = stream
        self._room = limit
        self._reserve = reserve
        self._clock = clock
        self._began = clock()
        self._told = False
        self._gaps: set[str] = set()

    def event(self, kind: EventKind, **fields: Field) -> None:
        """Record one event. Strings are cut at TEXT_LIMIT characters; ``t`` is seconds since the start."""
        self.counts[kind] += 1
        if self._stream is None:
            return
        record: dict[str, Field] = {"t": round(self._clock() - self._began, 6), "event": kind}
        for name, value in fields.items():
            record[name] = value[:TEXT_LIMIT] if isinstance(value, str) else value
        line = json.dumps(record, separators=(",", ":")) + "\n"
        if len(line) <= self._room:
            self._room -= len(line)
        elif kind in KEPT and len(line) <= self._reserve:
            self._reserve -= len(line)
        else:
            self._tell_truncation()
            return
        self._stream.write(line)
        self._stream.flush()

    def gap(self, reason: str, **fields: Field) -> None:
        """Record that the driver used something this model does not know, once for each distinct use."""
        key = json.dumps([reason, fields], sort_keys=True)
        if key not in self._gaps:
            if len(self._gaps) < 4096:
                self._gaps.add(key)
            self.event("model-gap", reason=reason, **fields)

    def close(self) -> None:
        """Write the final counts and let go of the stream."""
        self.event("stop", counts={str(kind): count for kind, count in sorted(self.counts.items())})
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _tell_truncation(self) -> None:
        if self._told or self._stream is None:
            return
        self._told = True
        self._stream.write(json.dumps({"event": "truncated", "reason": "the trace reached its size"}) + "\n")
        self._stream.flush()
