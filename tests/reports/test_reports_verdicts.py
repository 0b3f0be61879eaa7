"""Which run speaks for a kernel, what is news in a run, who is suspect."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from reports.records import (
    ChangeRecord,
    CommitRecord,
    FindingRecord,
    KernelRecord,
    LandingRecord,
    MachineRecord,
    MatchRecord,
    ResultRecord,
    RevertRecord,
    RunRecord,
)
from reports.verdicts import (
    baseline_of,
    carried_by,
    entered_between,
    first_kernel_carrying,
    judge,
    latest,
    standing,
    tone_in,
)

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MACHINE = MachineRecord(1, "virtual-npu4", "virtual", "npu4", True)
OTHER = MachineRecord(2, "virtual-npu1", "virtual", "npu1", True)


def kernel(version: str, origin: str = "debian") -> KernelRecord:
    number = int("".join(f"{int(p):03}" for p in version.split("."))) + (origin != "debian")
    return KernelRecord(number, f"{version}+deb13-amd64", version, ".".join(version.split(".")[:2]), origin)


def run(version: str, verdict: str | None = "pass", *, hour: int = 0, **change: object) -> RunRecord:
    outcomes = change.pop("outcomes", {"t::a": "passed"})
    assert isinstance(outcomes, dict)
    made = RunRecord(
        id=f"{version}-{verdict}-{hour}",
        machine=MACHINE,
        kernel=kernel(version),
        environment={},
        environment_digest="e",
        suite="ioctl",
        suite_digest="s",
        requested=version,
        started_at=START + timedelta(hours=hour),
        ended_at=None,
        state="finished",
        verdict=verdict,
        reason="",
        boot_id=None,
        seconds={},
        faults=(),
        folder="x",
        results=tuple(ResultRecord(test, outcome) for test, outcome in outcomes.items()),
    )
    return replace(made, **change)  # type: ignore[arg-type]  # fields by name


def test_the_newest_judged_run_speaks_for_its_kernel_and_a_newer_vain_one_is_told() -> None:
    found = latest([run("7.1.1", "fail", hour=0), run("7.1.1", hour=1), run("7.1.1", "interrupted", hour=2)])
    assert found is not None
    assert found.run.verdict == "pass"
    assert found.newer_inconclusive is not None
    assert found.newer_inconclusive.verdict == "interrupted"


def test_a_run_in_vain_speaks_only_where_nothing_else_does() -> None:
    found = latest([run("7.1.1", "environment")])
    assert found is not None
    assert found.run.verdict == "environment"
    assert latest([]) is None


@pytest.mark.parametrize(
    "unfit",
    [
        {"faults": ({"name": "drop-reply"},)},
        {"campaign": "c"},
        {"suite": "ioctl[heap]"},
        {"suite": "bisect"},
        {"kernel": None},
    ],
)
def test_injected_faults_parts_of_the_suite_and_bisections_speak_for_no_kernel(
    unfit: dict[str, object],
) -> None:
    assert latest([run("7.1.1", **unfit)]) is None


def test_the_baseline_is_the_nearest_older_stock_kernel_on_the_same_machine() -> None:
    here = run("7.3.4")
    best = run("7.2.12", "fail", hour=3)
    others = [
        run("7.0.13"),
        run("7.2.12", hour=1),
        best,
        run("7.2.12", "panic", hour=4),  # most of its tests have no result
        run("7.2.12", "environment", hour=5),
        run("7.2.13", hour=6, machine=OTHER),
        run("7.2.14", hour=7, kernel=kernel("7.2.14", "module:abc")),
        run("7.3.5", hour=8),
        here,
    ]
    assert baseline_of(here, others) is best


def test_the_oldest_kernel_has_no_baseline_and_no_news() -> None:
    here = run("6.18.1", "fail", outcomes={"t::a": "failed"})
    judgement = judge(here, baseline_of(here, [here]))
    assert judgement.baseline is None
    assert judgement.standings == {"t::a": "failing"}
    assert not judgement.regressed


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ("passed", "failed", "new failure"),
        ("passed", "incomplete", "new failure"),
        ("failed", "error", "still failing"),
        ("failed", "passed", "fixed"),
        ("passed", "passed", "passing"),
        ("passed", "skipped", "newly skipped"),
        ("skipped", "skipped", "skipped"),
        ("skipped", "failed", "failing"),
        ("not-run", "failed", "failing"),
        (None, "failed", "failing"),
        (None, "passed", "passing"),
        ("passed", None, "missing"),
        ("passed", "not-run", "not run"),
    ],
)
def test_standing_of_a_test_against_its_baseline(before: str | None, after: str | None, word: str) -> None:
    left = ResultRecord("t", before) if before else None
    right = ResultRecord("t", after) if after else None
    assert standing(left, right) == word


def test_an_environment_fault_is_never_a_regression() -> None:
    before = run("7.0.13")
    after = run("7.1.1", "environment", outcomes={"t::a": "failed"})
    assert not judge(after, before).regressed
    assert judge(replace(after, verdict="fail"), before).regressed


def test_a_machine_that_died_is_a_regression_even_without_a_failed_test() -> None:
    assert judge(run("7.1.1", "no-boot", outcomes={}), run("7.0.13")).regressed


def change(state: str = "released", tags: tuple[str, ...] = ("v7.1-rc1",), **more: object) -> ChangeRecord:
    reverts = more.pop("reverts", ())
    score = more.pop("score", 1.0)
    assert isinstance(reverts, tuple)
    assert isinstance(score, float)
    commit = CommitRecord(
        "a" * 40, "t", "A", START, START,
        tuple(LandingRecord(t, "mainline", t, None, None, False) for t in tags),
        None, None, tuple(RevertRecord("b" * 40, "Revert", (t,)) for t in reverts),
    )  # fmt: skip
    made = ChangeRecord(
        1, "k", "s", "t", "A", "a@b", None, None, state, "7.1", tags[0] if tags else None, "first-tag", 1.0,
        (), {}, False, (), (MatchRecord(commit, "link", score, "e"),),
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]  # fields by name


def test_a_change_is_carried_from_its_first_tag_on() -> None:
    assert not carried_by(change(), kernel("7.0.13"))
    assert carried_by(change(), kernel("7.1.1"))
    assert not carried_by(change(), kernel("7.1.1", "module:abc"))  # another driver
    assert not carried_by(change("applied"), kernel("7.1.1"))


def test_a_reverted_change_is_carried_only_by_kernels_before_the_revert() -> None:
    late = change("reverted", reverts=("v7.2-rc1",))
    assert carried_by(late, kernel("7.1.1"))
    assert not carried_by(late, kernel("7.2.1"))
    same_window = change("reverted", reverts=("v7.1-rc1",))
    assert not carried_by(same_window, kernel("7.1.1"))


def test_a_weak_match_does_not_say_which_kernel_carries_a_change() -> None:
    weak = change(score=0.3, first_tag=None)
    assert not carried_by(weak, kernel("7.2.1"))
    assert carried_by(replace(weak, first_tag="v7.1-rc1"), kernel("7.2.1"))


def test_the_first_kernel_and_the_suspects() -> None:
    ran = [kernel("7.3.4"), kernel("7.1.13"), kernel("7.0.13")]
    first = first_kernel_carrying(change(), ran)
    assert first is not None
    assert first.version == "7.1.13"
    mine, older = change(), change(tags=("v7.0-rc1",))
    assert entered_between([mine, older], kernel("7.0.13"), kernel("7.1.13")) == (mine,)


def test_a_line_that_a_passing_test_asked_for_is_calm_but_a_kernel_warning_never() -> None:
    error = FindingRecord(1, "kernel.log", "no-heap", "context", "create-fail", "x", "t::a")
    warning = FindingRecord(1, "kernel.log", "warn", "oops", "warning", "x", "t::a")
    assert tone_in(error, {"t::a": "passed"}) == "calm"
    assert tone_in(error, {"t::a": "failed"}) == "bad"
    assert tone_in(warning, {"t::a": "passed"}) == "doubt"
