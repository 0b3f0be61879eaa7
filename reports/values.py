"""What tests recorded and what the environment is: nested JSON made flat, comparable and short."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

MAX_SHOWN = 160
MAX_DEPTH = 6
# "exec_ms", "median_milliseconds", "wait.seconds", "elapsed": differ from run to run by nature.
_DURATION = re.compile(
    r"(^|[._])(ns|us|ms|s|sec|secs|(milli|micro|nano)?seconds|elapsed|duration|latency|time)$"
)


def flatten(value: Mapping[str, Any]) -> dict[str, Any]:
    """``{"clock": {"mp": 400}}`` -> ``{"clock.mp": 400}``. Lists stay whole; depth is bounded."""
    flat: dict[str, Any] = {}
    _into(flat, "", value, 0)
    return flat


def _into(flat: dict[str, Any], prefix: str, value: Mapping[str, Any], depth: int) -> None:
    for key, item in value.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(item, Mapping) and item and depth < MAX_DEPTH:
            _into(flat, name, item, depth + 1)
        else:
            flat[name] = item


def shown(value: Any) -> str:
    """A value as short text: strings bare, the rest as JSON; big integers also in hexadecimal."""
    if value is None:
        return "—"
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, int) and value >= 0x1_0000_0000:
        text = f"{value:#x}"
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def gist(message: str) -> str:
    """The line of a test's message that says what was wrong: pytest's first "E" line, else the first."""
    lines = [line.strip() for line in message.split("\n") if line.strip()]
    errors = [line[1:].strip() for line in lines if line.startswith(("E ", "E\t"))]
    return (errors or lines or [""])[0]


def short_test(test: str) -> str:
    """``test_query.py::test_aie_version`` -> ``query: aie_version``."""
    file, _, name = test.partition("::")
    file = file.removeprefix("test_").removesuffix(".py")
    return f"{file}: {name.removeprefix('test_')}" if name else file


def is_duration(name: str) -> bool:
    """Whether a value's name says that it measures time."""
    return bool(_DURATION.search(name.lower()))
