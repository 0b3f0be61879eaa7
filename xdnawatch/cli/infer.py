"""`xdnawatch infer`: programs that use the NPU (xrt-smi, pyxrt, ONNX Runtime ...) as tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from db.metrics import facts_in, metrics_in
from harness.inference import InferenceOptions, InferenceSuite, PyxrtKernel, Recipe
from harness.kernels.named import named_kernel
from harness.results import CaseResult, headline
from harness.store import run_facts
from harness.suite.contract import ENVIRONMENT_PREFIX
from lab.inventory import resolve
from lab.machine import Candidate, Machine
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.cli.lab import open_store
from xdnawatch.cli.run import exit_code, live, show
from xdnawatch.errors import UsageError
from xdnawatch.runs import Job, bring_in, perform
from xdnawatch.suites import INFERENCE_OPTIONS, with_layer

STYLES = {"passed": "green", "skipped": "yellow"}  # what else there is went wrong


def register(app: typer.Typer) -> None:
    """Add the command of this module to the program."""
    app.command("infer")(infer)


def infer(
    context: typer.Context,
    machine: Annotated[
        str,
        typer.Option("--machine", "-m", help="virtual-npu1, virtual-npu4 ..., a listed name, or user@host."),
    ] = "virtual-npu4",
    version: Annotated[
        str | None,
        typer.Option("--kernel", help="The kernel to boot, e.g. 7.3.4. A real machine runs what it runs."),
    ] = None,
    tests: Annotated[
        list[str] | None, typer.Option("--test", "-t", help="Only this test, by its id; repeatable.")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="For xrt-runner: RECIPE,PROFILE[,FOLDER], paths on the machine; repeatable."),
    ] = None,
    compiled: Annotated[
        str | None,
        typer.Option(
            "--compiled",
            help="For pyxrt: XCLBIN,NAME,INSTRUCTIONS,INPUT...,EXPECTED, paths on the machine.",
        ),
    ] = None,
    onnx_model: Annotated[str | None, typer.Option(help="A quantised model on the machine.")] = None,
    onnx_config: Annotated[str | None, typer.Option(help="The provider's configuration for it.")] = None,
    onnx_python: Annotated[
        str | None, typer.Option(help="The Python on the machine that has AMD's onnxruntime.")
    ] = None,
    flm_model: Annotated[str | None, typer.Option(help="A downloaded model, e.g. llama3.2:1b.")] = None,
    lemonade_model: Annotated[str | None, typer.Option(help="A model of the running server.")] = None,
    node: Annotated[str | None, typer.Option(help="The device node, when there are several NPUs.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run what people run on the NPU, compare what it says with the driver, and measure it.

    What is not installed is skipped with the exact missing piece; nothing is downloaded. The run is kept and
    judged as one of the ioctl suite is. Exit code 0: every test passed or was skipped; 1: the kernel failed;
    3: nobody can judge (no NPU, the environment, the laboratory).
    """
    app = current(context)
    bring_in(app)
    options = InferenceOptions(
        tuple(_recipe(text) for text in recipe or ()),
        _compiled(compiled) if compiled else None,
        onnx_model,
        onnx_config,
        onnx_python,
        flm_model,
        lemonade_model,
        node=node,
    )
    with open_store(app) as store:
        target = resolve(machine, with_layer(app.settings.machine), store)
        candidate = _candidate(target, version, lambda wanted: named_kernel(store, wanted))
    job = Job(
        target,
        candidate,
        version or "running",
        InferenceSuite(options, chosen=tuple(tests or ())),
        options=INFERENCE_OPTIONS,
    )
    with live(app) as view:
        evidence = perform(app, job, on_record=view.on_record, on_note=view.note)
    if as_json:
        app.emit(run_facts(evidence))
    else:
        tell(app, evidence.results)
        show(app, evidence)
    raise typer.Exit(exit_code([evidence]))


def _candidate(target: Machine, version: str | None, find: Callable[[str], Candidate]) -> Candidate | None:
    if target.boots_candidates and version is None:
        raise UsageError(f"{target.name} boots what it is given: name a kernel, e.g. --kernel 7.3.4")
    if not target.boots_candidates and version is not None:
        raise UsageError(f"{target.name} is judged on the kernel it runs now: leave out --kernel")
    return None if version is None else find(version)


def tell(app: AppContext, results: Sequence[CaseResult]) -> None:
    """A table: outcome, test, measured values or the reason."""
    table = Table(box=SIMPLE_HEAD)
    for title in ("outcome", "test", "seconds", "measured, or why not"):
        table.add_column(title, overflow="fold", justify="right" if title == "seconds" else "left")
    for result in results:
        table.add_row(
            f"[{STYLES.get(result.outcome, 'red')}]{result.outcome}[/]",
            escape(result.test.removeprefix("inference/")),
            f"{result.seconds:.1f}",
            escape(told(result)),
        )
    app.out.print(table)


def told(result: CaseResult) -> str:
    """What one result says, in a line: "51 TOPS", or why there is none."""
    if result.message:
        return headline(result.message).removeprefix(ENVIRONMENT_PREFIX)
    parts = [f"{metric.name} {metric.value:g} {metric.unit}" for metric in metrics_in(result.values)]
    parts += [
        f"{name} {value}"
        for name, value in facts_in(result.values).items()
        if isinstance(value, str | int | float) and value != ""
    ]
    return ", ".join(parts)


def _recipe(text: str) -> Recipe:
    parts = text.split(",")
    if len(parts) not in (2, 3) or not all(parts):
        raise UsageError(f"--recipe {text!r} is not RECIPE,PROFILE[,FOLDER]")
    return Recipe(*parts)


def _compiled(text: str) -> PyxrtKernel:
    parts = text.split(",")
    if len(parts) < 4 or not all(parts):
        raise UsageError(f"--compiled {text!r} is not XCLBIN,NAME,INSTRUCTIONS,INPUT...,EXPECTED")
    return PyxrtKernel(parts[0], parts[1], parts[2], tuple(parts[3:-1]), parts[-1])
