"""Pieces of data that several pages show: a run, a change, a kernel, a mail in brief."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reports.catalogue import (
    Catalogue,
    campaign_path,
    change_path,
    machine_path,
    path_of_test,
    run_path,
    window_path,
)
from reports.links import commit_url, mail_url
from reports.marks import Mark, phase_mark, state_mark, verdict_mark
from reports.measured import (
    BETTER,
    NOISE_UNKNOWN,
    ONE_SIDE,
    UNCHANGED,
    WITHIN_NOISE,
    WORSE,
    MetricChange,
)
from reports.records import (
    CampaignRecord,
    ChangeRecord,
    CommitRecord,
    KernelRecord,
    MachineRecord,
    MailRecord,
    RunRecord,
)
from reports.values import shown
from reports.verdicts import FAILING, trusted_match

Data = dict[str, Any]


def mark_data(mark: Mark) -> Data:
    """A mark: its word, its tone, what it means."""
    return {"word": mark.word, "tone": mark.tone, "meaning": mark.meaning}


def machine_data(machine: MachineRecord) -> Data:
    """A machine in brief."""
    return {
        "name": machine.name,
        "kind": machine.kind,
        "generation": machine.generation,
        "simulated": machine.simulated,
        "page": machine_path(machine.name),
    }


def kernel_data(kernel: KernelRecord | None) -> Data | None:
    """A kernel in brief."""
    if kernel is None:
        return None
    return {
        "label": kernel.label,
        "version": kernel.version,
        "release": kernel.release,
        "origin": kernel.origin,
        "window": kernel.window,
        "window_page": window_path(kernel.window) if kernel.window else None,
    }


def outcome_counts(run: RunRecord) -> Data:
    """How many tests passed, failed (with errors and incompletes), were skipped, were not run.

    ``suspected`` counts failures that show a known candidate defect; they are not in ``failed``.
    """
    found = run.outcomes
    failed = sum(found.get(outcome, 0) for outcome in FAILING)
    told = {
        "suspected": found.get("suspected", 0),
        "passed": found.get("passed", 0),
        "skipped": found.get("skipped", 0),
    }
    return {
        "total": len(run.results),
        "failed": failed,
        "other": len(run.results) - failed - sum(told.values()),
        **told,
    }


def run_seconds(run: RunRecord) -> float | None:
    """Seconds from command to verdict: the phase "total" where there is one, else the sum of phases."""
    numbers = {k: float(v) for k, v in run.seconds.items() if isinstance(v, int | float)}
    if not numbers:
        return None
    return numbers.get("total", sum(numbers.values()))


def run_data(run: RunRecord) -> Data:
    """A run in brief."""
    return {
        "id": run.id,
        "page": run_path(run.id),
        "machine": machine_data(run.machine),
        "kernel": kernel_data(run.kernel),
        "requested": run.requested,
        "suite": run.suite,
        "started": run.started_at,
        "seconds": run_seconds(run),
        "state": run.state,
        "verdict": mark_data(verdict_mark(run.verdict, run.state)),
        "reason": run.reason,
        "tests": outcome_counts(run),
        "faults": [fault_text(fault) for fault in run.faults],
        "campaign": {"id": run.campaign, "page": campaign_path(run.campaign)} if run.campaign else None,
    }


# What a change of a measured number says, as a mark.
READINGS = {
    BETTER: Mark("better", "good", "It changed for the better by more than single runs differ."),
    WORSE: Mark("worse", "bad", "It changed for the worse by more than single runs differ."),
    WITHIN_NOISE: Mark("within noise", "calm", "Single runs of one side differ by as much."),
    NOISE_UNKNOWN: Mark("noise unknown", "doubt", "Measured once on each side: nobody knows the noise."),
    UNCHANGED: Mark("unchanged", "calm", "The same value."),
    ONE_SIDE: Mark("one side only", "calm", "Nothing to compare with."),
}


def metric_data(change: MetricChange) -> Data:
    """A measured number on two sides; ``percent`` and ``noise`` are in percent, None where unknown."""
    return {
        "test": change.test,
        "page": path_of_test(change.test),
        "name": change.name,
        "unit": change.unit,
        "better": change.better,
        "before": change.before.value if change.before else None,
        "after": change.after.value if change.after else None,
        "runs": [len(side.values) if side else 0 for side in (change.before, change.after)],
        "percent": change.percent,
        "noise": change.noise,
        "reading": mark_data(READINGS[change.reading]),
    }


def fault_text(fault: Any) -> str:
    """An injected fault as it would be typed: its name and its parameters."""
    if isinstance(fault, Mapping):
        rest = fault.get("parameters")
        words = [f"{k}={v}" for k, v in rest.items()] if isinstance(rest, Mapping) else []
        return " ".join([str(fault.get("name", "fault")), *words])
    return str(fault)


def commit_data(commit: CommitRecord) -> Data:
    """A commit with its first tag in each tree."""
    return {
        "sha": commit.sha,
        "title": commit.title,
        "author": commit.author_name,
        "authored": commit.author_date,
        "committed": commit.commit_date,
        "url": commit_url(commit),
        "landings": [
            {
                "tree": landing.tree,
                "role": landing.role,
                "tag": landing.tag,
                "window": landing.window,
                "date": landing.date,
            }
            for landing in commit.landings
        ],
        "reverts": commit.reverts,
        "upstream": commit.upstream,
        "reverted_by": [{"sha": r.sha, "title": r.title, "tags": list(r.tags)} for r in commit.reverted_by],
    }


def brief_change(change: ChangeRecord) -> Data:
    """A change as one line of a list: its title, its page, where it landed."""
    return {
        "title": change.title,
        "change_page": change_path(change),
        "window": change.window,
        "first_tag": change.first_tag,
        "sample": change.sample,
    }


def waits_of(change: ChangeRecord) -> list[Data]:
    """What a change waits for, as mails say: the sentence, whether it has come, and the mail."""
    stated, urls = change.notes.get("depends"), _mail_urls(change)
    return [
        {
            "text": str(one.get("text") or ""),
            "state": str(one.get("state") or "unknown"),
            "url": urls.get(str(one.get("message"))),
        }
        for one in (stated if isinstance(stated, list) else ())
        if isinstance(one, Mapping)
    ]


def change_data(change: ChangeRecord) -> Data:
    """A change in brief, with the commit that its mails became."""
    match = trusted_match(change)
    return {
        "title": change.title,
        "page": change_path(change),
        "key": change.key,
        "author": change.author_name,
        "state": mark_data(state_mark(change.state)),
        "window": change.window,
        "window_page": window_path(change.window) if change.window else None,
        "first_tag": change.first_tag,
        "probability": change.probability,
        "rule": change.rule,
        "posted": change.first_posted,
        "versions": len(change.versions),
        "commit": {"sha": match.commit.sha, "url": commit_url(match.commit)} if match else None,
        "sample": change.sample,
    }


def evidence_data(change: ChangeRecord) -> list[Data]:
    """Evidence as the tracker stored it: kind, text, ref, rule, score; what is absent is None.

    ``url`` where ``ref`` is the id of one of the change's own mails or commits.
    """
    urls = {match.commit.sha: commit_url(match.commit) for match in change.matches} | _mail_urls(change)
    found = []
    for item in change.evidence:
        score = item.get("score")
        found.append(
            {
                "kind": str(item.get("kind") or "note"),
                "text": str(item.get("text") or ""),
                "ref": str(item["ref"]) if item.get("ref") else None,
                "url": urls.get(str(item.get("ref")).strip("<>")),
                "rule": str(item["rule"]) if item.get("rule") else None,
                "score": float(score) if isinstance(score, int | float) else None,
            }
        )
    return found


def _mail_urls(change: ChangeRecord) -> dict[str, str | None]:
    """Message id -> address of the mails that are the change's own."""
    return {
        mail.message_id: mail_url(mail)
        for version in change.versions
        for mail in (version.mail, *version.replies)
    }


def mail_data(mail: MailRecord) -> Data:
    """A mail: who, when, what, and where it can be read."""
    return {
        "message_id": mail.message_id,
        "url": mail_url(mail),
        "date": mail.date,
        "author": mail.author_name or mail.author_email,
        "subject": mail.subject,
        "kind": mail.kind,
        "trailers": [{"key": key, "value": value} for key, value in mail.trailers],
        "corrupted": mail.corrupted,
        "sample": mail.sample,
    }


def campaign_data(campaign: CampaignRecord) -> Data:
    """A bisection in brief."""
    return {
        "id": campaign.id,
        "page": campaign_path(campaign.id),
        "kind": campaign.kind,
        "test": campaign.test,
        "machine": campaign.machine,
        "good": campaign.good,
        "bad": campaign.bad,
        "state": mark_data(phase_mark(campaign.state)),
        "started": campaign.started_at,
        "steps": len(campaign.steps),
        "candidates": len(campaign.candidates),
        "culprit": campaign.culprit,
        "probability": campaign.probability,
    }


def hardware_data(catalogue: Catalogue, change: ChangeRecord) -> list[Data]:
    """What the first kernel that carries a change did, on each machine that ran anything."""
    found = []
    for machine in catalogue.machines:
        kernel = catalogue.first_kernel(change, machine)
        cell = catalogue.cell(kernel, machine) if kernel else None
        found.append(
            {
                "machine": machine_data(machine),
                "kernel": kernel_data(kernel),
                "verdict": mark_data(catalogue.mark(cell)),
                "run": run_path(cell.run.id) if cell else None,
                "new_failures": len(catalogue.judgements[cell.run.id].tests("new failure")) if cell else 0,
            }
        )
    return found


def expectation_data(expectation: Mapping[str, Any]) -> Data:
    """What was expected of a kernel, and from where that is known: every value as text."""
    return {str(key): shown(value) for key, value in expectation.items()}


def any_simulated(runs: Iterable[RunRecord]) -> bool:
    """Whether a simulated machine is among the runs'."""
    return any(run.machine.simulated for run in runs)
