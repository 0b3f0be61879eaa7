"""The page and the program say the same."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from lab.npu.faults import FAULTS
from lab.npu.generations import GENERATIONS
from lab.npu.kernels import Operation
from lab.npu.trace import KEPT, EventKind

PAGE = (Path(__file__).parents[2] / "docs" / "virtual-npu.md").read_text()
COMMON = {"nth", "count", "after"}


def test_the_fault_table_is_the_programs() -> None:
    for kind in FAULTS.values():
        own = [parameter for parameter in kind.parameters if parameter.name not in COMMON]
        shown = ", ".join(
            f"`{one.name}`" + (f" ({one.default})" if one.default is not None else "") for one in own
        )
        once = " (once)" if kind.once else ""
        assert f"| `{kind.name}` | {shown or '-'} | {kind.does}{once} | {kind.finding} |" in PAGE


def test_every_event_kind_is_described_with_its_room() -> None:
    for kind in get_args(EventKind):
        assert f"| `{kind}`{' *' if kind in KEPT else ''} |" in PAGE, kind


def test_every_generation_and_kernel_is_described() -> None:
    for generation in GENERATIONS.values():
        assert f"| `{generation.name}` | 1022:{generation.device:04x} rev {generation.revision:02x} |" in PAGE
    for operation in Operation:
        assert f"| {operation.value} | {operation.name} |" in PAGE
