"""What FastFlowLM and Lemonade say of themselves and of a model's speed. No I/O here.

Facts: FastFlowLM 0.9.35 to 1.0.3 (``flm version|validate|list --json``, the table of ``flm bench``), Lemonade
9 to 11 (GET /v1/health and /v1/stats: seconds to the first token, tokens a second).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from db.metrics import Better, Metric
from harness.inference.printed import NUMBER, items_of, json_of, lines_of, number, object_of, text_of, word_of

MODELS_LIMIT = 500
# matches "FLM v1.0.3"
_FLM_VERSION = re.compile(r"\bFLM\s+v?(?P<version>\d{1,4}(?:\.\d{1,6}){1,3})")
# matches "[Linux]  NPU FW Version: 1.1.2.64", "[ERROR]  NPU firmware version on ... is incompatible. ..."
_FLM_LINE = re.compile(r"^\[(?P<kind>Linux|ERROR|WARNING|WARN)\]\s+(?P<text>\S.*)$")
# matches "             1k |       0.815 ±   0.012 |        1233.57 ±     17.91 |       61.39 ±      0.46"
_BENCH_CELL = re.compile(rf"^\s*(?P<value>{NUMBER})(?:\s*(?:±|\+/-|\ufffd+)\s*{NUMBER})?\s*$")
_BENCH_CONTEXT = re.compile(r"^\s*(?P<context>\d{1,7}\s?[kKmM]?)\s*$")
# A model's name as a person types it: "llama3.2:1b", "Qwen3-0.6B-FLM", "user.Foo/bar"
MODEL_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/+-]{0,120}$")
_BENCH: tuple[tuple[str, str, str, Better], ...] = (
    ("ttft", "time_to_first_token", "s", "lower"),
    ("prefill", "prefill", "tok/s", "higher"),
    ("decod", "decode", "tok/s", "higher"),
)
#: Checks of ``flm validate --json`` -> what a False means.
_CHECKS = {
    "amd_device_found": "it found no NPU (no node, or no permission on it)",
    "kernel_ok": "it wants a newer kernel",
    "all_fw_ok": "it wants newer NPU firmware",
    "enough_cols": "the NPU has too few columns",
    "memlock_ok": "the limit of locked memory is too low",
    "npu_driver_ok": "it wants a newer driver",
    "runtime_ok": "XRT cannot open the NPU",
}


def parse_flm_version(data: bytes) -> str:
    """From ``flm version --json`` ({"version": "1.0.3"}) or ``flm version``; "" when neither."""
    document = object_of(json_of(data, preamble=True))
    version = word_of(document.get("version"), 40)
    found = _FLM_VERSION.search(text_of(data))
    return version or (found["version"] if found else "")


@dataclass(frozen=True)
class FlmValidation:
    """What ``flm validate`` found. ``ready`` None: it did not say. ``complaints`` name what is wrong."""

    ready: bool | None
    complaints: tuple[str, ...]
    facts: dict[str, Any]


def parse_flm_validate(data: bytes) -> FlmValidation:
    """The JSON form (``--json``) or the lines of the text form."""
    document = object_of(json_of(data, preamble=True))
    if isinstance(document.get("ready"), bool):
        facts: dict[str, Any] = {
            key: word_of(document[key])
            for key in ("kernel", "drm_version", "memlock_limit")
            if key in document
        }
        devices = items_of(document.get("devices"), 8)
        if devices:
            version = [
                word_of(devices[0].get(f"fw_{part}"), 10) for part in ("major", "minor", "patch", "build")
            ]
            facts["firmware"] = ".".join(part for part in version if part)
            facts["columns"] = word_of(devices[0].get("cols"), 10)
        wrong = tuple(text for key, text in _CHECKS.items() if document.get(key) is False)
        return FlmValidation(document["ready"], wrong, facts)
    lines = [match for line in lines_of(data) if (match := _FLM_LINE.match(line))][:50]
    complaints = tuple(word_of(line["text"], 300) for line in lines if line["kind"] == "ERROR")
    facts = {}
    for line in lines:
        key, colon, value = line["text"].partition(":")
        if line["kind"] == "Linux" and colon and len(key) < 40:
            facts[key.strip().lower().replace(" ", "_")] = word_of(value)
    return FlmValidation(None if not lines else not complaints, complaints, facts)


def parse_flm_models(data: bytes) -> tuple[str, ...]:
    """Names from ``flm list --filter installed --quiet``, as JSON or one in a line."""
    document = json_of(data, preamble=True)
    if isinstance(document, dict):
        document = document.get("models")
    if isinstance(document, list):
        names = [
            item
            if isinstance(item, str)
            else word_of(object_of(item).get("name") or object_of(item).get("model"))
            for item in document[:MODELS_LIMIT]
        ]
    else:
        names = [line.strip(" -*\t").split(" ")[0] for line in lines_of(data)[:MODELS_LIMIT] if ":" in line]
        names = [name for name in names if not name.endswith(":")]
    return tuple(dict.fromkeys(name for name in names if MODEL_NAME.match(name)))


def parse_flm_bench(data: bytes) -> tuple[Metric, ...]:
    """The table of ``flm bench``: a metric for each context length and column, "decode_1k" in tok/s."""
    columns: list[tuple[str, str, Better] | None] = []
    metrics: dict[str, Metric] = {}
    for line in lines_of(data):
        cells = line.split("|")
        if len(cells) < 2:
            continue
        if cells[0].strip().lower() == "context length":
            columns = [_bench_column(cell) for cell in cells[1:9]]
            continue
        context = _BENCH_CONTEXT.match(cells[0])
        if not context or not columns:
            continue
        for column, cell in zip(columns, cells[1:], strict=False):
            value = _BENCH_CELL.match(cell)
            measured = number(value["value"]) if value else None
            if column is None or measured is None or measured < 0:
                continue
            label = f"{column[0]}_{context['context'].replace(' ', '').lower()}"
            metrics.setdefault(label, Metric(label, measured, column[1], column[2]))
            if len(metrics) >= 48:
                return tuple(metrics.values())
    return tuple(metrics.values())


def _bench_column(title: str) -> tuple[str, str, Better] | None:
    for word, name, unit, better in _BENCH:
        if word in title.lower():
            return name, ("ms" if name == "time_to_first_token" and "(ms)" in title else unit), better
    return None


@dataclass(frozen=True)
class LemonadeHealth:
    """A server's version and the models it holds, each with its devices: {"Qwen3-0.6B-FLM": "npu"}."""

    version: str
    models: dict[str, str]

    @property
    def on_npu(self) -> tuple[str, ...]:
        """Models that run on the NPU, wholly or in part."""
        return tuple(name for name, devices in self.models.items() if "npu" in devices.lower().split())


def parse_lemonade_health(data: bytes) -> LemonadeHealth | None:
    """The answer of GET /v1/health; None when this is no Lemonade server."""
    document = object_of(json_of(data))
    if "status" not in document or not ("model_loaded" in document or "all_models_loaded" in document):
        return None
    models = {}
    for model in items_of(document.get("all_models_loaded"), 32):
        name = word_of(model.get("model_name"))
        if MODEL_NAME.match(name):
            models[name] = word_of(model.get("device"))
    return LemonadeHealth(word_of(document.get("version"), 40) or "unknown", models)


def parse_lemonade_stats(data: bytes) -> tuple[Metric, ...]:
    """The answer of GET /v1/stats: time to the first token in seconds, tokens a second."""
    document = object_of(json_of(data))
    metrics = []
    first, speed = number(document.get("time_to_first_token")), number(document.get("tokens_per_second"))
    if first is not None and first > 0:
        metrics.append(Metric("time_to_first_token", first, "s", "lower"))
    if speed is not None and speed > 0:
        metrics.append(Metric("decode", speed, "tok/s", "higher"))
    return tuple(metrics)
