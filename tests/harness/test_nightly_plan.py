"""The matrix: what has a verdict is left alone, what was spoiled is tried again, but not for ever."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from db.database import Database
from harness.evidence import Evidence
from harness.nightly import Cell, PastRun, Planned, cells, past_runs, plan
from harness.settings import NightlySettings
from harness.store import store_run
from harness.verdict import RunVerdict
from lab.machine import LabError
from tests.harness.fakes import FakeMachine

NOW = datetime(2026, 11, 23, 2, 30, tzinfo=UTC)
CELL = Cell("virtual-npu4", "7.3.4", "1.0")
SETTINGS = NightlySettings(machines=("virtual-npu4",), kernels=("7.3.4",))


def past(verdict: RunVerdict | None, hours_ago: float = 24, **more: Any) -> PastRun:
    facts: dict[str, Any] = {
        "run": f"r{hours_ago}",
        "machine": CELL.machine,
        "kernel": CELL.kernel,
        "model": CELL.model,
        "suite_digest": "now",
        "verdict": verdict,
        "started_at": NOW - timedelta(hours=hours_ago),
    }
    return PastRun(**{**facts, **more})


def planned(*runs: PastRun, cell: Cell = CELL, settings: NightlySettings = SETTINGS) -> Planned:
    digests = {"ioctl": "now", "inference": "now"}
    (entry,) = plan([cell], runs, digests=digests, settings=settings, now=NOW)
    return entry


def test_a_new_cell_is_run() -> None:
    assert planned().action == "run"


@pytest.mark.parametrize(
    "verdict",
    [
        RunVerdict.PASS,
        RunVerdict.FAIL,
        RunVerdict.PANIC,
        RunVerdict.HANG,
        RunVerdict.NO_BOOT,
        RunVerdict.MODEL_GAP,
    ],
)
def test_a_cell_with_a_verdict_is_done(verdict: RunVerdict) -> None:
    assert planned(past(verdict)).action == "done"


@pytest.mark.parametrize(
    "other",
    [
        {"suite_digest": "before"},
        {"model": "0.9"},
        {"kernel": "7.0.13"},
        {"machine": "virtual-npu1"},
        {"suite": "inference"},
    ],
)
def test_a_verdict_of_other_tests_model_kernel_or_machine_does_not_count(other: dict[str, Any]) -> None:
    assert planned(past(RunVerdict.PASS, **other)).action == "run"


@pytest.mark.parametrize(
    "verdict", [RunVerdict.INFRASTRUCTURE, RunVerdict.ENVIRONMENT, RunVerdict.WRONG_KERNEL]
)
def test_what_nobody_could_judge_is_tried_again_so_many_times(verdict: RunVerdict) -> None:
    assert planned(past(verdict)).action == "run"
    gone = planned(past(verdict, 48), past(verdict, 24))
    assert gone.action == "given-up"
    assert "2 times" in gone.reason


def test_an_interrupted_run_costs_no_attempt() -> None:
    runs = [past(RunVerdict.INTERRUPTED, hours) for hours in range(1, 20)]
    assert planned(*runs, past(None, 0.1)).action == "run"


def test_a_failure_before_the_verdict_does_not_undo_it() -> None:
    assert planned(past(RunVerdict.INFRASTRUCTURE, 48), past(RunVerdict.PASS, 24)).action == "done"
    assert planned(past(RunVerdict.PASS, 48), past(RunVerdict.INFRASTRUCTURE, 24)).action == "done"


def test_old_verdicts_are_renewed_when_the_settings_say_so() -> None:
    weekly = SETTINGS.model_copy(update={"retest_after_days": 7})
    assert planned(past(RunVerdict.PASS, 24 * 6), settings=weekly).action == "done"
    assert planned(past(RunVerdict.PASS, 24 * 7), settings=weekly).action == "run"


def test_a_machine_that_runs_its_own_kernel_is_looked_at_every_day() -> None:
    laptop = Cell("me@minipc", "running")

    def run(hours: float) -> PastRun:
        return past(RunVerdict.PASS, hours, machine="me@minipc", kernel="running", model=None)

    assert planned(run(1), cell=laptop).action == "done"
    assert planned(run(24), cell=laptop).action == "run"


def test_the_matrix_has_one_cell_for_a_machine_that_boots_nothing() -> None:
    settings = NightlySettings(machines=("v", "m"), kernels=("7.0.13", "7.3.4"))
    assert cells(settings, [("v", True, "1.0"), ("m", False, None)]) == [
        Cell("v", "7.0.13", "1.0"),
        Cell("v", "7.3.4", "1.0"),
        Cell("m", "running", None),
    ]


def test_each_suite_of_the_settings_has_its_own_cells() -> None:
    settings = NightlySettings(machines=("v",), kernels=("7.0.13", "7.3.4"), suites=("ioctl", "inference"))
    wanted = cells(settings, [("v", True, "1.0"), ("m", False, None)])
    assert [(cell.machine, cell.suite, cell.kernel) for cell in wanted] == [
        ("v", "ioctl", "7.0.13"),
        ("v", "ioctl", "7.3.4"),
        ("v", "inference", "7.0.13"),
        ("v", "inference", "7.3.4"),
        ("m", "ioctl", "running"),
        ("m", "inference", "running"),
    ]
    done = past(RunVerdict.PASS, machine="v")
    plans = [planned(done, cell=cell, settings=settings) for cell in wanted]
    assert [entry.action for entry in plans] == ["run", "done", "run", "run", "run", "run"]


def test_stored_runs_are_the_past_of_the_matrix(
    run_fake: Callable[..., Evidence], database: Database
) -> None:
    good = run_fake(FakeMachine())
    bad = run_fake(FakeMachine(boots=5, boot_errors={6: LabError("no QEMU")}))
    with database.session() as session:
        store_run(session, good)
        store_run(session, bad)
        session.commit()
        runs = {run.verdict: run for run in past_runs(session)}
        assert past_runs(session, ["inference"]) == []
    assert runs[RunVerdict.PASS].model == "1.0"
    assert runs[RunVerdict.PASS].kernel == "7.3.4"
    cell = Cell("fake", "7.3.4", "1.0")
    (entry,) = plan(
        [cell], list(runs.values()), digests={"ioctl": "digest"}, settings=SETTINGS, now=datetime.now(UTC)
    )
    assert entry.action == "done"


@pytest.mark.parametrize(
    ("kernel", "action"),
    [("6.18.15", "not-applicable"), ("7.1.13", "not-applicable"), ("7.2.12", "run"), ("7.3~rc7", "run")],
)
def test_a_kernel_whose_driver_does_not_know_the_device_is_not_run(kernel: str, action: str) -> None:
    settings = NightlySettings(machines=("virtual-npu3vf",), kernels=(kernel,))
    (cell,) = cells(settings, [("virtual-npu3vf", True, "1.1")], {"virtual-npu3vf": "npu3vf"})
    entry = planned(cell=cell, settings=settings)
    assert entry.action == action
    assert ("7.2" in entry.reason) == (action == "not-applicable")
