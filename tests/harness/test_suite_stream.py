"""The suite's words are taken as they come: bounded, cleaned, and nothing a machine says breaks the host."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import suite_stream
from harness.journal import SuiteEvent
from harness.suite import contract
from harness.suite_stream import FloodError, SuiteStream, digest_of, ioctl_suite, parse_event
from tests.harness.fakes import TESTS, collected, event, result

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)


def stream() -> tuple[SuiteStream, list[SuiteEvent]]:
    taken: list[SuiteEvent] = []
    return SuiteStream(taken.append), taken


@given(st.binary(max_size=2000))
def test_bytes_that_are_no_event_are_counted_and_dropped(raw: bytes) -> None:
    made, taken = stream()
    made.on_line(raw)
    assert made.strangers + len(taken) == 1


@given(
    st.sampled_from(contract.EVENTS),
    st.dictionaries(st.sampled_from(["id", "tests", "outcome", "values"]), json_values),
)
def test_an_event_with_any_content_is_stored_in_a_form_that_can_be_written(
    name: str, fields: dict[str, Any]
) -> None:
    made, taken = stream()
    made.on_line(json.dumps({"event": name, **fields}).encode())
    for record in taken:
        SuiteEvent.model_validate_json(record.model_dump_json())
    made.remaining()


def test_what_remains_is_what_has_no_result() -> None:
    made, _ = stream()
    made.on_line(collected())
    made.on_line(event("start", 2, id=TESTS[0]))
    assert made.running == TESTS[0]
    made.on_line(result(TESTS[0]))
    assert (made.running, made.remaining()) == (None, TESTS[1:])
    made.on_line(event("start", 2, id=TESTS[1]))
    assert made.give_up_running() == TESTS[1]
    assert made.remaining() == TESTS[2:]
    assert made.give_up_running() is None


def test_a_flood_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite_stream, "EVENTS_LIMIT", 100)
    made, taken = stream()
    for number in range(100):
        made.on_line(event("start", number, id="x"))
    with pytest.raises(FloodError, match="more than 100 events"):
        made.on_line(event("start", 100, id="x"))
    assert len(taken) == 100


def test_deep_nesting_is_no_event() -> None:
    assert parse_event(b'{"event":' + b"[" * 50_000) is None
    deep = b'{"event":"start","id":' + b"[" * 900 + b"]" * 900 + b"}"
    parsed = parse_event(deep)
    assert parsed is None or len(json.dumps(parsed)) < 5_000


def test_an_event_of_the_real_reporters_size_is_whole() -> None:
    rows = [
        {"id": f"test_a.py::test_{n}", "title": "t" * 200, "markers": ["a", "b"], "suspect": None}
        for n in range(64)
    ]
    parsed = parse_event(json.dumps({"event": "collected", "tests": rows, "more": True}).encode())
    assert parsed is not None
    assert parsed["tests"] == rows


def test_the_digest_is_of_names_and_contents_not_of_order() -> None:
    assert digest_of({"a": b"1", "b": b"2"}) == digest_of({"b": b"2", "a": b"1"})
    assert digest_of({"a": b"1"}) != digest_of({"a": b"2"})
    assert digest_of({"a": b"1"}) != digest_of({"b": b"1"})
    assert digest_of({"ab": b""}) != digest_of({"a": b"b"})


def test_a_part_of_the_suite_has_another_name_and_the_same_digest() -> None:
    whole, part, quick = ioctl_suite(), ioctl_suite("telemetry"), ioctl_suite(pm=False)
    assert (whole.name, part.name, quick.name) == ("ioctl", "ioctl[telemetry]", "ioctl[without pm]")
    assert whole.digest == part.digest
    words, files = part.command("/root/x", "n", ())
    assert list(words)[-2:] == ["-k", "telemetry"]
    assert files == {}


def test_a_long_list_of_tests_goes_into_a_file_not_into_the_command() -> None:
    tests = [f"test_a.py::test_{number}[a b]" for number in range(300)]
    words, files = ioctl_suite().command("/root/x", "n", tests)
    assert sum(len(word) + 1 for word in words) < 2_000
    assert words[-1] == "@/root/x/tests.txt"
    listed = files["tests.txt"].decode().splitlines()
    assert listed[0] == "/root/x/harness/suite/tests/test_a.py::test_0[a b]"
    assert len(listed) == 300
