"""Where ONNX Runtime's VitisAI provider put a model's nodes: from its log and its report. No I/O here.

ONNX Runtime's own placement lines do not tell (they may name the CPU for nodes that run on the NPU); the
provider's log and ``vitisai_ep_report.json`` in its cache folder do. Facts: Ryzen AI 1.5 to 1.7 on Linux.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.inference.printed import items_of, json_of, lines_of, number, object_of, word_of

# matches "[Vitis AI EP] No. of Operators :   CPU     8    NPU  2356 VITIS_EP_CPU    13"
_OPERATORS = re.compile(r"\[Vitis AI EP\] No\. of Operators\s*:(?P<rest>[^\[]*)")
# matches "[Vitis AI EP] No. of Subgraphs :   NPU     1 Actually running on NPU      1"
_SUBGRAPHS = re.compile(r"\[Vitis AI EP\] No\. of Subgraphs\s*:(?P<rest>[^\[]*)")
_PAIR = re.compile(r"(?P<name>[A-Za-z_][A-Za-z_ ]{1,40}?)\s+(?P<count>\d{1,9})(?=\s|$)")
RUNNING = "actually running on npu"
#: Devices of the provider that are the NPU; VAIML is its BF16 compiler's name for it.
NPU_NAMES = ("npu", "vaiml", "dpu", "ipu")


@dataclass(frozen=True)
class Placement:
    """How many nodes went where; ``running`` is None when nothing said how many subgraphs run on the NPU."""

    operators: Mapping[str, int] = field(default_factory=dict)
    running: int | None = None

    @property
    def on_npu(self) -> int:
        """Nodes that the provider gave to the NPU."""
        return sum(count for name, count in self.operators.items() if name.lower() in NPU_NAMES)

    @property
    def elsewhere(self) -> int:
        """Nodes that it gave to processors."""
        return sum(self.operators.values()) - self.on_npu

    @property
    def told(self) -> str:
        """One line for a message: "CPU 8, NPU 2356; subgraphs running on the NPU: 2"."""
        nodes = ", ".join(f"{name} {count}" for name, count in self.operators.items()) or "nothing"
        return nodes + ("" if self.running is None else f"; subgraphs running on the NPU: {self.running}")


def parse_log(data: bytes) -> Placement | None:
    """The last placement in a log, None when there is none."""
    operators: dict[str, int] | None = None
    running: int | None = None
    for line in lines_of(data):
        found = _OPERATORS.search(line)
        if found:
            operators, running = _pairs(found["rest"]), None
        found = _SUBGRAPHS.search(line)
        if found:
            pairs = {name.lower(): count for name, count in _pairs(found["rest"]).items()}
            running = pairs.get(RUNNING, running)
    return None if operators is None else Placement(operators, running)


def _pairs(text: str) -> dict[str, int]:
    found = {}
    for match in list(_PAIR.finditer(text[:1000]))[:32]:
        found[match["name"].strip()] = int(match["count"])
    return found


def parse_report(data: bytes) -> Placement | None:
    """``vitisai_ep_report.json``: deviceStat and subgraphStat, lists of a name and a count."""
    document = json_of(data)
    if not isinstance(document, dict) or "deviceStat" not in document:
        return None
    operators = _stat(document.get("deviceStat"))
    operators.pop("all", None)
    subgraphs = {name.lower(): count for name, count in _stat(document.get("subgraphStat")).items()}
    return Placement(operators, subgraphs.get(RUNNING))


def _stat(value: Any) -> dict[str, int]:
    if isinstance(value, dict) and not any(isinstance(item, dict) for item in value.values()):
        pairs = list(value.items())
    else:
        pairs = [
            (item.get("name") or item.get("device"), item.get("nodeNum", item.get("count", item.get("num"))))
            for item in items_of(value, 32)
        ]
    found = {}
    for name, count in pairs[:32]:
        whole, word = number(count), word_of(name, 60)
        if word and whole is not None and whole >= 0:
            found[word] = int(whole)
    return found


def judge(placement: Placement | None, completions: int | None) -> str:
    """Why this is no proof that nodes ran on the NPU; "" when it is one.

    ``completions`` is how many commands the driver finished for the process, None when it could not be read:
    the provider's word then stands alone.
    """
    if placement is None:
        return "the provider did not say where it put the nodes"
    if placement.on_npu == 0:
        return f"no node was given to the NPU ({placement.told})"
    if placement.running == 0:
        return f"nodes were given to the NPU but no subgraph runs there ({placement.told})"
    if completions == 0:
        return f"the provider claims {placement.on_npu} nodes on the NPU, but the driver finished no command"
    return ""


def nodes_by_provider(profile: Any) -> dict[str, int]:
    """ONNX Runtime's profile (its JSON list of events) -> how many nodes each provider ran."""
    names: dict[str, set[str]] = {}
    for event in items_of(profile, 100_000):
        provider = word_of(object_of(event.get("args")).get("provider"), 60)
        if event.get("cat") == "Node" and provider:
            names.setdefault(provider, set()).add(word_of(event.get("name")).removesuffix("_kernel_time"))
    return {provider: len(nodes) for provider, nodes in sorted(names.items())}
