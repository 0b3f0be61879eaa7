"""The report of ``xrt-runner``: JSON with what the processor measured around a recipe's runs. No I/O here.

Facts: XRT's runner README (2025): cpu.elapsed and cpu.latency in us, cpu.throughput in op/s, counts under
resources. The schema is not final, so every part is optional.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from db.metrics import Better, Metric
from harness.inference.printed import json_of, number, object_of

_CPU: tuple[tuple[str, str, Better], ...] = (
    ("latency", "us", "lower"),
    ("throughput", "op/s", "higher"),
    ("elapsed", "us", "lower"),
)


@dataclass(frozen=True)
class RecipeReport:
    """Metrics and counts of one run; ``corrupted`` is the reason when there was no report."""

    metrics: tuple[Metric, ...] = ()
    counts: dict[str, int] = field(
        default_factory=dict
    )  # buffers, kernels, runs, total_buffer_size, iterations
    corrupted: str | None = None


def parse_report(data: bytes) -> RecipeReport:
    """The report file, or standard output with the report at its end."""
    document = json_of(data, preamble=True)
    if isinstance(document, list):  # one report for each execution section
        document = next((part for part in reversed(document) if isinstance(part, dict)), None)
    if not isinstance(document, dict):
        return RecipeReport(corrupted="xrt-runner wrote no JSON report")
    cpu = object_of(document.get("cpu"))
    metrics = []
    for name, unit, better in _CPU:
        value = number(cpu.get(name))
        if value is not None and value >= 0:
            metrics.append(Metric(name, value, unit, better))
    return RecipeReport(
        tuple(metrics),
        _counts(object_of(document.get("resources"))) | _counts({"iterations": document.get("iterations")}),
        None if metrics else "the report has no cpu section",
    )


def _counts(values: dict[str, Any]) -> dict[str, int]:
    counts = {}
    for name in ("buffers", "kernels", "runs", "total_buffer_size", "iterations"):
        value = number(values.get(name))
        if value is not None and value >= 0:
            counts[name] = int(value)
    return counts
