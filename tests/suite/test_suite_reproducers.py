"""The reproducers stand alone: one file, the standard library, and nothing dangerous without --yes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "harness/suite/reproducers"
PROGRAMS = sorted(path for path in FOLDER.glob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_only_the_standard_library(program: Path) -> None:
    tree = ast.parse(program.read_text())
    names = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    names |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_page_describes_it(program: Path) -> None:
    page = ROOT / "docs/defects" / f"{program.stem.replace('_', '-')}.md"
    assert f"harness/suite/reproducers/{program.name}" in page.read_text()
    assert f"({page.name})" in (ROOT / "docs/defects/index.md").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "va_table_empty",
        "flink_after_close",
        "heap_growth_deadlock",
        "unbind_with_client",
        "hang_deadlock",
        "second_heap",
        "aie4_no_sleep",
        "dma_buf_dropped_page",
        "async_error_null",
    ],
)
def test_what_may_crash_asks_first(name: str, tmp_path: Path) -> None:
    """Without --yes it says what it would do and does not even open the node."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--node", str(tmp_path / "none")],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--yes" in done.stdout
    assert done.stderr == ""
