"""Outputs of XRT 2.25 as seen on the virtual NPU (npu4, 7.3.4), cut to what matters."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from harness.inference.commands import Commands
from lab.machine import Completed

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


class LocalShell:
    """A lab.machine.Shell on this very machine: what the suite does over SSH, without SSH."""

    def run(self, argv: Sequence[str], *, timeout: float, stdin: bytes | None = None) -> Completed:
        """See lab.machine.Shell."""
        done = subprocess.run(
            list(argv), input=stdin or b"", capture_output=True, timeout=timeout, check=False
        )
        return Completed(done.returncode, done.stdout, done.stderr)

    def stream(
        self, argv: Sequence[str], *, timeout: float, silence: float, on_line: Callable[[bytes], None]
    ) -> int:
        """Not needed here."""
        raise NotImplementedError

    def put(self, files: Mapping[str, bytes], folder: str) -> None:
        """See lab.machine.Shell."""
        for name, content in files.items():
            place = Path(folder) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)

    def read(self, path: str, *, limit: int = 1 << 20) -> bytes:
        """See lab.machine.Shell."""
        return Path(path).read_bytes()[:limit]


@pytest.fixture(scope="session")
def machine_here() -> LocalShell:
    """A shell on this machine."""
    return LocalShell()


@pytest.fixture
def local_shell(machine_here: LocalShell) -> LocalShell:
    """The same, with the test's own environment."""
    return machine_here


@pytest.fixture
def local(local_shell: LocalShell, tmp_path: Path) -> Iterator[Commands]:
    """Commands here, their folder installed."""
    made = Commands(local_shell, str(tmp_path / "root"), sys.executable)
    made.install()
    yield made
    made.remove()
    assert not (tmp_path / "root").exists(), "nothing is left behind"
