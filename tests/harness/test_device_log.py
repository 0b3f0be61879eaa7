"""The simulated device's trace: what it did not know, and the faults that were asked for, at their tests."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from harness.device_log import FINDINGS_LIMIT, scan_trace, trace_clock
from harness.kernel_log import Window
from lab.npu.trace import Trace


def lines_of(stream: io.StringIO) -> list[bytes]:
    return stream.getvalue().encode().splitlines()


def test_the_real_trace_gives_gaps_and_faults_and_nothing_of_ordinary_messages() -> None:
    stream = io.StringIO()
    trace = Trace(stream, clock=iter([0.0, 0.0, 1.0, 2.0, 3.0, 4.0]).__next__)
    trace.event("start", monotonic=1000.0, model="1.0")
    trace.event("message", name="SUSPEND")
    trace.gap("unknown-message", opcode=0x11D, size=16)
    trace.event("fault", name="drop", message="GET_TELEMETRY")
    found = scan_trace(lines_of(stream), "device.jsonl", [Window("one", 1.5, 2.5), Window("two", 2.6, 9.0)])
    assert [(f.signature, f.klass, f.line, f.test) for f in found] == [
        ("model-gap", "model-gap", 3, "one"),
        ("fault", "fault", 4, "two"),
    ]
    assert found[0].text == "unknown-message opcode=285 size=16"
    assert trace_clock(lines_of(stream)) == 1000.0


def test_a_trace_without_a_clock_ties_to_nothing() -> None:
    assert trace_clock([b'{"t": 0.0, "event": "start"}']) is None
    assert trace_clock([]) is None


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_a_broken_trace_is_read_as_far_as_it_goes(lines: list[bytes]) -> None:
    scan_trace(lines, "device.jsonl")
    trace_clock(lines)


def test_a_flood_of_gaps_is_bounded() -> None:
    found = scan_trace([b'{"t": 1.0, "event": "model-gap"}'] * 10_000, "device.jsonl")
    assert len(found) == FINDINGS_LIMIT
