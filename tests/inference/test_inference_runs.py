"""Inference results are results of a run: one journal, one store, the same rows; also when it was killed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db import run_tables as tables
from db.database import Database
from db.metrics import Metric, facts_in, metrics_in
from harness.evidence import Evidence, read_evidence
from harness.inference import InferenceSuite, suite
from harness.inference.bench import Bench, Case
from harness.inference.metrics import Installed, Missing, passed, skipped
from harness.runner import RunOptions, RunRequest, run
from harness.store import run_facts, store_missing, store_run
from harness.verdict import RunVerdict
from lab.machine import ShellLostError
from tests.harness.fakes import FakeMachine, candidate

LATENCY = Metric("latency", 51.5, "us", "lower")
FLM = Missing("FastFlowLM is not installed", "install flm")
Act = Callable[[], None]


@pytest.fixture
def infer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Evidence]:
    """Run three inference tests on a fake machine: ``infer(machine, version of XRT, during=...)``.

    ``during`` happens within the second test. The driver is not asked: the machine has none.
    """
    monkeypatch.setattr(Bench, "look", lambda _self: suite.DriverState())

    def do(machine: FakeMachine, xrt: str = "2.25.0", during: Act = lambda: None, **options: Any) -> Evidence:
        def second() -> Any:
            during()
            return passed([replace(LATENCY, name="round_trip")], outputs=4)

        def cases(_bench: Bench, _found: Any) -> list[Case]:
            return [
                Case("xrt-smi-validate", "latency", "how long", lambda: passed([LATENCY], runs=3)),
                Case("pyxrt", "buffer-data", "data", second),
                Case("flm", "bench", "speed", lambda: skipped(FLM)),
            ]

        monkeypatch.setattr(suite, "collect", cases)
        monkeypatch.setattr(
            suite,
            "DETECTORS",
            {"xrt-smi": lambda _bench: Installed("xrt-smi", xrt, "/bin/xrt-smi"), "flm": lambda _bench: FLM},
        )
        folder = tmp_path / "runs" / f"20261124T10000{machine.boots}-{xrt[-1]}bcdef"
        request = RunRequest(candidate(), "7.3.4")
        return run(machine, request, InferenceSuite(), folder, RunOptions(**options))

    return do


def stored(database: Database, evidence: Evidence) -> tables.Run:
    with database.session() as session:
        store_run(session, evidence)
        session.commit()
    with database.session() as session:
        row = session.scalars(select(tables.Run).where(tables.Run.id == evidence.journal.header.run)).one()
        assert row.environment is not None
        assert len(row.results) == 3
        assert row.machine is not None
        return row


def test_outcomes_metrics_versions_and_missing_pieces_are_rows(
    infer: Callable[..., Evidence], database: Database
) -> None:
    evidence = infer(FakeMachine())
    assert evidence.judgement.verdict is RunVerdict.PASS, evidence.judgement.reason
    row = stored(database, evidence)
    assert (row.suite, row.verdict, row.state) == ("inference", "pass", "finished")
    assert row.suite_digest == suite.digest()
    latency, data, bench = row.results
    assert metrics_in(latency.values) == (LATENCY,)
    assert facts_in(latency.values) == {"runs": 3, "title": "how long"}
    assert (data.test, data.outcome) == ("inference/pyxrt::buffer-data", "passed")
    assert (bench.outcome, bench.message) == (
        "skipped",
        "environment: FastFlowLM is not installed; install flm",
    )
    assert row.environment is not None
    assert row.environment.facts["suite"] == {
        "programs": {"xrt-smi": "2.25.0"},
        "absent": {"flm": "FastFlowLM is not installed; install flm"},
    }
    assert row.environment.facts["iommu"] == "force_iova", "the machine's own facts stay beside them"
    assert run_facts(evidence)["environment"] == row.environment.facts


def test_another_version_of_a_program_is_another_environment(
    infer: Callable[..., Evidence], database: Database
) -> None:
    first = stored(database, infer(FakeMachine(), "2.25.0"))
    same = stored(database, infer(FakeMachine(boots=1), "2.25.0"))
    newer = stored(database, infer(FakeMachine(boots=2), "2.26.1"))
    assert first.environment_id == same.environment_id != newer.environment_id


def test_a_machine_without_pytest_can_infer(infer: Callable[..., Evidence]) -> None:
    machine = FakeMachine(parts={"python": {"version": "3.13.5", "pytest": None}})
    assert infer(machine).judgement.verdict is RunVerdict.PASS


def test_the_test_under_which_a_machine_dies_is_guilty_and_the_rest_is_run_after_a_boot(
    infer: Callable[..., Evidence],
) -> None:
    machine = FakeMachine()

    def die() -> None:
        machine.shells[-1].dead = True
        raise ShellLostError("fake: connection lost")

    evidence = infer(machine, during=die)
    outcomes = {case.test.partition("/")[2]: case.outcome for case in evidence.results}
    assert outcomes == {
        "xrt-smi-validate::latency": "passed",
        "pyxrt::buffer-data": "incomplete",
        "flm::bench": "skipped",
    }
    assert evidence.judgement.verdict is RunVerdict.HANG
    assert machine.boots == 2


class KilledHere(BaseException):
    """What SIGKILL does to everything above it: nothing more is written."""


def test_a_run_killed_in_the_middle_is_read_back(
    infer: Callable[..., Evidence], database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder: list[Path] = []

    def kill() -> None:
        folder.extend((tmp_path / "runs").iterdir())
        journal = (folder[0] / "journal.jsonl").read_bytes()
        monkeypatch.setattr("harness.journal.JournalWriter.append", lambda *_: None)
        (tmp_path / "kept").write_bytes(journal + b'{"t":1.0,"kind":"sui')  # cut in the middle of a line
        raise KilledHere

    with contextlib.suppress(KilledHere):
        infer(FakeMachine(), during=kill)
    (folder[0] / "journal.jsonl").write_bytes((tmp_path / "kept").read_bytes())
    with database.session() as session:
        done = store_missing(session, tmp_path / "runs")
        session.commit()
        assert done.interrupted == (folder[0].name,)
        row = session.scalars(select(tables.Run)).one()
        assert (row.suite, row.state, row.verdict) == ("inference", "interrupted", "interrupted")
        assert [result.outcome for result in row.results] == ["passed", "incomplete", "not-run"]
        assert metrics_in(row.results[0].values) == (LATENCY,)
    assert read_evidence(folder[0]).journal.truncated


def test_a_suite_that_takes_too_long_stops_between_two_tests(infer: Callable[..., Evidence]) -> None:
    evidence = infer(FakeMachine(), suite=-1.0)
    assert {case.outcome for case in evidence.results} == {"not-run"}
    assert "did not end within" in evidence.results[0].message


@pytest.mark.parametrize(
    "value",
    [
        {"value": True, "unit": "us", "better": "lower"},
        {"value": float("nan"), "unit": "us", "better": "lower"},
        {"value": 1.0, "unit": "u" * 25, "better": "lower"},
        {"value": 1.0, "unit": "us", "better": "smaller"},
        {"value": 1.0, "unit": "us"},
        {"value": 1.0, "unit": "us", "better": "lower", "more": 1},
        "51 us",
        None,
    ],
)
def test_what_has_not_the_shape_of_a_metric_is_a_fact(value: Any) -> None:
    assert metrics_in({"x": value}) == ()
    assert list(facts_in({"x": value})) == ["x"]


def test_a_part_of_the_suite_says_so_in_its_name() -> None:
    assert InferenceSuite().name == "inference"
    assert InferenceSuite(chosen=("inference/flm::bench",)).name == "inference[inference/flm::bench]"
