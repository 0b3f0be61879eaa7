"""Seconds from the command to the verdict, split into boot, proof, suite and what the harness adds.

    python benchmarks/time_to_verdict.py --kernel 7.3.4 --machine virtual-npu4 --runs 3 [--at-once 2]

Downloads what is missing first (not counted). "start" is what passes before the run begins: the interpreter,
imports, settings, database. The boot is split by the guest's own marks on the serial console, the suite into
the tests that let the device sleep ("pm") and the rest. "cell" is what has a budget of 30 s: boot, proof and
the suite without those. The command round trip is what the guest's tests measured from submission to
completion.

With --at-once as many runs go on side by side, as `nightly --jobs` makes them, without the "pm" tests; what a
cell then costs is the wall time of all by their number.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# "[    4.812345] xdnawatch-guest: init 4.81 7.3.4+deb13-amd64": the guest's first process speaks
INIT = re.compile(r"xdnawatch-guest: init (\d+\.\d+)")
PARTS = ("start", "prepare", "kernel", "shell", "prove", "suite", "pm", "collect", "total")
ROUND_TRIPS = "test_commands.py::test_twenty_commands"


def measure(kernel: str, machine: str, data: Path, tests: str | None, *, pm: bool = True) -> dict[str, Any]:
    """One run as a user makes it; seconds by part, and how many tests."""
    command = [sys.executable, "-m", "xdnawatch", "--quiet", "run", "--machine", machine, "--kernel", kernel]
    command += ["--json", *(["-k", tests] if tests else []), *([] if pm else ["--no-pm"])]
    begin = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "XDNAWATCH_DATA": str(data)}
    )
    total = time.monotonic() - begin
    if not done.stdout.strip():
        raise SystemExit(f"no verdict: {done.stderr.strip()}")
    facts = json.loads(done.stdout)
    spent = facts["seconds"]
    boot = facts["boot"]
    prepare = float(boot.get("seconds_prepare", 0.0))
    mark = INIT.search((Path(facts["folder"]) / "serial.log").read_text("utf-8", "replace"))
    kernel_seconds = float(mark[1]) if mark else 0.0
    return {
        "verdict": facts["verdict"],
        "tests": len(facts["results"]),
        "start": total - spent["total"],
        "prepare": prepare,
        "kernel": kernel_seconds,
        "shell": spent["boot"] - prepare - kernel_seconds,
        "prove": spent.get("prove", 0.0),
        "suite": spent.get("suite", 0.0),
        "pm": spent.get("pm", 0.0),
        "collect": spent.get("collect", 0.0),
        "total": total,
        "cell": sum(spent.get(part, 0.0) for part in ("boot", "prove", "suite", "collect")),
        "round_trip": next(
            (
                result["values"].get("median_milliseconds")
                for result in facts["results"]
                if result["test"] == ROUND_TRIPS
            ),
            None,
        ),
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--kernel", default="7.3.4")
    parser.add_argument("--machine", default="virtual-npu4")
    parser.add_argument("--tests", help="only tests that match this expression")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=1, help="so many runs side by side, without pm")
    options = parser.parse_args()
    subprocess.run(
        [sys.executable, "-m", "xdnawatch", "--quiet", "lab", "fetch", "--kernel", options.kernel], check=True
    )
    rows = []
    alone = options.at_once == 1
    with (
        tempfile.TemporaryDirectory(prefix="xdnw-bench-") as folder,
        ThreadPoolExecutor(options.at_once) as pool,
    ):
        begin = time.monotonic()
        asked = [
            pool.submit(measure, options.kernel, options.machine, Path(folder), options.tests, pm=alone)
            for _ in range(options.runs)
        ]
        for number, answer in enumerate(asked, 1):
            row = answer.result()
            rows.append(row)
            print(f"run {number}: {row['verdict']}, {row['tests']} tests, {row['total']:.1f} s")
        wall = time.monotonic() - begin
    print(f"\n{'part':<10}{'median s':>10}{'min':>8}{'max':>8}")
    for part in PARTS:
        values = [row[part] for row in rows]
        print(f"{part:<10}{statistics.median(values):>10.2f}{min(values):>8.2f}{max(values):>8.2f}")
    if not alone:
        print(f"\n{options.at_once} at once: {wall / options.runs:.1f} s of wall time a cell")
    cells = [row["cell"] for row in rows]
    print(f"\na cell costs {statistics.median(cells):.1f} s (boot, proof, suite without pm, logs)")
    trips = [row["round_trip"] for row in rows if row["round_trip"] is not None]
    if trips:
        print(f"a command's round trip is {statistics.median(trips):.1f} ms in the guest")
    per_test = statistics.median(row["suite"] / max(1, row["tests"]) for row in rows)
    print(f"a test costs {1000 * per_test:.0f} ms in the suite (its own work included)")


if __name__ == "__main__":
    main()
