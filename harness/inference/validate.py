"""``xrt-smi validate``: its tests, and what it says of them, as JSON or as text, of any version.

Facts: XRT 2.25 and 2.26 (core/tools/common/tests, SubCmdValidate.cpp), reports of 2024 to 2026. Numbers
stand only in the text of "Details"; wording and units changed ("'127.2' us", "op/s", "ops", "ops/s"), so a
line is read by what it says, not by the test it belongs to. No I/O here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from db.metrics import Better, Metric
from harness.inference.metrics import Outcome
from harness.inference.printed import (
    NUMBER,
    items_of,
    json_of,
    lines_of,
    name_of,
    number,
    text_of,
    word_of,
)

TESTS_LIMIT = 200
DETAILS_LIMIT = 100  # lines of one test


@dataclass(frozen=True)
class ValidateTest:
    """A test that xrt-smi offers. ``hidden`` needs an advanced mode that releases up to 2.25 lack."""

    name: str
    title: str
    families: tuple[str, ...]  # phoenix (npu1), strix (npu4, 5, 6), npu3
    hidden: bool = False
    root: bool = False


ALL = ("phoenix", "strix", "npu3")
LATER = ("strix", "npu3")
VALIDATE_TESTS = (
    ValidateTest("latency", "end-to-end latency of one command", ALL),
    ValidateTest("throughput", "end-to-end throughput of commands", ALL),
    ValidateTest("gemm", "INT8 matrix multiplication, TOPS", LATER),
    ValidateTest("runlist-latency", "latency of a command in a list", LATER, hidden=True),
    ValidateTest("runlist-throughput", "throughput of command lists", LATER, hidden=True),
    ValidateTest("df-bw", "bandwidth of one shim DMA", ALL, hidden=True),
    ValidateTest("tct-one-col", "task completion tokens, one column", ALL, hidden=True),
    ValidateTest("tct-all-col", "task completion tokens, all columns", ALL, hidden=True),
    ValidateTest("aie-reconfig-overhead", "cost of reconfiguring the array", ("strix",), hidden=True),
    ValidateTest("preemption-overhead", "cost of a preemption", LATER, hidden=True, root=True),
    ValidateTest(
        "temporal-sharing-overhead", "cost of sharing columns in time", ("strix",), hidden=True, root=True
    ),
    ValidateTest("shim-dma-bw", "bandwidth of the shim DMAs", ("npu3",), hidden=True),
    ValidateTest("sanity", "a small model, its output compared", LATER, hidden=True),
)
FAMILIES = {"npu1": "phoenix", "npu4": "strix", "npu5": "strix", "npu6": "strix"}
OLD_NAMES = {"cmd-chain-latency": "runlist-latency", "cmd-chain-throughput": "runlist-throughput"}

_QUOTED = rf"'?(?P<value>{NUMBER})'?"
#: What a line of details says -> metric; first match wins.
_PHRASES: tuple[tuple[str, str, str, Better], ...] = (
    # matches "Average latency: 61.8 us", "Average latency: '127.2' us"
    (rf"\baverage latency\s*:\s*{_QUOTED}\s*us\b", "latency", "us", "lower"),
    # matches "Average throughput: 65648.0 ops", "... op/s", "... ops/s"
    (rf"\baverage throughput\s*:\s*{_QUOTED}\s*ops?(?:/s)?(?!\w)", "throughput", "op/s", "higher"),
    # matches "TOPS: 51.0"
    (rf"(?:^|\s)TOPS\s*:\s*{_QUOTED}", "tops", "TOPS", "higher"),
    # matches "Average bandwidth per shim DMA: 37.7 GB/s"
    (
        rf"\baverage bandwidth per shim DMA\s*:\s*{_QUOTED}\s*GB/s",
        "bandwidth_per_shim_dma",
        "GB/s",
        "higher",
    ),
    # matches "Average bandwidth (read): 12.0 GB/s"
    (
        rf"\baverage bandwidth \((?P<which>[^)]{{1,40}})\)\s*:\s*{_QUOTED}\s*GB/s",
        "bandwidth",
        "GB/s",
        "higher",
    ),
    # matches "Average time for TCT: '2.0' us", "Average time for TCT (all columns): 2.0 us"
    (rf"\baverage time for TCT(?: \(all columns\))?\s*:\s*{_QUOTED}\s*us\b", "tct_time", "us", "lower"),
    # matches "Average TCT throughput: '499935.2' TCT/s"
    (
        rf"\baverage TCT throughput(?: \(all columns\))?\s*:\s*{_QUOTED}\s*TCT/s",
        "tct_throughput",
        "TCT/s",
        "higher",
    ),
    # matches "Array reconfiguration overhead: 1.2 ms"
    (
        rf"\barray reconfiguration overhead\s*:\s*{_QUOTED}\s*ms\b",
        "reconfiguration_overhead",
        "ms",
        "lower",
    ),
    # matches "Average memtile preemption overhead for 4x8 is 12.0 us"
    (
        rf"\baverage (?P<which>\w{{1,20}}) preemption overhead(?: for (?P<size>\w{{1,8}}))?"
        rf"(?:\s+is|\s*:)\s*{_QUOTED}\s*us\b",
        "preemption_overhead",
        "us",
        "lower",
    ),
    # matches "Overhead per frame event: 3.1 us"
    (rf"\boverhead per frame event\s*:\s*{_QUOTED}\s*us\b", "overhead_per_frame_event", "us", "lower"),
)
PHRASES = tuple((re.compile(p, re.I), name, unit, better) for p, name, unit, better in _PHRASES)
#: A quantity that no phrase knows: "Average foo: 12.3 GB/s"; only units whose good direction is certain.
OTHER_PHRASE = re.compile(
    rf"^(?P<label>[A-Za-z][A-Za-z0-9 ()/_-]{{2,60}}?)\s*(?::|\bis\b)\s*{_QUOTED}\s*"
    r"(?P<unit>us|ops?/s|GB/s|MB/s|TCT/s|TOPS)$"
)
_HIGHER = ("op/s", "ops/s", "GB/s", "MB/s", "TCT/s", "TOPS")
# matches "Test 3 [0000:c5:00.1]     : cmd-chain-latency"
_TEST_LINE = re.compile(r"^Test \d{1,5} \[[^\]]{1,40}\]\s*:\s*(?P<name>\S.{0,99})$")
# matches "    Details               : Average latency: 61.8 us"; the key says what follows
_KEY_LINE = re.compile(
    r"^\s{1,12}(?P<key>Details|Error|Warning|Description|Test Status|Xclbin|Testcase)\s*:\s*(?P<rest>.*)$"
)
_HEADER_LINE = re.compile(r"^\s*(?P<key>Validate Device|Platform|Power Mode)\s*:\s*(?P<rest>.*)$")
_STATUS = re.compile(r"\[?\s*(PASSED WITH WARNINGS|PASSED|FAILED|SKIPPED)\s*\]?", re.I)
# matches 'Archive not found: amdxdna/bins/xrt_smi_strx.a' and
# "No such file or directory 'amdxdna/bins/xrt_smi_strx.a'"
_ARCHIVE = re.compile(
    r"(?:Archive not found\s*:\s*|No such file or directory\s*')(?P<path>[\w./-]{1,200}?\.a)\b"
)
_ARCHIVE_PLACE = re.compile(r"place it in\s*:\s*(?P<folder>[^\s'\"]{1,300})", re.I)
# matches ["latency" in] "                         latency    - Run end-to-end latency test"
_OFFERED = re.compile(r"^\s{20,}(?P<name>[a-z][a-z0-9-]{1,40})\s+- \S")
# matches '{ "name": "latency", ...' where a test's object begins in a cut document
_OBJECT = re.compile(r'\{\s*"name"\s*:')


@dataclass(frozen=True)
class ValidatedTest:
    """One test that xrt-smi ran, under its present name."""

    name: str
    outcome: Outcome
    message: str
    metrics: tuple[Metric, ...]
    details: tuple[str, ...]


@dataclass(frozen=True)
class Validation:
    """All that one call said. ``corrupted`` is the reason when the output was not whole."""

    device: str = ""
    platform: str = ""
    power_mode: str = ""
    tests: tuple[ValidatedTest, ...] = ()
    corrupted: str | None = None

    def test(self, name: str) -> ValidatedTest | None:
        """The test of this present name."""
        return next((test for test in self.tests if test.name == name), None)


def parse_json(data: bytes) -> Validation:
    """The file that ``-f JSON -o FILE`` writes; from a cut one the tests that are whole."""
    document = json_of(data)
    if not isinstance(document, dict):
        tests = tuple(_salvaged(text_of(data)))
        return Validation(tests=tests, corrupted=f"no whole JSON document; {len(tests)} whole tests in it")
    device = next(iter(items_of(document.get("logical_devices"))), {})
    tests = tuple(_json_test(test) for test in items_of(device.get("tests"), TESTS_LIMIT))
    return Validation(
        word_of(device.get("device_id")),
        word_of(device.get("platform")),
        word_of(device.get("power_mode")),
        tests,
        None if device else "no logical_devices in it",
    )


def _salvaged(text: str) -> Iterator[ValidatedTest]:
    decoder = json.JSONDecoder()
    for match in list(_OBJECT.finditer(text))[:TESTS_LIMIT]:
        try:
            found, _end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and "status" in found:
            yield _json_test(found)


def _json_test(test: dict[str, Any]) -> ValidatedTest:
    details: list[str] = []
    errors: list[str] = []
    for entry in items_of(test.get("log"), DETAILS_LIMIT):
        for key, value in list(entry.items())[:20]:
            if isinstance(value, str):
                kind = errors if key.lower().startswith("error") else details
                kind += [line.strip()[:500] for line in value.split("\n")[:DETAILS_LIMIT] if line.strip()]
    return _test(word_of(test.get("name"), 100), word_of(test.get("status")), details, errors)


def parse_text(data: bytes) -> Validation:
    """What is printed without ``-f``; lines that continue a value are kept with it."""
    header: dict[str, str] = {}
    tests: list[ValidatedTest] = []
    name: str | None = None
    status, key = "", ""
    details: list[str] = []
    errors: list[str] = []

    def finish() -> None:
        nonlocal name, status, key
        if name is not None and len(tests) < TESTS_LIMIT:
            tests.append(_test(name, status, details, errors))
        name, status, key = None, "", ""
        details.clear()
        errors.clear()

    for line in lines_of(data):
        started = _TEST_LINE.match(line)
        if started:
            finish()
            name = started["name"].strip()
            continue
        if name is None:
            head = _HEADER_LINE.match(line)
            if head and len(header) < 3:
                header.setdefault(head["key"], head["rest"].strip(" []"))
            continue
        if line.startswith("---") or line.lower().startswith("validation "):
            finish()
            continue
        keyed = _KEY_LINE.match(line)
        key = keyed["key"] if keyed else key
        rest = (keyed["rest"] if keyed else line).strip()
        if key == "Test Status" and not status:
            status = rest
        elif key == "Error" and rest and len(errors) < DETAILS_LIMIT:
            errors.append(rest)
        elif key in ("Details", "Warning") and rest and len(details) < DETAILS_LIMIT:
            details.append(rest)
    finish()
    return Validation(
        word_of(header.get("Validate Device", "")),
        word_of(header.get("Platform", "")),
        word_of(header.get("Power Mode", "")),
        tuple(tests),
        None if header or tests else "no validation in it",
    )


def _test(name: str, status: str, details: list[str], errors: list[str]) -> ValidatedTest:
    found = _STATUS.search(status)
    said = found[1].upper() if found else ""
    outcome: Outcome = "error"
    if said:
        outcome = "passed" if said.startswith("PASSED") else "failed" if said == "FAILED" else "skipped"
    message = " ".join(errors or (details if outcome != "passed" else []))[:2000]
    if outcome == "error":
        message = f"it ended without a status{': ' + message if message else ''}"
    return ValidatedTest(
        OLD_NAMES.get(name, name), outcome, message, metrics_of(details), tuple(details[:DETAILS_LIMIT])
    )


def metrics_of(details: list[str]) -> tuple[Metric, ...]:
    """The numbers in lines of details; of two with the same name the first counts."""
    found: dict[str, Metric] = {}
    for line in details[:DETAILS_LIMIT]:
        metric = _metric(line[:500])
        if metric is not None:
            found.setdefault(metric.name, metric)
    return tuple(found.values())


def _metric(line: str) -> Metric | None:
    for pattern, name, unit, better in PHRASES:
        match = pattern.search(line)
        if match:
            groups = match.groupdict()
            parts = [name, *(name_of(groups[key]) for key in ("which", "size") if groups.get(key))]
            return _checked("_".join(parts), match["value"], unit, better)
    match = OTHER_PHRASE.match(line)
    if match:
        higher = match["unit"] in _HIGHER
        return _checked(
            name_of(match["label"]), match["value"], match["unit"], "higher" if higher else "lower"
        )
    return None


def _checked(name: str, value: str, unit: str, better: Better) -> Metric | None:
    measured = number(value)
    return None if measured is None or measured < 0 else Metric(name, measured, unit, better)


def missing_archive(data: bytes) -> tuple[str, str] | None:
    """The archive of test programs that xrt-smi did not find and the folder it wants it in; None otherwise.

    ("amdxdna/bins/xrt_smi_strx.a", "/root/.local/share/xrt/2.25.00/amdxdna/bins/"); the folder may be "".
    """
    text = text_of(data)
    found = _ARCHIVE.search(text)
    if not found:
        return None
    place = _ARCHIVE_PLACE.search(text)
    return found["path"], place["folder"] if place else ""


def offered_tests(data: bytes) -> tuple[str, ...]:
    """The tests that ``validate --help`` lists, under their present names."""
    names = [match["name"] for line in lines_of(data) if (match := _OFFERED.match(line))]
    return tuple(dict.fromkeys(OLD_NAMES.get(name, name) for name in names[:TESTS_LIMIT]))
