"""ONNX Runtime with AMD's VitisAI provider as tests: does a model's work reach the NPU, and is it right?

Three witnesses must agree: the provider's log or report (how many nodes, and subgraphs "actually running"),
the driver's count of finished commands, and the output compared with the CPU's.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

from db.metrics import Metric
from harness.inference.bench import Bench, Case, Detected
from harness.inference.commands import Ran, counted, program_answer
from harness.inference.metrics import Installed, Missing, Report, failed, passed, skipped
from harness.inference.placement import judge, nodes_by_provider, parse_log, parse_report
from harness.inference.printed import number, word_of

PROVIDER = "VitisAIExecutionProvider"
RUNS = 20  # timed runs; the median counts
COSINE = (
    0.95  # of outputs with the CPU's: quantised and BF16 models differ a little, broken ones a lot (guess)
)
NO_MODEL = Missing(
    "no ONNX model is named and Ryzen AI's quicktest is not installed",
    "name one by --onnx-model (a quantised model with convolutions: trivial graphs stay on the CPU)",
)


def _ask(bench: Bench, what: str, timeout: float, *, read: tuple[str, ...] = (), **request: Any) -> Ran:
    cache = bench.file("onnx-cache")
    return bench.commands.run_one(
        bench.commands.python_program(
            "onnx_vitisai.py",
            {
                "what": what,
                "cache": cache,
                "runs": RUNS,
                "config": bench.options.onnx_config,
                "node": bench.watched_node,
                **request,
            },
            python=bench.options.onnx_python,
            timeout=timeout,
            read=read,
            watch=bench.watched_node if what == "run" else None,
        )
    )


def detect(bench: Bench) -> Detected:
    """onnxruntime with the provider; the plain package has it not."""
    ran = _ask(bench, "version", bench.timeouts.detect)
    answer = program_answer(ran)
    if ran.program is None:
        return Missing(f"there is no {bench.options.onnx_python}", "name the Python of AMD's environment")
    if not answer.get("version"):
        why = word_of(answer.get("absent"), 300) or ran.told
        return Missing(
            f"the Python module onnxruntime cannot be imported ({why})",
            "install AMD's Ryzen AI software and name its Python by --onnx-python",
        )
    available = answer.get("available")
    version = word_of(answer["version"], 40)
    if not isinstance(available, list) or PROVIDER not in available:
        return Missing(
            f"onnxruntime {version} has no {PROVIDER} (it has: {word_of(str(available), 200)})",
            "install AMD's Ryzen AI software and name its Python by --onnx-python",
        )
    model = word_of(answer.get("quicktest"), 300)
    return Installed("onnxruntime", version, word_of(answer.get("module"), 300), {"quicktest": model})


class OnnxRuntime:
    """One model, run once; several tests look at what came of it."""

    def __init__(self, bench: Bench, found: Detected) -> None:
        self.bench = bench
        self.found = found

    @property
    def model(self) -> str:
        """The model's path: the named one, else AMD's own quick test."""
        named = self.bench.options.onnx_model
        return named or (str(self.found.facts["quicktest"]) if isinstance(self.found, Installed) else "")

    @property
    def obstacle(self) -> Missing | None:
        """Why no model can be run."""
        if isinstance(self.found, Missing):
            return self.found
        return self.bench.state.obstacle or (None if self.model else NO_MODEL)

    @cached_property
    def ran(self) -> tuple[Ran, dict[str, Any]]:
        """The program's run and its answer."""
        report = self.bench.file("onnx-cache/xdnawatch/vitisai_ep_report.json")
        ran = _ask(self.bench, "run", self.bench.timeouts.onnx, read=(report,), model=self.model)
        return ran, program_answer(ran)

    def _failure(self) -> Report | None:
        ran, answer = self.ran
        if answer.get("error"):
            return failed(f"onnxruntime says {word_of(answer['error'], 500)}")
        return None if ran.ok and answer else failed(f"the program with onnxruntime {ran.told}")

    def on_npu(self) -> Report:
        """Nodes really ran on the NPU."""
        if self.obstacle:
            return skipped(self.obstacle)
        failure = self._failure()
        if failure:
            return failure
        ran, answer = self.ran
        report = next(iter(ran.files.values()), b"")
        placed = parse_report(report) or parse_log(ran.stdout + b"\n" + ran.stderr)
        driver = counted(answer, ran.watched)
        completions = driver.completions if driver and not driver.problem else None
        facts: dict[str, Any] = {
            "model": self.model,
            "profile_nodes": nodes_by_provider(answer.get("profile")),
            **({"operators": dict(placed.operators), "running": placed.running} if placed else {}),
            **({"driver": driver.as_json()} if driver else {}),
        }
        why = judge(placed, completions)
        if why:
            return failed(why, **facts)
        share = placed.on_npu / max(1, placed.on_npu + placed.elsewhere) if placed else 0.0
        return passed([Metric("nodes_on_npu", 100 * share, "%", "higher")], **facts)

    def output(self) -> Report:
        """The output is near the CPU's."""
        if self.obstacle:
            return skipped(self.obstacle)
        failure = self._failure()
        if failure:
            return failure
        answer = self.ran[1]
        cosine = number(answer.get("cosine"))
        facts: dict[str, Any] = {"same_argmax": answer.get("same_argmax")}
        if answer.get("same_shape") is not True or answer.get("finite") is not True or cosine is None:
            return failed(
                "the output has another shape than the CPU's, or values that are not finite", **facts
            )
        measured = [Metric("cosine_with_cpu", cosine, "1", "higher")]
        if cosine < COSINE:
            return failed(f"the output is not the CPU's (cosine {cosine:.3f} < {COSINE})", measured, **facts)
        return passed(measured, **facts)

    def speed(self) -> Report:
        """Median time of a run, and the time to compile or load."""
        if self.obstacle:
            return skipped(self.obstacle)
        failure = self._failure()
        if failure:
            return failure
        answer = self.ran[1]
        times = answer.get("seconds")
        values = (
            [t for t in (number(value) for value in times[:1000]) if t] if isinstance(times, list) else []
        )
        compiled = number(answer.get("compile_seconds"))
        if not values or compiled is None:
            return failed("the program with onnxruntime measured no time")
        return passed(
            [
                Metric("latency", 1000 * sorted(values)[len(values) // 2], "ms", "lower"),
                Metric("compile", compiled, "s", "lower"),
            ],
            runs=len(values),
        )


def cases(bench: Bench, found: Detected) -> list[Case]:
    """Placement, correctness, speed."""
    session = OnnxRuntime(bench, found)
    return [
        Case("onnxruntime", "nodes-on-npu", "a model's nodes really run on the NPU", partial(session.on_npu)),
        Case("onnxruntime", "output", "its output is near the CPU's", partial(session.output)),
        Case("onnxruntime", "latency", "the time of a run", partial(session.speed)),
    ]
