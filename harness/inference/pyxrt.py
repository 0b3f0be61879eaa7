"""XRT's Python module as tests: open the NPU, move data, run a kernel, compare what comes back."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

from db.metrics import Metric
from harness.inference.bench import Bench, Case, Detected
from harness.inference.commands import Ran, counted, program_answer
from harness.inference.metrics import Installed, Missing, Report, failed, passed, skipped, unreadable
from harness.inference.printed import name_of, number, object_of, word_of

AMD_MODULES = "/opt/xilinx/xrt/python"
COMPLETED = "ERT_CMD_STATE_COMPLETED"
NO_KERNEL = Missing(
    "no compiled kernel for pyxrt is named",
    "name one by --compiled XCLBIN,NAME,INSTRUCTIONS,INPUT...,EXPECTED (paths on the machine)",
)

#: Only the virtual NPU's guest has this file (lab.virtual.test_design): its model runs what is in it.
TEST_KERNELS = "/usr/share/xdnawatch/test_kernels.xclbin"
TEST_KERNEL = "XDNAWATCH"
TEST_LENGTH = 65536  # bytes of each buffer: many pages


def _ask(bench: Bench, what: str, timeout: float, *, watch: bool = False, **request: Any) -> Ran:
    return bench.commands.run_one(
        bench.commands.python_program(
            "pyxrt_check.py",
            {"what": what, "bdf": bench.state.bdf, "node": bench.watched_node, **request},
            environment={"PYTHONPATH": f"{bench.commands.root}:{AMD_MODULES}"},
            timeout=timeout,
            watch=bench.watched_node if watch else None,
        )
    )


def detect(bench: Bench) -> Detected:
    """The module, importable by the machine's Python; it has no version of its own."""
    answer = program_answer(_ask(bench, "version", bench.timeouts.detect))
    if answer.get("module"):
        return Installed("pyxrt", "unknown", word_of(answer["module"], 300))
    why = word_of(answer.get("absent"), 300) or "its import ended Python"
    return Missing(
        f"the Python module pyxrt cannot be imported ({why})",
        "install it for the machine's python3 (Debian: python3-xrt from backports; AMD: in xrt-base)",
    )


def run(bench: Bench, found: Detected, what: str) -> Report:
    """One of the programs; an exception of XRT is a failure."""
    obstacle = found if isinstance(found, Missing) else bench.state.obstacle
    if obstacle:
        return skipped(obstacle)
    request: dict[str, Any] = {}
    if what == "kernel":
        if bench.options.kernel is None:
            return skipped(NO_KERNEL)
        request = asdict(bench.options.kernel) | {"wait_ms": int(bench.timeouts.pyxrt * 500)}
    elif what == "test-kernels":
        request = {"xclbin": TEST_KERNELS, "kernel": TEST_KERNEL, "length": TEST_LENGTH, "wait_ms": 10_000}
    ran = _ask(bench, what, bench.timeouts.pyxrt, watch=what == "kernel", **request)
    answer = program_answer(ran)
    if answer.get("error"):
        return failed(f"XRT says {word_of(answer['error'], 500)}")
    if not ran.ok or not answer:
        return failed(f"the program with pyxrt {ran.told}")
    if what == "device":
        return _device(bench, answer)
    if what == "test-kernels":
        return judge_test_kernels(answer)
    return _buffers(answer) if what == "buffer" else _kernel(answer, ran)


def _device(bench: Bench, answer: dict[str, Any]) -> Report:
    name, vbnv = word_of(answer.get("name")), bench.state.vbnv
    if vbnv and name != vbnv:
        return failed(f"pyxrt names the NPU {name!r}, sysfs {vbnv!r}")
    return passed(bdf=word_of(answer.get("bdf")), name=name)


def _buffers(answer: dict[str, Any]) -> Report:
    wrong = answer.get("wrong")
    if not isinstance(wrong, list):
        return unreadable("the program with pyxrt gave no answer about its buffers")
    if wrong:
        return failed(f"data came back different: {word_of(str(wrong), 400)}")
    return passed(sizes=answer.get("sizes"))


def _kernel(answer: dict[str, Any], ran: Ran) -> Report:
    facts: dict[str, Any] = {"state": word_of(answer.get("state")), "bytes": answer.get("bytes")}
    driver = counted(answer, ran.watched)
    if driver:
        facts["driver"] = driver.as_json()
    if facts["state"] != COMPLETED:
        return failed(f"the command ended in state {facts['state'] or 'unknown'}", **facts)
    if answer.get("first") is not None:
        return failed(f"the output differs from byte {word_of(answer['first'])} on", **facts)
    seconds = number(answer.get("seconds"))
    return passed([] if seconds is None else [Metric("latency", seconds * 1e6, "us", "lower")], **facts)


def judge_test_kernels(answer: dict[str, Any]) -> Report:
    """Every test kernel must complete with the right data, and the driver must have counted it (pure)."""
    if answer.get("no_test_kernels"):
        return skipped(
            Missing("the virtual NPU's test kernels are not on this machine", "run it on a virtual machine")
        )
    if answer.get("shared_addresses"):
        return skipped(
            Missing(
                "with shared virtual addresses the virtual NPU cannot reach a process's buffers",
                "boot a kernel from 7.1 on, where the lab chooses force_iova",
            )
        )
    done = object_of(answer.get("kernels"))
    facts: dict[str, Any] = {"bytes": answer.get("bytes")}
    driver = counted(answer, None)  # a look from outside may miss the last command of a short life
    if driver:
        facts["driver"] = driver.as_json()
    if not done:
        return unreadable("the program with pyxrt gave no answer about the test kernels", **facts)
    wrong, metrics = [], []
    for name, result in list(done.items())[:16]:
        one = object_of(result)
        state, seconds = word_of(one.get("state")), number(one.get("seconds"))
        if state != COMPLETED:
            wrong.append(f"{name} ended in state {state or 'unknown'}")
        elif one.get("first") is not None:
            wrong.append(f"{name} completed but its output differs from byte {word_of(one['first'])} on")
        if seconds is not None and seconds >= 0:
            metrics.append(Metric(f"{name_of(name)}_latency", seconds * 1e6, "us", "lower"))
    if driver and driver.completions != len(done):
        wrong.append(f"XRT ran {len(done)} commands, the driver finished {driver.completions}")
    return failed("; ".join(wrong), metrics, **facts) if wrong else passed(metrics, **facts)


def cases(bench: Bench, found: Detected) -> list[Case]:
    """Open, move data, compute."""
    titles = {
        "device": "pyxrt opens the NPU and names it as sysfs does",
        "buffer": "data written to buffers comes back unchanged",
        "test-kernels": "copy, fill, add and checksum on the virtual NPU give the right data",
        "kernel": "a kernel's output is what it must be, byte for byte",
    }
    names = {
        "device": "device",
        "buffer": "buffer-data",
        "test-kernels": "test-kernels",
        "kernel": "kernel-data",
    }
    return [
        Case("pyxrt", names[what], title, partial(run, bench, found, what)) for what, title in titles.items()
    ]
