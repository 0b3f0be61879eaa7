"""Parsers of the inference suite: real shapes give the right numbers, hostile bytes never an exception."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.inference import examine, language_models, placement, printed, recipe_report, validate
from harness.inference.metrics import METRICS_LIMIT, Metric, Report

VALIDATE_TEXT = b"""\x1b[38;5;3mValidate Device           : [0000:c5:00.1]\x1b[39m
    Platform              : NPU Strix
    Power Mode            : Performance
-------------------------------------------------------------------------------
Test 1 [0000:c5:00.1]     : cmd-chain-latency
    Details               : Average latency: '9.0' us
    Test Status           : [PASSED]
-------------------------------------------------------------------------------
Test 3 [0000:c5:00.1]     : gemm
    Details               : gemm_1502_00.xclbin not available
                            The test is not supported on this device.
    Test Status           : [SKIPPED]
-------------------------------------------------------------------------------
Test 4 [0000:c5:00.1]     : df-bw
    Error                 : Command failed to complete successfully (ERT_CMD_STATE_TIMEOUT)
    Test Status           : [FAILED]
-------------------------------------------------------------------------------
Validation failed. Please run the command '--verbose' option for more details
"""
VALIDATE_JSON = json.dumps(
    {
        "logical_devices": [
            {
                "device_id": "0000:c5:00.1",
                "platform": "NPU Strix",
                "power_mode": "Performance",
                "tests": [
                    {"name": "gemm", "log": [{"Details": "TOPS: 51.0"}], "status": "PASSED"},
                    {
                        "name": "preemption-overhead",
                        "log": [
                            {"Details": "Average noop preemption overhead for 4x4 is 3.5 us"},
                            {"Details": "Average memtile preemption overhead for 4x8 is 12.25 us"},
                        ],
                        "status": "passed with warnings",
                    },
                    {
                        "name": "new-test",
                        "log": [{"Details": "Average ring hop: 3.5 us"}],
                        "status": "PASSED",
                    },
                    {"name": "latency", "log": "", "status": ""},
                ],
            }
        ]
    }
).encode()
EXAMINE_TEXT = b"""System Configuration
  OS Name              : Linux
  Release              : 7.3.4+deb13-amd64
  Version              : #1 SMP PREEMPT_DYNAMIC

XRT
  Version              : 2.25.00
  amdxdna Version      : 7.3.4+deb13-amd64
  NPU Firmware Version : 1.1.2.64

Device(s) Present
|BDF             |Name       |Architecture  |Topology  |
|----------------|-----------|--------------|----------|
|[0000:00:08.0]  |NPU Strix  |aie2p         |6x8       |

[0000:00:08.0] : NPU Strix
Platform
  Name                   : NPU Strix
  Power Mode             : performance
  Total Columns          : 8

Estimated Power          : 0.512 Watts
"""
ARCHIVE_MISSING = b"""Error: Archive not found: amdxdna/bins/xrt_smi_strx.a
To install the required archive, run:
  smi_install_archive.sh xrt_smi_strx.a 2.25.00
And place it in: /root/.local/share/xrt/2.25.00/amdxdna/bins/
"""
BENCH = """[FLM]  === Benchmark Results ===

 Context Length |              TTFT (s) |      Prefill Speed (tok/s) |     Decoding Speed (tok/s)
----------------------------------------------------------------------------------------------------
             1k |       0.815 ±   0.012 |        1233.57 ±     17.91 |       61.39 ±      0.46
            32k |      26.346 ±   0.037 |        1177.16 ±      1.53 |       26.38 ±      0.07
""".encode()
EP_LOG = b"""Header version 0.1
[Vitis AI EP] No. of Operators :   CPU     8    NPU  2356 VITIS_EP_CPU    13
[Vitis AI EP] No. of Subgraphs :   NPU     2 Actually running on NPU      2
Test Passed
"""
EP_REPORT = json.dumps(
    {
        "deviceStat": [
            {"name": "all", "nodeNum": 166},
            {"name": "CPU", "nodeNum": 2},
            {"name": "NPU", "nodeNum": 164},
        ],
        "subgraphStat": [{"device": "NPU", "count": 1}, {"device": "Actually running on NPU", "count": 1}],
    }
).encode()
RECIPE = json.dumps(
    {"cpu": {"elapsed": 491726, "latency": 21, "throughput": 45793}, "resources": {"runs": 9}}
).encode()
FLM_VALIDATE = json.dumps(
    {
        "ready": False,
        "amd_device_found": True,
        "memlock_ok": False,
        "kernel": "7.2.0",
        "devices": [{"device": "/dev/accel/accel0", "cols": 8, "fw_major": 1, "fw_minor": 1, "fw_patch": 2}],
    }
).encode()
HEALTH = json.dumps(
    {
        "status": "ok",
        "version": "11.8.0",
        "model_loaded": "a",
        "all_models_loaded": [
            {"model_name": "Llama-3.2-1B-Instruct-Hybrid", "device": "gpu npu"},
            {"model_name": "nomic-embed-text-v1-GGUF", "device": "gpu"},
        ],
    }
).encode()
BASES = (
    VALIDATE_TEXT,
    VALIDATE_JSON,
    EXAMINE_TEXT,
    ARCHIVE_MISSING,
    BENCH,
    EP_LOG,
    EP_REPORT,
    RECIPE,
    FLM_VALIDATE,
    HEALTH,
)
#: JSON whose values have any type, under the keys that parsers look for.
KEYS = sorted(set(json.dumps([json.loads(b) for b in BASES if b.startswith(b"{")]).split('"')[1::2]))
HOSTILE_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
).map(lambda value: json.dumps(value).encode())
PARSERS: tuple[Callable[[bytes], Any], ...] = (
    validate.parse_json,
    validate.parse_text,
    validate.missing_archive,
    validate.offered_tests,
    examine.parse_json,
    examine.parse_text,
    recipe_report.parse_report,
    placement.parse_log,
    placement.parse_report,
    language_models.parse_flm_version,
    language_models.parse_flm_validate,
    language_models.parse_flm_models,
    language_models.parse_flm_bench,
    language_models.parse_lemonade_health,
    language_models.parse_lemonade_stats,
)


def _spliced(base: bytes, place: int, junk: bytes, end: int) -> bytes:
    at = place % (len(base) + 1)
    damaged = base[:at] + junk + base[at:]
    return damaged[: end % (len(damaged) + 1)] if end % 2 else damaged


GARBLED = st.one_of(
    st.binary(max_size=600),
    st.builds(
        _spliced,
        st.sampled_from(BASES),
        st.integers(0, 1 << 16),
        st.binary(max_size=40),
        st.integers(0, 1 << 16),
    ),
    HOSTILE_JSON,
)


def metrics_in(value: Any) -> list[Metric]:
    """Every metric anywhere in a parser's answer."""
    if isinstance(value, Metric):
        return [value]
    if isinstance(value, tuple | list):
        return [metric for item in value for metric in metrics_in(item)]
    if hasattr(value, "__dataclass_fields__"):
        return [m for name in value.__dataclass_fields__ for m in metrics_in(getattr(value, name))]
    return []


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: f"{parser.__module__}.{parser.__name__}")
@settings(max_examples=60)
@given(data=GARBLED)
def test_no_output_breaks_a_parser(parser: Callable[[bytes], Any], data: bytes) -> None:
    """Any bytes: an answer, its metrics finite, not negative, named, and storable as JSON in UTF-8."""
    answer = parser(data)
    for metric in metrics_in(answer):
        assert 0 <= metric.value <= printed.LARGEST
        assert metric.name.isascii()
        assert metric.unit
    json.dumps(repr(answer), allow_nan=False).encode("utf-8")


def test_a_flood_is_bounded() -> None:
    """A hundred thousand tests and a document 50 000 levels deep end quickly, with a bounded answer."""
    block = b"Test 1 [0000:c5:00.1] : latency\n    Details : TOPS: 1.0\n    Test Status : [PASSED]\n"
    found = validate.parse_text(VALIDATE_TEXT + block * 30_000)
    assert len(found.tests) == validate.TESTS_LIMIT
    assert validate.parse_json(b"[" * 50_000).corrupted
    assert len(Report("passed", metrics=(Metric("a", 1, "us", "lower"),) * 1000).values) <= METRICS_LIMIT


def test_validate_text_gives_status_reason_and_metrics() -> None:
    """Old names are the present ones, quotes do not matter, a reason keeps its second line."""
    found = validate.parse_text(VALIDATE_TEXT)
    assert (found.device, found.platform, found.power_mode) == ("0000:c5:00.1", "NPU Strix", "Performance")
    assert [(test.name, test.outcome) for test in found.tests] == [
        ("runlist-latency", "passed"),
        ("gemm", "skipped"),
        ("df-bw", "failed"),
    ]
    assert found.tests[0].metrics == (Metric("latency", 9.0, "us", "lower"),)
    assert (
        found.tests[1].message
        == "gemm_1502_00.xclbin not available The test is not supported on this device."
    )
    assert "ERT_CMD_STATE_TIMEOUT" in found.tests[2].message


def test_validate_json_gives_metrics_with_direction() -> None:
    """TOPS rise, overheads fall; a test of the future with a known unit is measured, too."""
    found = validate.parse_json(VALIDATE_JSON)
    assert found.corrupted is None
    by_name = {test.name: test for test in found.tests}
    assert by_name["gemm"].metrics == (Metric("tops", 51.0, "TOPS", "higher"),)
    assert {m.name: m.value for m in by_name["preemption-overhead"].metrics} == {
        "preemption_overhead_noop_4x4": 3.5,
        "preemption_overhead_memtile_4x8": 12.25,
    }
    assert by_name["preemption-overhead"].outcome == "passed"
    assert by_name["new-test"].metrics == (Metric("average_ring_hop", 3.5, "us", "lower"),)
    assert by_name["latency"].outcome == "error", "a test without a status is no pass"


def test_a_cut_validate_file_keeps_the_whole_tests() -> None:
    """Nothing is dropped in silence: the whole tests of a cut file count, and it is said that it was cut."""
    cut = VALIDATE_JSON[: VALIDATE_JSON.index(b'"new-test"') + 30]
    found = validate.parse_json(cut)
    assert [test.name for test in found.tests] == ["gemm", "preemption-overhead"]
    assert found.corrupted is not None


def test_the_missing_archive_is_named_with_its_place() -> None:
    """What is missing and where it belongs; a run that had it says nothing."""
    folder = "/root/.local/share/xrt/2.25.00/amdxdna/bins/"
    assert validate.missing_archive(ARCHIVE_MISSING) == ("amdxdna/bins/xrt_smi_strx.a", folder)
    stderr = b"[xrt-smi] ERROR: No such file or directory 'amdxdna/bins/xrt_smi_phx.a'\n"
    assert validate.missing_archive(stderr) == ("amdxdna/bins/xrt_smi_phx.a", "")
    assert validate.missing_archive(VALIDATE_TEXT) is None


def test_help_tells_which_tests_are_offered() -> None:
    """The list below --run, without groups' descriptions or options."""
    text = b"""  -r, --run  - Run a subset. Valid options are:
                         all        - All applicable validate tests will be executed (default)
                         gemm       - Measure the TOPS value of GEMM INT8operations
                         cmd-chain-latency - Run
GLOBAL OPTIONS:
  --verbose          - Turn on verbosity
"""
    assert validate.offered_tests(text) == ("all", "gemm", "runlist-latency")


def test_examine_json_of_2_25(examine_json: bytes) -> None:
    """Strings become numbers, absent values nothing, and a driver's refusal a complaint."""
    found = examine.parse_json(examine_json)
    device = found.device("0000:00:08.0")
    assert device is not None
    assert (found.xrt, found.kernel) == ("2.25.00", "7.3.4+deb13-amd64")
    assert (device.name, device.firmware, device.topology) == ("NPU Strix", "1.1.2.64", "6x8")
    assert (device.columns, device.power_mode, device.contexts) == (8, "default", 0)
    assert device.ready is True
    assert device.estimated_power is None
    assert device.complaints == ("GET_INFO IOCTL failed (err=-19)",)
    assert found.drivers == {"amdxdna": ""}


def test_examine_text_agrees_with_its_json() -> None:
    """The table, the report and the sensor; the kernel's Version line is not XRT's."""
    found = examine.parse_text(EXAMINE_TEXT)
    device = found.device("")
    assert device is not None
    assert found.xrt == "2.25.00"
    assert (device.bdf, device.name, device.architecture) == ("0000:00:08.0", "NPU Strix", "aie2p")
    assert (device.firmware, device.columns, device.power_mode) == ("1.1.2.64", 8, "performance")
    assert examine.metrics_of(device) == (Metric("estimated_power", 0.512, "W", "lower"),)


def test_recipe_report() -> None:
    """The processor's times with direction; anything else is corrupted, with a reason."""
    found = recipe_report.parse_report(b"[info] done\n" + RECIPE)
    assert [(m.name, m.value, m.better) for m in found.metrics] == [
        ("latency", 21, "lower"),
        ("throughput", 45793, "higher"),
        ("elapsed", 491726, "lower"),
    ]
    assert found.counts == {"runs": 9}
    assert recipe_report.parse_report(b"Peak memory usage: 5.7 MB").corrupted


def test_placement_from_log_and_report() -> None:
    """Counts by device; "Actually running on NPU" is what counts, not what was planned."""
    log, report = placement.parse_log(EP_LOG), placement.parse_report(EP_REPORT)
    assert log is not None
    assert report is not None
    assert (log.on_npu, log.elsewhere, log.running) == (2356, 21, 2)
    assert (report.on_npu, report.elsewhere, report.running) == (164, 2, 1)
    bf16 = placement.parse_log(b"[Vitis AI EP] No. of Operators : VAIML   124\n")
    assert bf16 is not None
    assert bf16.on_npu == 124


@pytest.mark.parametrize(
    ("operators", "running", "completions", "proof"),
    [
        ({"NPU": 164, "CPU": 2}, 1, 12, True),
        ({"NPU": 164, "CPU": 2}, None, None, True),
        ({"CPU": 713, "VITIS_EP_CPU": 1664}, None, 12, False),
        ({"NPU": 164}, 0, 12, False),
        ({"NPU": 164}, 1, 0, False),
    ],
)
def test_only_work_that_reached_the_npu_is_a_proof(
    operators: dict[str, int], running: int | None, completions: int | None, proof: bool
) -> None:
    """The provider's claim falls when nothing runs there or the driver finished no command."""
    assert (placement.judge(placement.Placement(operators, running), completions) == "") is proof


def test_onnx_profile_counts_nodes_once() -> None:
    """One node has many events; only kernels count."""
    events = [
        {"cat": "Node", "name": "conv_kernel_time", "args": {"provider": "CPUExecutionProvider"}},
        {"cat": "Node", "name": "conv_kernel_time", "args": {"provider": "CPUExecutionProvider"}},
        {"cat": "Node", "name": "npu_kernel_time", "args": {"provider": "VitisAIExecutionProvider"}},
        {"cat": "Session", "name": "model_loading"},
    ]
    found = placement.nodes_by_provider(events)
    assert found == {"CPUExecutionProvider": 1, "VitisAIExecutionProvider": 1}


def test_flm_says_what_is_wrong() -> None:
    """JSON and text forms: not ready, with the cause."""
    found = language_models.parse_flm_validate(FLM_VALIDATE)
    assert found.ready is False
    assert found.complaints == ("the limit of locked memory is too low",)
    assert found.facts["firmware"] == "1.1.2"
    text = language_models.parse_flm_validate(
        b"[Linux]  Kernel: 6.19.8\n[ERROR]  NPU firmware version on /dev/accel/accel0 is incompatible.\n"
    )
    assert text.ready is False
    assert "incompatible" in text.complaints[0]
    assert text.facts == {"kernel": "6.19.8"}


def test_flm_version_models_and_bench() -> None:
    """Both forms of the version; only names that a command line may carry; a metric per cell."""
    assert language_models.parse_flm_version(b'{"version": "1.0.3"}') == "1.0.3"
    assert language_models.parse_flm_version(b"FLM v0.9.43\n") == "0.9.43"
    names = b'{"models": [{"name": "llama3.2:1b"}, {"name": "-rf /"}, {"name": "$(reboot):1"}]}'
    assert language_models.parse_flm_models(names) == ("llama3.2:1b",)
    assert language_models.parse_flm_models(b"Models:\n  - llama3.2:1b\n") == ("llama3.2:1b",)
    bench = {metric.name: metric for metric in language_models.parse_flm_bench(BENCH)}
    assert bench["decode_1k"] == Metric("decode_1k", 61.39, "tok/s", "higher")
    assert bench["time_to_first_token_32k"] == Metric("time_to_first_token_32k", 26.346, "s", "lower")
    assert bench["prefill_32k"].value == 1177.16
    assert len(bench) == 6


def test_lemonade() -> None:
    """Only models on the NPU count; another server's answer is none of ours."""
    health = language_models.parse_lemonade_health(HEALTH)
    assert health is not None
    assert health.version == "11.8.0"
    assert health.on_npu == ("Llama-3.2-1B-Instruct-Hybrid",)
    assert language_models.parse_lemonade_health(b'{"status": "ok"}') is None
    stats = language_models.parse_lemonade_stats(b'{"time_to_first_token": 2.14, "tokens_per_second": 33.33}')
    assert [(m.name, m.value, m.unit, m.better) for m in stats] == [
        ("time_to_first_token", 2.14, "s", "lower"),
        ("decode", 33.33, "tok/s", "higher"),
    ]


@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "", "1" * 5000, "51 0", None, True, [], -1e300])
def test_no_number_where_there_is_none(text: Any) -> None:
    """NaN, infinities, monsters and other types are not measured values."""
    assert printed.number(text) is None
