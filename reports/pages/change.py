"""A change: its versions with their mails, its commit, the kernels that carry it, and what they did."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from markupsafe import Markup

from reports.catalogue import Catalogue, change_path
from reports.charts import Event, timeline
from reports.marks import state_mark, verdict_mark
from reports.page import Page
from reports.pages.parts import (
    any_simulated,
    campaign_data,
    change_data,
    commit_data,
    evidence_data,
    hardware_data,
    mail_data,
    run_data,
)
from reports.records import ChangeRecord, RunRecord
from reports.values import flatten, shown
from reports.verdicts import TRUSTED_MATCH, trusted_match

MAX_RUNS = 12


def change_page(catalogue: Catalogue, change: ChangeRecord) -> Page:
    """changes/<slug>.html."""
    runs = _runs(catalogue, change)
    return Page(
        path=change_path(change),
        kind="change",
        title=change.title,
        section="windows",
        data={
            **change_data(change),
            "author_email": change.author_email,
            "last_posted": change.last_posted,
            "evidence": evidence_data(change),
            "notes": [{"name": k, "value": shown(v)} for k, v in flatten(change.notes).items()],
            "mails": [
                {
                    "version": version.version,
                    "number": version.number,
                    "total": version.total,
                    "title": version.title,
                    "series": version.series_title,
                    "mail": mail_data(version.mail),
                    "rule": version.link_rule,
                    "score": version.link_score,
                    "evidence": version.link_evidence,
                    "replies": [mail_data(reply) for reply in version.replies],
                }
                for version in change.versions
            ],
            "matches": [
                {
                    "rule": match.rule,
                    "score": match.score,
                    "trusted": match.score >= TRUSTED_MATCH,
                    "evidence": match.evidence,
                    "commit": commit_data(match.commit),
                }
                for match in change.matches
            ],
            "hardware": hardware_data(catalogue, change),
            "runs": [run_data(run) for run in runs[:MAX_RUNS]],
            "campaigns": [campaign_data(c) for c in catalogue.campaigns_by_change.get(change.id, ())],
        },
        charts=partial(_charts, catalogue, change, runs),
        sample=change.sample,
        simulated=any_simulated(runs),
    )


def _runs(catalogue: Catalogue, change: ChangeRecord) -> list[RunRecord]:
    """Every clean run of the first kernel that carries the change, newest first, machine by machine."""
    found: list[RunRecord] = []
    for machine in catalogue.machines:
        kernel = catalogue.first_kernel(change, machine)
        if kernel is not None:
            found.extend(reversed(catalogue.runs_by_cell.get((kernel.id, machine.id), ())))
    return found


def _charts(catalogue: Catalogue, change: ChangeRecord, runs: list[RunRecord]) -> Mapping[str, Markup]:
    events = [
        Event(v.mail.date, f"v{v.version}", "busy", f"Version {v.version} posted: {v.mail.subject}")
        for v in change.versions
        if v.mail.date
    ]
    match = trusted_match(change)
    if match is not None:
        commit = match.commit
        events.append(Event(commit.commit_date, "commit", "busy", f"Committed as {commit.sha[:12]}"))
        for landing in commit.landings:
            if landing.tag and landing.date:
                tone = state_mark(change.state).tone
                title = f"First contained in {landing.tag} of {landing.tree}"
                events.append(Event(landing.date, landing.tag, tone, title))
        for revert in commit.reverted_by:
            date = next((d for t in revert.tags if (d := catalogue.tag_date(t))), None)
            if date:
                events.append(Event(date, "revert", "bad", f"Reverted by {revert.sha[:12]}"))
    release = f"v{change.window}"
    released = catalogue.tag_date(release) if match is not None else None
    if released and not any(event.words == release for event in events):
        events.append(Event(released, release, "good", f"Linux {change.window} released"))
    first_runs: dict[str, RunRecord] = {}
    for run in sorted(runs, key=lambda r: r.started_at):
        first_runs.setdefault(run.machine.name, run)
    for run in first_runs.values():
        mark = verdict_mark(run.verdict, run.state)
        kernel = run.kernel.label if run.kernel else run.requested
        title = f"First run of {kernel} on {run.machine.name}: {mark.word}"
        events.append(Event(run.started_at, f"{run.machine.name} {mark.word}", mark.tone, title))
    if len(events) < 2:
        return {}
    return {"life": timeline(f"The life of the change {change.title}", events)}
