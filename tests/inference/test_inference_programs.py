"""Programs on a machine: bounded in time and output, ended with their children, told truthfully."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.inference import commands as edge
from harness.inference.commands import Command, Commands, InferenceError, Look, answer_of
from harness.inference.driver_state import parse_state
from lab.machine import Completed


def test_a_program_tells_status_output_and_files(local: Commands, tmp_path: Path) -> None:
    """Standard input reaches it, an old file is not taken for its answer, its time is measured."""
    place = tmp_path / "answer"
    place.write_text("old")
    script = f"cat; echo oops >&2; [ -e {place} ] && echo old; echo new >{place}; exit 3"
    ran = local.run_one(
        Command(("sh",), ("-c", script), stdin="hello\n", read=(str(place),), remove=(str(place),))
    )
    assert (ran.status, ran.stdout, ran.stderr) == (3, b"hello\n", b"oops\n")
    assert ran.files == {str(place): b"new\n"}
    assert not ran.ok
    assert ran.told == "ended with status 3: oops"
    assert 0 < ran.seconds < 20


def test_a_missing_program_is_missing(local: Commands) -> None:
    """The first of several names that is there is run; none is no error."""
    missing, second = local.run(
        Command(("no-such-program",)), Command(("no-such-program", "/bin/sh"), ("-c", "echo yes"))
    )
    assert missing.program is None
    assert (second.program, second.stdout) == ("/bin/sh", b"yes\n")


def test_a_program_that_hangs_ends_with_its_children(local: Commands, tmp_path: Path) -> None:
    """Its time is over: it and what it started are gone, and what it said before is kept."""
    pid = tmp_path / "pid"
    script = f"echo begun; sleep 300 & echo $! >{pid}; wait"
    begin = time.monotonic()
    ran = local.run_one(Command(("sh",), ("-c", script), timeout=0.7))
    assert ran.timed_out
    assert "did not end within" in ran.told
    assert ran.stdout == b"begun\n"
    assert time.monotonic() - begin < 20
    child = int(pid.read_text())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _runs(child):
        time.sleep(0.02)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_flood_is_ended_and_cut(local: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that writes without end is stopped; head and tail of its output are kept."""
    monkeypatch.setattr(edge, "LIMIT", 4096)
    endless, long = local.run(
        Command(("yes",), timeout=60), Command(("sh",), ("-c", "seq 1 10000"), timeout=60)
    )
    assert endless.flooded
    assert not endless.ok
    assert endless.told == "wrote without end and was stopped"
    assert len(endless.stdout) < 5000
    assert long.ok
    assert long.stdout.startswith(b"1\n2\n")
    assert long.stdout.endswith(b"9999\n10000\n")


def test_a_program_killed_by_a_signal_says_so(local: Commands) -> None:
    """A crash is not an exit status."""
    ran = local.run_one(Command(("sh",), ("-c", "kill -SEGV $$")))
    assert ran.status == -11
    assert "signal 11" in ran.told


def test_watching_without_a_device_is_a_problem_not_a_failure(local: Commands) -> None:
    """Where the node cannot be opened the program still runs; the counters are said to be unknown."""
    ran = local.run_one(Command(("true",), watch="/dev/null/none"))
    assert ran.ok
    assert ran.watched is not None
    assert ran.watched.problem
    assert ran.watched.completions == 0


def test_a_look_at_a_machine_without_an_npu_names_what_is_missing(local: Commands) -> None:
    """The look works on any Linux; this machine has no NPU node, or the driver's state is told."""
    state = parse_state(local.run_one(Look()))
    assert state.kernel == os.uname().release
    assert state.boot_id
    assert state.uid == os.getuid()
    assert state.obstacle is not None or state.driver_version


def test_the_command_line_stays_short(local_shell: Any, tmp_path: Path) -> None:
    """dropbear refuses more than 9000 bytes: what is long travels by standard input."""

    class Measuring:
        longest = 0

        def __init__(self) -> None:
            self.put, self.read, self.stream = local_shell.put, local_shell.read, local_shell.stream

        def run(self, argv: Sequence[str], *, timeout: float, stdin: bytes | None = None) -> Completed:
            self.longest = max(self.longest, sum(len(word) + 1 for word in argv))
            done: Completed = local_shell.run(argv, timeout=timeout, stdin=stdin)
            return done

    shell = Measuring()
    commands = Commands(shell, str(tmp_path / "root"), sys.executable)
    commands.install()
    ran = commands.run_one(Command(("wc",), ("-c",), stdin="x" * 50_000))
    assert ran.stdout.strip() == b"50000"
    assert 0 < shell.longest < 1000


class Answers:
    """A shell whose machine answers what it is told to."""

    def __init__(self, stdout: bytes, status: int = 0) -> None:
        self.completed = Completed(status, stdout, b"")

    def run(self, argv: Sequence[str], *, timeout: float, stdin: bytes | None = None) -> Completed:
        return self.completed

    def stream(
        self, argv: Sequence[str], *, timeout: float, silence: float, on_line: Callable[[bytes], None]
    ) -> int:
        raise NotImplementedError

    def put(self, files: Mapping[str, bytes], folder: str) -> None:
        raise NotImplementedError

    def read(self, path: str, *, limit: int = 1 << 20) -> bytes:
        raise NotImplementedError


FIELDS = (
    *("program", "status", "seconds", "stdout", "stderr", "files", "watch", "state", "problem", "contexts"),
    *("completions", "sysfs", "missing", "message", "clocks", "power_mode", "uid"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner,
            max_size=8,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=150)
@given(answer=JSON)
def test_a_lying_machine_breaks_nothing(answer: Any) -> None:
    """Any JSON as answer: a Ran and a driver state with the right types, storable."""
    ran = answer_of(answer)
    assert isinstance(ran.stdout, bytes)
    assert ran.told
    state = parse_state(ran)
    assert all(isinstance(text, str) for text in (state.bdf, state.vbnv, state.node, *state.missing))
    json.dumps(state.clocks).encode("utf-8")


@given(noise=st.one_of(st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode())))
def test_what_is_no_answer_is_an_error_with_a_next_step(noise: bytes) -> None:
    """Noise instead of an answer: InferenceError, nothing else."""
    with pytest.raises(InferenceError, match="on the machine"):
        Commands(Answers(noise), "/tmp/x").run_one(Command(("true",)))


def test_an_answer_for_another_number_of_programs_is_none() -> None:
    """Two programs, one answer: nobody can say whose it is."""
    line = json.dumps({"answers": [{"program": "/bin/true", "status": 0}]}).encode()
    with pytest.raises(InferenceError):
        Commands(Answers(line), "/tmp/x").run(Command(("true",)), Command(("false",)))


def test_a_login_banner_before_the_answer_does_not_matter() -> None:
    """Some machines greet every shell."""
    line = json.dumps({"answers": [{"program": "/bin/true", "status": 0, "seconds": 0.1}]}).encode()
    assert Commands(Answers(b"Welcome!\nLast login: today\n" + line), "/tmp/x").run_one(Command(("true",))).ok
