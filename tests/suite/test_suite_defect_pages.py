"""A page's command does what it says: it selects a test, and asks for what that test needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs/defects").glob("*.md") if path.name != "index.md")
# Matches "    xdnawatch run --machine virtual-npu4 --kernel 7.3.4 --crash -k flink_after_close".
COMMAND = re.compile(r"^ {4}xdnawatch run (.*)-k (\w+)$", re.MULTILINE)
ASKED = ("crash", "pm", "stress", "fuzz")  # markers whose tests are skipped unless an option asks for them
LISTING = """
import json, sys, pytest

class Listing:
    def pytest_collection_finish(self, session):
        rows = {item.nodeid: sorted({mark.name for mark in item.iter_markers()}) for item in session.items}
        print("LISTING " + json.dumps(rows))

sys.exit(pytest.main(sys.argv[1:], plugins=[Listing()]))
"""


@cache
def rows_of_the_suite() -> dict[str, list[str]]:
    """Every test of the suite and its markers."""
    done = subprocess.run(
        [sys.executable, "-c", LISTING, "-c", os.devnull, f"--rootdir={ROOT}/harness/suite/tests",
         "-p", "harness.suite.reporter", "-p", "no:cacheprovider", "--collect-only", "-q",
         str(ROOT / "harness/suite/tests")],
        capture_output=True, text=True, timeout=120, check=False, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("LISTING "))
    rows: dict[str, list[str]] = json.loads(line.removeprefix("LISTING "))
    return rows


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_command_runs_a_test(page: Path) -> None:
    """One command in the laboratory: its -k finds a test, and no marker of it is left unasked."""
    commands = COMMAND.findall(page.read_text())
    assert commands, "the page has no command for the laboratory"
    for options, word in commands:
        chosen = {name: marks for name, marks in rows_of_the_suite().items() if word in name}
        assert chosen, f"-k {word} selects nothing"
        for name, marks in chosen.items():
            unasked = [mark for mark in ASKED if mark in marks and f"--{mark}" not in options]
            assert not unasked, f"{name} is skipped without --{unasked[0]}"
            assert ("host_queue" in marks) == ("npu3vf" in options), f"{name} is not of that machine"
