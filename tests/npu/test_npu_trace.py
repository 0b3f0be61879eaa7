"""The trace: bounded, readable line by line, and never without what explains a run."""

from __future__ import annotations

import io
import json
from pathlib import Path

from lab.npu.trace import TEXT_LIMIT, Trace


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_events_carry_time_since_the_start_and_their_fields() -> None:
    now = [5.0]
    stream = io.StringIO()
    trace = Trace(stream, clock=lambda: now[0])
    now[0] = 6.5
    trace.event("irq", vector=3, wired=True)
    assert lines(stream) == [{"t": 1.5, "event": "irq", "vector": 3, "wired": True}]


def test_a_flood_of_messages_leaves_room_for_what_explains_it() -> None:
    stream = io.StringIO()
    trace = Trace(stream, limit=2000, reserve=2000)
    for number in range(1000):
        trace.event("message", id=number)
    trace.event("fault", name="drop")
    trace.gap("unknown-message", opcode=1)
    trace.event("message", id=0)
    kinds = [line["event"] for line in lines(stream)]
    assert kinds[-2:] == ["fault", "model-gap"]
    assert kinds.count("truncated") == 1
    assert len(stream.getvalue()) < 4500
    assert trace.counts["message"] == 1001, "what was not written is still counted"


def test_even_explanations_are_bounded() -> None:
    stream = io.StringIO()
    trace = Trace(stream, limit=100, reserve=1000)
    for number in range(10_000):
        trace.gap("unknown-message", opcode=number)
    assert len(stream.getvalue()) < 1300


def test_long_and_strange_text_is_cut_and_escaped() -> None:
    stream = io.StringIO()
    Trace(stream).event("client-refused", reason="\x1b[31m\n" + "x" * 10_000)
    [event] = lines(stream)
    assert len(str(event["reason"])) == TEXT_LIMIT
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_the_same_gap_is_told_once() -> None:
    stream = io.StringIO()
    trace = Trace(stream)
    for _ in range(5):
        trace.gap("unknown-register", bar=0, offset=4)
    trace.gap("unknown-register", bar=0, offset=8)
    assert len(lines(stream)) == 2


def test_the_end_says_how_much_there_was(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    trace = Trace(path.open("w"))
    trace.event("irq", vector=0, wired=False)
    trace.event("irq", vector=1, wired=False)
    trace.close()
    trace.event("irq", vector=2, wired=False)  # after the end: nothing to write to
    last = json.loads(path.read_text().splitlines()[-1])
    assert (last["event"], last["counts"]) == ("stop", {"irq": 2})
