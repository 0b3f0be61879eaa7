"""Measured numbers in a result's ``values``: the one shape there that every reader knows.

Under its name a metric is ``{"value": 51.0, "unit": "TOPS", "better": "higher"}``; what has another shape is
a fact. Two metrics can be compared when name and unit are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

Better = Literal["lower", "higher"]
UNIT_LIMIT = 24  # characters


@dataclass(frozen=True)
class Metric:
    """One measured number; ``better`` says which direction is an improvement."""

    name: str
    value: float
    unit: str  # "us", "op/s", "TOPS", "GB/s", "tok/s", "W" ...
    better: Better

    def as_json(self) -> dict[str, Any]:
        """For a result row."""
        return {"value": self.value, "unit": self.unit, "better": self.better}


def metrics_in(values: Mapping[str, Any]) -> tuple[Metric, ...]:
    """The metrics among a result's values, in their order."""
    found = (_metric(name, value) for name, value in values.items())
    return tuple(metric for metric in found if metric is not None)


def facts_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """The rest."""
    return {name: value for name, value in values.items() if _metric(name, value) is None}


def _metric(name: str, value: Any) -> Metric | None:
    if not isinstance(value, Mapping) or value.keys() != {"value", "unit", "better"}:
        return None
    number, unit, better = value["value"], value["unit"], value["better"]
    if isinstance(number, bool) or not isinstance(number, int | float) or not isfinite(number):
        return None
    if not isinstance(unit, str) or len(unit) > UNIT_LIMIT:
        return None
    if better == "lower":
        return Metric(name, float(number), unit, "lower")
    return Metric(name, float(number), unit, "higher") if better == "higher" else None
