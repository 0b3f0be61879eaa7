"""The simulated device's own trace -> findings (pure).

Only what a reader of a run must know becomes a finding: a use of the device that the model does not know
(``model-gap``: never the kernel's fault), injected faults, and the driver's misuse of rings or memory.
Shape of the trace: lab.npu.trace (one JSON object a line; ``t`` seconds since its start, ``event``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from harness.kernel_log import LogFinding, Window, test_at
from harness.untrusted import clean

LINE_LIMIT = 65_536
FINDINGS_LIMIT = 200
# event -> (class, severity)
KINDS = {
    "model-gap": ("model-gap", "info"),
    "fault": ("fault", "info"),
    "ring-error": ("mailbox", "info"),
    "dma-error": ("iommu", "info"),
    "client-refused": ("model-gap", "info"),
}


def scan_trace(lines: Iterable[bytes], log: str, windows: Sequence[Window] = ()) -> tuple[LogFinding, ...]:
    """Findings of one trace. ``windows`` are tests on the trace's clock (seconds since its start)."""
    findings: list[LogFinding] = []
    for number, raw in enumerate(lines, 1):
        event = _event(raw)
        kind = str(event.get("event"))
        if kind not in KINDS:
            continue
        klass, severity = KINDS[kind]
        time = event.get("t")
        seconds = float(time) if isinstance(time, int | float) else None
        findings.append(
            LogFinding(
                log, number, kind, klass, severity, _sentence(event), seconds, test_at(windows, seconds)
            )
        )
        if len(findings) >= FINDINGS_LIMIT:
            break
    return tuple(findings)


def trace_clock(lines: Iterable[bytes]) -> float | None:
    """The host's monotonic clock at the trace's t = 0, None when the trace does not say."""
    for raw in lines:
        event = _event(raw)
        if event.get("event") == "start":
            clock = event.get("monotonic")
            time = event.get("t")
            if isinstance(clock, int | float):
                return float(clock) - (float(time) if isinstance(time, int | float) else 0.0)
            return None
    return None


def _event(raw: bytes) -> dict[str, Any]:
    try:
        event = json.loads(raw[:LINE_LIMIT])
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _sentence(event: dict[str, Any]) -> str:
    words = [f"{key}={value}" for key, value in event.items() if key not in ("t", "event", "reason")]
    reason = event.get("reason") or event.get("name") or event.get("event")
    return clean(f"{reason} {' '.join(words)}".strip(), 500)
