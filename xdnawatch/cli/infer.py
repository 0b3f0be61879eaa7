"""`xdnawatch infer`: programs that use the NPU (xrt-smi, pyxrt, ONNX Runtime ...) as tests."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from harness import inference
from harness.inference import InferenceOptions, PyxrtKernel, Recipe
from harness.journal import new_run_id
from harness.kernels.debian import stock_kernel
from harness.suite.contract import ENVIRONMENT_PREFIX
from lab.inventory import MachineSettings, known_machines, resolve
from lab.machine import BootRequest, Candidate, Machine
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.cli.lab import open_store
from xdnawatch.errors import ExitCode, UsageError

LAYER = "xrt"  # a virtual machine's guest gets Debian's XRT
EVENTS = "events.jsonl"
STYLES = {"passed": "green", "failed": "red", "error": "red", "skipped": "yellow"}


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

    What is not installed is skipped with the exact missing piece; nothing is downloaded. Exit code 0: every
    test passed or was skipped; 1: a test failed; 3: the machine or the laboratory failed.
    """
    app = current(context)
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
        candidate = _candidate(target, version, lambda wanted: stock_kernel(store, wanted))
    events, facts = perform(app, target, candidate, options, tests or ())
    results = [event for event in events if event["event"] == "result"]
    if as_json:
        app.emit({"machine": target.name, "boot": facts, "events": events})
    else:
        show(app, results)
    bad = any(result["outcome"] in ("failed", "error") for result in results)
    raise typer.Exit(ExitCode.SUBJECT_FAILED if bad else ExitCode.FINE)


def with_layer(listed: Sequence[MachineSettings]) -> list[MachineSettings]:
    """Every virtual machine with XRT in its guest."""
    return [
        machine.model_copy(update={"layers": tuple(dict.fromkeys((*machine.layers, LAYER)))})
        if machine.virtual is not None
        else machine
        for machine in known_machines(listed)
    ]


def _candidate(target: Machine, version: str | None, find: Any) -> Candidate | None:
    if target.boots_candidates and version is None:
        raise UsageError(f"{target.name} boots what it is given: name a kernel, e.g. --kernel 7.3.4")
    if not target.boots_candidates and version is not None:
        raise UsageError(f"{target.name} is judged on the kernel it runs now: leave out --kernel")
    return None if version is None else find(version)


def perform(
    app: AppContext,
    target: Machine,
    candidate: Candidate | None,
    options: InferenceOptions,
    tests: Sequence[str],
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Boot and run: the events, also kept line by line in the data folder, and the boot's facts."""
    nonce = secrets.token_hex(8)
    folder = app.data / "inference" / new_run_id(datetime.now(UTC), nonce)
    folder.mkdir(parents=True)
    events: list[dict[str, Any]] = []
    with ExitStack() as stack:
        kept = stack.enter_context((folder / EVENTS).open("w", encoding="utf-8"))

        def on_event(event: dict[str, Any]) -> None:
            events.append(event)
            kept.write(json.dumps(event) + "\n")
            kept.flush()
            if event["event"] == "start":
                app.note(event["id"])

        session = stack.enter_context(target.boot(BootRequest(candidate, nonce, folder, progress=app.note)))
        inference.run(session.shell, options=options, on_event=on_event, tests=tests, nonce=nonce)
        facts = dict(session.boot_facts())
    app.note(f"kept in {folder}")
    return events, facts


def show(app: AppContext, results: Sequence[dict[str, Any]]) -> None:
    """A table: outcome, test, measured values or the reason."""
    table = Table(box=SIMPLE_HEAD)
    for title in ("outcome", "test", "seconds", "measured, or why not"):
        table.add_column(title, overflow="fold", justify="right" if title == "seconds" else "left")
    for result in results:
        outcome = str(result["outcome"])
        table.add_row(
            f"[{STYLES[outcome]}]{outcome}[/]",
            escape(str(result["id"]).removeprefix("inference/")),
            f"{result['duration']:.1f}",
            escape(told(result)),
        )
    app.out.print(table)


def told(result: dict[str, Any]) -> str:
    """What one result says, in a line: "51 TOPS", or why there is none."""
    why = result["message"] or result["reason"]
    if why:
        return str(why).removeprefix(ENVIRONMENT_PREFIX)
    parts = []
    for name, value in result["values"].items():
        if isinstance(value, dict) and "better" in value:
            parts.append(f"{name} {value['value']:g} {value['unit']}")
        elif isinstance(value, str | int | float) and value != "":
            parts.append(f"{name} {value}")
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
