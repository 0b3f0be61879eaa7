"""Fixtures of the harness's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.evidence import Evidence
from harness.runner import RunOptions, RunRequest, run
from lab.machine import Candidate
from tests.harness.fakes import FakeMachine, candidate, fake_suite


@pytest.fixture
def run_fake(tmp_path: Path) -> Callable[..., Evidence]:
    """Run the fake suite on a fake machine: ``run_fake(machine, candidate=None, **options)``."""

    def do(machine: FakeMachine, kernel: Candidate | None = None, **options: Any) -> Evidence:
        wanted = kernel or (candidate() if machine.boots_candidates else None)
        request = RunRequest(wanted, wanted.version if wanted else "running")
        folder = tmp_path / "runs" / f"20261123T14300{machine.boots}-abcdef"
        return run(machine, request, fake_suite(), folder, RunOptions(**options))

    return do
