"""The fault matrix: every fault has a row, and a cell is only good when it was seen, named, and survived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness.evidence import Evidence
from harness.fault_matrix import (
    NOTHING,
    ROWS,
    TEST_FAILS,
    Cell,
    Outcome,
    invisible,
    judge_cell,
    page,
)
from harness.journal import Journal, RunEnded, RunStarted
from harness.kernel_log import LogFinding
from harness.results import CaseResult
from harness.signatures import known_signatures
from harness.verdict import Judgement, RunVerdict
from lab.npu.faults import FAULTS, parse_fault

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)

ROW = replace(ROWS[0], signs=("tdr", "tdr-report"))


def evidence(
    verdict: RunVerdict,
    signatures: Sequence[str] = (),
    outcome: Any = "passed",
    *,
    struck: bool = True,
    ended: bool = True,
) -> Evidence:
    header = RunStarted(
        run="20261123T100000-abcdef", started_at=NOW, clock=0.0, machine="virtual-npu4",
        machine_kind="virtual", generation="npu4", simulated=True, requested="7.3.4", release="7.3.4",
        version="7.3.4", origin="debian", module_build_id=None, candidate={}, suite="ioctl[x]",
        suite_digest="d", nonce="n", faults=(), t=0.0,
    )  # fmt: skip
    records = (header, *((RunEnded(ended_at=NOW, interrupted=False, t=20.0),) if ended else ()))
    names = [*signatures, *(["fault"] if struck else [])]
    return Evidence(
        Path("run"),
        Journal(header, records),
        (CaseResult(0, "t.py::t", outcome),),
        tuple(LogFinding("kernel.log", 1, name, "hang", "info", "text") for name in names),
        Judgement(verdict, "because | of\nthat"),
    )


CLEAN = evidence(RunVerdict.PASS, struck=False)


def cell(fault: Evidence, wanted: tuple[str, ...] = ROW.signs, after: Evidence = CLEAN) -> Cell:
    return judge_cell(ROW, "7.3.4", wanted, fault, after)


def test_every_fault_of_the_model_has_a_row_that_can_be_given_to_it() -> None:
    assert {row.name for row in ROWS} == set(FAULTS)
    assert len({row.fault for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert parse_fault(row.fault).kind.name == row.name


def test_every_sign_is_a_signature_and_what_the_model_promises() -> None:
    known = {one.id for one in known_signatures()} | {"dma-error", TEST_FAILS, NOTHING}
    for row in ROWS:
        assert set(row.signs) | set(row.older[1] if row.older else ()) <= known, row
        for sign in set(row.signs) - {TEST_FAILS, NOTHING}:
            assert sign in FAULTS[row.name].finding, f"{row.name} promises another finding than {sign}"


def test_a_fault_that_showed_is_detected() -> None:
    found = cell(evidence(RunVerdict.FAIL, ["tdr"], "failed"))
    assert (found.outcome, found.seen, found.good) == (Outcome.DETECTED, ("tdr",), True)
    assert found.seconds == 40.0


@pytest.mark.parametrize(
    ("fault", "wanted", "outcome"),
    [
        (evidence(RunVerdict.PASS, struck=False), ROW.signs, Outcome.NOT_STRUCK),
        (evidence(RunVerdict.FAIL, ["psp"], "failed"), ROW.signs, Outcome.MISSED),
        (evidence(RunVerdict.PASS), ROW.signs, Outcome.MISSED),
        (evidence(RunVerdict.ENVIRONMENT, ["tdr"]), ROW.signs, Outcome.WRONG_CLASS),
        (evidence(RunVerdict.MODEL_GAP, ["tdr"]), ROW.signs, Outcome.WRONG_CLASS),
        (evidence(RunVerdict.INFRASTRUCTURE, ["tdr"]), ROW.signs, Outcome.WRONG_CLASS),
        (evidence(RunVerdict.FAIL, outcome="failed"), (NOTHING,), Outcome.WRONG_CLASS),
        (evidence(RunVerdict.PASS), (TEST_FAILS,), Outcome.MISSED),
        (evidence(RunVerdict.INTERRUPTED, ["tdr"]), ROW.signs, Outcome.UNJUDGED),
    ],
)
def test_what_is_not_as_it_should_be(fault: Evidence, wanted: tuple[str, ...], outcome: Outcome) -> None:
    found = cell(fault, wanted)
    assert found.outcome is outcome
    assert not found.good


def test_what_is_as_it_should_be() -> None:
    assert cell(evidence(RunVerdict.PASS), (NOTHING,)).outcome is Outcome.TOLERATED
    assert cell(evidence(RunVerdict.FAIL, outcome="failed"), (TEST_FAILS,)).outcome is Outcome.DETECTED


def test_a_fault_that_plays_a_wrong_environment_must_be_called_one() -> None:
    row = next(row for row in ROWS if row.environment)
    named = evidence(RunVerdict.ENVIRONMENT, ["fw-proto"])
    assert judge_cell(row, "7.3.4", row.signs, named, CLEAN).good
    blamed = evidence(RunVerdict.FAIL, ["fw-proto"], "failed")
    assert judge_cell(row, "7.3.4", row.signs, blamed, CLEAN).outcome is Outcome.WRONG_CLASS


def test_a_detected_fault_is_not_good_when_it_does_not_end_or_stays() -> None:
    seen = evidence(RunVerdict.FAIL, ["tdr"], "failed")
    assert not cell(seen, after=evidence(RunVerdict.FAIL, outcome="failed", struck=False)).good
    assert not cell(evidence(RunVerdict.FAIL, ["tdr"], "failed", ended=False)).good


def test_older_drivers_show_other_signs() -> None:
    row = next(row for row in ROWS if row.name == "wrong-result")
    assert row.signs_on((7, 0)) == ()
    assert row.signs_on((7, 1)) == (TEST_FAILS,)
    assert invisible(row, "7.0.13").good


def test_the_page_shows_every_cell_and_says_what_is_wrong() -> None:
    good = cell(evidence(RunVerdict.FAIL, ["tdr"], "failed"))
    bad = replace(cell(evidence(RunVerdict.PASS)), kernel="7.0.13")
    text = page(
        [good, bad], ["7.0.13", "7.3.4"], command="the command", machine="virtual-npu4", model="1.1",
        date="2026-11-23",
    )  # fmt: skip
    assert "| kernel 7.0.13 | kernel 7.3.4 |" in text
    assert "the command" in text
    assert f"1 of 2 cells are as they should be; {2 * len(ROWS) - 2} were not run." in text
    assert text.count("| not run |") == len(ROWS) - 1
    row = next(line for line in text.splitlines() if line.startswith("| `drop"))
    assert row.count("|") == 5
    assert "detected: tdr; fail; 40 s |" in row
    assert "**(!)**" in row
    assert "- `drop:message=CHAIN_EXEC_NPU,nth=1` on 7.0.13: missed" in text
    assert "because / of that" in text
