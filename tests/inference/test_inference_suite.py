"""The suite as a whole, and each runner's judgement, on machines that answer from a script."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from harness.inference import (
    flm,
    lemonade,
    onnx_runtime,
    pyxrt,
    run,
    suite,
    xrt_runner,
    xrt_smi,
    xrt_validate,
)
from harness.inference.bench import (
    SUITE,
    Bench,
    Case,
    InferenceOptions,
    InferenceTimeouts,
    PyxrtKernel,
    Recipe,
)
from harness.inference.commands import Command, Commands, Look, Ran, Watched
from harness.inference.driver_state import parse_state
from harness.inference.metrics import Installed, Metric, Missing, Report
from harness.inference.validate import VALIDATE_TESTS
from harness.journal import Journal, RunStarted, SuiteEvent
from harness.results import results
from harness.suite import contract
from harness.suite_stream import parse_event
from lab.machine import Completed, Shell, ShellLostError, ShellTimeoutError

STATE = {
    "bdf": "0000:00:08.0",
    "generation": "npu4",
    "node": "/dev/accel/accel0",
    "sysfs": {"vbnv": "NPU Strix", "fw_version": "1.1.2.64"},
    "uid": 0,
    "kernel": "7.3.4+deb13-amd64",
    "driver_version": [0, 10, 0],
    "columns": 8,
    "rows": 6,
    "firmware": "1.1.2.64",
    "power_mode": 0,
    "clocks": [{"name": "H Clock", "mhz": 1800}],
    "force_preemption": 0,
    "contexts": 0,
}
SMI = Installed("xrt-smi", "2.25.00", "/usr/bin/xrt-smi")
Answer = Callable[[Command | Look], Ran]


class Scripted(Commands):
    """A machine that answers each command by a function, and remembers what it was asked."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(None, "/tmp/scripted")  # type: ignore[arg-type]  # no shell is ever asked
        self.answer = answer
        self.asked: list[Command | Look] = []

    def run(self, *commands: Command | Look) -> tuple[Ran, ...]:
        self.asked += commands
        return tuple(self.answer(command) for command in commands)


def bench(answer: Answer, state: dict[str, Any] | None = None, **options: Any) -> Bench:
    """A bench on a scripted machine with a good driver state."""
    made = Bench(Scripted(answer), InferenceOptions(**options), InferenceTimeouts())
    made.state = parse_state(Ran(None, state=STATE if state is None else state))
    return made


def ended(stdout: bytes = b"", status: int = 0, **fields: Any) -> Ran:
    """A program that ended by itself."""
    return Ran("/usr/bin/program", status, stdout=stdout, **fields)


class Npu:
    """A scripted machine whose xrt-smi sets the power mode that a look then sees."""

    modes = ("default", "powersaver", "balanced", "performance", "turbo")

    def __init__(self, report: bytes, **state: Any) -> None:
        self.report = report
        self.state = {**STATE, **state}
        self.obeys = True

    def __call__(self, command: Command | Look) -> Ran:
        if isinstance(command, Look):
            return Ran(None, state=dict(self.state))
        if "--pmode" in command.arguments:
            mode = command.arguments[command.arguments.index("--pmode") + 1]
            if mode not in self.modes:
                return ended(b"ERROR: Invalid mode", 1)
            if self.obeys:
                self.state["power_mode"] = self.modes.index(mode)
            return ended(b"Power mode is set\n")
        return ended(files=dict.fromkeys(command.read, self.report))


# -- the whole ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def here(machine_here: Shell) -> list[dict[str, Any]]:
    """The events of a whole run on this machine; skipped where it has an NPU."""
    events: list[dict[str, Any]] = []
    status = run(machine_here, on_event=events.append, nonce="abc")
    if any(event["event"] == "environment" and not event["missing"] for event in events):
        pytest.skip("this machine has an NPU")
    assert status == 0
    return events


def test_a_machine_without_an_npu_skips_everything_with_its_reason(here: list[dict[str, Any]]) -> None:
    """Nothing hangs, nothing is left out: every collected test has one result that names what is missing."""
    events = here
    assert [event["n"] for event in events] == list(range(len(events)))
    assert [e["event"] for e in events[:3]] == ["begin", "environment", "collected"]
    assert events[0]["nonce"] == "abc"
    collected = [row["id"] for row in events[2]["tests"]]
    assert len(collected) == len(set(collected)) > 30
    assert [e["id"] for e in events if e["event"] == "result"] == collected
    for event in events:
        assert event["event"] in contract.EVENTS
        assert len(json.dumps(event)) < contract.LINE_LIMIT
        if event["event"] == "result":
            assert event["outcome"] == "skipped"
            assert event["reason"].startswith(contract.ENVIRONMENT_PREFIX)
    assert events[-1]["event"] == "end"
    assert events[-1]["skipped"] == len(collected)


def test_events_become_results_of_a_journal(here: list[dict[str, Any]]) -> None:
    """The journal's reader takes the events as it takes the ioctl suite's."""
    events = here
    header = RunStarted(
        run="r", started_at=datetime.now(UTC), clock=0.0, machine="m", machine_kind="ssh", simulated=False,
        requested="running", suite=SUITE, suite_digest=suite.digest(), nonce="n",
    )  # fmt: skip
    parsed = [parse_event(json.dumps(event).encode()) for event in events]
    records = tuple(SuiteEvent(boot=1, event=event) for event in parsed if event is not None)
    assert len(records) == len(events)
    found = results(Journal(header, (header, *records)))
    assert {case.outcome for case in found} <= {"passed", "skipped", "failed", "error"}
    assert any(case.test == "inference/xrt-smi-examine::platform" for case in found)


class Dying:
    """The local machine until a number of commands were run, then an error for each."""

    def __init__(self, real: Shell, alive: int, error: Exception, lasting: int = 1 << 30) -> None:
        self.real, self.alive, self.error, self.lasting = real, alive, error, lasting
        self.put, self.read, self.stream = real.put, real.read, real.stream

    def run(self, argv: Sequence[str], *, timeout: float, stdin: bytes | None = None) -> Completed:
        self.alive -= 1
        if self.alive < 0 and self.lasting > 0 and "rm" not in argv[:1]:
            self.lasting -= 1
            raise self.error
        return self.real.run(argv, timeout=timeout, stdin=stdin)


def _first_test_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases that ask the machine even without an NPU."""

    def ask(bench: Bench) -> Report:
        bench.look()
        return Report("passed")

    def cases(bench: Bench, _found: Any) -> list[Case]:
        return [Case("asks", str(index), "asks", lambda: ask(bench)) for index in range(3)]

    monkeypatch.setattr(suite, "collect", cases)
    monkeypatch.setattr(suite, "DETECTORS", {})


def test_a_machine_that_dies_leaves_a_start_without_a_result(
    local_shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guilty test is the one in flight; the caller is told by the exception."""
    _first_test_asks(monkeypatch)
    events: list[dict[str, Any]] = []
    with pytest.raises(ShellLostError):
        run(Dying(local_shell, 2, ShellLostError("gone")), on_event=events.append)
    assert [(e["event"], e["id"]) for e in events[3:]] == [
        ("start", "inference/asks::0"),
        ("result", "inference/asks::0"),
        ("start", "inference/asks::1"),
    ]


def test_one_silence_fails_a_test_two_end_the_suite(
    local_shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that hangs once goes on; one that stays silent is given up."""
    _first_test_asks(monkeypatch)
    events: list[dict[str, Any]] = []
    shell = Dying(local_shell, 1, ShellTimeoutError("silent"), lasting=1)
    assert run(shell, on_event=events.append) == 1
    assert [e["outcome"] for e in events if e["event"] == "result"] == ["failed", "passed", "passed"]
    with pytest.raises(ShellTimeoutError):
        run(Dying(local_shell, 1, ShellTimeoutError("silent")))


def test_only_the_named_tests_run(local_shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a reboot: the rest of the suite."""
    absent = Missing("it is not installed", "install it")
    monkeypatch.setattr(suite, "DETECTORS", {name: lambda _bench: absent for name in suite.DETECTORS})
    events: list[dict[str, Any]] = []
    run(local_shell, on_event=events.append, tests=["inference/flm::bench"])
    assert [e["id"] for e in events if e["event"] == "result"] == ["inference/flm::bench"]


# -- xrt-smi -----------------------------------------------------------------------------------------------


def test_examine_agrees_with_the_driver(examine_json: bytes) -> None:
    """All of examine passes on a machine whose user space tells the truth, and the facts are kept."""
    made = bench(Npu(examine_json))
    smi = xrt_smi.XrtSmi(made, SMI)
    assert [report.outcome for report in (smi.host(), smi.device(), smi.platform(), smi.partitions())] == [
        "passed"
    ] * 4
    assert smi.platform().values["clocks"] == {"H Clock": 1800}
    assert smi.device().values["firmware"] == "1.1.2.64"


@pytest.mark.parametrize(
    ("test", "state", "words"),
    [
        (
            "device",
            {"sysfs": {"vbnv": "NPU Strix", "fw_version": "1.0.0.1"}},
            "sysfs fw_version says 1.0.0.1",
        ),
        ("device", {"sysfs": {"vbnv": "NPU Krackan 1"}}, "sysfs vbnv says NPU Krackan 1"),
        ("device", {"firmware": "9.9.9.9"}, "GET_INFO firmware version says 9.9.9.9"),
        ("platform", {"columns": 5}, "columns: xrt-smi says 8, GET_INFO metadata says 5"),
        ("platform", {"power_mode": 3}, "xrt-smi says default, GET_INFO power mode says performance"),
        ("partitions", {"contexts": 2}, "xrt-smi says 0, GET_ARRAY contexts says 2"),
        ("host", {"kernel": "7.2.12"}, "uname says '7.2.12'"),
        ("device", {"bdf": "0000:c5:00.1"}, "xrt-smi sees no NPU at 0000:c5:00.1"),
    ],
)
def test_examine_that_contradicts_the_driver_fails(
    examine_json: bytes, test: str, state: dict[str, Any], words: str
) -> None:
    """Each lie is found and both values are named."""
    made = bench(Npu(examine_json, **state), {**STATE, **state})
    report = getattr(xrt_smi.XrtSmi(made, SMI), test)()
    assert report.outcome == "failed"
    assert words in report.message


def test_what_the_driver_does_not_say_is_not_compared(examine_json: bytes) -> None:
    """An old driver that refuses a query is no contradiction, and it is said."""
    state = {"firmware": None, "columns": None, "rows": None}
    smi = xrt_smi.XrtSmi(bench(Npu(examine_json, **state), {**STATE, **state}), SMI)
    assert smi.device().outcome == "passed"
    assert "GET_INFO firmware version (firmware)" in smi.device().values["not_compared"]


def test_power_modes_are_read_back_and_put_back(examine_json: bytes) -> None:
    """Every mode reaches the driver; afterwards it has its old mode."""
    npu = Npu(examine_json)
    smi = xrt_smi.XrtSmi(bench(npu), SMI)
    for mode in npu.modes:
        assert smi.power_mode(mode).values["power_mode"] == mode
        assert npu.state["power_mode"] == 0
    assert smi.nonsense().outcome == "passed"


def test_a_power_mode_that_does_not_arrive_fails(examine_json: bytes) -> None:
    """xrt-smi says done, the driver has another mode."""
    npu = Npu(examine_json)
    npu.obeys = False
    report = xrt_smi.XrtSmi(bench(npu), SMI).power_mode("turbo")
    assert (report.outcome, report.message) == ("failed", "turbo was set, the driver says default")


REFUSED = Ran("/x", 1, stderr=b"[xrt-smi] ERROR: SET_STATE IOCTL failed (err=-95): Operation not supported")


@pytest.mark.parametrize(
    ("kernel", "setting", "outcome", "word"),
    [
        ("7.0.13", REFUSED, "passed", ""),
        ("7.0.13", Ran("/x", 1, stderr=b"Segmentation fault"), "failed", "should be refused as unsupported"),
        ("7.0.13", Ran("/x", 0), "failed", "should not know it"),
        ("7.2.12", REFUSED, "failed", "Operation not supported"),
    ],
)
def test_lower_modes_are_expected_by_release(
    examine_json: bytes, kernel: str, setting: Ran, outcome: str, word: str
) -> None:
    """LOW and MEDIUM came with 7.2: refused as unsupported before, a failure after; the row is told."""

    def answer(command: Command | Look) -> Ran:
        if isinstance(command, Look):
            return Ran(None, state={**STATE, "kernel": kernel})
        return setting if "balanced" in command.arguments else Ran("/x", 0)

    made = bench(answer, {**STATE, "kernel": kernel})
    report = xrt_smi.XrtSmi(made, SMI).power_mode("balanced")
    assert (report.outcome, word in report.message) == (outcome, True)
    (row,) = report.expectations
    assert row["key"] == "power-low-medium"


def test_configuring_without_root_is_skipped(examine_json: bytes) -> None:
    """It is the user's right that is missing, not the kernel's fault."""
    report = xrt_smi.XrtSmi(bench(Npu(examine_json), {**STATE, "uid": 1000}), SMI).power_mode("turbo")
    assert (report.outcome, "root" in report.message) == ("skipped", True)


def test_a_crashing_or_silent_xrt_smi_fails() -> None:
    """A signal or a time-out is a failure with its cause; a report that is none is an error."""
    for ran, outcome, word in (
        (Ran("/usr/bin/xrt-smi", -11), "failed", "signal 11"),
        (Ran("/usr/bin/xrt-smi", -9, timed_out=True, seconds=60.0), "failed", "did not end within 60 s"),
        (ended(), "error", "cannot be read"),
    ):
        report = xrt_smi.XrtSmi(bench(lambda command, ran=ran: ran), SMI).device()  # type: ignore[misc]
        assert (report.outcome, word in report.message) == (outcome, True)


# -- validate ----------------------------------------------------------------------------------------------

LATENCY = VALIDATE_TESTS[0]
HELP = b"                         latency    - Run it\n                         gemm       - Run it\n"


def _report(status: str, details: str = "Average latency: 50.0 us") -> bytes:
    test = {"name": "latency", "log": [{"Details": details}], "status": status}
    return json.dumps({"logical_devices": [{"device_id": "x", "tests": [test]}]}).encode()


@pytest.mark.parametrize(
    ("ran", "report", "outcome", "word"),
    [
        (ended(), _report("PASSED"), "passed", ""),
        (ended(status=1), _report("FAILED", "ERT_CMD_STATE_TIMEOUT"), "failed", "STATE_TIMEOUT"),
        (ended(status=1), _report("PASSED"), "failed", "says PASSED but"),
        (ended(), _report("SKIPPED", "not supported"), "skipped", "not supported"),
        (Ran("/x", -9, timed_out=True, seconds=300.0), b"", "failed", "did not end within 300 s"),
        (ended(), b"", "error", "reported no such test"),
        (Ran("/x", -11), _report("PASSED")[:40], "failed", "signal 11"),
    ],
)
def test_validate_is_judged_by_report_and_exit(ran: Ran, report: bytes, outcome: str, word: str) -> None:
    """A pass needs both the word and a clean end."""
    found = xrt_validate.judge(ran, report, LATENCY)
    assert (found.outcome, word in found.message) == (outcome, True)
    if outcome == "passed":
        assert found.metrics == (Metric("latency", 50.0, "us", "lower"),)


def test_a_missing_archive_is_looked_for_once() -> None:
    """The first test finds it missing; the others say the same without another call."""
    missing = b"Error: Archive not found: amdxdna/bins/xrt_smi_strx.a\nAnd place it in: /root/bins/\n"

    def answer(command: Command | Look) -> Ran:
        assert isinstance(command, Command)
        if "--help" in command.arguments:
            return ended(HELP, 1 if "--advanced" in command.arguments else 0)
        return ended(missing, 1)

    made = bench(answer)
    reports = {case.name: case.run() for case in xrt_validate.cases(made, SMI)}
    for name in ("latency", "gemm"):
        assert reports[name].outcome == "skipped"
        assert "amdxdna/bins/xrt_smi_strx.a is not installed" in reports[name].message
        assert "/root/bins/" in reports[name].message
    assert "does not offer df-bw" in reports["df-bw"].message
    assert isinstance(made.commands, Scripted)
    runs = [c for c in made.commands.asked if isinstance(c, Command) and "-r" in c.arguments]
    assert len(runs) == 1


# -- the others --------------------------------------------------------------------------------------------

DONE = Watched(1, 40, 40, None)
IDLE = Watched(0, 0, 0, None)


def _printed(**answer: Any) -> bytes:
    return b"noise\n" + json.dumps(answer).encode() + b"\n"


def test_recipes() -> None:
    """Named recipes are tests of their own, timed; a crash is a failure; none named says how to name one."""
    report = json.dumps({"cpu": {"latency": 21, "throughput": 45793}}).encode()
    made = bench(
        lambda command: ended(files=dict.fromkeys(command.read, report), watched=DONE),  # type: ignore[union-attr]
        recipes=(Recipe("/a/recipe.json", "/a/p.json"), Recipe("/b/recipe.json", "/b/p.json")),
    )
    runner = Installed("xrt-runner", "unknown", "/usr/bin/xrt-runner")
    found = xrt_runner.cases(made, runner)
    assert [case.id for case in found] == [
        "inference/xrt-runner::recipe",
        "inference/xrt-runner::recipe-2",
    ]
    result = found[1].run()
    assert result.outcome == "passed"
    assert result.values["throughput"] == {"value": 45793.0, "unit": "op/s", "better": "higher"}
    assert result.values["driver"]["completions"] == 40
    (nothing,) = xrt_runner.cases(bench(lambda _c: ended()), runner)
    assert "--recipe" in nothing.run().message
    crashed = xrt_runner.run(bench(lambda _c: Ran("/x", -6)), runner, Recipe("r", "p"))
    assert (crashed.outcome, "signal 6" in crashed.message) == ("failed", True)


@pytest.mark.parametrize(
    ("answer", "outcome", "word"),
    [
        ({"state": "ERT_CMD_STATE_COMPLETED", "seconds": 0.002, "bytes": 4, "first": None}, "passed", ""),
        ({"state": "ERT_CMD_STATE_COMPLETED", "first": 17}, "failed", "from byte 17"),
        ({"state": "ERT_CMD_STATE_TIMEOUT", "first": None}, "failed", "ERT_CMD_STATE_TIMEOUT"),
        ({"error": "RuntimeError: No such device"}, "failed", "No such device"),
        ({}, "failed", "pyxrt"),
    ],
)
def test_a_kernels_data_is_compared(answer: dict[str, Any], outcome: str, word: str) -> None:
    """A command that says it completed counts only with the right output."""
    kernel = PyxrtKernel("/k.xclbin", "K", "/k.bin", ("/in",), "/out")
    made = bench(lambda _c: ended(_printed(**answer), watched=DONE), kernel=kernel)
    report = pyxrt.run(made, Installed("pyxrt", "unknown", "/p.so"), "kernel")
    assert (report.outcome, word in report.message) == (outcome, True)


RIGHT = {"state": "ERT_CMD_STATE_COMPLETED", "seconds": 0.01, "first": None}


@pytest.mark.parametrize(
    ("answer", "finished", "outcome", "word"),
    [
        ({"kernels": {"copy": RIGHT, "add": RIGHT}}, 2, "passed", ""),
        ({"kernels": {"copy": RIGHT, "add": {**RIGHT, "first": 4096}}}, 2, "failed", "add completed but"),
        ({"kernels": {"copy": {**RIGHT, "state": "ERT_CMD_STATE_NEW"}}}, 1, "failed", "ERT_CMD_STATE_NEW"),
        ({"kernels": {"copy": RIGHT, "add": RIGHT}}, 1, "failed", "the driver finished 1"),
        ({"kernels": {"copy": RIGHT, "add": RIGHT}}, None, "passed", ""),
        ({"no_test_kernels": "/x"}, None, "skipped", "are not on this machine"),
        ({"shared_addresses": True}, None, "skipped", "shared virtual addresses"),
        ({"kernels": []}, 0, "error", "gave no answer"),
    ],
)
def test_a_test_kernel_that_only_claims_to_have_run_fails(
    answer: dict[str, Any], finished: int | None, outcome: str, word: str
) -> None:
    """Completed, counted and right: all three, else it has failed; a driver that cannot count is no fault."""
    driver = None if finished is None else {"contexts": 1, "submissions": 2, "completions": finished}
    report = pyxrt.judge_test_kernels({**answer, "driver": driver})
    assert (report.outcome, word in report.message) == (outcome, True)
    if outcome == "passed":
        assert report.values["copy_latency"] == {"value": 10_000.0, "unit": "us", "better": "lower"}


def test_buffers_that_change_data_fail() -> None:
    """Any size whose data came back different is named."""
    made = bench(lambda _c: ended(_printed(sizes=[4096], wrong=[{"size": 4096, "first": 7}])))
    report = pyxrt.run(made, Installed("pyxrt", "unknown", "/p.so"), "buffer")
    assert (report.outcome, "'first': 7" in report.message) == ("failed", True)


EP = b"[Vitis AI EP] No. of Operators :   CPU     2    NPU   398\n"
RAN = {"seconds": [0.001, 0.002, 0.009], "compile_seconds": 12.5, "cosine": 0.999, "same_shape": True}


@pytest.mark.parametrize(
    ("log", "watched", "outcome", "word"),
    [
        (EP, DONE, "passed", ""),
        (EP, IDLE, "failed", "the driver finished no command"),
        (EP, Watched(0, 0, 0, "not permitted"), "passed", ""),
        (b"[Vitis AI EP] No. of Operators :   CPU   400\n", DONE, "failed", "no node was given to the NPU"),
        (b"", DONE, "failed", "did not say"),
    ],
)
def test_onnx_needs_three_witnesses(log: bytes, watched: Watched, outcome: str, word: str) -> None:
    """What the provider claims, the driver must have counted."""
    made = bench(lambda _c: ended(log + _printed(**RAN, finite=True), watched=watched), onnx_model="/m.onnx")
    session = onnx_runtime.OnnxRuntime(made, Installed("onnxruntime", "1.22", "/o", {"quicktest": ""}))
    report = session.on_npu()
    assert (report.outcome, word in report.message) == (outcome, True)
    if outcome == "passed":
        assert report.metrics[0].value == 99.5


def test_the_programs_own_count_beats_the_look_from_outside() -> None:
    """A context that lives shorter than two looks is not idle."""
    answer = {**RAN, "finite": True, "driver": {"contexts": 1, "submissions": 21, "completions": 21}}
    made = bench(lambda _c: ended(EP + _printed(**answer), watched=IDLE), onnx_model="/m.onnx")
    session = onnx_runtime.OnnxRuntime(made, Installed("onnxruntime", "1.22", "/o", {"quicktest": ""}))
    report = session.on_npu()
    assert report.outcome == "passed"
    assert report.values["driver"]["completions"] == 21


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({}, "passed"),
        ({"cosine": 0.2}, "failed"),
        ({"finite": False}, "failed"),
        ({"same_shape": False}, "failed"),
    ],
)
def test_onnx_output_is_compared_with_the_cpu(change: dict[str, Any], outcome: str) -> None:
    """A fast wrong answer is a failure; the speed is the median."""
    answer = {**RAN, "finite": True, **change}
    made = bench(lambda _c: ended(EP + _printed(**answer), watched=DONE), onnx_model="/m.onnx")
    session = onnx_runtime.OnnxRuntime(made, Installed("onnxruntime", "1.22", "/o", {"quicktest": ""}))
    assert session.output().outcome == outcome
    assert session.speed().values["latency"] == {"value": 2.0, "unit": "ms", "better": "lower"}


def test_onnx_without_the_provider_names_it() -> None:
    """The plain package is not enough, and it is said what it has."""
    plain = _printed(version="1.23.2", available=["CPUExecutionProvider"], module="/o")
    found = onnx_runtime.detect(bench(lambda _c: ended(plain)))
    assert isinstance(found, Missing)
    assert "has no VitisAIExecutionProvider" in found.piece
    assert "CPUExecutionProvider" in found.piece


def test_flm_bench_needs_a_model_and_the_npu() -> None:
    """No model: how to get one. Speeds without a command on the NPU: a failure."""
    flm_there = Installed("flm", "1.0.3", "/usr/bin/flm")
    table = (
        " Context Length | TTFT (s) | Prefill Speed (tok/s) | Decoding Speed (tok/s)\n"
        "             1k | 0.815 ± 0.012 | 1233.57 ± 17.91 | 61.39 ± 0.46\n"
    ).encode()

    def machine(models: bytes, watched: Watched) -> Answer:
        return lambda command: (
            ended(models)
            if isinstance(command, Command) and "list" in command.arguments
            else ended(table, watched=watched)
        )

    none = flm.bench_model(bench(machine(b"", DONE)), flm_there)
    assert (none.outcome, "flm pull" in none.message) == ("skipped", True)
    good = flm.bench_model(bench(machine(b"llama3.2:1b\n", DONE)), flm_there)
    assert good.values["decode_1k"] == {"value": 61.39, "unit": "tok/s", "better": "higher"}
    idle = flm.bench_model(bench(machine(b"llama3.2:1b\n", IDLE)), flm_there)
    assert (idle.outcome, "finished no command" in idle.message) == ("failed", True)
    old = flm.validate(bench(machine(b"", DONE), {**STATE, "generation": "npu1"}), flm_there)
    assert "does not run on npu1" in old.message


@pytest.mark.parametrize(
    ("device", "watched", "outcome", "word"),
    [
        ("npu", DONE, "passed", ""),
        ("gpu", DONE, "failed", "runs on gpu"),
        ("npu", IDLE, "failed", "finished no command"),
    ],
)
def test_lemonade_must_use_the_npu(device: str, watched: Watched, outcome: str, word: str) -> None:
    """An answer of the GPU is no inference on the NPU."""
    health = {"status": "ok", "all_models_loaded": [{"model_name": "m", "device": device}]}
    answer = {
        "chat": json.dumps({"choices": [{"message": {"content": "one, two"}}]}),
        "stats": json.dumps({"time_to_first_token": 0.5, "tokens_per_second": 20}),
        "health": json.dumps(health),
    }
    report = lemonade.judge(ended(watched=watched), answer, "m")
    assert (report.outcome, word in report.message) == (outcome, True)
    assert {metric.name for metric in report.metrics} == {"time_to_first_token", "decode"}


@pytest.mark.parametrize("name", sorted(suite.DETECTORS))
def test_every_missing_runner_names_piece_and_next_step(name: str) -> None:
    """On a machine with nothing: what is missing, and how to get it."""
    found = suite.DETECTORS[name](bench(lambda _command: Ran(None)))
    assert isinstance(found, Missing)
    assert found.piece
    assert found.next_step
