"""The matrix page and the repeated cell: pure functions of made-up runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness.evidence import Evidence
from harness.journal import Journal, PhaseStarted, RunEnded, RunStarted, SuiteEvent
from harness.matrix_page import MatrixCell, matrix_page
from harness.release_differences import differences, reason_of_failure
from harness.repeats import compare_repeats, repeats_page
from harness.results import CaseResult, phases
from harness.verdict import Judgement, RunVerdict

NOW = datetime(2026, 11, 25, 22, 0, tzinfo=UTC)


def row(key: str, expected: Any, kind: str, *, carried: bool = True) -> dict[str, Any]:
    return {"key": key, "expected": expected, "kind": kind, "carried": carried, "source": f"title of {key}"}


def case(test: str, outcome: Any = "passed", *rows: dict[str, Any], suspect: str | None = None) -> CaseResult:
    message = "E   assert 1 == 2" if outcome == "failed" else ""
    return CaseResult(0, test, outcome, message=message, expectations=rows, suspect=suspect)


def evidence(
    run: str, cases: Sequence[CaseResult], verdict: RunVerdict = RunVerdict.FAIL, records: Sequence[Any] = ()
) -> Evidence:
    header = RunStarted(
        run=run, started_at=NOW, clock=0.0, machine="virtual-npu4", machine_kind="virtual", generation="npu4",
        simulated=True, requested="7.3.4", release="7.3.4", version="7.3.4", origin="debian",
        module_build_id=None, candidate={}, suite="ioctl", suite_digest="d", nonce="n", faults=(), t=0.0,
    )  # fmt: skip
    journal = Journal(header, (header, *records, RunEnded(ended_at=NOW, interrupted=False, t=100.0)))
    return Evidence(Path(run), journal, tuple(cases), (), Judgement(verdict, "because | of\nthat"))


OLD = (
    case("a::feature", "skipped", row("telemetry", "EOPNOTSUPP", "initial")),
    case("a::fix", "failed", row("chain", "refused", "fix", carried=False)),
    case("a::suspect", "passed", suspect="something is lost"),
    case("a::odd"),
    case("a::gone"),
)
NEW = (
    case("a::feature", "passed", row("telemetry", "ok", "feature")),
    case("a::fix", "passed", row("chain", "refused", "fix")),
    case("a::suspect", "failed", suspect="something is lost"),
    case("a::odd", "failed"),
    case("a::new"),
)


def test_each_difference_is_labelled() -> None:
    found = differences({"m1": [("7.0", OLD), ("7.1", NEW)], "m2": [("7.0", OLD), ("7.1", NEW)]})
    assert [(one.label, one.what, one.source) for one in found] == [
        ("unexplained", "a::odd", "passed, then failed"),
        ("suspect", "something is lost", "shows itself"),
        ("fix", "chain", "title of chain"),
        ("feature", "telemetry", "title of telemetry"),
    ]
    assert {(one.older, one.newer, one.machines) for one in found} == {("7.0", "7.1", ("m1", "m2"))}
    assert differences({"m1": [("7.0", NEW), ("7.1", NEW)]}) == []


def test_a_defect_that_came_and_a_kernel_that_lacks_are_explained() -> None:
    lacking = row("chain", "refused", "fix", carried=False)
    before = [case("a::chain", "passed", lacking), replace(case("a::file", "skipped"), message="no file")]
    after = [case("a::chain", "failed", lacking), case("a::file")]
    found = differences({"m": [("6.18", before), ("6.19", after)]})
    assert [(one.label, one.what) for one in found] == [("unexplained", "a::file"), ("fix", "chain")]
    assert found[1].source == "wrong from here on, until: title of chain"
    before[1] = replace(before[1], message="no file on this kernel")
    found = differences({"m": [("6.18", before), ("6.19", after)]})
    assert [(one.label, one.what) for one in found] == [
        ("fix", "chain"),
        ("feature", "no file on this kernel"),
    ]


def test_why_a_test_failed() -> None:
    assert [reason_of_failure(one) for one in (OLD[1], NEW[2], NEW[3])] == ["fix", "suspect", "unexplained"]
    carried = case(
        "a::x", "failed", row("chain", "refused", "fix"), row("old", "ok", "initial", carried=False)
    )
    assert reason_of_failure(carried) == "unexplained", "the kernel has the fix, and the test failed"


def test_the_page_shows_every_cell_and_every_difference() -> None:
    cells = [
        MatrixCell("virtual-npu4", "7.0", evidence("r1", OLD)),
        MatrixCell("virtual-npu4", "7.1", evidence("r2", NEW)),
        MatrixCell("virtual-npu4", "7.2", None, "no verdict yet"),
        MatrixCell("virtual-npu3vf", "7.0", None, "knows it since 7.2", applicable=False),
    ]
    text = matrix_page(cells, command="the command", model="1.1", digest="abc")
    assert "2 of 4 cells were run, 1 are not applicable, 1 were not run." in text
    lines = text.splitlines()
    assert "| virtual-npu4 | 7.0 | fail | 3 | 0, 1, 0 | 1 | 0 | 0, 0, 0, 0, 100 |" in lines
    assert "| virtual-npu4 | 7.1 | fail | 3 | 1, 0, 1 | 0 | 0 | 0, 0, 0, 0, 100 |" in lines
    assert any(line.startswith("| virtual-npu4 | 7.2 | not run: no verdict yet |") for line in lines)
    assert any(line.startswith("| virtual-npu3vf | 7.0 | not applicable: knows it") for line in lines)
    assert "- virtual-npu4, 7.1: `a::odd` failed: assert 1 == 2" in lines
    assert "| 7.0 | 7.1 | fix | chain | title of chain | `fix` | npu4 |" in lines


def test_a_run_that_says_nothing_of_the_kernel_makes_no_difference() -> None:
    spoilt = evidence("r2", NEW, RunVerdict.INFRASTRUCTURE)
    cells = [
        MatrixCell("virtual-npu4", "7.0", evidence("r1", OLD)),
        MatrixCell("virtual-npu4", "7.1", spoilt),
    ]
    text = matrix_page(cells, command="c", model="1.1", digest="abc")
    assert "| virtual-npu4 | 7.1 | infrastructure: because / of that |" in text
    assert "What differs" not in text


def test_slow_parts_of_the_suite_are_told_apart() -> None:
    rows = [
        {"id": "a::sleeps", "markers": ["slow", "pm"]},
        {"id": "a::quick", "markers": []},
        {"id": "a::odd"},
    ]
    said = [
        (20.0, {"event": "collected", "tests": rows}),
        (30.0, {"event": "start", "id": "a::quick"}),
        (31.0, {"event": "result", "id": "a::quick", "outcome": "passed"}),
        (31.0, {"event": "start", "id": "a::sleeps"}),
        (39.0, {"event": "result", "id": "a::sleeps", "outcome": "passed"}),
    ]
    records = [
        PhaseStarted(phase="boot", boot=1, t=0.0),
        PhaseStarted(phase="suite", boot=1, t=15.0),
        *(SuiteEvent(boot=1, event=event, t=t) for t, event in said),
        PhaseStarted(phase="collect", boot=1, t=60.0),
    ]
    spent = phases(evidence("r", (), records=records).journal)
    assert spent == {"boot": 15.0, "suite": 37.0, "collect": 40.0, "pm": 8.0, "total": 100.0}


def test_runs_that_say_the_same_are_the_same() -> None:
    done = [evidence(f"r{number}", OLD) for number in range(4)]
    found = compare_repeats(done)
    assert (found.same, found.odd_verdicts, found.differing, found.tests) == (True, 0, (), 5)
    assert found.verdicts == {"fail": 4}


@pytest.mark.parametrize("missing", [False, True])
def test_one_test_of_one_run_is_enough(*, missing: bool) -> None:
    done = [evidence(f"r{number}", OLD) for number in range(3)]
    odd = tuple(one for one in OLD if one.test != "a::odd")
    odd = odd if missing else (*odd, case("a::odd", "failed"))
    done.insert(1, replace(evidence("r9", odd)))
    found = compare_repeats(done)
    assert not found.same
    assert found.odd_verdicts == 0
    other = "absent" if missing else "failed"
    assert [(one.test, dict(one.outcomes)) for one in found.differing] == [
        ("a::odd", {other: ("r9",), "passed": ("r0", "r1", "r2")})
    ]
    text = repeats_page(found, asked=5, command="c", machine="m", kernel="k", model="1.1")
    assert "4 of 5 runs were made" in text
    assert "Tests that did not end the same way each time: 1." in text
    assert "| `a::odd` | 1 " in text
    assert text.count("r9") == 1


def test_an_odd_verdict_is_a_difference_though_every_test_agrees() -> None:
    done = [evidence("r1", OLD), evidence("r2", OLD, RunVerdict.HANG), evidence("r3", OLD)]
    found = compare_repeats(done)
    assert (found.same, found.odd_verdicts) == (False, 1)
