"""A running Lemonade server as a test: one answer of a model on the NPU, its speed, the driver's count."""

from __future__ import annotations

from functools import partial
from typing import Any

from harness.inference.bench import Bench, Case, Detected
from harness.inference.commands import Ran, program_answer
from harness.inference.language_models import MODEL_NAME, parse_lemonade_health, parse_lemonade_stats
from harness.inference.metrics import Installed, Missing, Report, failed, passed, skipped, unreadable
from harness.inference.printed import items_of, json_of, object_of, word_of


def _ask(bench: Bench, what: str, timeout: float, model: str | None = None) -> Ran:
    request = {
        "what": what,
        "ports": list(bench.options.lemonade_ports),
        "model": model,
        "timeout": max(1.0, timeout - 10.0),  # the program must outlive its request to tell of it
    }
    return bench.commands.run_one(
        bench.commands.python_program(
            "lemonade_ask.py",
            request,
            timeout=timeout,
            watch=bench.watched_node if what == "chat" else None,
        )
    )


def _text(answer: dict[str, Any], name: str) -> bytes:
    value = answer.get(name)
    return value.encode("utf-8", "replace") if isinstance(value, str) else b""


def detect(bench: Bench) -> Detected:
    """A server that answers on loopback; it is not started: that is its owner's decision."""
    answer = program_answer(_ask(bench, "health", bench.timeouts.detect))
    health = parse_lemonade_health(_text(answer, "health"))
    ports = " or ".join(str(port) for port in bench.options.lemonade_ports)
    if health is not None:
        return Installed("lemonade", health.version, f"http://127.0.0.1:{word_of(answer.get('port'))}")
    programs = [word_of(path) for path in object_of(answer.get("programs")).values() if path]
    if programs:
        return Missing(f"{programs[0]} is installed but no server answers on port {ports}", "start it")
    return Missing("Lemonade is not installed", "install lemonade-server (Debian: forky and later)")


def chat(bench: Bench, found: Detected) -> Report:
    """One answer of a model that runs on the NPU."""
    obstacle = found if isinstance(found, Missing) else bench.state.obstacle
    if obstacle:
        return skipped(obstacle)
    model = bench.options.lemonade_model
    if model is None:
        answer = program_answer(_ask(bench, "health", bench.timeouts.detect))
        health = parse_lemonade_health(_text(answer, "health"))
        model = next(iter(health.on_npu), None) if health else None
    if model is None or not MODEL_NAME.match(model):
        return skipped(
            Missing("Lemonade has no model loaded on the NPU", "load one, or name one by --lemonade-model")
        )
    ran = _ask(bench, "chat", bench.timeouts.lemonade, model)
    return judge(ran, program_answer(ran), model)


def judge(ran: Ran, answer: dict[str, Any], model: str) -> Report:
    """What one answer came to (pure)."""
    watched = ran.watched
    facts: dict[str, Any] = {"model": model, **({"driver": watched.as_json()} if watched else {})}
    if answer.get("error"):
        return failed(f"Lemonade says {word_of(answer['error'], 400)}", **facts)
    if not ran.ok or "chat" not in answer:
        return failed(f"the request to Lemonade {ran.told}", **facts)
    choices = items_of(object_of(json_of(_text(answer, "chat"))).get("choices"), 4)
    said = word_of(object_of(choices[0].get("message")).get("content"), 2000) if choices else ""
    if not said:
        return failed("Lemonade answered without a word", **facts)
    metrics = parse_lemonade_stats(_text(answer, "stats"))
    health = parse_lemonade_health(_text(answer, "health"))
    if health is None or model not in health.on_npu:
        where = health.models.get(model, "nothing") if health else "nothing"
        return failed(f"{model} runs on {where or 'nothing'}, not on the NPU", metrics, **facts)
    if watched and not watched.problem and watched.completions == 0:
        return failed("Lemonade claims the NPU but the driver finished no command", metrics, **facts)
    if not metrics:
        return unreadable("Lemonade measured no speed", **facts)
    return passed(metrics, **facts)


def cases(bench: Bench, found: Detected) -> list[Case]:
    """One answer."""
    return [
        Case("lemonade", "chat", "a model on the NPU answers through Lemonade", partial(chat, bench, found))
    ]
