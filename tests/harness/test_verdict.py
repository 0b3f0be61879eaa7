"""The rules of the verdict, one row each: what a run shows -> what it says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from harness.journal import (
    AnyRecord,
    Booted,
    BootFailed,
    EnvironmentRecord,
    Journal,
    MachineLost,
    Proof,
    RunEnded,
    RunStarted,
    SuiteEvent,
    SuiteStopped,
    Trouble,
)
from harness.kernel_log import LogFinding
from harness.results import CaseResult
from harness.verdict import JUDGED, SUBJECT, Judgement, RunVerdict, judge

HEADER = RunStarted(
    run="r",
    started_at=datetime(2026, 11, 23, tzinfo=UTC),
    clock=0.0,
    machine="m",
    machine_kind="virtual",
    simulated=True,
    requested="7.3.4",
    release="7.3.4+deb13-amd64",
    suite="ioctl",
    suite_digest="d",
    nonce="n",
)
ENDED = RunEnded(ended_at=datetime(2026, 11, 23, tzinfo=UTC))
BOOTED = Booted(boot=1, nonce_expected=True)
EXIT = SuiteStopped(boot=1, how="exit", status=0)
LOST = MachineLost(boot=1, message="the machine stopped answering")


def journal(*records: AnyRecord, header: RunStarted = HEADER, ended: bool = True) -> Journal:
    return Journal(header, (header, *records, *((ENDED,) if ended else ())))


def case(test: str, outcome: Any = "passed", message: str = "", suspect: str | None = None) -> CaseResult:
    return CaseResult(0, test, outcome, message=message, suspect=suspect)


def finding(signature: str, klass: str, severity: str, **more: Any) -> LogFinding:
    return LogFinding("kernel.log", 7, signature, klass, severity, more.pop("text", signature), **more)


def problem(blocking: bool) -> EnvironmentRecord:
    return EnvironmentRecord(
        boot=1,
        digest="d",
        facts={},
        problems=({"id": "x", "blocking": blocking, "cause": "no NPU", "next_step": "get one"},),
    )


GOOD = journal(BOOTED, EXIT)
PASSED = [case("a"), case("b")]
PANIC = finding("panic", "oops", "panic", text="Kernel panic - not syncing: Fatal exception")
OOPS = finding("oops", "oops", "crash", driver=True, test="b")
WARN = finding("warn", "oops", "warning", driver=True, test="b")
GAP = finding("model-gap", "model-gap", "info", test="b")
NOT_ALIVE = finding("fw-not-alive", "firmware", "probe-fail", driver=True)
NO_IOMMU = finding("no-iommu", "iommu", "probe-fail", driver=True, environment=True)
TDR = finding("tdr", "hang", "cmd-timeout", driver=True)

ROWS: list[tuple[str, Journal, list[CaseResult], list[LogFinding], str, str]] = [
    ("all passed", GOOD, PASSED, [], "pass", "2 tests passed"),
    ("killed", journal(BOOTED, ended=False), PASSED, [], "interrupted", "was killed after 2 of 2"),
    (
        "stopped by a person",
        Journal(HEADER, (HEADER, RunEnded(ended_at=ENDED.ended_at, interrupted=True))),
        [case("a"), case("b", "not-run")],
        [],
        "interrupted",
        "after 1 of 2",
    ),
    ("no shell", journal(BootFailed(boot=1, how="no-boot", message="silent")), [], [], "no-boot", "silent"),
    (
        "qemu ended",
        journal(BootFailed(boot=1, how="early-exit", message="reset")),
        [],
        [],
        "no-boot",
        "reset",
    ),
    ("stuck", journal(BootFailed(boot=1, how="hang", message="last line")), [], [], "hang", "last line"),
    ("boot panic", journal(BootFailed(boot=1, how="panic", message="VFS")), [], [PANIC], "panic", "VFS"),
    ("dies with words", journal(BOOTED, LOST), [case("a", "incomplete")], [PANIC], "panic", "during a"),
    ("dies in silence", journal(BOOTED, LOST), [case("a", "incomplete")], [], "hang", "during a"),
    ("lab", journal(Trouble(where="laboratory", message="no QEMU")), [], [], "infrastructure", "no QEMU"),
    (
        "other kernel",
        journal(BOOTED, Proof(boot=1, name="nonce", expected="x", seen=None, holds=False)),
        [],
        [],
        "wrong-kernel",
        "nonce is nothing, expected x",
    ),
    (
        "no NPU",
        journal(BOOTED, problem(blocking=True), EXIT),
        [case("a", "skipped")],
        [],
        "environment",
        "no NPU; get",
    ),
    ("only a hint", journal(BOOTED, problem(blocking=False), EXIT), PASSED, [], "pass", ""),
    ("IOMMU off", GOOD, [case("a", "failed")], [NO_IOMMU], "environment", "no-iommu"),
    ("IOMMU complaint, device reached", GOOD, [case("a"), case("b", "failed")], [NO_IOMMU], "fail", "1 of 2"),
    (
        "driver gave up",
        GOOD,
        [case("a", "failed"), case("b", "skipped")],
        [NOT_ALIVE],
        "fail",
        "did not take",
    ),
    ("one failed", GOOD, [case("a"), case("b", "failed", "E   assert 1 == 2")], [], "fail", "assert 1 == 2"),
    ("one error", GOOD, [case("a"), case("b", "error")], [], "fail", "1 of 2 tests failed (b)"),
    ("one stuck", GOOD, [case("a"), case("b", "incomplete")], [], "fail", "1 of 2 tests failed (b)"),
    (
        "a known suspect",
        GOOD,
        [case("a"), case("b", "failed", suspect="tops")],
        [],
        "pass",
        "1 show a suspected",
    ),
    ("nothing but a suspect", GOOD, [case("b", "failed", suspect="tops")], [], "fail", "nothing passed"),
    ("its warning too", GOOD, [case("a"), case("b", "failed", suspect="tops")], [WARN], "pass", "suspected"),
    (
        "but not its oops",
        GOOD,
        [case("a"), case("b", "failed", suspect="x")],
        [OOPS],
        "fail",
        "oops during b",
    ),
    ("a pass that lies: oops", GOOD, PASSED, [OOPS], "fail", "the kernel reported oops"),
    ("a pass that lies: warning", GOOD, PASSED, [WARN], "fail", "no test failed, but"),
    (
        "a warning elsewhere in the kernel",
        GOOD,
        PASSED,
        [finding("warn", "oops", "warning", driver=False)],
        "pass",
        "",
    ),
    ("a timeout nobody asked for", GOOD, PASSED, [TDR], "fail", "tdr"),
    (
        "a timeout that a test provoked",
        GOOD,
        PASSED,
        [finding("tdr", "hang", "cmd-timeout", driver=True, test="a")],
        "pass",
        "",
    ),
    ("the model does not know", GOOD, [case("a"), case("b", "failed")], [GAP], "model-gap", "does not know"),
    ("a gap elsewhere excuses nothing", GOOD, [case("a", "failed"), case("b")], [GAP], "fail", "1 of 2"),
    (
        "a gap at probe excuses everything",
        GOOD,
        [case("a", "failed")],
        [finding("model-gap", "model-gap", "info"), NOT_ALIVE],
        "model-gap",
        "",
    ),
    ("a gap that hurt nobody", GOOD, PASSED, [GAP], "pass", ""),
    (
        "every test skipped for the machine",
        GOOD,
        [case("a", "skipped", "environment: the node cannot be opened")],
        [],
        "environment",
        "the node cannot be opened",
    ),
    (
        "every test skipped otherwise",
        GOOD,
        [case("a", "skipped", "not asked for")],
        [],
        "infrastructure",
        "no test",
    ),
    (
        "a suite that does not start",
        journal(BOOTED, SuiteStopped(boot=1, how="exit", status=4, message="unrecognized")),
        [],
        [],
        "infrastructure",
        "unrecognized",
    ),
    (
        "a suite that cannot be read",
        journal(BOOTED, SuiteEvent(boot=1, event={"event": "collect-error", "message": "SyntaxError"}), EXIT),
        [],
        [],
        "infrastructure",
        "SyntaxError",
    ),
    ("nothing at all", journal(BOOTED), [], [], "infrastructure", "no test was run"),
]


@pytest.mark.parametrize(
    ("records", "results", "findings", "verdict", "reason"),
    [row[1:] for row in ROWS],
    ids=[row[0] for row in ROWS],
)
def test_what_a_run_shows_is_what_it_says(
    records: Journal, results: list[CaseResult], findings: list[LogFinding], verdict: str, reason: str
) -> None:
    judgement = judge(records, results, findings)
    assert judgement.verdict == verdict, judgement
    assert reason in judgement.reason


def test_the_machine_of_a_stranger_that_goes_away_is_infrastructure() -> None:
    header = HEADER.model_copy(update={"release": None, "requested": "running", "simulated": False})
    judgement = judge(journal(BOOTED, LOST, header=header), [case("a", "incomplete")], [])
    assert judgement.verdict is RunVerdict.INFRASTRUCTURE


def test_exit_codes_tell_the_kernels_fault_from_everybody_elses() -> None:
    codes = {verdict: Judgement(verdict, "").exit_code for verdict in RunVerdict}
    assert codes[RunVerdict.PASS] == 0
    assert {verdict for verdict, code in codes.items() if code == 1} == SUBJECT
    assert {verdict for verdict, code in codes.items() if code == 3} == set(RunVerdict) - JUDGED


def test_a_device_out_of_reach_is_a_running_kernels_failure_only_when_its_log_says_so() -> None:
    """The driver was unbound by hand, or the log cannot be read: on a machine that others set up."""
    missing = [{"kind": "node", "message": "amdxdna is loaded but made no node"}]
    event = SuiteEvent(boot=1, event={"event": "environment", "missing": missing})
    running = HEADER.model_copy(update={"release": None, "machine_kind": "ssh"})
    failed = [case("probed", "failed", "made no node")]
    found = judge(journal(BOOTED, event, EXIT, header=running), failed, [])
    assert found.verdict is RunVerdict.ENVIRONMENT
    assert "made no node" in found.reason
    assert judge(journal(BOOTED, event, EXIT, header=running), failed, [NOT_ALIVE]).verdict is RunVerdict.FAIL
    assert judge(journal(BOOTED, event, EXIT), failed, []).verdict is RunVerdict.FAIL, (
        "a kernel that we booted"
    )
    no_addresses = finding("sva-28", "iommu", "open-fail", driver=True, environment=True)
    some = [case("probed"), case("opens", "failed", "cannot be opened: EINVAL")]
    for header in (running, HEADER):
        named = judge(journal(BOOTED, event, EXIT, header=header), some, [no_addresses])
        assert named.verdict is RunVerdict.ENVIRONMENT, "that a node is there proves no device"
        assert "sva-28" in named.reason
    reached = SuiteEvent(boot=1, event={"event": "environment", "missing": []})
    assert judge(journal(BOOTED, reached, EXIT), some, [no_addresses]).verdict is RunVerdict.FAIL
    assert judge(journal(BOOTED, reached, EXIT, header=running), failed, []).verdict is RunVerdict.FAIL
