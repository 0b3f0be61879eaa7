"""FastFlowLM as tests: is its stack ready, how fast is a language model, and did the NPU do the work?"""

from __future__ import annotations

from functools import partial

from harness.inference.bench import Bench, Case, Detected
from harness.inference.commands import Command
from harness.inference.language_models import (
    MODEL_NAME,
    parse_flm_bench,
    parse_flm_models,
    parse_flm_validate,
    parse_flm_version,
)
from harness.inference.metrics import Installed, Missing, Report, failed, passed, skipped, unreadable

PROGRAMS = ("flm", "/opt/fastflowlm/bin/flm")
GENERATIONS = ("npu4", "npu5", "npu6")  # XDNA 2 only


def detect(bench: Bench) -> Detected:
    """flm with its version."""
    json_form, text_form = bench.commands.run(
        Command(PROGRAMS, ("version", "--json"), bench.timeouts.detect),
        Command(PROGRAMS, ("version",), bench.timeouts.detect),
    )
    if json_form.program is None:
        return Missing("FastFlowLM (flm) is not installed", "install its .deb; Debian has none")
    version = parse_flm_version(json_form.stdout) or parse_flm_version(text_form.stdout + text_form.stderr)
    if not version:
        return Missing(f"flm version {text_form.told}", "repair the installation of FastFlowLM")
    return Installed("flm", version, json_form.program)


def _obstacle(bench: Bench, found: Detected) -> Missing | None:
    if isinstance(found, Missing):
        return found
    state = bench.state
    if state.obstacle:
        return state.obstacle
    if state.generation not in GENERATIONS:
        return Missing(f"FastFlowLM does not run on {state.generation}", "it needs an XDNA 2 NPU")
    return None


def validate(bench: Bench, found: Detected) -> Report:
    """``flm validate``: ready, or what it misses; an environment that it refuses is skipped in its words."""
    obstacle = _obstacle(bench, found)
    if obstacle:
        return skipped(obstacle)
    ran = bench.commands.run_one(Command(PROGRAMS, ("validate", "--json"), bench.timeouts.flm_validate))
    answer = parse_flm_validate(ran.stdout)
    if answer.ready is None:
        ran = bench.commands.run_one(Command(PROGRAMS, ("validate",), bench.timeouts.flm_validate))
        answer = parse_flm_validate(ran.stdout + b"\n" + ran.stderr)
    if answer.ready is None:
        return failed(f"flm validate {ran.told}")
    if not answer.ready:
        why = "; ".join(answer.complaints) or ran.told
        return skipped(Missing(f"flm validate: {why}", "mend that on the machine"), **answer.facts)
    return passed(**answer.facts)


def bench_model(bench: Bench, found: Detected) -> Report:
    """``flm bench`` of a downloaded model: time to the first token, prefill and decode speed by context."""
    obstacle = _obstacle(bench, found)
    if obstacle:
        return skipped(obstacle)
    model = bench.options.flm_model
    listed = bench.commands.run_one(
        Command(PROGRAMS, ("list", "--filter", "installed", "--quiet"), bench.timeouts.detect)
    )
    models = parse_flm_models(listed.stdout)
    if model is None and models:
        model = models[0]
    if model is None or not MODEL_NAME.match(model) or (models and model not in models):
        return skipped(
            Missing(
                f"the model {model} is not downloaded" if model else "no model of FastFlowLM is downloaded",
                f"run `flm pull {model or 'llama3.2:1b'}` on the machine",
            )
        )
    ran = bench.commands.run_one(
        Command(
            PROGRAMS,
            ("bench", model),
            bench.timeouts.flm_bench,
            folder=bench.commands.root,  # it writes a CSV file where it stands
            watch=bench.watched_node,
        )
    )
    metrics = parse_flm_bench(ran.stdout)
    watched = ran.watched
    facts = {"model": model, **({"driver": watched.as_json()} if watched else {})}
    if not ran.ok:
        return failed(f"flm bench {ran.told}", metrics, **facts)
    if not metrics:
        return unreadable("flm bench printed no table", **facts)
    if watched and not watched.problem and watched.completions == 0:
        return failed("flm reported speeds but the driver finished no command", metrics, **facts)
    return passed(metrics, **facts)


def cases(bench: Bench, found: Detected) -> list[Case]:
    """The stack, then the speed."""
    return [
        Case("flm", "validate", "FastFlowLM finds the stack ready", partial(validate, bench, found)),
        Case("flm", "bench", "speed of a language model", partial(bench_model, bench, found)),
    ]
