"""Run folders become rows: once or many times, whole or killed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select

from db import run_tables as tables
from db.database import Database
from harness.evidence import Evidence, read_evidence
from harness.journal import FILE_NAME, JournalWriter
from harness.store import known_build_id, run_facts, store_missing, store_run, window_of
from tests.harness.fakes import RELEASE, FakeMachine

GOLDEN = Path(__file__).parent / "golden"
RunFake = Callable[..., Evidence]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A data folder with the golden runs, each under its own id."""
    folder = tmp_path / "data" / "runs"
    for path in GOLDEN.iterdir():
        text = (path / FILE_NAME).read_text("utf-8")
        target = folder / path.name
        shutil.copytree(path, target)
        (target / FILE_NAME).write_text(
            text.replace(f'"run":"{path.name}"', f'"run":"{target.name}"'), "utf-8"
        )
    return folder


def test_a_run_becomes_rows_with_machine_kernel_environment_results(
    run_fake: RunFake, database: Database
) -> None:
    evidence = run_fake(FakeMachine())
    with database.session() as session:
        store_run(session, evidence)
        session.commit()
    with database.session() as session:
        run = session.scalars(select(tables.Run)).one()
        assert (run.state, run.verdict, run.requested) == ("finished", "pass", "7.3.4")
        assert (run.machine.name, run.machine.simulated, run.machine.generation) == ("fake", True, "npu4")
        assert run.kernel is not None
        assert (run.kernel.release, run.kernel.window, run.kernel.build_id) == (RELEASE, "7.3", "b3997c9b")
        assert run.kernel.detail["module_build_id"] == "184a3b80"
        assert run.environment is not None
        assert run.environment.facts["iommu"] == "force_iova"
        assert run.boot_id == "boot-1"
        assert [(r.position, r.outcome) for r in run.results] == [(0, "passed"), (1, "passed"), (2, "passed")]
        assert set(run.seconds) == {"boot", "prove", "suite", "collect", "total"}
        assert known_build_id(session, RELEASE, "debian") == "b3997c9b"
        assert known_build_id(session, RELEASE, "module:x") is None


def counts(database: Database) -> list[int]:
    names = (tables.Run, tables.Result, tables.Finding, tables.Machine, tables.Kernel, tables.Environment)
    with database.session() as session:
        return [session.scalar(select(func.count()).select_from(table)) or 0 for table in names]


def test_storing_again_replaces_and_adds_nothing(runs: Path, database: Database) -> None:
    before: list[int] = []
    for _time in range(2):
        with database.session() as session:
            for folder in sorted(runs.iterdir()):
                store_run(session, read_evidence(folder))
            session.commit()
        before = before or counts(database)
    assert counts(database) == before
    assert before[0] == len(list(runs.iterdir()))
    assert before[3:] == [1, 1, 1]


def test_a_step_of_a_campaign_survives_that_its_run_is_stored_again(
    run_fake: RunFake, database: Database
) -> None:
    evidence = run_fake(FakeMachine())
    with database.session() as session:
        run = store_run(session, evidence)
        session.add(
            tables.Campaign(
                id="c", kind="kernels", machine="fake", test="t", good="a", bad="b",
                started_at=datetime.now(UTC), state="running",
            )
        )  # fmt: skip
        session.flush()
        session.add(
            tables.CampaignStep(campaign_id="c", number=1, candidate="x", verdict="good", run_id=run.id)
        )
        session.commit()
        store_run(session, evidence)
        session.commit()
        assert session.scalars(select(tables.CampaignStep.run_id)).one() == run.id


def test_what_was_left_behind_is_brought_in_once(runs: Path, database: Database) -> None:
    (runs / "unreadable").mkdir()
    (runs / "unreadable" / FILE_NAME).write_text("nonsense\n")
    with database.session() as session:
        first = store_missing(session, runs)
        session.commit()
    assert first.interrupted == ("killed",)
    assert len(first.stored) == len(list(GOLDEN.iterdir()))
    assert len(first.unreadable) == 1
    with database.session() as session:
        assert store_missing(session, runs).stored == ()
        killed = session.get_one(tables.Run, "killed")
        assert (killed.state, killed.verdict) == ("interrupted", "interrupted")
        assert [r.outcome for r in killed.results] == ["passed", "incomplete", "not-run"]


def test_a_run_that_goes_on_is_stored_as_running_and_again_when_it_ended(
    runs: Path, database: Database
) -> None:
    header = read_evidence(runs / "finished").journal.header.model_copy(update={"run": "live"})
    writer = JournalWriter(runs / "live", header)
    with database.session() as session:
        store_missing(session, runs)
        session.commit()
        assert session.get_one(tables.Run, "live").state == "running"
        assert session.get_one(tables.Run, "live").verdict is None
    writer.close()  # as a kill does
    with database.session() as session:
        assert store_missing(session, runs).interrupted == ("live",)
        session.commit()
        assert session.get_one(tables.Run, "live").state == "interrupted"


def test_a_folder_that_holds_another_run_is_refused(runs: Path, database: Database) -> None:
    shutil.copytree(runs / "finished", runs / "copy")
    with database.session() as session:
        assert any("copy" in text for text in store_missing(session, runs).unreadable)


def test_a_run_as_plain_data_has_everything_a_script_needs(runs: Path) -> None:
    facts = run_facts(read_evidence(runs / "panic-mid-test"))
    assert facts["verdict"] == "panic"
    assert facts["counts"] == {"passed": 1, "incomplete": 1, "not-run": 1}
    assert [f["signature"] for f in facts["findings"] if f["severity"] == "panic"] == ["panic"]
    assert all(proof["holds"] for proof in facts["proofs"])
    assert facts["environment"]["npu"][0]["name"] == "NPU Strix"


@pytest.mark.parametrize(
    ("version", "window"),
    [
        ("7.3.4", "7.3"),
        ("7.3-rc7", "7.3"),
        ("7.3~rc7-1~exp1", "7.3"),
        ("6.18.15", "6.18"),
        ("7.0.0-0.rc7.55.fc45.x86_64", "7.0"),
        ("running", None),
        ("7", None),
    ],
)
def test_the_window_of_a_version(version: str, window: str | None) -> None:
    assert window_of(version) == window
