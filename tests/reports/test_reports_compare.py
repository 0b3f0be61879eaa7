"""What differs between two runs, under which label, and what the environment explains."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from reports.compare import Comparison, Difference, Side, compare
from reports.records import FindingRecord, KernelRecord, MachineRecord, ResultRecord, RunRecord

MACHINE = MachineRecord(1, "virtual-npu4", "virtual", "npu4", True)


def run(version: str, *results: ResultRecord, **change: Any) -> RunRecord:
    number = int(version.replace(".", ""))
    made = RunRecord(
        id=version, machine=MACHINE,
        kernel=KernelRecord(number, f"{version}-amd64", version, version[:3], "debian"),
        environment={"iommu": "passthrough"}, environment_digest="e", suite="ioctl", suite_digest="s",
        requested=version, started_at=datetime(2026, 11, 23, tzinfo=UTC), ended_at=None, state="finished",
        verdict="pass", reason="", boot_id=None, seconds={}, faults=(), folder="x", results=results,
    )  # fmt: skip
    return replace(made, **change)


def result(outcome: str = "passed", test: str = "t::a", message: str = "", **values: Any) -> ResultRecord:
    return ResultRecord(test, outcome, 0.1, message, values)


def finding(
    text: str, signature: str = "warn", klass: str = "oops", severity: str = "warning"
) -> FindingRecord:
    return FindingRecord(1, "kernel.log", signature, klass, severity, text)


def compared(before: RunRecord, after: RunRecord) -> Comparison:
    return compare(Side(before), Side(after))


def only(found: Comparison) -> Difference:
    assert len(found.differences) == 1, found.differences
    return found.differences[0]


@pytest.mark.parametrize(
    ("before", "after", "label", "regressed"),
    [
        ("passed", "failed", "new failure", True),
        ("passed", "error", "new failure", True),
        ("failed", "passed", "fixed", False),
        ("passed", "skipped", "newly skipped", False),
        ("skipped", "passed", "no longer skipped", False),
        ("skipped", "failed", "failing, unknown before", False),
        ("passed", "not-run", "not run", False),
        ("not-run", "passed", "only after", False),
    ],
)
def test_outcomes_and_their_labels(before: str, after: str, label: str, regressed: bool) -> None:
    found = compared(run("7.0.1", result(before)), run("7.1.1", result(after)))
    assert only(found).label == label
    assert found.regressed is regressed
    assert found.equal_results == 0


def test_equal_runs_have_no_difference() -> None:
    found = compared(run("7.0.1", result(columns=8)), run("7.1.1", result(columns=8)))
    assert found.differences == ()
    assert found.headline == "No difference."
    assert (found.equal_results, found.equal_values) == (1, 1)


def test_tests_that_one_side_lacks_are_told() -> None:
    found = compared(
        run("7.0.1", result(test="t::old")), run("7.1.1", result(test="t::new"), result("failed", "t::bad"))
    )
    assert {(d.subject, d.label) for d in found.differences} == {
        ("t::old", "not run"),
        ("t::new", "only after"),
        ("t::bad", "failing, unknown before"),
    }
    assert not found.regressed


def test_a_changed_value_is_told_with_both_values() -> None:
    found = only(compared(run("7.1.1", result(power={"tops": 58})), run("7.2.1", result(power={"tops": 25}))))
    assert (found.label, found.detail, found.before, found.after) == (
        "value changed",
        "power.tops",
        "58",
        "25",
    )


def test_an_address_under_another_iommu_mode_is_environment_only() -> None:
    after = run("7.1.1", result(xdna_addr="0x1000"), environment={"iommu": "force_iova"})
    found = compared(run("7.0.1", result(xdna_addr="0xffffffffffffffff")), after)
    assert only(found).label == "environment only"
    assert not found.regressed
    assert [(f.name, f.before, f.after, f.iommu) for f in found.environment] == [
        ("iommu", "passthrough", "force_iova", True)
    ]


def test_an_outcome_under_another_iommu_mode_still_counts() -> None:
    after = run("7.1.1", result("failed"), environment={"iommu": "force_iova"})
    assert compared(run("7.0.1", result()), after).regressed


def test_a_test_that_the_environment_forbids_is_environment_only() -> None:
    after = run("7.1.1", result("skipped", message="environment: no render group"))
    assert only(compared(run("7.0.1", result()), after)).label == "environment only"


def test_a_run_with_an_environment_verdict_is_never_a_regression() -> None:
    after = run("7.1.1", result("failed"), verdict="environment", reason="the IOMMU is off")
    found = compared(run("7.0.1", result()), after)
    assert only(found).label == "environment only"
    assert not found.regressed
    assert any("environment: the IOMMU is off" in caveat for caveat in found.caveats)


def test_timing_is_folded_away() -> None:
    found = compared(run("7.0.1", result(milliseconds=1.2)), run("7.1.1", result(milliseconds=1.9)))
    assert only(found).label == "timing"
    assert found.headline.startswith("No difference that matters")


def test_a_value_that_varies_under_one_kernel_is_not_laid_to_the_other() -> None:
    before = run("7.0.1", result(state=1))
    sibling = replace(run("7.0.1", result(state=2)), id="sibling")
    found = compare(Side(before, (sibling, before)), Side(run("7.1.1", result(state=2))))
    assert only(found).label == "varies by itself"


def test_more_runs_make_surer() -> None:
    before, after = run("7.0.1", result()), run("7.1.1", result("failed"))
    once = only(compared(before, after)).sure
    thrice = compare(
        Side(before, tuple(replace(before, id=str(n)) for n in range(3))),
        Side(after, tuple(replace(after, id=str(n)) for n in range(3))),
    )
    assert once == pytest.approx(5 / 6)
    assert only(thrice).sure == pytest.approx(69 / 70)


def test_one_warning_told_by_two_kernels_in_two_forms_is_no_difference() -> None:
    old = "WARNING: CPU: 0 PID: 147 at drivers/accel/amdxdna/amdxdna_gem.c:1201 amdxdna_sync+0x1f/0x2a0"
    new = (
        "WARNING: drivers/accel/amdxdna/amdxdna_gem.c:1331 at amdxdna_sync+0x15f/0x2a0 [amdxdna], CPU#0: x/9"
    )
    found = compared(run("7.0.1", findings=(finding(old),)), run("7.1.1", findings=(finding(new),)))
    assert found.differences == ()


def test_a_warning_at_a_new_place_is_a_new_finding_though_another_was_there() -> None:
    old = finding("WARNING: mm/slub.c:7 at kvmalloc+0x1/0x2, CPU#0")
    new = finding("WARNING: drivers/a.c:9 at probe+0x1/0x2 [amdxdna], CPU#0")
    found = compared(run("7.0.1", findings=(old,)), run("7.1.1", findings=(old, new)))
    assert only(found).label == "new finding"
    assert "drivers/a.c probe" in only(found).after


def test_severe_findings_regress_and_chatter_does_not() -> None:
    panic = finding("Kernel panic - not syncing: x", "panic", "oops", "panic")
    chatter = finding("Initialized amdxdna_accel_driver 0.10.0", "driver-ready", "info", "ok")
    assert compared(run("7.0.1"), run("7.1.1", findings=(panic,))).regressed
    quiet = compared(run("7.0.1"), run("7.1.1", findings=(chatter,)))
    assert only(quiet).label == "log line changed"
    assert not quiet.regressed
    gone = compared(run("7.0.1", findings=(panic,)), run("7.1.1"))
    assert only(gone).label == "finding gone"


@pytest.mark.parametrize("klass", ["model-gap", "iommu"])
def test_findings_of_the_environment_and_of_the_model_are_not_the_kernels(klass: str) -> None:
    gap = replace(finding("x", "x", klass, "open-fail"), environment_fault=klass == "iommu")
    found = compared(run("7.0.1"), run("7.1.1", findings=(gap,)))
    assert only(found).label == "environment only"
    assert not found.regressed


def test_what_weakens_a_comparison_is_said() -> None:
    after = run("7.1.1", suite_digest="other", verdict="panic", reason="it died")
    caveats = " ".join(compared(run("7.0.1"), after).caveats)
    assert "test files differ" in caveats
    assert "panic: it died" in caveats
    assert "simulated" in caveats
    assert "seen twice" in caveats
    assert compared(run("7.0.1"), after).regressed
    assert (
        compared(run("7.0.1"), after).headline
        == "7.1.1 on virtual-npu4 ended with panic; 7.0.1 on virtual-npu4 did not."
    )
