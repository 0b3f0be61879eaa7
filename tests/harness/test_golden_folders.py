"""Run folders as they were written, in every state a run can be left in: what they show must not change.

Each folder under golden/ has the files of a run and ``expected.json``, checked by hand when it was made.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.evidence import read_evidence

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.iterdir()))
def test_a_folder_shows_what_it_showed(name: str) -> None:
    expected = json.loads((GOLDEN / name / "expected.json").read_text())
    evidence = read_evidence(GOLDEN / name)
    assert {
        "verdict": evidence.judgement.verdict.value,
        "reason": evidence.judgement.reason,
        "truncated": evidence.journal.truncated,
        "outcomes": {case.test: case.outcome for case in evidence.results},
        "findings": [[f.log, f.line, f.signature, f.test] for f in evidence.findings if f.severity != "ok"],
    } == expected


def test_the_states_that_runs_are_left_in_are_all_there() -> None:
    assert {path.name for path in GOLDEN.iterdir()} >= {
        "finished",
        "aborted-on-boot",
        "panic-mid-test",
        "incomplete-before-any-test",
        "unprintable-characters",
        "killed",
    }
