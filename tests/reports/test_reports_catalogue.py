"""Which runs are looked at together: the siblings of a run, the pairs that are compared."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from db.run_tables import Run
from reports.catalogue import Catalogue
from reports.reading import read_snapshot


def catalogue(site: Any) -> Catalogue:
    with site.database.session() as session:
        return Catalogue(read_snapshot(session))


def cell_of(found: Catalogue, version: str, machine: str) -> Any:
    kernel = next(k for k in found.kernels if k.version == version)
    return found.cell(kernel, next(m for m in found.machines if m.name == machine))


@pytest.mark.parametrize(
    "other", [{"suite_digest": "other test files"}, {"environment_id": 1}, {"verdict": "infrastructure"}]
)
def test_only_runs_of_the_same_test_files_and_environment_bear_each_other_out(
    site: Any, other: dict[str, object]
) -> None:
    before = catalogue(site)
    run = cell_of(before, "7.3.4", "virtual-npu4").run
    siblings = before.side(run).all
    assert len(siblings) == 2
    strange = next(s for s in siblings if s.id != run.id)
    with site.database.session() as session:
        row = session.scalars(select(Run).where(Run.id == strange.id)).one()
        for name, value in other.items():
            setattr(row, name, value)
        session.commit()
    after = catalogue(site)
    assert [s.id for s in after.side(after.runs[run.id]).all] == [run.id]


def test_consecutive_kernels_of_each_machine_are_compared(site: Any) -> None:
    found = catalogue(site)
    pairs = [
        (a.machine.name, a.kernel.version, b.kernel.version)
        for a, b in found.neighbours
        if a.kernel is not None and b.kernel is not None
    ]
    assert [p for p in pairs if p[0] == "minipc"] == [("minipc", "7.0.13", "7.1.13")]
    assert [p[1:] for p in pairs if p[0] == "virtual-npu1"] == [
        ("6.19.14", "7.0.13"),
        ("7.0.13", "7.1.13"),
        ("7.1.13", "7.2.12"),
        ("7.2.12", "7.3.4"),
    ]
