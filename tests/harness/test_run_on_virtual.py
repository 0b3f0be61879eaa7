"""Real kernels on the virtual NPU: good runs, injected faults, panics, hangs, and a killed command."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.evidence import Evidence
from harness.journal import WatchdogRecord
from harness.kernels.debian import stock_kernel
from harness.runner import RunOptions, RunRequest, run
from harness.suite_stream import ShippedSuite, digest_of
from harness.verdict import RunVerdict
from lab.packages.store import PackageStore
from lab.virtual.machine import VirtualMachine
from tests.harness.processes import answer, descendants, program, running, wait_for

pytestmark = [pytest.mark.qemu, pytest.mark.slow, pytest.mark.timeout(600)]

VERSION = "7.3.4"
PATIENCE = 500.0  # seconds for one command, on a busy machine without KVM

# A suite that does to the guest what a bad kernel would do. Its words are those of harness.suite.contract.
PLAY = """\
import json, os, signal, sys, time
from pathlib import Path
TESTS = sys.argv[1:] or ["t.py::good", "t.py::{bad}", "t.py::after"]
count = 0
def say(event, **fields):
    global count
    sys.stdout.write(json.dumps(dict(event=event, n=count, t=time.monotonic(), **fields)) + "\\n")
    sys.stdout.flush()
    count += 1
if not sys.argv[1:]:
    rows = [dict(id=t, title=t, markers=[], suspect=None) for t in TESTS]
    say("collected", tests=rows, deselected=0, more=False)
for test in TESTS:
    say("start", id=test)
    with open("/dev/kmsg", "w") as kmsg:
        kmsg.write("<6>xdnawatch: {nonce} start " + test + "\\n")
    if test.endswith("::panic"):
        open("/proc/sysrq-trigger", "w").write("c")
    if test.endswith("::hang"):
        time.sleep(1000)
    if test.endswith("::freeze"):  # nothing but the kernel, our init and this process goes on
        os.kill(-1, signal.SIGSTOP)
        time.sleep(1000)
    if test.endswith("::spin"):  # the only processor belongs to this process; from 6.12 on also take the 5 %
        for knob in Path("/sys/kernel/debug/sched").glob("fair_server/cpu*/runtime"):
            knob.write_text("0")
        Path("/proc/sys/kernel/sched_rt_runtime_us").write_text("-1")
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
        while True:
            pass
    say("result", id=test, outcome="passed", when="call", duration=0.1)
say("end", status=0, passed=0, failed=0, skipped=0, error=0, duration=1.0)
"""


def bad_suite(bad: str) -> ShippedSuite:
    """Three tests: a good one, one that does ``bad`` to the machine, one after it."""

    def command(root: str, nonce: str, tests: Sequence[str]) -> tuple[Sequence[str], Mapping[str, bytes]]:
        text = PLAY.replace("{bad}", bad).replace("{nonce}", nonce)
        return ("python3", "-I", f"{root}/play.py", *tests), {"play.py": text.encode()}

    return ShippedSuite("play", digest_of({}), {}, command)


def play(lab_cache: Path, folder: Path, bad: str, watchdog: str | None = None, **options: Any) -> Evidence:
    store = PackageStore(lab_cache)
    return run(
        VirtualMachine("virtual-npu4", "npu4", store, watchdog=watchdog),
        RunRequest(stock_kernel(store, VERSION), VERSION),
        bad_suite(bad),
        folder,
        RunOptions(**options),
    )


@pytest.fixture
def place(tmp_path: Path, lab_cache: Path) -> Path:
    (tmp_path / "xdnawatch.toml").write_text(
        f'[paths]\ndata = "data"\ncache = "{lab_cache}"\n'
        '[[machine]]\nname = "bootless"\nvirtual = "npu4"\nappend = "rdinit=/nowhere"\n'
    )
    return tmp_path


def run_one(place: Path, *words: str) -> tuple[int, dict[str, Any]]:
    code, facts, said = answer(place, "run", "--kernel", VERSION, "--json", *words, timeout=PATIENCE)
    assert facts is not None, said
    return code, facts


def signatures(facts: dict[str, Any]) -> dict[str, set[str | None]]:
    """Signature -> tests during which it was found."""
    found: dict[str, set[str | None]] = {}
    for finding in facts["findings"]:
        found.setdefault(finding["signature"], set()).add(finding["test"])
    return found


def test_a_kernel_is_booted_proved_and_judged(place: Path) -> None:
    code, facts = run_one(place, "-k", "test_presence")
    assert facts["counts"].get("passed", 0) > 10, facts["reason"]
    assert (code, facts["verdict"]) == (0, "pass")
    proofs = {proof["name"]: proof for proof in facts["proofs"]}
    assert proofs["release"]["seen"] == proofs["release"]["expected"]
    assert proofs["nonce"]["expected"] is not None
    assert all(proof["holds"] for proof in proofs.values())
    assert len(proofs["kernel-build-id"]["seen"]) == 40
    assert proofs["module-origin"]["seen"] == "in-tree"
    assert facts["environment"]["lab"]["device_model"]
    assert None in signatures(facts)["driver-ready"], "at boot, outside of every test"
    for name in ("serial.log", "kernel.log"):  # the last mark as well: each is a line of its own
        text = (Path(facts["folder"]) / name).read_text("utf-8", "replace")
        marks = [line for line in text.splitlines() if "xdnawatch: " in line and "::" in line]
        assert " finish " in marks[-1], name
    assert facts["problems"] == []
    assert {"boot", "prove", "suite", "collect", "total"} <= set(facts["seconds"])
    log = (Path(facts["folder"]) / "kernel.log").read_text()
    assert "Linux version 7.3.4" in log, "from the first line"
    assert "] xdnawatch: " in log.splitlines()[-1] + log.splitlines()[-2], "to the last"


@pytest.mark.parametrize(
    ("fault", "tests", "signature", "klass"),
    [
        ("firmware-not-alive", "test_presence", "fw-not-alive", "firmware"),
        ("drop:message=GET_TELEMETRY", "test_telemetry", "mbox-timeout", "mailbox"),
        ("hung-command:nth=1", "test_no_op or test_without_arguments", "tdr", "hang"),
    ],
)
def test_an_injected_fault_gives_its_finding_and_the_run_ends_by_itself(
    place: Path, fault: str, tests: str, signature: str, klass: str
) -> None:
    code, facts = run_one(place, "--fault", fault, "-k", tests)
    assert signature in signatures(facts), facts["reason"]
    assert {f["class"] for f in facts["findings"] if f["signature"] == signature} == {klass}
    assert "fault" in signatures(facts)
    assert (code, facts["verdict"]) == (1, "fail")
    assert facts["faults"][0]["name"] == fault.partition(":")[0]
    if signature != "fw-not-alive":
        assert signatures(facts)[signature] == signatures(facts)["fault"] != {None}, "at the test it hit"


def test_a_kernel_that_panics_while_booting_is_a_verdict(place: Path) -> None:
    code, facts = run_one(place, "--machine", "bootless")
    assert (code, facts["verdict"]) == (1, "panic")
    assert "panicked" in facts["reason"]
    assert "panic" in signatures(facts)


def test_a_panic_under_a_test_is_caught_on_the_console_and_the_rest_is_run(
    lab_cache: Path, tmp_path: Path
) -> None:
    evidence = play(lab_cache, tmp_path / "run", "panic")
    assert evidence.judgement.verdict is RunVerdict.PANIC, evidence.judgement
    assert "sysrq triggered crash" in evidence.judgement.reason
    assert [case.outcome for case in evidence.results] == ["passed", "incomplete", "passed"]
    panic = next(finding for finding in evidence.findings if finding.severity == "panic")
    assert (panic.log, panic.test) == ("serial.log", "t.py::panic")


def test_a_test_that_hangs_is_ended_and_the_rest_is_run(lab_cache: Path, tmp_path: Path) -> None:
    evidence = play(lab_cache, tmp_path / "run", "hang", silence=8.0)
    assert [case.outcome for case in evidence.results] == ["passed", "incomplete", "passed"]
    assert evidence.judgement.verdict is RunVerdict.FAIL
    assert not (tmp_path / "run" / "boot-2").exists()


@pytest.mark.long
def test_a_machine_that_hangs_hard_is_ended_and_booted_again_for_the_rest(
    lab_cache: Path, tmp_path: Path
) -> None:
    """Not even the ssh server gets the processor: only the machine's power helps."""
    evidence = play(lab_cache, tmp_path / "run", "spin", silence=10.0, answer=5.0)
    assert [case.outcome for case in evidence.results] == ["passed", "incomplete", "passed"]
    assert [case.boot for case in evidence.results] == [1, 1, 2]
    assert evidence.judgement.verdict is RunVerdict.HANG, evidence.judgement
    assert "t.py::spin" in evidence.judgement.reason


@pytest.mark.long
def test_a_hardware_watchdog_resets_a_guest_whose_user_space_stopped(lab_cache: Path, tmp_path: Path) -> None:
    """The runner would wait for an hour: it is the watchdog that ends the boot, and the run goes on."""
    evidence = play(
        lab_cache, tmp_path / "run", "freeze", watchdog="i6300esb", silence=3600.0, watchdog_reset=10
    )
    armed = [record for record in evidence.journal.records if isinstance(record, WatchdogRecord)]
    assert [(record.armed, record.boot) for record in armed] == [(True, 1), (True, 2)]
    assert "i6300ESB" in armed[0].detail
    assert [case.outcome for case in evidence.results] == ["passed", "incomplete", "passed"]
    assert evidence.judgement.verdict is RunVerdict.HANG, evidence.judgement
    assert "its watchdog reset it" in evidence.judgement.reason
    assert "t.py::freeze" in evidence.judgement.reason


def test_a_killed_run_leaves_no_process_and_keeps_its_results(place: Path) -> None:
    command = subprocess.Popen(
        program(place, "run", "--kernel", VERSION, "--json"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def has_results() -> bool:
        journals = list((place / "data" / "runs").glob("*/journal.jsonl"))
        return bool(journals) and journals[0].read_text().count('"event":"result"') >= 5

    try:
        wait_for(has_results, PATIENCE, "five tests are done")
        below = descendants(command.pid)
        names = {Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in below if running(pid)}
        assert any("qemu-system" in name for name in names)
        assert any("lab.npu" in name for name in names)
    finally:
        command.send_signal(signal.SIGKILL)
        command.wait(10)
    wait_for(lambda: not any(running(pid) for pid in below), 20, "no QEMU, no device, no ssh is left")
    code, rows, said = answer(place, "runs", "list", "--json")
    assert (code, len(rows)) == (0, 1)
    assert rows[0]["verdict"] == "interrupted"
    assert rows[0]["tests"] > 100
    assert rows[0]["passed"] >= 3
    assert "was interrupted" in said
