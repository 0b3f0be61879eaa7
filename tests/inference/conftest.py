"""Outputs of XRT 2.25 as seen on the virtual NPU (npu4, 7.3.4), cut to what matters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

EXAMINE_2_25 = {
    "schema_version": {"schema": "JSON", "creation_date": "Mon Nov 23 15:02:29 2026 GMT"},
    "system": {
        "host": {
            "os": {"sysname": "Linux", "release": "7.3.4+deb13-amd64", "cores": "1"},
            "xrt": {
                "version": "2.25.00",
                "branch": "",
                "drivers": [{"name": "amdxdna", "version": "unknown", "hash": "unknown"}],
            },
            "devices": [
                {
                    "bdf": "0000:00:08.0",
                    "device_class": "Ryzen",
                    "name": "NPU Strix",
                    "firmware_version": "1.1.2.64",
                    "cert_firmware_version": "N/A",
                    "aie_topology": "6x8",
                    "aie_architecture_version": "aie2p",
                    "is_ready": "true",
                }
            ],
        }
    },
    "devices": [
        {
            "interface_type": "pcie",
            "device_id": "0000:00:08.0",
            "aie_partitions": {"description": "AIE Partition Information", "partitions": ""},
            "platforms": [
                {
                    "static_region": {"name": "NPU Strix", "total_columns": "8"},
                    "status": {"power_mode": "default"},
                    "electrical": {"error_msg": "GET_INFO IOCTL failed (err=-19)"},
                }
            ],
        }
    ],
}


@pytest.fixture
def examine_json() -> bytes:
    """``xrt-smi examine -r all -f JSON`` of 2.25."""
    return json.dumps(EXAMINE_2_25).encode()


@pytest.fixture(scope="session")
def samples(real_data: Path) -> dict[str, bytes]:
    """The real texts of xrt-smi by their number."""
    text = (real_data / "samples" / "xrt_smi_text.txt").read_text()
    parts = text.removeprefix("##### ").split("\n##### ")
    return {part.split(" ", 1)[0]: part.split("\n", 1)[1].encode() for part in parts}
