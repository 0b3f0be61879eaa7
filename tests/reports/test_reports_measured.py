"""Measured numbers: what a change says beside what is noise, on every page that shows them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.database import Database
from db.run_tables import Kernel, Machine, Result, Run
from reports.catalogue import Catalogue
from reports.choosing import ChoiceError, choose_pair
from reports.compare import Side, compare
from reports.measured import measured, metric_changes
from reports.reading import read_snapshot
from reports.records import KernelRecord, MachineRecord, ResultRecord, RunRecord
from reports.site import publish
from tests.reports.conftest import Site, fill

TEST = "inference/xrt-smi-validate::latency"


def run(
    version: str, value: Any, outcome: str = "passed", *, better: str = "lower", unit: str = "us"
) -> RunRecord:
    values = {"latency": {"value": value, "unit": unit, "better": better}, "runs": 3}
    return RunRecord(
        id=f"{version}-{value}", machine=MachineRecord(1, "minipc", "ssh", "npu4", False),
        kernel=KernelRecord(int(version.replace(".", "")), version, version, version[:3], "debian"),
        environment={}, environment_digest="e", suite="inference", suite_digest="s", requested=version,
        started_at=datetime(2026, 11, 23, tzinfo=UTC), ended_at=None, state="finished", verdict="pass",
        reason="", boot_id=None, seconds={}, faults=(), folder="x",
        results=(ResultRecord(TEST, outcome, 0.1, "", values),),
    )  # fmt: skip


def runs(version: str, *values: float, **more: Any) -> list[RunRecord]:
    return [run(version, value, **more) for value in values]


@pytest.mark.parametrize(
    ("before", "after", "better", "percent", "noise", "reading"),
    [
        ((50.0,), (60.0,), "lower", 20.0, None, "noise unknown"),
        ((50.0, 51.0, 49.0), (60.0, 60.0), "lower", 20.0, 2.0, "worse"),
        ((50.0, 51.0, 49.0), (60.0, 60.0), "higher", 20.0, 2.0, "better"),
        ((50.0, 51.0, 49.0), (40.0,), "lower", -20.0, 2.0, "better"),
        ((50.0, 60.0, 40.0), (55.0,), "lower", 10.0, 20.0, "within noise"),
        ((50.0,), (50.0,), "lower", 0.0, None, "unchanged"),
        ((0.0, 0.0), (5.0, 5.0), "lower", None, 0.0, "noise unknown"),
        ((), (5.0,), "lower", None, None, "one side only"),
    ],
)
def test_a_change_is_told_from_the_noise(
    before: tuple[float, ...],
    after: tuple[float, ...],
    better: str,
    percent: float | None,
    noise: float | None,
    reading: str,
) -> None:
    (change,) = metric_changes(runs("7.0.13", *before, better=better), runs("7.3.4", *after, better=better))
    assert change.percent == (percent if percent is None else pytest.approx(percent))
    assert change.noise == (noise if noise is None else pytest.approx(noise))
    assert change.reading == reading


def test_only_passed_tests_measure() -> None:
    assert measured([run("7.3.4", 50.0, "failed")]) == {}
    assert list(measured([run("7.3.4", 50.0)])) == [(TEST, "latency", "us")]


def test_another_unit_is_another_metric() -> None:
    changes = metric_changes([run("7.0.13", 50.0, unit="us")], [run("7.3.4", 0.05, unit="ms")])
    assert {change.reading for change in changes} == {"one side only"}


def test_a_comparison_shows_figures_apart_from_recorded_values() -> None:
    before, after = runs("7.0.13", 50.0, 51.0), runs("7.3.4", 70.0, 70.0)
    found = compare(Side(before[0], tuple(before)), Side(after[0], tuple(after)))
    assert found.differences == (), "a figure is no recorded value"
    assert found.headline == "1 measured number worse than the noise explains."
    assert not found.regressed, "a figure fails no kernel"
    assert [change.reading for change in found.metrics] == ["worse"]
    assert compare(Side(before[0]), Side(replace(before[0], id="other"))).headline == "No difference."


def inference(session: Session) -> None:
    """Two kernels on the virtual machine, the newer measured twice, beside the ioctl suite's runs."""
    machine = session.scalars(select(Machine).where(Machine.name == "virtual-npu4")).one()
    at = datetime(2026, 11, 24, tzinfo=UTC)
    for number, (version, value) in enumerate([("7.2.12", 50.0), ("7.3.4", 40.0), ("7.3.4", 42.0)]):
        kernel = session.scalars(
            select(Kernel).where(Kernel.version == version, Kernel.origin == "debian")
        ).one()
        name = f"infer-{number}"
        session.add(
            Run(
                id=name, machine_id=machine.id, kernel_id=kernel.id, suite="inference", suite_digest="i",
                requested=version, started_at=at + timedelta(minutes=number), state="finished",
                verdict="pass", folder=name, seconds={}, faults=[],
            )
        )  # fmt: skip
        session.add(
            Result(
                run_id=name, position=0, test=TEST, outcome="passed", seconds=1.0,
                values={"latency": {"value": value, "unit": "us", "better": "lower"}, "<i>": 1},
            )
        )  # fmt: skip


@pytest.fixture
def filled(database: Database, tmp_path: Path) -> Site:
    made = Site(database, tmp_path / "runs")
    fill(made, inference)
    return made


def twin(folder: Path, path: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / path).with_suffix(".json").read_text())["data"]
    return data


def test_every_page_shows_figures_and_says_that_they_are_simulated(filled: Site, tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(filled.database, out, version="0", runs=filled.runs)
    (change,) = twin(out, "runs/infer-2.html")["metrics"]
    assert (change["before"], change["after"], change["unit"], change["better"]) == (
        50.0,
        41.0,
        "us",
        "lower",
    )
    assert change["percent"] == pytest.approx(-18.0)
    assert change["noise"] == pytest.approx(100 / 41)
    assert change["reading"]["word"] == "better"
    compared = next((out / "compare" / "virtual-npu4").glob("7.2.12*..7.3.4*.inference.html"))
    assert twin(out, str(compared.relative_to(out)))["metrics"] == [change]
    history = next((out / "tests").glob("*validate*latency*.html"))
    (row,) = twin(out, str(history.relative_to(out)))["machines"][0]["metrics"]
    assert [point["value"] for point in row["by_kernel"]] == ["50 us", "41 us"]
    for page in (out / "runs/infer-2.html", compared, history):
        text = page.read_text()
        assert "-18.0 %" in text
        assert "lower is better" in text
        assert "these figures say nothing of silicon" in text


def test_a_run_of_another_suite_does_not_speak_for_the_kernel(filled: Site) -> None:
    with filled.database.session() as session:
        catalogue = Catalogue(read_snapshot(session))
    assert list(catalogue.suites) == ["ioctl", "inference"]
    machine = next(m for m in catalogue.machines if m.name == "virtual-npu4")
    kernel = next(k for k in catalogue.kernels if k.version == "7.3.4")
    cell = catalogue.cell(kernel, machine)
    assert cell is not None
    assert cell.run.suite == "ioctl"
    of_inference = catalogue.cell(kernel, machine, "inference")
    assert of_inference is not None
    assert of_inference.run.id == "infer-2"
    pair = choose_pair(catalogue, "7.2.12", "7.3.4", "virtual-npu4", "inference")
    assert [run.id for run in pair] == ["infer-0", "infer-2"]
    assert choose_pair(catalogue, "7.2.12", "7.3.4", "virtual-npu4")[1].suite == "ioctl"
    with pytest.raises(ChoiceError, match="of the suite inference"):
        choose_pair(catalogue, "6.19.14", "7.3.4", "virtual-npu4", "inference")
