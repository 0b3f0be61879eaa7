"""The suite against the interface: every call, parameter and refusal is asked for by a test that exists.

``interface.toml`` says which tests stand for which refusal. That they do is checked by reading them: a test
must exist, and its source, with the tables and helpers of its module that it uses, must name the call and the
errno. Parameters are looked for in the tests themselves: there is no list of them to forget one in.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
import tomllib
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from harness.fault_matrix import ROWS as FAULTS
from harness.suite import contract, uapi
from harness.suite.releases import TABLE

ROOT = Path(contract.__file__).parents[2]
TESTS = ROOT / contract.TESTS
DATA: dict[str, Any] = tomllib.loads((Path(__file__).parent / "interface.toml").read_text("utf-8"))
ROWS: list[dict[str, Any]] = DATA["row"]
SUBJECTS: dict[str, list[str]] = DATA["subject"]

# A call's own number or structure in a test, or the methods of Device and the suite's helpers that make it.
CALLS = {
    "CREATE_HWCTX": "CREATE_HWCTX|create_context|HostQueue",
    "DESTROY_HWCTX": "DESTROY_HWCTX|destroy_context",
    "CONFIG_HWCTX": "CONFIG_HWCTX|ConfigHwctx|configure",
    "CREATE_BO": "CREATE_BO|create_bo|wrap",
    "GET_BO_INFO": "GET_BO_INFO|bo_info",
    "SYNC_BO": r"SYNC_BO|\.sync\(",
    "EXEC_CMD": r"EXEC_CMD|execute|device\.run",
    "GET_INFO": "GET_INFO|info_at|device.info",
    "SET_STATE": "SET_STATE|set_state|set_power_mode",
    "GET_ARRAY": "GET_ARRAY|device.array|contexts",
    "WAIT_CMD": r"WAIT_CMD|queue\.wait",
}


@functools.cache
def collected() -> frozenset[str]:
    """The ids of all tests, as pytest names them on any machine."""
    words = contract.command(str(ROOT), "n0nce", python=sys.executable)
    done = subprocess.run(
        [*words, "--collect-only"], capture_output=True, text=True, timeout=120, check=False
    )
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"event')]
    found = {row["id"] for event in events if event["event"] == "collected" for row in event["tests"]}
    assert found, done.stderr
    return frozenset(found)


@functools.cache
def module(file: str) -> dict[str, ast.stmt]:
    """The top-level functions and assignments of a test file by name."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse((TESTS / file).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


@functools.cache
def reach(test: str) -> str:
    """The source of a test with the tables and helpers of its module that it uses, and rows of releases.

    Of a table whose keys are a test's parameters only the parameter's own entry counts.
    """
    file, _, name = test.partition("::")
    name, _, parameter = name.rstrip("]").partition("[")
    names = module(file)
    todo, seen, parts = [name], set[str](), list[str]()
    while todo:
        at = todo.pop()
        if at in seen or at not in names:
            continue
        seen.add(at)
        node: ast.AST = names[at]
        value = getattr(node, "value", None)
        if isinstance(value, ast.Dict) and parameter:
            keys = [key.value if isinstance(key, ast.Constant) else None for key in value.keys]
            node = value.values[keys.index(parameter)] if parameter in keys else node
        text = ast.unparse(node)
        parts.append(text)
        used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        used |= {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
        todo += sorted(used)
        for key in re.findall(r"expect\('([\w-]+)'\)", text):
            parts += [repr(row.value) for row in TABLE[key]]
    return "\n".join(parts)


def every(test: str) -> list[str]:
    """The collected tests that an id of the table stands for."""
    return sorted(known for known in collected() if known == test or known.startswith(test + "["))


def label(row: dict[str, Any]) -> str:
    return f"{row['ioctl']}: {'/'.join(row['errno']) or 'accepted'}, {row['when']}"[:80]


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_every_known_refusal_is_asked_for(row: dict[str, Any]) -> None:
    if "left_out" in row:
        assert "tests" not in row
        assert len(row["left_out"]) > 20, "a reason is a sentence"
        return
    assert row["tests"]
    for test in row["tests"]:
        assert every(test), f"{test} is no test of the suite"
        if "fault" in row:
            continue
        text = reach(test)
        assert re.search(CALLS[row["ioctl"]], text), f"{test} never makes a {row['ioctl']}"
        for errno in row["errno"]:
            assert re.search(rf"\b{errno}\b", text), f"{test} never names {errno}"


@pytest.mark.parametrize("row", [row for row in ROWS if "fault" in row], ids=label)
def test_a_refusal_that_needs_a_fault_is_played_by_the_fault_matrix(row: dict[str, Any]) -> None:
    played = [fault for fault in FAULTS if fault.fault == row["fault"]]
    assert played, row["fault"]
    for test in row["tests"]:
        assert test.partition("::")[2] in re.split(r"\W+", played[0].tests), test


def test_few_refusals_are_left_out() -> None:
    """Who adds one has to raise this number and be asked why."""
    assert sum("left_out" in row for row in ROWS) == 7


@pytest.mark.parametrize("subject", sorted(SUBJECTS))
def test_every_subject_has_its_tests(subject: str) -> None:
    for test in SUBJECTS[subject]:
        assert every(test), f"{test} is no test of the suite"


def test_every_call_is_in_the_table() -> None:
    assert {row["ioctl"] for row in ROWS} == {call.name for call in uapi.Ioctl} == set(CALLS)


PARAMETERS: list[tuple[type[IntEnum], str]] = [
    (kind, member.name)
    for kind in (uapi.Info, uapi.Array, uapi.State, uapi.Config, uapi.Bo, uapi.Submit, uapi.PowerMode)
    for member in kind
]


@pytest.mark.parametrize(("kind", "name"), PARAMETERS, ids=lambda value: getattr(value, "__name__", value))
def test_every_parameter_is_used_by_a_test(kind: type[IntEnum], name: str) -> None:
    reached = [test for test in collected() if f"uapi.{kind.__name__}.{name}" in reach(test)]
    assert reached, f"no test uses uapi.{kind.__name__}.{name}"


@pytest.mark.real
def test_the_table_has_every_row_of_the_facts(real_data: Path) -> None:
    facts = real_data.parent / "facts" / "uapi.json"
    if not facts.is_file():
        pytest.skip(f"no {facts}")
    known = {
        (entry["name"].removeprefix("DRM_IOCTL_AMDXDNA_"), case["condition"])
        for entry in json.loads(facts.read_text("utf-8"))["ioctls"]
        for case in entry["errno"]
    }
    assert {(row["ioctl"], row["when"]) for row in ROWS} == known
