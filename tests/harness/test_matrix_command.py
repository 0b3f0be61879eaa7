"""`xdnawatch matrix faults` on a machine in memory: it resumes, judges again, writes its page."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.suite_stream import ShippedSuite
from lab.machine import BootError, BootRequest, Session
from lab.packages.store import PackageStore
from tests.harness.fakes import FakeMachine, candidate, fake_suite
from xdnawatch.cli import app
from xdnawatch.cli import matrix as command

TDR = b"3,9,4000000,-;amdxdna 0000:00:08.0: [drm] *ERROR* aie2_set_cmd_timeout: TDR timeout detected"


@dataclass
class FaultyMachine(FakeMachine):
    """Plays a fault as the model does: its trace says that it struck, the kernel says that it saw it."""

    planned: list[str] = field(default_factory=list)
    seen_by_kernel: bool = True
    spoilt_by: str = ""  # after this fault the next run without one fails
    spoilt: bool = False

    @contextmanager
    def boot(self, request: BootRequest) -> Iterator[Session]:
        self.planned += [fault.name for fault in request.faults]
        events = [{"t": 0.0, "event": "start", "monotonic": 0.0}]
        events += [{"t": 1.0, "event": "fault", "name": fault.name} for fault in request.faults]
        trace = "".join(json.dumps(event) + "\n" for event in events)
        (request.folder / "device.jsonl").write_text(trace)
        quiet = [line for line in self.kernel_lines if line is not TDR]
        self.kernel_lines = quiet + ([TDR] if request.faults and self.seen_by_kernel else [])
        self.spoilt |= any(fault.name == self.spoilt_by for fault in request.faults)
        if self.spoilt and not request.faults:
            self.spoilt = False
            raise BootError("no-boot", "spoilt by what was before")
        with super().boot(request) as session:
            yield session


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FaultyMachine:
    made = FaultyMachine(name="virtual-npu4")

    def suite(select: str | None = None) -> ShippedSuite:
        assert select, "a cell runs a part of the suite"
        return fake_suite()

    @contextmanager
    def store(_app: Any) -> Iterator[PackageStore]:
        yield PackageStore(tmp_path / "cache", "http://127.0.0.1:9/nothing")

    monkeypatch.setattr(command, "resolve", lambda *_words: made)
    monkeypatch.setattr(command, "open_store", store)
    monkeypatch.setattr(command, "stock_kernel", lambda _store, name: candidate(version=name))
    monkeypatch.setattr(command, "ioctl_suite", suite)
    monkeypatch.setenv("XDNAWATCH_DATA", str(tmp_path / "data"))
    return made


def matrix(*words: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the command; exit code and rows."""
    done = CliRunner().invoke(app, ["--quiet", "matrix", "faults", *words, "--json"])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    with contextlib.suppress(ValueError):
        return done.exit_code, json.loads(done.stdout)
    return done.exit_code, []


def test_a_cell_is_run_once_and_remembered(machine: FaultyMachine) -> None:
    code, rows = matrix("--kernel", "7.3.4", "--only", "hung-command")
    assert [row["outcome"] for row in rows] == ["detected"]
    assert rows[0]["seen"] == ["tdr"]
    assert rows[0]["next_clean"]
    assert rows[0]["good"]
    assert code == 0
    assert machine.boots == 2, "the fault, then the machine without it"
    assert machine.planned == ["hung-command"]
    assert matrix("--kernel", "7.3.4", "--only", "hung-command") == (code, rows)
    assert machine.boots == 2
    matrix("--kernel", "7.3.4", "--only", "hung-command", "--again")
    assert machine.boots == 4


def test_a_fault_that_nobody_saw_is_the_commands_failure(machine: FaultyMachine) -> None:
    machine.seen_by_kernel = False
    code, rows = matrix("--kernel", "7.3.4", "--only", "hung-command")
    assert (code, rows[0]["outcome"], rows[0]["good"]) == (1, "missed", False)


def test_a_damaged_record_costs_its_cell_only(machine: FaultyMachine, tmp_path: Path) -> None:
    matrix("--kernel", "7.3.4", "--only", "hung-command")
    record = tmp_path / "data" / command.RECORD
    record.write_text(record.read_text() + '{"machine": "virtual-np')
    assert matrix("--kernel", "7.3.4", "--only", "hung-command")[0] == 0
    assert machine.boots == 2
    for folder in (tmp_path / "data" / "runs").iterdir():
        (folder / "journal.jsonl").unlink()
    assert matrix("--kernel", "7.3.4", "--only", "hung-command")[0] == 0
    assert machine.boots == 4, "runs that are gone are made again"


def test_what_cannot_be_seen_is_not_run(machine: FaultyMachine) -> None:
    code, rows = matrix("--kernel", "7.0.13", "--only", "skipped-work")
    assert (code, rows[0]["outcome"], machine.boots) == (0, "cannot be seen here", 0)


def test_the_page_is_written_from_what_is_finished(machine: FaultyMachine, tmp_path: Path) -> None:
    page = tmp_path / "fault-matrix.md"
    matrix("--kernel", "7.3.4", "--kernel", "7.2.12", "--only", "hung-command", "--write", str(page))
    text = page.read_text()
    assert "xdnawatch matrix faults --kernel 7.3.4 --kernel 7.2.12" in text
    assert str(tmp_path) not in text
    row = next(line for line in text.splitlines() if line.startswith("| `hung-command`"))
    assert row.count("detected: tdr") == 2


def test_a_fault_that_does_not_exist_is_a_usage_error(machine: FaultyMachine) -> None:
    done = CliRunner().invoke(app, ["matrix", "faults", "--kernel", "7.3.4", "--only", "hung-comand"])
    assert machine.boots == 0
    assert "hung-command" in str(done.exception)


def test_one_clean_run_stands_for_the_faults_before_it(machine: FaultyMachine) -> None:
    words = ("--kernel", "7.3.4", "--only", "hung-command", "--only", "drop", "--every", "5")
    code, rows = matrix(*words)
    assert (len(rows), {row["next_run"] for row in rows}) == (3, {rows[0]["next_run"]})
    assert (machine.boots, len({row["run"] for row in rows})) == (4, 3)
    assert matrix(*words) == (code, rows)
    assert machine.boots == 4


def test_a_clean_run_that_is_not_clean_is_tried_fault_by_fault(machine: FaultyMachine) -> None:
    machine.spoilt_by = "drop"
    _code, rows = matrix("--kernel", "7.3.4", "--only", "hung-command", "--only", "drop", "--every", "5")
    clean = {(row["fault"].partition(":")[0], row["next_clean"]) for row in rows}
    assert clean == {("drop", False), ("hung-command", True)}
    assert machine.boots == 3 + 1 + 1 + 2, "and three that did not come up"
