"""The command: ready line, signals, parents, and what it refuses."""

from __future__ import annotations

import json
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.npu import MODEL_VERSION
from lab.npu.faults import FAULTS
from lab.npu.generations import generation_named
from tests.npu.fake_client import FakeClient, FakeDriver

COMMAND = [sys.executable, "-m", "lab.npu"]


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("m")


@pytest.fixture
def start(folder: Path) -> Iterator[Any]:
    running: list[subprocess.Popen[str]] = []

    def begin(*options: str, socket_name: str = "s") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, "--socket", str(folder / socket_name), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 20)[0], "no ready line"
    said: dict[str, object] = json.loads(process.stdout.readline())
    return said


def test_ready_reconnect_and_an_orderly_end(start: Any, folder: Path) -> None:
    trace = folder / "trace.jsonl"
    process = start("--generation", "npu4", "--trace", str(trace), "--protocol", "6.12", "--seed", "3")
    assert ready(process) == {"ready": True, "generation": "npu4", "model": MODEL_VERSION}
    for _ in range(2):
        with FakeClient(folder / "s") as client:
            client.hello()
            driver = FakeDriver(client, generation_named("npu4"))
            driver.boot()
            assert driver.description is not None
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert not (folder / "s").exists()
    events = [json.loads(line) for line in trace.read_text().splitlines()]
    assert events[0]["event"] == "start"
    assert (events[0]["generation"], events[0]["protocol"], events[0]["model"]) == (
        "npu4",
        "6.12",
        MODEL_VERSION,
    )
    assert events[-1]["event"] == "stop"
    assert [event["protocol"] for event in events if event["event"] == "boot"] == ["6.12", "6.12"]
    times = [event["t"] for event in events]
    assert times == sorted(times)


def test_sigterm_ends_it_while_a_client_is_there(start: Any, folder: Path) -> None:
    process = start("--generation", "npu1")
    ready(process)
    with FakeClient(folder / "s") as client:
        client.hello()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_it_dies_with_its_parent(folder: Path) -> None:
    script = (
        "import subprocess,sys,time;"
        f"p=subprocess.Popen({[*COMMAND, '--generation', 'npu1', '--socket', str(folder / 's')]!r},"
        "stdout=subprocess.PIPE);p.stdout.readline();print(p.pid,flush=True);time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(child)


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_faults_are_listed_as_data() -> None:
    done = subprocess.run([*COMMAND, "--list-faults"], capture_output=True, text=True, check=True, timeout=30)
    listed = {fault["name"]: fault for fault in json.loads(done.stdout)}
    assert set(listed) == set(FAULTS)
    assert {parameter["name"] for parameter in listed["drop"]["parameters"]} >= {"message", "nth", "count"}


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ((), 2, "--generation"),
        (("--generation", "npu9"), 2, "invalid choice"),
        (("--generation", "npu4", "--fault", "dorp"), 2, "no fault 'dorp'"),
        (("--generation", "npu4", "--protocol", "six"), 2, "protocol"),
        (("--generation", "npu4", "--delay-ms", "5-1"), 2, "range"),
        (("--generation", "npu4", "--trace", "/nonexistent/t"), 3, "trace"),
    ],
)
def test_what_it_refuses(start: Any, options: tuple[str, ...], code: int, text: str) -> None:
    process = start(*options)
    _out, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert text in said


def test_a_path_that_is_taken_is_left_alone(start: Any, folder: Path) -> None:
    (folder / "file").write_text("mine")
    process = start("--generation", "npu4", socket_name="file")
    assert process.wait(20) == 3
    assert (folder / "file").read_text() == "mine"
    first = start("--generation", "npu4")
    ready(first)
    second = start("--generation", "npu4")
    assert second.wait(20) == 3
    assert "somebody listens" in second.communicate()[1]


def test_a_stale_socket_is_replaced(start: Any, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left_behind:
        left_behind.bind(str(folder / "s"))
    assert ready(start("--generation", "npu4"))["ready"]


def test_a_path_too_long_for_a_socket(start: Any) -> None:
    process = start("--generation", "npu4", socket_name="x" * 150)
    _out, said = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "cannot listen" in said


def test_only_the_owner_may_connect(start: Any, folder: Path) -> None:
    ready(start("--generation", "npu4"))
    assert (folder / "s").stat().st_mode & 0o077 == 0
