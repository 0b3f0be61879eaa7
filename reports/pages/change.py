"""A change: its versions with their mails, its commit, the kernels that carry it, and what they did."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial

from markupsafe import Markup

from reports.answer_records import CarrierRecord
from reports.catalogue import Catalogue, branch_path, change_path, line_path
from reports.charts import Event, timeline
from reports.marks import carries_mark, state_mark, verdict_mark
from reports.page import Page
from reports.pages.abi import touched_data
from reports.pages.around import cve_data, twin_data
from reports.pages.coming import coming_data
from reports.pages.parts import (
    Data,
    any_simulated,
    campaign_data,
    change_data,
    commit_data,
    evidence_data,
    hardware_data,
    mail_data,
    mark_data,
    run_data,
    waits_of,
)
from reports.pages.stable import bug_data, port_data
from reports.records import ChangeRecord, CommitRecord, RunRecord
from reports.values import flatten, shown
from reports.verdicts import TRUSTED_MATCH, trusted_match

MAX_RUNS = 12
GIVEN = frozenset({"reviewed-by", "acked-by", "tested-by", "reported-by", "suggested-by"})
TOLD = ("wrong_claim", "reverted", "uapi", "stable", "depends")  # notes that have their own place on the page


def change_page(catalogue: Catalogue, change: ChangeRecord) -> Page:
    """changes/<slug>.html."""
    runs = _runs(catalogue, change)
    coming = catalogue.answers.coming.get(change.id)
    touched = catalogue.answers.touched.get(change.id)
    return Page(
        path=change_path(change),
        kind="change",
        title=change.title,
        section="windows",
        data={
            **change_data(change),
            "author_email": change.author_email,
            "last_posted": change.last_posted,
            "claims": _claims(change),
            "waits": waits_of(change),
            "coming": coming_data(change, coming) if coming else None,
            "evidence": evidence_data(change),
            "notes": [
                {"name": k, "value": shown(v)}
                for k, v in flatten({k: v for k, v in change.notes.items() if k not in TOLD}).items()
            ],
            "carriers": [_carrier(catalogue, one) for one in catalogue.answers.carriers.get(change.id, ())],
            "backports": [port_data(p) for p in catalogue.backports_by_change.get(change.id, ())],
            "bugs": [bug_data(catalogue, b) for b in catalogue.answers.bugs if b.fix == change.id],
            "touched": touched_data(touched) if touched else None,
            "cves": [cve_data(catalogue, c) for c in catalogue.around.cves if c.change == change.id],
            "twins": [twin_data(catalogue, t) for t in catalogue.twins_by_change.get(change.id, ())],
            "review": review(change),
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
                    "first_tags": _first_tags(match.commit),
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


def review(change: ChangeRecord) -> Data:
    """What was said about the versions: tags given in replies, and what robots reported.

    A tag is told once a person, with the newest version it was given to; tags that the patch itself came
    with stand at its version.
    """
    given: dict[tuple[str, str], Data] = {}
    reports: list[Data] = []
    for version in change.versions:
        for reply in version.replies:
            if reply.kind == "report":
                reports.append({"version": version.version, "mail": mail_data(reply)})
            for key, value in reply.trailers:
                if key.lower() in GIVEN:
                    given[key.lower(), value] = {
                        "key": key,
                        "value": value,
                        "version": version.version,
                        "mail": mail_data(reply),
                    }
    last = change.versions[-1] if change.versions else None
    return {"tags": list(given.values()), "reports": reports, "newest": last.version if last else None}


def _first_tags(commit: CommitRecord) -> list[Data]:
    """The first tags of a commit, each with the trees whose first it is."""
    found: dict[tuple[str | None, datetime | None], list[str]] = {}
    for landing in commit.landings:
        found.setdefault((landing.tag, landing.date), []).append(landing.tree)
    return [{"tag": tag, "date": date, "trees": trees} for (tag, date), trees in found.items()]


def _claims(change: ChangeRecord) -> Data:
    """What deserves a word before all else: a pull request that was wrong, a revert."""
    wrong, undone = change.notes.get("wrong_claim"), change.notes.get("reverted")
    claim = evidence_of(change, "wrong-claim")
    return {
        "wrong": {
            "claimed": shown(wrong.get("claimed")),
            "truth": shown(wrong.get("truth")),
            "text": claim["text"] if claim else "",
            "url": claim["url"] if claim else None,
        }
        if isinstance(wrong, Mapping)
        else None,
        "reverted": {
            "commit": shown(undone.get("commit")),
            "tag": str(undone["tag"]) if undone.get("tag") else None,
            "again": bool(undone.get("landed_again")),
        }
        if isinstance(undone, Mapping)
        else None,
    }


def evidence_of(change: ChangeRecord, kind: str) -> Data | None:
    """The last piece of evidence of a kind."""
    return next((one for one in reversed(evidence_data(change)) if one["kind"] == kind), None)


def _carrier(catalogue: Catalogue, one: CarrierRecord) -> Data:
    page = None
    if one.kind == "stable" and one.name in catalogue.branches:
        page = branch_path(one.name)
    elif one.name in catalogue.kernel_lines:
        page = line_path(one.name)
    return {
        "kind": one.kind,
        "name": one.name,
        "page": page,
        "carries": mark_data(carries_mark(one.carries)),
        "since": one.since,
        "date": one.date,
        "why": one.why,
    }


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
        for first in _first_tags(commit):
            if first["tag"] and first["date"]:
                tone = state_mark(change.state).tone
                title = f"First contained in {first['tag']} of {', '.join(first['trees'])}"
                events.append(Event(first["date"], first["tag"], tone, title))
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
