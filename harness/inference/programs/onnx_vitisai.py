"""Runs on the machine: one ONNX model through the VitisAI provider and through the CPU, compared and timed.

The argument is {"what": "version"|"run", "model": path, "config": path|null, "cache": folder, "runs": int,
"node": path|null};
the last line of standard output is the answer. The provider's own words go to the same streams, before it.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

PROVIDER = "VitisAIExecutionProvider"
LARGEST_INPUT = 1 << 26  # elements of one input
TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


def inputs_of(numpy: Any, session: Any) -> dict[str, Any]:
    """Fixed pseudo-random inputs; an open dimension is 1."""
    generator = numpy.random.default_rng(1)
    made = {}
    for entry in session.get_inputs():
        shape = [size if isinstance(size, int) and size > 0 else 1 for size in entry.shape]
        if math.prod(shape) > LARGEST_INPUT or entry.type not in TYPES:
            raise RuntimeError(f"input {entry.name} of type {entry.type} and shape {shape} cannot be made")
        kind = TYPES[entry.type]
        values = generator.random(shape)
        made[entry.name] = (values if kind.startswith("float") else values * 2).astype(kind)
    return made


def compared(numpy: Any, expected: list[Any], seen: list[Any]) -> dict[str, Any]:
    """Cosine similarity over all outputs, whether every value is finite, whether the best class agrees."""
    left = numpy.concatenate([numpy.asarray(part, dtype="float64").ravel() for part in expected])
    right = numpy.concatenate([numpy.asarray(part, dtype="float64").ravel() for part in seen])
    if left.shape != right.shape:
        return {"same_shape": False}
    norm = float(numpy.linalg.norm(left) * numpy.linalg.norm(right))
    return {
        "same_shape": True,
        "finite": bool(numpy.isfinite(right).all()),
        "cosine": float(left @ right) / norm if norm and math.isfinite(norm) else None,
        "same_argmax": bool(left.argmax() == right.argmax()),
    }


def ran(runtime: Any, request: dict[str, Any]) -> dict[str, Any]:
    """The model through both providers."""
    numpy = importlib.import_module("numpy")
    options = runtime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(request["cache"]) / "profile")
    settings = {
        "cache_dir": request["cache"],
        "cache_key": "xdnawatch",
        "log_level": "info",
        **({"config_file": request["config"]} if request["config"] else {}),
    }
    Path(request["cache"]).mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    session = runtime.InferenceSession(
        request["model"], options, providers=[PROVIDER], provider_options=[settings]
    )
    compiled = time.perf_counter() - begin
    data = inputs_of(numpy, session)
    outputs = session.run(None, data)  # the first run loads the program onto the NPU
    times = []
    for _run in range(request["runs"]):
        begin = time.perf_counter()
        outputs = session.run(None, data)
        times.append(time.perf_counter() - begin)
    counted = counted_by_driver(request["node"])
    providers = session.get_providers()
    profile = session.end_profiling()
    reference = runtime.InferenceSession(request["model"], providers=["CPUExecutionProvider"]).run(None, data)
    return {
        "providers": providers,
        "driver": counted,
        "compile_seconds": compiled,
        "seconds": sorted(times),
        "profile_bytes": os.path.getsize(profile),  # noqa: PTH202 - a plain number is wanted
        "profile": shrunk(profile),
        **compared(numpy, reference, outputs),
    }


def counted_by_driver(node: str | None) -> dict[str, int] | None:
    """This process's commands; AMD's Python may be too old for the suite's modules."""
    try:
        found = importlib.import_module("harness.inference.programs.driver_state").own_commands(node)
    except Exception:  # noqa: BLE001 - then the look from outside must do
        return None
    return dict(found) if found else None


def shrunk(profile: str) -> list[dict[str, Any]]:
    """The node events of a profile, without what is not needed."""
    try:
        events = json.loads(Path(profile).read_text("utf-8"))
    except (OSError, ValueError):
        return []
    nodes = {
        (event.get("name"), event.get("args", {}).get("provider"))
        for event in events
        if event.get("cat") == "Node"
    }
    return [
        {"cat": "Node", "name": name, "args": {"provider": provider}}
        for name, provider in sorted(nodes, key=str)
    ]


def main() -> None:
    """Do what is asked; any failure is part of the answer."""
    request = json.loads(sys.argv[1])
    answer: dict[str, Any] = {}
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError as error:
        answer["absent"] = str(error)[:300]
    else:
        answer |= {
            "version": onnxruntime.__version__,
            "available": onnxruntime.get_available_providers(),
            "module": str(onnxruntime.__file__),
            "installation": os.environ.get("RYZEN_AI_INSTALLATION_PATH"),
        }
        installed = os.environ.get("RYZEN_AI_INSTALLATION_PATH")
        if installed:
            places = sorted(Path(installed).glob("quicktest/*.onnx"))
            answer["quicktest"] = str(places[0]) if places else None
        try:
            if request["what"] == "run":
                answer |= ran(onnxruntime, request)
        except Exception as error:  # noqa: BLE001 - whatever the provider raises is the answer of this test
            answer["error"] = f"{type(error).__name__}: {error}"[:500]
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


main()
