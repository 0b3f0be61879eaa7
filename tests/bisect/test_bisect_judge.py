"""From a subject to a verdict on a machine in memory: what is good, bad, skipped, remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from db.database import Database
from db.run_tables import Run
from harness.bisect import judge as judging
from harness.bisect.campaign import Watch, run_campaign
from harness.bisect.judge import Look, RunJudge, UnusableSubjectError, one_test, telling_line, verdict_of
from harness.bisect.record import Judgement, Question, Subject, load_steps, open_campaign
from harness.bisect.search import Halving, Outcome, Verdict
from harness.bisect.subjects import check_test, commit_range, kernel_range, known_tests
from harness.errors import HarnessError
from harness.kernels.history import DriverHistory
from harness.verdict import RunVerdict
from lab.machine import BootError, BootRequest, Candidate, LabError, Session
from lab.packages.index import Package
from lab.packages.store import PackageStore
from lab.virtual.kernels import KernelPackage
from tests.harness.fakes import FakeMachine, FakeShell, candidate, collected, event, fake_suite, result

TEST = "test_a.py::test_two"
Items = Iterator[bytes | Exception | int]
Commit = Callable[[str, Mapping[str, str]], str]


def look(
    outcome: str | None, run: RunVerdict = RunVerdict.FAIL, message: str = "E  x", gap: str = ""
) -> Look:
    return Look(run, "the run's reason", outcome, message, gap or None)


@pytest.mark.parametrize(
    ("seen", "verdict", "reason"),
    [
        (look("passed", RunVerdict.PASS), Verdict.GOOD, "passed"),
        # the kernel complained elsewhere: the test's own answer counts
        (look("passed", RunVerdict.FAIL), Verdict.GOOD, "passed"),
        (look("passed", RunVerdict.PASS, gap="opcode 0x99"), Verdict.GOOD, "passed"),
        (look("failed"), Verdict.BAD, "x"),
        (look("incomplete", RunVerdict.PANIC, message=""), Verdict.BAD, "the run's reason"),
        (look("failed", gap="opcode 0x99"), Verdict.SKIP, "model-gap: opcode 0x99"),
        # a run of one suspect's test has nothing that passed, but the test did run
        (look("failed", RunVerdict.INFRASTRUCTURE), Verdict.BAD, "x"),
        (look("incomplete", RunVerdict.INFRASTRUCTURE), Verdict.SKIP, "infrastructure: the run's reason"),
        (look("failed", RunVerdict.ENVIRONMENT), Verdict.SKIP, "environment: the run's reason"),
        (look("failed", RunVerdict.WRONG_KERNEL), Verdict.SKIP, "wrong-kernel: the run's reason"),
        (look(None, RunVerdict.INFRASTRUCTURE), Verdict.SKIP, "infrastructure: the run's reason"),
        (look(None, RunVerdict.NO_BOOT), Verdict.SKIP, "did not get as far as the test: the run's reason"),
        (look("not-run", RunVerdict.PANIC), Verdict.SKIP, "did not get as far"),
        (look("skipped", RunVerdict.INFRASTRUCTURE), Verdict.SKIP, "infrastructure"),
        (look("skipped", RunVerdict.PASS, "needs root"), Verdict.SKIP, "the test was skipped: needs root"),
        (look("error"), Verdict.SKIP, "could not be prepared: x"),
    ],
)
def test_only_the_test_itself_makes_a_candidate_good_or_bad(
    seen: Look, verdict: Verdict, reason: str
) -> None:
    found, why = verdict_of(seen)
    assert found is verdict
    assert reason in why


def test_the_telling_line_of_a_report() -> None:
    report = (
        "t.py:7: in test_x\n    assert f() == 'ok'\nE   AssertionError: assert 'EINVAL' == 'ok'\nE     - ok\n"
    )
    assert telling_line(report) == "AssertionError: assert 'EINVAL' == 'ok'"
    assert telling_line("the machine died\n\n") == "the machine died"
    assert telling_line("") == ""


@dataclass
class Bench(FakeMachine):
    """A machine on which a candidate behaves as its origin's number says; it remembers what it booted."""

    culprit: int = 5
    how: str = "failed"
    wrong_module: bool = False
    booted: list[str] = field(default_factory=list)
    laboratory: list[Exception] = field(default_factory=list)  # raised by the next boots

    @contextmanager
    def boot(self, request: BootRequest) -> Iterator[Session]:
        if self.laboratory:
            raise self.laboratory.pop()
        assert request.candidate is not None
        number = int(request.candidate.origin.rpartition(":")[2])
        self.booted.append(request.candidate.origin)
        self.parts = {
            "module": {
                "loaded": True,
                "taint": "OE",
                "build_id": "other" if self.wrong_module else request.candidate.module_build_id,
                "parameters": {},
            }
        }
        outcome = self.how if number >= self.culprit else "passed"

        def play(_shell: FakeShell, tests: Sequence[str]) -> Items:
            assert list(tests) == [TEST], "a step runs one test"
            yield event("begin", 0, schema=1, time=1_800_000_008.0, nonce="", kernel="k")
            yield collected(tests)
            yield event("start", 2, id=TEST)
            yield result(
                TEST, outcome, message="E   OSError: [Errno 16] busy" if outcome != "passed" else None
            )
            yield event("end", 9, status=1)
            yield 1

        self.plays = [play]
        with super().boot(request) as session:
            yield session


@dataclass
class Numbers:
    """Subjects "0", "1", ... as candidates of one kernel; some cannot be made."""

    unusable: frozenset[int] = frozenset()
    same: Mapping[int, int] = field(default_factory=dict)  # subjects that are the same module as another

    def candidate(
        self, subject: Subject, say: Callable[[str], None]
    ) -> tuple[Candidate, Mapping[str, float]]:
        number = int(subject.id)
        if number in self.unusable:
            raise UnusableSubjectError("does not build: error: 'y' undeclared")
        number = self.same.get(number, number)
        made = candidate(origin=f"module:{number}", module=Path("x.ko"), module_build_id=f"{number:040x}")
        return made, {"make": 2.0}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(judging, "ioctl_suite", lambda: fake_suite())
    return Bench()


def judge_on(machine: Bench, database: Database, tmp_path: Path, source: Numbers | None = None) -> RunJudge:
    return RunJudge(machine, TEST, source or Numbers(), tmp_path / "runs", database)


def ask(judge: RunJudge, number: int, *, again: bool = False) -> Judgement:
    return judge.judge(Subject(str(number), ""), again=again, say=lambda _text: None)


def test_a_step_boots_once_and_keeps_its_run(machine: Bench, database: Database, tmp_path: Path) -> None:
    judge = judge_on(machine, database, tmp_path)
    good, bad = ask(judge, 4), ask(judge, 5)
    assert (good.verdict, bad.verdict) == (Verdict.GOOD, Verdict.BAD)
    assert bad.reason == "OSError: [Errno 16] busy"
    assert machine.booted == ["module:4", "module:5"]
    assert set(bad.seconds) == {"make", "boot", "test"}
    with database.session() as session:
        row = session.get(Run, bad.run_id)
        assert row is not None
        assert (row.suite, row.state) == ("bisect", "finished")
        assert row.kernel is not None
        assert row.kernel.origin == "module:5"


def test_a_known_verdict_costs_no_boot_unless_it_is_to_be_confirmed(
    machine: Bench, database: Database, tmp_path: Path
) -> None:
    """A revert is the same module as before it; the first look of a judge is always a real one."""
    ask(judge_on(machine, database, tmp_path), 6)
    judge = judge_on(machine, database, tmp_path, Numbers(same={7: 6}))
    assert ask(judge, 6).seconds, "another process may have had another laboratory"
    known = ask(judge, 7)
    assert known.verdict is Verdict.BAD
    assert "known from run" in known.reason
    assert machine.booted == ["module:6"] * 2
    ask(judge, 7, again=True)
    assert machine.booted == ["module:6"] * 3


def test_a_verdict_from_another_laboratory_is_not_remembered(
    machine: Bench, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(judge_on(machine, database, tmp_path), 6)
    monkeypatch.setattr("tests.harness.fakes.FakeSession.boot_facts", lambda _self: {"device_model": "2.0"})
    judge = judge_on(machine, database, tmp_path)
    ask(judge, 1)
    ask(judge, 6)
    assert machine.booted == ["module:6", "module:1", "module:6"]


def test_the_wrong_module_is_never_judged(machine: Bench, database: Database, tmp_path: Path) -> None:
    machine.wrong_module = True
    judgement = ask(judge_on(machine, database, tmp_path), 6)
    assert judgement.verdict is Verdict.SKIP
    assert judgement.infrastructure
    assert "module-build-id" in judgement.reason


@pytest.mark.parametrize(
    ("error", "infrastructure"),
    [(LabError("QEMU is not there"), True), (BootError("panic", "Kernel panic - not syncing"), False)],
)
def test_a_boot_that_fails_is_a_skip(
    machine: Bench, database: Database, tmp_path: Path, error: Exception, infrastructure: bool
) -> None:
    machine.laboratory.append(error)
    judgement = ask(judge_on(machine, database, tmp_path), 6)
    assert (judgement.verdict, judgement.infrastructure) == (Verdict.SKIP, infrastructure)
    assert str(error) in judgement.reason


def numbers(length: int) -> Question:
    subjects = tuple(Subject(str(n), f"title {n}", parents=(str(n - 1),) if n else ()) for n in range(length))
    return Question("driver-history", "fake", TEST, "0", str(length - 1), subjects)


def test_a_suspects_test_is_judged_like_any_other(
    machine: Bench, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = collected

    def suspected(tests: Sequence[str]) -> bytes:
        return real(tests).replace(b'"suspect": null', b'"suspect": "a known defect"')

    monkeypatch.setitem(globals(), "collected", suspected)
    judgement = ask(judge_on(machine, database, tmp_path), 6)
    assert (judgement.verdict, judgement.infrastructure) == (Verdict.BAD, False)


def test_a_whole_campaign_on_a_machine(machine: Bench, database: Database, tmp_path: Path) -> None:
    """Ends, halving around what does not build, confirmation: every good and bad step has its run."""
    machine.culprit = 13
    judge = judge_on(machine, database, tmp_path, Numbers(unusable=frozenset({9, 10})))
    campaign_id, _ = open_campaign(database, numbers(20), Halving())
    answer = run_campaign(database, campaign_id, judge, Halving(), Watch())
    assert (answer.outcome, answer.suspects) == (Outcome.CULPRIT, (13,))
    steps = load_steps(database, campaign_id)
    assert all(step.run_id for step in steps if step.verdict is not Verdict.SKIP)
    assert {step.reason for step in steps if step.verdict is Verdict.SKIP} == {
        "does not build: error: 'y' undeclared"
    }


def test_an_error_on_the_way_to_the_test_is_bad_when_the_bad_end_shows_it(
    machine: Bench, database: Database, tmp_path: Path
) -> None:
    """7efb64a7 refused a second open: the fixture fails with EBUSY, the assertions are never reached."""
    machine.how, machine.culprit = "error", 6
    campaign_id, _ = open_campaign(database, numbers(12), Halving())
    answer = run_campaign(database, campaign_id, judge_on(machine, database, tmp_path), Halving())
    assert answer.suspects == (6,)
    bad = [step for step in load_steps(database, campaign_id) if step.verdict is Verdict.BAD]
    assert {step.reason for step in bad} == {"OSError: [Errno 16] busy"}


def test_another_error_on_the_way_stays_a_skip(machine: Bench, database: Database, tmp_path: Path) -> None:
    campaign_id, _ = open_campaign(database, numbers(12), Halving())
    judge = judge_on(machine, database, tmp_path)
    machine.culprit = 6
    looks = []

    class TwoTroubles(RunJudge):
        def judge(self, subject: Subject, *, again: bool, say: Callable[[str], None]) -> Judgement:
            looks.append(subject.id)
            seen = judge.judge(subject, again=again, say=say)
            if int(subject.id) in (5, 7):
                return replace(seen, verdict=Verdict.SKIP, error="OSError: no heap", run_id=None)
            return seen

    answer = run_campaign(
        database, campaign_id, TwoTroubles(machine, TEST, Numbers(), tmp_path / "r", database), Halving()
    )
    assert answer.outcome is Outcome.RANGE
    assert answer.suspects == (5, 6)


def test_a_run_that_the_user_stops_stops_the_campaign(
    machine: Bench, database: Database, tmp_path: Path
) -> None:
    machine.laboratory.append(KeyboardInterrupt())  # type: ignore[arg-type]  # raised like any other
    with pytest.raises(KeyboardInterrupt):
        ask(judge_on(machine, database, tmp_path), 3)


def test_one_test_is_asked_for_by_its_exact_id() -> None:
    suite = one_test("test_query.py::test_aie_status")
    words, files = suite.command("/r", "n", ())
    text = " ".join(words) + b" ".join(files.values()).decode()
    assert "/r/harness/suite/tests/test_query.py::test_aie_status" in text
    assert "test_aie_status_big_buffer" not in text


def test_a_mistyped_test_costs_no_boot() -> None:
    assert "test_query.py::test_aie_status" in known_tests()
    check_test("test_query.py::test_aie_status")
    check_test("test_query.py::test_preempt_state[force]")
    with pytest.raises(HarnessError, match=r"did you mean .*test_query\.py::test_aie_status") as caught:
        check_test("test_query.py::test_aie_statu")
    assert caught.value.exit_code == 2


def test_kernels_lie_between_the_ends_in_their_own_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = [
        KernelPackage(v, f"{v}-amd64", "s", Package("", v, "", 0, "", ""), cached=False)
        for v in ("7.1.13", "6.18.15", "7.0.13", "7.2.6")
    ]
    monkeypatch.setattr("harness.bisect.subjects.available", lambda _store: offered)
    store = PackageStore(tmp_path)
    found = kernel_range(store, "6.18.15", "7.1.13")
    assert [(s.id, s.parents) for s in found.subjects] == [
        ("6.18.15", ()), ("7.0.13", ("6.18.15",)), ("7.1.13", ("7.0.13",))
    ]  # fmt: skip
    assert not found.mended
    assert kernel_range(store, "7.2.6", "7.0.13").mended
    with pytest.raises(HarnessError, match=r"no kernel '7\.9'.*7\.2\.6"):
        kernel_range(store, "7.0.13", "7.9")


def test_the_older_end_may_be_the_bad_one(repository: Path, commit: Commit) -> None:
    made = [commit(f"c{n}", {"drivers/accel/amdxdna/Makefile": f"{n}\n"}) for n in range(3)]
    history = DriverHistory(repository)
    assert not commit_range(history, made[0], made[2]).mended
    turned = commit_range(history, made[2], made[0])
    assert turned.mended
    assert [s.id for s in turned.subjects] == made
