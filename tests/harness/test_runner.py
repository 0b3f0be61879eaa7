"""Whatever the machine does, a run ends by itself with a verdict and keeps what was learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness import journal as journals
from harness.evidence import Evidence
from harness.journal import LogStopped, MachineLost, Proof, SuiteStopped
from harness.verdict import RunVerdict
from lab.machine import BootError, Completed, LabError, ShellLostError
from tests.harness.fakes import (
    TESTS,
    FakeMachine,
    FakeShell,
    all_pass,
    candidate,
    collected,
    event,
    healthy_report,
    result,
    silent_for,
)

RunFake = Callable[..., Evidence]
Items = Iterator[bytes | Exception | int]


def outcomes(evidence: Evidence) -> dict[str, str]:
    return {case.test.split("::")[1]: case.outcome for case in evidence.results}


def test_a_good_run_passes_with_every_step_in_the_journal(run_fake: RunFake) -> None:
    evidence = run_fake(FakeMachine())
    assert evidence.judgement.verdict is RunVerdict.PASS
    assert outcomes(evidence) == {"test_one": "passed", "test_two": "passed", "test_three": "passed"}
    kinds = [record.kind for record in evidence.journal.records]
    assert kinds[0] == "run-started"
    assert kinds[-1] == "run-ended"
    proofs = {r.name: (r.seen, r.holds) for r in evidence.journal.records if isinstance(r, Proof)}
    assert proofs["nonce"] == (evidence.journal.header.nonce, True)
    assert proofs["kernel-build-id"] == ("b3997c9b", True)
    stops = [r for r in evidence.journal.records if isinstance(r, LogStopped)]
    assert [(stop.lines, stop.problem) for stop in stops] == [(1, None)]
    assert (evidence.folder / "kernel.log").read_text() == "<6>[    0.001000] Linux version 7.3.4\n"


def test_the_suite_is_copied_below_the_users_own_folder(run_fake: RunFake) -> None:
    machine = FakeMachine()
    evidence = run_fake(machine)
    nonce = evidence.journal.header.nonce
    assert list(machine.shells[0].files) == [f"/root/.cache/xdnawatch/{nonce}/suite.py"]


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("panic", RunVerdict.PANIC),
        ("hang", RunVerdict.HANG),
        ("no-boot", RunVerdict.NO_BOOT),
        ("early-exit", RunVerdict.NO_BOOT),
    ],
)
def test_a_kernel_that_does_not_come_up_is_a_verdict(
    run_fake: RunFake, kind: str, verdict: RunVerdict
) -> None:
    machine = FakeMachine(boot_errors={1: BootError(kind, "no shell within 120 s")})
    evidence = run_fake(machine)
    assert evidence.judgement.verdict is verdict
    assert evidence.judgement.reason == "no shell within 120 s"
    assert evidence.judgement.exit_code == 1
    assert machine.boots == 1, "a kernel that does not boot is not booted again"


def test_a_lab_that_fails_says_nothing_about_the_kernel(run_fake: RunFake) -> None:
    evidence = run_fake(FakeMachine(boot_errors={1: LabError("no QEMU here; install one")}))
    assert evidence.judgement.verdict is RunVerdict.INFRASTRUCTURE
    assert "no QEMU here; install one" in evidence.judgement.reason
    assert evidence.judgement.exit_code == 3


def test_another_kernel_than_asked_runs_no_test(run_fake: RunFake) -> None:
    evidence = run_fake(FakeMachine(), candidate(release="7.0.13+deb13-amd64"))
    assert evidence.judgement.verdict is RunVerdict.WRONG_KERNEL
    assert "release is 7.3.4+deb13-amd64, expected 7.0.13+deb13-amd64" in evidence.judgement.reason
    assert evidence.results == ()


def test_a_nonce_of_another_boot_is_the_wrong_kernel(run_fake: RunFake) -> None:
    machine = FakeMachine()
    machine.parts = {"kernel": {**healthy_report("stale")["kernel"]}}
    assert run_fake(machine).judgement.verdict is RunVerdict.WRONG_KERNEL


def test_a_module_of_ours_must_be_the_one_that_is_loaded(run_fake: RunFake) -> None:
    ours = candidate(origin="module:abc", module=Path("amdxdna.ko"), module_build_id="feedface")
    evidence = run_fake(FakeMachine(), ours)
    assert evidence.judgement.verdict is RunVerdict.WRONG_KERNEL
    assert "module-build-id is 184a3b80, expected feedface" in evidence.judgement.reason


def test_a_foreign_module_in_the_way_of_a_stock_kernel_is_the_wrong_kernel(run_fake: RunFake) -> None:
    module = {**healthy_report("x")["module"], "taint": "OE"}
    evidence = run_fake(FakeMachine(parts={"module": module}))
    assert evidence.judgement.verdict is RunVerdict.WRONG_KERNEL
    assert "module-origin is out-of-tree" in evidence.judgement.reason


def dies_in_two(shell: FakeShell, tests: Sequence[str]) -> Items:
    yield collected()
    yield event("start", 2, id=TESTS[0])
    yield result(TESTS[0])
    yield event("start", 4, id=TESTS[1])
    yield ShellLostError("fake: connection lost")


def test_a_machine_that_dies_under_a_test_is_booted_again_for_the_rest(run_fake: RunFake) -> None:
    machine = FakeMachine(plays=[dies_in_two, all_pass])
    machine.serial = b"[    7.100000] Kernel panic - not syncing: Fatal exception\n"
    evidence = run_fake(machine)
    assert machine.boots == 2
    assert machine.shells[1].commands[-2][-1] == TESTS[2], "only the test that remains is run"
    assert outcomes(evidence) == {"test_one": "passed", "test_two": "incomplete", "test_three": "passed"}
    assert evidence.judgement.verdict is RunVerdict.PANIC
    assert TESTS[1] in evidence.judgement.reason
    assert (evidence.folder / "boot-2" / "serial.log").exists()


def dies_before_it_can_say_so(shell: FakeShell, tests: Sequence[str]) -> Items:
    yield collected()
    yield event("start", 2, id=TESTS[0])
    yield result(TESTS[0])
    yield ShellLostError("fake: connection lost")


def mark(test: str, word: str = "start", nonce: str = "NONCE") -> bytes:
    return f"<6>[    7.000000] xdnawatch: {nonce} {word} {test}\n".encode()


@pytest.mark.parametrize(
    ("console", "second", "tried_again"),
    [
        (mark(TESTS[0]) + mark(TESTS[0], "finish") + mark(TESTS[1]), "incomplete", (TESTS[2],)),
        (mark(TESTS[0]) + mark(TESTS[0], "finish"), "passed", TESTS[1:]),
        (mark(TESTS[1], nonce="another"), "passed", TESTS[1:]),
        (mark("test_a.py::test_stranger"), "passed", TESTS[1:]),
        (b"", "passed", TESTS[1:]),
    ],
)
def test_the_console_names_the_test_whose_start_was_never_heard(
    run_fake: RunFake, console: bytes, second: str, tried_again: tuple[str, ...]
) -> None:
    """A guest whose ssh server stops, too, takes the event with it; its serial line does not."""
    machine = FakeMachine(plays=[dies_before_it_can_say_so, all_pass], serial=console)
    evidence = run_fake(machine)
    assert outcomes(evidence) == {"test_one": "passed", "test_two": second, "test_three": "passed"}
    assert tuple(machine.shells[1].commands[-2][-len(tried_again) :]) == tried_again
    if second == "incomplete":
        assert TESTS[1] in evidence.judgement.reason


def test_a_machine_that_dies_in_silence_hangs(run_fake: RunFake) -> None:
    evidence = run_fake(FakeMachine(plays=[dies_in_two]), resumes=0)
    assert evidence.judgement.verdict is RunVerdict.HANG
    assert outcomes(evidence)["test_three"] == "not-run"
    assert "connection lost" in evidence.results[1].message, "the reason, not what came after"
    lost = [r for r in evidence.journal.records if isinstance(r, MachineLost)]
    assert len(lost) == 1


def test_a_machine_that_does_not_come_back_keeps_what_was_learned(run_fake: RunFake) -> None:
    machine = FakeMachine(
        plays=[dies_in_two], boot_errors={2: BootError("no-boot", "nothing on the console")}
    )
    evidence = run_fake(machine)
    assert outcomes(evidence)["test_one"] == "passed"
    assert evidence.judgement.verdict is RunVerdict.HANG, "the death under the test, not the failed boot"


def test_a_real_machine_that_goes_away_is_not_the_kernels_fault(run_fake: RunFake) -> None:
    machine = FakeMachine(plays=[dies_in_two], boots_candidates=False, simulated=False, kind="ssh")
    evidence = run_fake(machine)
    assert evidence.judgement.verdict is RunVerdict.INFRASTRUCTURE
    assert machine.boots == 1


def hangs_in_two(shell: FakeShell, tests: Sequence[str]) -> Items:
    yield collected()
    yield event("start", 2, id=TESTS[0])
    yield result(TESTS[0])
    yield event("start", 4, id=TESTS[1])
    yield silent_for(60)


def test_a_test_that_hangs_is_ended_and_the_rest_goes_on_in_the_same_boot(run_fake: RunFake) -> None:
    machine = FakeMachine(plays=[hangs_in_two, all_pass])
    evidence = run_fake(machine)
    assert machine.boots == 1
    assert machine.shells[0].killed
    assert outcomes(evidence) == {"test_one": "passed", "test_two": "incomplete", "test_three": "passed"}
    assert evidence.judgement.verdict is RunVerdict.FAIL
    assert "silent for 60 s" in evidence.results[1].message


def test_a_test_that_cannot_be_ended_costs_the_machine(run_fake: RunFake) -> None:
    machine = FakeMachine(plays=[hangs_in_two, all_pass], obeys=False)
    evidence = run_fake(machine)
    assert machine.boots == 2
    assert evidence.judgement.verdict is RunVerdict.HANG


def test_a_machine_that_came_back_by_itself_had_gone_down(run_fake: RunFake) -> None:
    machine = FakeMachine(plays=[hangs_in_two, all_pass], reboots=True)
    evidence = run_fake(machine)
    assert machine.boots == 2, "what runs after an unasked reboot is not the kernel that was proved"
    assert evidence.judgement.verdict is RunVerdict.HANG


def killed_in_two(shell: FakeShell, tests: Sequence[str]) -> Items:
    yield collected()
    yield event("start", 2, id=TESTS[0])
    yield result(TESTS[0])
    yield event("start", 4, id=TESTS[1])
    yield 137


def test_a_kernel_that_killed_the_suite_is_not_trusted_with_the_rest(run_fake: RunFake) -> None:
    machine = FakeMachine(plays=[killed_in_two, all_pass])
    machine.kernel_lines = [
        b"6,1,1000,-;Linux version 7.3.4",
        b"1,2,7000000,-;BUG: kernel NULL pointer dereference, address: 0000000000000010",
        b"4,3,7000001,-;RIP: 0010:amdxdna_ubuf_map+0x5e/0xb0 [amdxdna]",
        b"4,4,7000002,-;---[ end trace 0000000000000000 ]---",
    ]
    evidence = run_fake(machine)
    assert machine.boots == 2
    assert evidence.judgement.verdict is RunVerdict.FAIL
    assert "NULL pointer" in evidence.judgement.reason
    assert outcomes(evidence)["test_three"] == "passed"


def test_a_suite_that_always_hangs_ends_too(run_fake: RunFake) -> None:
    def hangs_again(shell: FakeShell, tests: Sequence[str]) -> Items:
        if not tests:
            yield collected([f"test_a.py::test_{number}" for number in range(50)])
        yield event("start", 2, id=(list(tests) or ["test_a.py::test_0"])[0])
        yield silent_for(60)

    evidence = run_fake(FakeMachine(plays=[hangs_again]), stuck=3)
    stops = [r for r in evidence.journal.records if isinstance(r, SuiteStopped)]
    assert len(stops) == 4
    assert sum(case.outcome == "incomplete" for case in evidence.results) == 4
    assert sum(case.outcome == "not-run" for case in evidence.results) == 46


def test_a_suite_that_cannot_start_is_no_verdict_on_the_kernel(run_fake: RunFake) -> None:
    def broken(shell: FakeShell, tests: Sequence[str]) -> Items:
        yield 4

    machine = FakeMachine(plays=[broken], standard_error=b"ERROR: unrecognized arguments: --event-fd\n")
    evidence = run_fake(machine)
    assert evidence.judgement.verdict is RunVerdict.INFRASTRUCTURE
    assert "unrecognized arguments" in evidence.judgement.reason


def test_a_machine_without_python_is_an_environment(run_fake: RunFake) -> None:
    evidence = run_fake(FakeMachine(answer=Completed(127, b"", b"sh: python3: not found")))
    assert evidence.judgement.verdict is RunVerdict.ENVIRONMENT
    assert "no python3" in evidence.judgement.reason
    assert evidence.judgement.exit_code == 3


def test_what_the_suite_says_is_cleaned_and_bounded(run_fake: RunFake) -> None:
    def hostile(shell: FakeShell, tests: Sequence[str]) -> Items:
        yield b"\xff\xfe not json"
        yield b"{" * 5000
        yield b'{"event": "no such event"}'
        yield collected(["test_a.py::test_one"])
        yield event("start", 2, id="test_a.py::test_one")
        yield result(
            "test_a.py::test_one", "failed", message="\x1b[2J\ud800" + "x" * 30_000, values={"n": 2**80}
        )
        yield 1

    evidence = run_fake(FakeMachine(plays=[hostile]))
    (case,) = evidence.results
    assert case.outcome == "failed"
    assert "\x1b" not in case.message
    assert len(case.message) < 10_000
    assert case.values == {"n": hex(2**80)}


def test_ctrl_c_ends_the_run_in_order(run_fake: RunFake) -> None:
    def stopped(shell: FakeShell, tests: Sequence[str]) -> Items:
        yield collected()
        yield event("start", 2, id=TESTS[0])
        yield result(TESTS[0])
        raise KeyboardInterrupt

    evidence = run_fake(FakeMachine(plays=[stopped]))
    assert evidence.judgement.verdict is RunVerdict.INTERRUPTED
    assert outcomes(evidence)["test_one"] == "passed"
    assert evidence.journal.ended is not None
    assert not journals.is_alive(evidence.folder)


def test_a_full_disk_is_one_clear_sentence(run_fake: RunFake, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if b'"kind":"booted"' in bytes(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(journals.JournalError, match="the disk is full"):
        run_fake(FakeMachine())
