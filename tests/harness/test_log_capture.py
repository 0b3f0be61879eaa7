"""The kernel log is kept whole: each record once, in order, in the form of dmesg."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import log_capture
from harness.kernel_log import parse_line
from harness.log_capture import END, SCRIPT, KernelLogCapture, format_record
from lab.machine import Completed, ShellLostError


class LocalShell:
    """A shell on this machine whose kernel log is a file; ``sudo`` is not there."""

    def __init__(self, lines: Sequence[bytes], *, lost: bool = False) -> None:
        self.lines = lines
        self.lost = lost
        self.stopped = False

    def run(self, argv: Sequence[str], *, timeout: float, stdin: bytes | None = None) -> Completed:
        self.stopped = True
        return Completed(0, b"", b"")

    def stream(
        self, argv: Sequence[str], *, timeout: float, silence: float, on_line: Callable[[bytes], None]
    ) -> int:
        for line in self.lines:
            on_line(line)
        if self.lost:
            raise ShellLostError("connection lost")
        while not self.stopped:
            time.sleep(0.01)
        return 0

    def put(self, files: Mapping[str, bytes], folder: str) -> None:
        raise NotImplementedError

    def read(self, path: str, *, limit: int = 1 << 20) -> bytes:
        raise NotImplementedError


def capture(shell: LocalShell, file: Path, *, reachable: bool = True) -> log_capture.Captured:
    made = KernelLogCapture(shell, file, "/nowhere/stop", longest=30.0)
    made.start()
    time.sleep(0.05)
    return made.stop(reachable=reachable)


def test_records_become_lines_of_dmesg(tmp_path: Path) -> None:
    shell = LocalShell(
        [
            b"6,339,5140900,-;amdxdna 0000:00:08.0: enabling device",
            b" SUBSYSTEM=pci",
            b" DEVICE=+pci:0000:00:08.0",
            b"3,340,23900001,-;first\\x0asecond",
        ]
    )
    captured = capture(shell, tmp_path / "kernel.log")
    assert (captured.lines, captured.dropped, captured.problem) == (2, 0, None)
    assert (tmp_path / "kernel.log").read_text() == (
        "<6>[    5.140900] amdxdna 0000:00:08.0: enabling device\n"
        "<3>[   23.900001] first\n<3>[   23.900001] second\n"
    )


def test_what_the_kernel_escaped_is_itself_again_but_no_terminal_is_harmed() -> None:
    formatted = format_record(rb"4,1,1,-;\x09Report \x5cx41 f\xc3\xbcr \x1b[2J")
    assert formatted is not None
    assert formatted[1] == b"<4>[    0.000001] \tReport \\x41 f\xc3\xbcr \\x1b[2J\n"


def test_a_stream_that_starts_again_repeats_nothing_and_says_what_was_lost(tmp_path: Path) -> None:
    first = [b"6,%d,%d,-;line %d" % (n, n, n) for n in range(1, 5)]
    again = [b"6,%d,%d,-;line %d" % (n, n, n) for n in (2, 3, 4, 9, 10)]
    captured = capture(LocalShell([*first, *again]), tmp_path / "kernel.log")
    assert (captured.lines, captured.dropped) == (6, 4)
    assert (tmp_path / "kernel.log").read_text().count("line 3") == 1


def test_a_machine_that_dies_leaves_what_it_had_said(tmp_path: Path) -> None:
    shell = LocalShell([b"6,1,1,-;last words"], lost=True)
    captured = capture(shell, tmp_path / "kernel.log", reachable=False)
    assert captured.problem == "connection lost"
    assert "last words" in (tmp_path / "kernel.log").read_text()


def test_a_log_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert capture(LocalShell([]), tmp_path / "kernel.log").problem == "the kernel log could not be read"


def test_a_flood_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_capture, "SIZE_LIMIT", 10_000)
    lines = [b"6,%d,1,-;%s" % (n, b"x" * 100) for n in range(1000)]
    captured = capture(LocalShell(lines), tmp_path / "kernel.log")
    assert (tmp_path / "kernel.log").stat().st_size <= 10_000
    assert captured.lines == 1000
    assert captured.dropped > 800


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_none(raw: bytes) -> None:
    formatted = format_record(raw)
    if formatted is not None:
        assert formatted[1].endswith(b"\n")


@given(st.integers(0, 2047), st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_record_is_read_back_by_the_scanner(facility: int, sequence: int, microseconds: int) -> None:
    formatted = format_record(b"%d,%d,%d,-;hello" % (facility, sequence, microseconds))
    assert formatted is not None
    line = parse_line(formatted[1])
    assert (line.text, line.level) == ("hello", facility & 7)
    assert line.time == pytest.approx(microseconds / 1e6)


def script_reading(fifo: Path) -> str:
    """The script with a new FIFO in place of /dev/kmsg."""
    subprocess.run(["mkfifo", str(fifo)], check=True, timeout=10)
    return SCRIPT.replace("(: </dev/kmsg) 2>/dev/null", "true").replace("/dev/kmsg", str(fifo))


def _write_until_refused(kmsg: IO[bytes]) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        kmsg.write(b"6,2,2,-;nobody\n")
        time.sleep(0.01)


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_the_script_reads_until_it_is_told_and_goes_away(shell: str, tmp_path: Path) -> None:
    """/dev/kmsg is replaced by a FIFO: the script must run under every shell, and leave no reader behind."""
    fifo, stop = tmp_path / "kmsg", tmp_path / "stop"
    script = script_reading(fifo)
    try:
        process = subprocess.Popen(
            [shell, "-c", script, "kernel-log", str(stop), "100"], stdout=subprocess.PIPE
        )
    except FileNotFoundError:
        pytest.skip(f"no {shell} here")
    with fifo.open("wb", buffering=0) as kmsg:
        kmsg.write(b"6,1,1,-;hello\n")
        assert process.stdout is not None
        assert process.stdout.readline() == b"6,1,1,-;hello\n"
        subprocess.run([shell, "-c", END, "end", str(stop)], check=True, timeout=10)
        assert process.wait(10) == 0
        with pytest.raises(BrokenPipeError):  # cat is gone as well
            _write_until_refused(kmsg)
    assert not stop.exists()
    process.stdout.close()


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_a_reader_that_is_told_before_it_begins_does_not_begin(shell: str, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    try:
        subprocess.run([shell, "-c", END, "end", str(stop)], check=True, timeout=10)
    except FileNotFoundError:
        pytest.skip(f"no {shell} here")
    done = subprocess.run([shell, "-c", SCRIPT, "kernel-log", str(stop), "100"], check=True, timeout=10)
    assert done.returncode == 0
    assert not stop.exists()


def test_the_longest_time_ends_the_reader(tmp_path: Path) -> None:
    command = ["sh", "-c", script_reading(tmp_path / "kmsg"), "kernel-log", str(tmp_path / "stop"), "1"]
    assert subprocess.run(command, check=True, timeout=30).returncode == 0
    assert not (tmp_path / "stop").exists()
