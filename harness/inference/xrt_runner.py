"""``xrt-runner`` recipes as tests: a model's runs as XRT itself drives them, timed."""

from __future__ import annotations

import re
from functools import partial
from pathlib import PurePosixPath

from harness.inference.bench import Bench, Case, Detected, Recipe
from harness.inference.commands import Command
from harness.inference.metrics import Installed, Missing, Report, failed, passed, skipped, unreadable
from harness.inference.printed import text_of
from harness.inference.recipe_report import parse_report

PROGRAMS = ("xrt-runner", "/opt/xilinx/xrt/bin/xrt-runner")
NO_RECIPE = Missing(
    "no recipe for xrt-runner is named",
    "name one by --recipe RECIPE,PROFILE[,FOLDER] (paths on the machine; an archive of xrt-smi has some)",
)
# A name that may stand in a test's id: "recipe_latency"
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")


def detect(bench: Bench) -> Detected:
    """xrt-runner; it has no version of its own, its package is XRT's."""
    ran = bench.commands.run_one(Command(PROGRAMS, ("--help",), bench.timeouts.detect))
    if ran.program is None:
        return Missing("xrt-runner is not installed", "install it (Debian: libxrt-utils-npu from backports)")
    if "--recipe" not in text_of(ran.stdout + ran.stderr):
        return Missing(f"xrt-runner --help {ran.told}", "repair the installation of XRT")
    return Installed("xrt-runner", "unknown", ran.program)


def run(bench: Bench, found: Detected, recipe: Recipe | None) -> Report:
    """One recipe with its profile."""
    obstacle = found if isinstance(found, Missing) else bench.state.obstacle
    if obstacle:
        return skipped(obstacle)
    if recipe is None:
        return skipped(NO_RECIPE)
    place = bench.file("report.json")
    ran = bench.commands.run_one(
        Command(
            PROGRAMS,
            (
                *("--recipe", recipe.recipe, "--profile", recipe.profile),
                *("--dir", recipe.folder, "--report", place),
            ),
            bench.timeouts.recipe,
            read=(place,),
            remove=(place,),
            watch=bench.watched_node,
        )
    )
    report = parse_report(ran.files.get(place) or ran.stdout)
    facts = {**report.counts, **({"driver": ran.watched.as_json()} if ran.watched else {})}
    if not ran.ok:
        return failed(f"xrt-runner {ran.told}", report.metrics, **facts)
    if report.corrupted:
        return unreadable(report.corrupted, **facts)
    return passed(report.metrics, **facts)


def cases(bench: Bench, found: Detected) -> list[Case]:
    """A case for each named recipe; without any, one that says so."""
    title = "xrt-runner runs a recipe"
    named: dict[str, Recipe] = {}
    for recipe in bench.options.recipes:
        name = _UNFIT.sub("-", PurePosixPath(recipe.recipe).stem)[:60] or "recipe"
        named.setdefault(name if name not in named else f"{name}-{len(named) + 1}", recipe)
    if not named:
        return [Case("xrt-runner", "recipe", title, partial(run, bench, found, None))]
    return [Case("xrt-runner", name, title, partial(run, bench, found, r)) for name, r in named.items()]
