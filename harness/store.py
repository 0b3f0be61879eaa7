"""Run folders -> database rows. The journal is the truth; these rows can be made again at any time.

Storing a run twice replaces what was there. A run whose process died (its journal has no end and nobody
holds its lock) is stored as ``interrupted`` with the results it had; ``store_missing`` finds such runs, so
that any later command brings them in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from db import run_tables as tables
from harness.errors import JournalError
from harness.evidence import Evidence, environment_of, read_evidence
from harness.journal import Booted, EnvironmentRecord, Proof, RunEnded, run_folders
from harness.results import phases

# "7.3.4", "7.3-rc7", "7.3~rc7-1" -> the release window "7.3"
WINDOW = re.compile(r"^(\d{1,3}\.\d{1,3})(?!\d)")


@dataclass(frozen=True)
class Stored:
    """What ``store_missing`` did: runs newly stored, those found dead, and folders that cannot be read."""

    stored: tuple[str, ...] = ()
    interrupted: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def store_run(session: Session, evidence: Evidence) -> tables.Run:
    """Write one run's rows, replacing older ones of the same run. The caller commits."""
    header = evidence.journal.header
    ended = evidence.journal.ended
    state = "running" if evidence.alive else "interrupted"
    if ended is not None:
        state = "interrupted" if ended.interrupted else "finished"
    judged = None if evidence.alive else evidence.judgement
    new = tables.Run(
        id=header.run,
        machine_id=_machine(session, evidence).id,
        kernel_id=_kernel_id(session, evidence),
        environment_id=_environment_id(session, evidence),
        suite=header.suite,
        suite_digest=header.suite_digest,
        requested=header.requested,
        started_at=header.started_at,
        ended_at=ended.ended_at if ended is not None else None,
        state=state,
        verdict=judged.verdict.value if judged is not None else None,
        reason=judged.reason if judged is not None else "",
        boot_id=proof_seen(evidence, "boot-id"),
        seconds=phases(evidence.journal),
        faults=list(header.faults),
        folder=str(evidence.folder),
    )
    row = session.merge(new)  # the row itself stays: a campaign's step may point to it
    session.flush()
    _store_results(session, evidence)
    _store_findings(session, evidence)
    session.expire(row, ["results", "findings"])
    return row


def store_missing(session: Session, runs: Path) -> Stored:
    """Bring in every run folder that the database lacks or knows only as running. The caller commits."""
    known = {row.id: row.state for row in session.execute(select(tables.Run.id, tables.Run.state))}
    stored, interrupted, unreadable = [], [], []
    for folder in run_folders(runs):
        if known.get(folder.name, "running") != "running":
            continue
        try:
            evidence = read_evidence(folder)
        except JournalError as error:
            unreadable.append(str(error))
            continue
        if evidence.journal.header.run != folder.name:
            unreadable.append(f"{folder}: its journal is of the run {evidence.journal.header.run!r}")
            continue
        row = store_run(session, evidence)
        stored.append(row.id)
        if row.state == "interrupted":
            interrupted.append(row.id)
    return Stored(tuple(stored), tuple(interrupted), tuple(unreadable))


def known_build_id(session: Session, release: str, origin: str) -> str | None:
    """The GNU build id that this kernel showed before, None when it never ran."""
    return session.scalar(
        select(tables.Kernel.build_id).where(tables.Kernel.release == release, tables.Kernel.origin == origin)
    )


def window_of(version: str) -> str | None:
    """The release window a version belongs to: "7.3.4" -> "7.3"; None when it does not say."""
    match = WINDOW.match(version)
    return match[1] if match else None


def proof_seen(evidence: Evidence, name: str) -> str | None:
    """What the last proof of that name showed."""
    seen = [r.seen for r in evidence.journal.records if isinstance(r, Proof) and r.name == name]
    return seen[-1] if seen else None


def _machine(session: Session, evidence: Evidence) -> tables.Machine:
    header = evidence.journal.header
    row = session.scalar(select(tables.Machine).where(tables.Machine.name == header.machine))
    if row is None:
        row = tables.Machine(name=header.machine)
        session.add(row)
    row.kind = header.machine_kind
    row.simulated = header.simulated
    row.generation = header.generation or getattr(row, "generation", None) or _seen_generation(evidence)
    session.flush()
    return row


# (device, revision) of harness.examine -> the driver's name of the generation
GENERATIONS = {
    ("0x1502", "0x00"): "npu1",
    ("0x17f0", "0x10"): "npu4",
    ("0x17f0", "0x11"): "npu5",
    ("0x17f0", "0x20"): "npu6",
}


def _seen_generation(evidence: Evidence) -> str | None:
    facts = _environment_facts(evidence)
    npus = facts.get("npu") if facts else None
    first = npus[0] if isinstance(npus, list) and npus else {}
    return GENERATIONS.get((str(first.get("device")), str(first.get("revision"))))


def _environment_facts(evidence: Evidence) -> dict[str, Any] | None:
    found = environment_of(evidence.journal)
    return found[1] if found else None


def _kernel_id(session: Session, evidence: Evidence) -> int | None:
    """The candidate's row; for a machine that was not booted by us, the row of what it runs."""
    header = evidence.journal.header
    release = header.release or proof_seen(evidence, "release")
    if release is None:
        return None
    row = session.scalar(
        select(tables.Kernel).where(tables.Kernel.release == release, tables.Kernel.origin == header.origin)
    )
    if row is None:
        version = header.version or release
        row = tables.Kernel(
            release=release, version=version, window=window_of(version), origin=header.origin, detail={}
        )
        session.add(row)
    row.build_id = proof_seen(evidence, "kernel-build-id") or row.build_id
    detail = {
        **(row.detail or {}),
        **header.candidate,
        "module_srcversion": proof_seen(evidence, "module-srcversion"),
        "module_build_id": proof_seen(evidence, "module-build-id"),
    }
    row.detail = {key: value for key, value in detail.items() if value is not None}
    session.flush()
    return row.id


def _environment_id(session: Session, evidence: Evidence) -> int | None:
    found = environment_of(evidence.journal)
    if found is None:
        return None
    digest, facts = found
    row = session.scalar(select(tables.Environment).where(tables.Environment.digest == digest))
    if row is None:
        row = tables.Environment(digest=digest, facts=facts)
        session.add(row)
        session.flush()
    return row.id


def _store_results(session: Session, evidence: Evidence) -> None:
    run = evidence.journal.header.run
    rows = [
        {
            "run_id": run,
            "position": case.position,
            "test": case.test,
            "outcome": case.outcome,
            "seconds": case.seconds,
            "message": case.message,
            "values": {
                **case.values,
                **({"expectations": list(case.expectations)} if case.expectations else {}),
                **({"suspect": case.suspect} if case.suspect else {}),
                **({"title": case.title} if case.title else {}),
            },
        }
        for case in evidence.results
    ]
    session.execute(delete(tables.Result).where(tables.Result.run_id == run))
    if rows:
        session.execute(insert(tables.Result), rows)


def _store_findings(session: Session, evidence: Evidence) -> None:
    run = evidence.journal.header.run
    rows = [
        {
            "run_id": run,
            "line": finding.line,
            "log": finding.log,
            "signature": finding.signature,
            "klass": finding.klass,
            "severity": finding.severity,
            "text": finding.text,
            "test": finding.test,
            "environment_fault": finding.environment,
        }
        for finding in evidence.findings
    ]
    session.execute(delete(tables.Finding).where(tables.Finding.run_id == run))
    if rows:
        session.execute(insert(tables.Finding), rows)


def run_facts(evidence: Evidence) -> dict[str, Any]:
    """The run as plain JSON data, for `--json` and for scripts."""
    header = evidence.journal.header
    booted = next((r for r in evidence.journal.records if isinstance(r, Booted)), None)
    problems = [
        problem
        for record in evidence.journal.records
        if isinstance(record, EnvironmentRecord)
        for problem in record.problems
    ]
    ended = next((r for r in evidence.journal.records if isinstance(r, RunEnded)), None)
    return {
        "run": header.run,
        "machine": header.machine,
        "simulated": header.simulated,
        "requested": header.requested,
        "release": header.release or proof_seen(evidence, "release"),
        "suite": header.suite,
        "suite_digest": header.suite_digest,
        "started_at": header.started_at,
        "ended_at": ended.ended_at if ended else None,
        "alive": evidence.alive,
        "verdict": evidence.judgement.verdict.value,
        "reason": evidence.judgement.reason,
        "evidence": list(evidence.judgement.evidence),
        "faults": list(header.faults),
        "boot": booted.facts if booted else {},
        "proofs": [
            {"name": r.name, "expected": r.expected, "seen": r.seen, "holds": r.holds}
            for r in evidence.journal.records
            if isinstance(r, Proof)
        ],
        "environment": _environment_facts(evidence),
        "problems": problems,
        "seconds": phases(evidence.journal),
        "counts": counts(evidence.results),
        "results": [
            {
                "test": case.test,
                "outcome": case.outcome,
                "seconds": case.seconds,
                "message": case.message,
                "values": dict(case.values),
                "suspect": case.suspect,
            }
            for case in evidence.results
        ],
        "findings": [
            {
                "log": finding.log,
                "line": finding.line,
                "signature": finding.signature,
                "class": finding.klass,
                "severity": finding.severity,
                "test": finding.test,
                "environment": finding.environment,
                "text": finding.text,
            }
            for finding in evidence.findings
        ],
        "folder": str(evidence.folder),
    }


def counts(results: Sequence[Any]) -> dict[str, int]:
    """How many tests ended how, only the outcomes that occur."""
    found: dict[str, int] = {}
    for case in results:
        found[case.outcome] = found.get(case.outcome, 0) + 1
    return found
