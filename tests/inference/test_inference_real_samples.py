"""Real outputs of xrt-smi that people posted, 2024 to 2026: Windows and Linux, five generations."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.inference import examine, validate

pytestmark = pytest.mark.real

EXPECTED = {
    # sample number: [(test, outcome, metric, value, unit)]
    "1": [
        ("latency", "passed", "latency", 61.8, "us"),
        ("throughput", "passed", "throughput", 65648.0, "op/s"),
        ("runlist-latency", "passed", "latency", 9.0, "us"),
        ("runlist-throughput", "passed", "throughput", 94739.9, "op/s"),
        ("df-bw", "passed", "bandwidth_per_shim_dma", 37.7, "GB/s"),
    ],
    "2": [
        ("latency", "passed", "latency", 90.0, "us"),
        ("throughput", "passed", "throughput", 28243.0, "op/s"),
    ],
    "4": [
        ("runlist-latency", "passed", "latency", 316.0, "us"),
        ("runlist-throughput", "passed", "throughput", 3156.0, "op/s"),
        ("latency", "passed", "latency", 31.0, "us"),
        ("throughput", "passed", "throughput", 11161.0, "op/s"),
    ],
    "6": [("gemm", "passed", "tops", 51.0, "TOPS")],
}


@pytest.mark.parametrize("sample", sorted(EXPECTED))
def test_every_number_of_a_posted_run(samples: dict[str, bytes], sample: str) -> None:
    """Each test with its status and its number, in order."""
    found = validate.parse_text(samples[sample])
    assert [
        (test.name, test.outcome, test.metrics[0].name, test.metrics[0].value, test.metrics[0].unit)
        for test in found.tests
    ] == EXPECTED[sample]


def test_a_cut_run_does_not_pass(samples: dict[str, bytes]) -> None:
    """Sample 3 ends inside its third test: that one has no status."""
    found = validate.parse_text(samples["3"])
    assert [test.outcome for test in found.tests] == ["passed", "passed", "error"]
    assert found.platform == "RyzenAI-npu9-vf"


def test_a_skip_keeps_its_reason(samples: dict[str, bytes]) -> None:
    """Sample 7: Phoenix has no gemm, said in two lines after an empty one."""
    (test,) = validate.parse_text(samples["7"]).tests
    assert test.outcome == "skipped"
    assert "not supported on this device" in test.message
    assert "gemm_1502_00.xclbin" in test.message


def test_examine_of_three_ages(samples: dict[str, bytes]) -> None:
    """2.23 with a newer kernel, 2.17 without a device, 2.17 with firmware N/A."""
    newest = examine.parse_text(samples["9"])
    assert (newest.xrt, newest.kernel) == ("2.23.0", "7.0.0-0.rc7.55.fc45.x86_64")
    nothing = examine.parse_text(samples["10"])
    assert (nothing.xrt, nothing.devices) == ("2.17.0", ())
    old = examine.parse_text(samples["11"])
    assert [(device.bdf, device.name, device.firmware) for device in old.devices] == [
        ("0000:c7:00.1", "RyzenAI-npu1", "")
    ]
    platform = examine.parse_text(samples["12"])
    (device,) = platform.devices
    assert (device.name, device.power_mode, device.columns) == ("NPU Strix", "default", 8)


def test_the_cut_json_of_windows(real_data: Path) -> None:
    """The file stops in its second test: the first counts, and it is said that the file is not whole."""
    data = (real_data / "samples" / "xrt_smi_validate_partial.json.txt").read_bytes()
    found = validate.parse_json(data[data.index(b"{") :])
    assert [(test.name, test.metrics[0].value) for test in found.tests] == [("latency", 127.2)]
    assert found.corrupted
