"""The journal survives what happens to runs: kills, full disks, damage, newer programs."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import JournalError
from harness.journal import (
    FILE_NAME,
    SCHEMA,
    Journal,
    JournalWriter,
    PhaseStarted,
    RunEnded,
    RunStarted,
    SuiteEvent,
    Trouble,
    is_alive,
    new_run_id,
    read,
    run_folders,
)


def header(run: str = "r1") -> RunStarted:
    return RunStarted(
        run=run,
        started_at=datetime(2026, 11, 23, 14, 30, tzinfo=UTC),
        clock=time.monotonic(),
        machine="virtual-npu4",
        machine_kind="virtual",
        simulated=True,
        requested="7.3.4",
        suite="ioctl",
        suite_digest="d",
        nonce="n",
    )


def written(folder: Path) -> bytes:
    writer = JournalWriter(folder, header(folder.name))
    writer.append(PhaseStarted(phase="boot"))
    writer.append(SuiteEvent(boot=1, event={"event": "start", "id": "a::é\u2028\x7f"}))
    writer.append(Trouble(where="lab", message="no QEMU"))
    writer.append(RunEnded(ended_at=datetime.now(UTC)))
    writer.close()
    return (folder / FILE_NAME).read_bytes()


def test_what_was_written_is_read_again_in_order_with_rising_times(tmp_path: Path) -> None:
    written(tmp_path / "r1")
    journal = read(tmp_path / "r1")
    assert [r.kind for r in journal.records] == ["run-started", "phase", "suite", "trouble", "run-ended"]
    times = [r.t for r in journal.records]
    assert times == sorted(times)
    assert journal.ended is not None
    assert not journal.truncated
    event = journal.records[2]
    assert isinstance(event, SuiteEvent)
    assert event.event["id"] == "a::é\u2028\x7f"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_journal_cut_at_any_byte_keeps_every_whole_line(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "r1"
    whole = (folder / FILE_NAME).read_bytes() if folder.exists() else written(folder)
    first = whole.index(b"\n") + 1
    cut = data.draw(st.integers(first, len(whole)))
    copy = tmp_path / "cut"
    copy.mkdir(exist_ok=True)
    (copy / FILE_NAME).write_bytes(whole[:cut])
    journal = read(copy)
    assert len(journal.records) == whole[:cut].count(b"\n")
    assert journal.truncated == (not whole[:cut].endswith(b"\n"))
    assert journal.damage == ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=300))
def test_damage_in_the_middle_is_named_and_hides_nothing_else(tmp_path: Path, noise: bytes) -> None:
    folder = tmp_path / "r1"
    whole = (folder / FILE_NAME).read_bytes() if folder.exists() else written(folder)
    lines = whole.splitlines(keepends=True)
    middle = b"\xff" + noise.replace(b"\n", b" ") + b"\n"
    copy = tmp_path / "damaged"
    copy.mkdir(exist_ok=True)
    (copy / FILE_NAME).write_bytes(b"".join([*lines[:2], middle, *lines[2:]]))
    journal: Journal = read(copy)
    assert len(journal.records) == 5
    assert [damage.line for damage in journal.damage] == [3]


def test_kinds_of_a_newer_program_are_counted_and_passed_over(tmp_path: Path) -> None:
    lines = written(tmp_path / "r1").splitlines(keepends=True)
    (tmp_path / "r1" / FILE_NAME).write_bytes(
        lines[0]
        + b'{"kind":"telepathy","t":1.0}\n'
        + b'{"kind":"phase","phase":"boot","mood":"good","t":2}\n'
    )
    journal = read(tmp_path / "r1")
    assert journal.unknown == 1
    assert [r.kind for r in journal.records] == ["run-started", "phase"]


def test_a_newer_schema_is_refused_with_the_way_out(tmp_path: Path) -> None:
    text = written(tmp_path / "r1").replace(
        f'"schema_version":{SCHEMA}'.encode(), f'"schema_version":{SCHEMA + 1}'.encode()
    )
    (tmp_path / "r1" / FILE_NAME).write_bytes(text)
    with pytest.raises(JournalError, match="newer xdnawatch"):
        read(tmp_path / "r1")


@pytest.mark.parametrize("content", [b"", b"\n", b"not json\n", b'{"kind":"phase","phase":"boot"}\n'])
def test_without_a_header_there_is_no_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(JournalError, match="no header"):
        read(tmp_path)


def test_a_run_folder_is_used_once(tmp_path: Path) -> None:
    written(tmp_path / "r1")
    with pytest.raises(JournalError, match="used once"):
        JournalWriter(tmp_path / "r1", header())


def test_a_run_is_alive_while_its_writer_is_and_asking_does_not_disturb(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "r1", header())
    assert is_alive(tmp_path / "r1")
    assert is_alive(tmp_path / "r1")
    writer.append(PhaseStarted(phase="boot"))
    writer.close()
    assert not is_alive(tmp_path / "r1")
    assert not is_alive(tmp_path / "nowhere")


def _write_and_wait(folder: str) -> None:
    writer = JournalWriter(Path(folder), header())
    writer.append(PhaseStarted(phase="boot"))
    signal.pause()


def test_a_killed_writer_leaves_a_dead_journal_with_all_it_wrote(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_write_and_wait, args=(str(tmp_path / "r1"),)
    )
    process.start()
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if (tmp_path / "r1" / FILE_NAME).exists() and len(read(tmp_path / "r1").records) == 2:
                break
            time.sleep(0.05)
        assert is_alive(tmp_path / "r1")
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(10)
    assert not is_alive(tmp_path / "r1")
    assert read(tmp_path / "r1").ended is None


def test_children_of_the_writer_do_not_keep_it_alive(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "r1", header())
    descriptors = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - names of descriptors, no paths
    journal = [
        fd for fd in descriptors if Path(f"/proc/self/fd/{fd}").resolve() == tmp_path / "r1" / FILE_NAME
    ]
    assert journal
    assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in journal)
    writer.close()


def test_run_names_sort_by_time_and_folders_without_a_journal_are_no_runs(tmp_path: Path) -> None:
    early = new_run_id(datetime(2026, 11, 23, 14, 30, tzinfo=UTC), "ffffff")
    late = new_run_id(datetime(2026, 11, 23, 14, 30, 1, tzinfo=UTC), "000000")
    assert early == "20261123T143000-ffffff"
    for name in (late, early):
        written(tmp_path / name)
    (tmp_path / "stray").mkdir()
    assert [folder.name for folder in run_folders(tmp_path)] == [early, late]
    assert run_folders(tmp_path / "none") == []
