"""What became of each test, from the journal alone (pure).

A test that was collected has exactly one result: passed, failed, skipped, error as the suite said;
``incomplete`` when it had begun and the machine or the suite died under it; ``not-run`` when it never began.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.journal import (
    BootFailed,
    Journal,
    MachineLost,
    PhaseStarted,
    RunEnded,
    SuiteEvent,
    SuiteStopped,
    Trouble,
)
from harness.untrusted import clean

OutcomeName = Literal["passed", "failed", "skipped", "error", "incomplete", "not-run"]
KNOWN = ("passed", "failed", "skipped", "error")
TESTS_LIMIT = 20_000  # tests of one run; more is a broken or hostile suite
SLOW_PARTS = {"pm": "pm", "stress": "soak", "fuzz": "soak"}  # marker of a test -> part of the suite


@dataclass(frozen=True)
class CaseResult:
    """One test of one run. ``began`` and ``ended`` are seconds since the run started, None if unknown."""

    position: int
    test: str
    outcome: OutcomeName
    seconds: float = 0.0
    message: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    expectations: tuple[Any, ...] = ()
    title: str = ""
    suspect: str | None = None  # the candidate driver defect it is about
    boot: int = 1
    began: float | None = None
    ended: float | None = None


def collected_tests(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tests a ``collected`` event names; what a broken machine put in their place is left out."""
    tests = event.get("tests")
    return [row for row in tests if isinstance(row, dict)] if isinstance(tests, list) else []


def results(journal: Journal) -> tuple[CaseResult, ...]:
    """Every collected test with its outcome, in collection order; started strangers come at the end."""
    collected: dict[str, dict[str, Any]] = {}
    started: dict[str, tuple[float, int]] = {}
    finished: dict[str, tuple[dict[str, Any], float, int]] = {}
    ends: dict[str, str] = {}  # test -> why it is incomplete
    running: str | None = None
    for record in journal.records:
        if isinstance(record, SuiteEvent):
            event = record.event
            name = event.get("event")
            test = str(event.get("id"))
            if name == "collected":
                for row in collected_tests(event):
                    if len(collected) < TESTS_LIMIT:
                        collected.setdefault(str(row.get("id")), row)
            elif name == "start" and len(started) < TESTS_LIMIT:
                started[test] = (record.t, record.boot)
                finished.pop(test, None)
                running = test
            elif name == "result" and event.get("outcome") in KNOWN and len(finished) < TESTS_LIMIT:
                finished[test] = (event, record.t, record.boot)
                running = None
        elif running is not None and isinstance(record, SuiteStopped | MachineLost | Trouble | RunEnded):
            ends[running] = why_it_stopped(record)
            running = None
    names = [*collected, *(test for test in started if test not in collected)]
    rest = _why_the_rest_was_not_run(journal)
    return tuple(
        _case(position, test, collected.get(test, {}), started.get(test), finished.get(test), ends, rest)
        for position, test in enumerate(names)
    )


def phases(journal: Journal) -> dict[str, float]:
    """Seconds spent in each phase, over all boots, and in total; up to the last record written.

    "suite" is without the tests that let the device sleep ("pm") and those that wear it out ("soak").
    """
    spent: dict[str, float] = {}
    current: PhaseStarted | None = None
    for record in journal.records:
        if isinstance(record, PhaseStarted | RunEnded):
            if current is not None:
                spent[current.phase] = spent.get(current.phase, 0.0) + record.t - current.t
            current = record if isinstance(record, PhaseStarted) else None
    last = journal.records[-1].t
    if current is not None:
        spent[current.phase] = spent.get(current.phase, 0.0) + last - current.t
    for part, seconds in _slow_parts(journal).items():
        spent[part] = seconds
        spent["suite"] = spent.get("suite", seconds) - seconds
    return {**{name: round(seconds, 3) for name, seconds in spent.items()}, "total": round(last, 3)}


def _slow_parts(journal: Journal) -> dict[str, float]:
    parts: dict[str, str] = {}
    began: dict[str, float] = {}
    spent: dict[str, float] = {}
    for record in journal.records:
        if not isinstance(record, SuiteEvent):
            continue
        test = str(record.event.get("id"))
        if record.event.get("event") == "collected":
            for row in collected_tests(record.event):
                markers = row.get("markers")
                named = (
                    [SLOW_PARTS[m] for m in markers if m in SLOW_PARTS] if isinstance(markers, list) else []
                )
                if named:
                    parts[str(row.get("id"))] = named[0]
        elif record.event.get("event") == "start" and test in parts:
            began[test] = record.t
        elif record.event.get("event") == "result" and test in began:
            spent[parts[test]] = spent.get(parts[test], 0.0) + record.t - began.pop(test)
    return spent


def headline(message: str, limit: int = 200) -> str:
    """The line of a failure text that says most: pytest's first "E" line, else the last line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    said = next((line[1:].strip() for line in lines if line.startswith("E ")), None)
    return clean(said or (lines[-1] if lines else ""), limit)


def why_it_stopped(record: SuiteStopped | MachineLost | Trouble | RunEnded) -> str:
    """The reason a test in flight did not end."""
    if isinstance(record, SuiteStopped):
        return {
            "exit": f"the suite ended in the middle of it (status {record.status})",
            "silence": record.message or "it said nothing for too long",
            "timeout": record.message or "the suite's time was over",
            "lost": record.message or "the machine stopped answering",
        }[record.how]
    if isinstance(record, RunEnded):
        return "the run was interrupted"
    return record.message


def _why_the_rest_was_not_run(journal: Journal) -> str:
    for record in reversed(journal.records):
        if isinstance(record, BootFailed):
            return f"the machine did not come back ({record.how})"
        if isinstance(record, MachineLost | Trouble):
            return record.message
        if isinstance(record, RunEnded) and record.interrupted:
            return "the run was interrupted"
        if isinstance(record, SuiteStopped) and record.how != "exit":
            return why_it_stopped(record)
    if journal.ended is None:
        return "the run was killed"
    return "the suite ended before it"


def _case(
    position: int,
    test: str,
    row: Mapping[str, Any],
    start: tuple[float, int] | None,
    finish: tuple[dict[str, Any], float, int] | None,
    ends: Mapping[str, str],
    rest: str,
) -> CaseResult:
    title = clean(str(row.get("title") or ""), 200)
    suspect = _text_or_none(row.get("suspect"))
    if finish is not None:
        event, ended, boot = finish
        message = event.get("message") or event.get("reason") or ""
        values = event.get("values")
        expectations = event.get("expectations")
        return CaseResult(
            position,
            test,
            event["outcome"],
            _seconds(event.get("duration")),
            str(message),
            values if isinstance(values, dict) else {},
            tuple(expectations) if isinstance(expectations, list) else (),
            title,
            suspect or _text_or_none(event.get("suspect")),
            boot,
            start[0] if start else None,
            ended,
        )
    if start is not None:
        message = ends.get(test, "the run was killed in the middle of it")
        return CaseResult(
            position, test, "incomplete", 0.0, message, title=title, suspect=suspect, boot=start[1],
            began=start[0],
        )  # fmt: skip
    return CaseResult(position, test, "not-run", 0.0, rest, title=title, suspect=suspect)


def _text_or_none(value: Any) -> str | None:
    return None if value is None else clean(str(value), 500)


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e9 else 0.0
