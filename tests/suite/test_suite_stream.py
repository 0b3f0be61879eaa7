"""The event stream of a real pytest process, as the host reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.suite import contract

PROCESS_TIMEOUT = 60.0  # seconds


def _run(
    tmp_path: Path, files: dict[str, str], *more: str
) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[bytes]]:
    """Copy the suite, put tests of ours into its folder instead of its own, run the contract's command."""
    for name, data in contract.files().items():
        if not name.startswith(contract.TESTS) or name.endswith("__init__.py"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    for name, text in files.items():
        (tmp_path / contract.TESTS / name).write_text(text)
    return _execute(contract.command(str(tmp_path), "n0nce", python=sys.executable), tmp_path, *more)


def _execute(
    command: tuple[str, ...], folder: Path, *more: str
) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[bytes]]:
    done = subprocess.run(
        [*command, *more], capture_output=True, timeout=PROCESS_TIMEOUT, cwd=folder, check=False
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done


def _results(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {event["id"]: event for event in events if event["event"] == "result"}


SAMPLE = """
import os, sys
import pytest

def test_passes(record_property):
    "Says what it does. And more."
    record_property("milliseconds", 1.5)
    print("noise on standard output")
    os.write(1, b"raw noise")

def test_fails():
    assert 1 == 2

def test_skips():
    pytest.skip("environment: iommu: off")

@pytest.mark.suspect("known since 6.19")
def test_suspect():
    assert False

@pytest.fixture
def broken():
    raise RuntimeError("no device")

def test_error(broken): pass

@pytest.fixture
def leaky(request):
    yield
    request.node.user_properties.append(("device-changed", ["taint"]))
    pytest.fail("the device changed", pytrace=False)

def test_leaves_something(leaky): pass

@pytest.mark.parametrize("value", [1])
def test_value(value, record_property):
    record_property("big", "x" * 100000)
    record_property("nan", float("nan"))
    record_property("object", object)
"""


@pytest.fixture(scope="module")
def sample(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[bytes]]:
    return _run(tmp_path_factory.mktemp("machine"), {"test_sample.py": SAMPLE})


Stream = tuple[list[dict[str, Any]], "subprocess.CompletedProcess[bytes]"]


def test_every_line_is_an_event_and_none_is_missing(sample: Stream) -> None:
    events, _done = sample
    assert [event["n"] for event in events] == list(range(len(events)))
    assert {event["event"] for event in events} <= set(contract.EVENTS)
    assert [event["t"] for event in events] == sorted(event["t"] for event in events)


def test_begin_and_end(sample: Stream) -> None:
    events, done = sample
    assert (events[0]["event"], events[0]["schema"], events[0]["nonce"]) == (
        "begin",
        contract.SCHEMA,
        "n0nce",
    )
    assert events[0]["kernel"] == os.uname().release
    end = events[-1]
    assert (end["event"], end["status"]) == ("end", 1)
    assert (end["passed"], end["failed"], end["skipped"], end["error"]) == (2, 3, 1, 1)
    assert done.returncode == 1


def test_collected_before_anything_starts(sample: Stream) -> None:
    events, _done = sample
    kinds = [event["event"] for event in events]
    assert kinds.index("collected") < kinds.index("start")
    listed = [test for event in events if event["event"] == "collected" for test in event["tests"]]
    assert [test["id"] for test in listed][:2] == [
        "test_sample.py::test_passes",
        "test_sample.py::test_fails",
    ]
    assert listed[0]["title"] == "Says what it does. And more."
    assert listed[3]["suspect"] == "known since 6.19"


def test_start_precedes_its_result(sample: Stream) -> None:
    events, _done = sample
    pairs = [(event["event"], event["id"]) for event in events if event["event"] in ("start", "result")]
    for first, second in zip(pairs[::2], pairs[1::2], strict=True):
        assert (first[0], second[0], first[1]) == ("start", "result", second[1])


@pytest.mark.parametrize(
    ("name", "outcome", "when"),
    [
        ("test_passes", "passed", "call"),
        ("test_fails", "failed", "call"),
        ("test_skips", "skipped", "call"),
        ("test_suspect", "failed", "call"),
        ("test_error", "error", "setup"),
        ("test_leaves_something", "failed", "teardown"),
        ("test_value[1]", "passed", "call"),
    ],
)
def test_outcomes(sample: Stream, name: str, outcome: str, when: str) -> None:
    result = _results(sample[0])[f"test_sample.py::{name}"]
    assert (result["outcome"], result["when"]) == (outcome, when)
    assert (result["message"] is not None) == (outcome in ("failed", "error"))


def test_reasons_values_and_suspects(sample: Stream) -> None:
    results = _results(sample[0])
    assert results["test_sample.py::test_passes"]["values"] == {"milliseconds": 1.5}
    assert results["test_sample.py::test_skips"]["reason"] == "environment: iommu: off"
    assert results["test_sample.py::test_suspect"]["suspect"] == "known since 6.19"
    assert "1 == 2" in results["test_sample.py::test_fails"]["message"]


def test_values_are_bounded_and_finite(sample: Stream) -> None:
    values = _results(sample[0])["test_sample.py::test_value[1]"]["values"]
    assert len(values["big"]) == contract.TEXT_LIMIT
    assert values["nan"] == "nan"
    assert "object" in values["object"]
    assert max(len(line) for line in sample[1].stdout.splitlines(keepends=True)) <= contract.LINE_LIMIT


def test_what_tests_print_stays_out_of_the_stream(sample: Stream) -> None:
    assert b"raw noise" not in sample[1].stdout
    assert b"7 passed" not in sample[1].stdout
    assert b"raw noise" in sample[1].stderr


def test_death_leaves_a_start_without_result(tmp_path: Path) -> None:
    files = {"test_dies.py": "import os\ndef test_a(): pass\ndef test_b(): os._exit(9)\ndef test_c(): pass\n"}
    events, done = _run(tmp_path, files)
    assert done.returncode == 9
    assert [event["event"] for event in events][-3:] == ["start", "result", "start"]
    assert events[-1]["id"] == "test_dies.py::test_b"


def test_file_that_cannot_be_imported(tmp_path: Path) -> None:
    files = {"test_broken.py": "import no_such_module\n", "test_fine.py": "def test_fine(): pass\n"}
    events, done = _run(tmp_path, files)
    errors = [event for event in events if event["event"] == "collect-error"]
    assert len(errors) == 1
    assert "no_such_module" in errors[0]["message"]
    assert done.returncode == 2
    assert events[-1]["event"] == "end"


def test_event_longer_than_a_line_is_cut(tmp_path: Path) -> None:
    text = "def test_a(record_property):\n    for n in range(40): record_property(f'v{n}', 'y' * 5000)\n"
    events, _done = _run(tmp_path, {"test_long.py": text})
    result = _results(events)["test_long.py::test_a"]
    assert result["outcome"] == "passed"
    assert result["cut"] == ["values"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    """The whole suite, copied as to a machine and run where there is no NPU."""
    root = tmp_path_factory.mktemp("machine")
    for name, data in contract.files().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if any(Path("/dev/accel").glob("accel*")):
        pytest.skip("this machine has an accelerator node; the suite would test it")
    return _execute(contract.command(str(root), "n0nce", python=sys.executable), root)


def test_without_an_npu_everything_is_skipped_with_the_missing_piece(here: Stream) -> None:
    events, done = here
    results = _results(events)
    assert done.returncode == 0
    assert len(results) > 250
    assert {result["outcome"] for result in results.values()} == {"skipped"}
    reasons = {result["reason"] for result in results.values()}
    assert all(reason.startswith(contract.ENVIRONMENT_PREFIX) for reason in reasons)
    assert any("pci-device" in reason and "1022:1502" in reason for reason in reasons)


def test_without_an_npu_the_environment_says_what_is_missing(here: Stream) -> None:
    assert [event["event"] for event in here[0][:2]] == ["begin", "environment"]
    environment = here[0][1]
    assert environment["device"] is None
    assert environment["missing"][0]["kind"] == "pci-device"
    assert "kernel_log" in environment["facts"]


def test_collection_says_all_tests_and_their_order_is_stable(here: Stream) -> None:
    parts = [event for event in here[0] if event["event"] == "collected"]
    assert [part["more"] for part in parts] == [True] * (len(parts) - 1) + [False]
    ids = [test["id"] for part in parts for test in part["tests"]]
    assert ids[0] == "test_query.py::test_tops_known_after_probe"
    assert len(ids) == len(set(ids))
    assert "test_query.py::test_aie_version" in ids
    suspects = {test["id"] for part in parts for test in part["tests"] if test["suspect"]}
    assert "test_query.py::test_tops_known_after_probe" in suspects


def test_one_test_can_be_asked_for(tmp_path: Path) -> None:
    files = {"test_two.py": "def test_a(): pass\ndef test_b(): pass\n"}
    _run(tmp_path, files)
    command = contract.command(str(tmp_path), "n0nce", python=sys.executable, tests=["test_two.py::test_b"])
    events, done = _execute(command, tmp_path)
    assert done.returncode == 0
    assert list(_results(events)) == ["test_two.py::test_b"]


def test_suite_imports_nothing_but_itself_pytest_and_the_standard_library() -> None:
    import ast

    allowed = sys.stdlib_module_names | {"pytest", "harness"}
    for name, data in contract.files().items():
        for node in ast.walk(ast.parse(data)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                assert module.split(".")[0] in allowed, f"{name} imports {module}"
                assert not module.startswith("harness") or module.startswith("harness.suite"), name


def test_what_was_asked_for_is_in_the_command() -> None:
    words = contract.command("/root/x", "n", crash=True, stress=True, fuzz=90.0, seed=7)
    assert {"--crash", "--stress", "--fuzz=90", "--seed=7"} <= set(words)
    assert not {word for word in contract.command("/root/x", "n") if word.startswith(("--fuzz", "--stress"))}
