"""Database -> records, in a fixed number of queries however many rows there are.

Mail bodies and commit messages are never read: pages show ids, titles and trailers and link to the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.git_tables import Commit, Landing, Match, Tag, Tree
from db.mail_tables import Change, Message, Patch, Series, Source
from db.run_tables import Campaign, CampaignStep, Environment, Finding, Kernel, Machine, Result, Run
from reports.answer_reading import read_answers
from reports.around_reading import read_around
from reports.records import (
    CampaignRecord,
    ChangeRecord,
    CommitRecord,
    FindingRecord,
    KernelRecord,
    LandingRecord,
    MachineRecord,
    MailRecord,
    MatchRecord,
    ResultRecord,
    RevertRecord,
    RunRecord,
    Snapshot,
    SourceRecord,
    StepRecord,
    TagRecord,
    VersionRecord,
)

# A reply's chain of ancestors is followed this far up; deeper threads are hostile or broken.
THREAD_DEPTH = 64
# A "This reverts commit" line may hold an abbreviated id; twelve digits are what kernel trailers use.
SHORT = 12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_snapshot(session: Session) -> Snapshot:
    """Everything the site shows. About thirty SELECTs; rows that point nowhere are left out."""
    machines = {
        row.id: MachineRecord(row.id, row.name, row.kind, row.generation, row.simulated)
        for row in session.scalars(select(Machine).order_by(Machine.name))
    }
    kernels = {
        row.id: KernelRecord(
            row.id, row.release, row.version, row.window, row.origin, row.build_id, dict(row.detail or {})
        )
        for row in session.scalars(select(Kernel).order_by(Kernel.id))
    }
    campaigns = _campaigns(session)
    return Snapshot(
        machines=tuple(machines.values()),
        kernels=tuple(kernels.values()),
        runs=_runs(session, machines, kernels, campaigns),
        changes=_changes(session),
        tags=_tags(session),
        sources=tuple(
            SourceRecord(row.kind, row.name, row.sample, row.synced_at, row.problem)
            for row in session.scalars(select(Source).order_by(Source.id))
        ),
        campaigns=campaigns,
        answers=read_answers(session),
        around=read_around(session),
    )


def _runs(
    session: Session,
    machines: Mapping[int, MachineRecord],
    kernels: Mapping[int, KernelRecord],
    campaigns: Iterable[CampaignRecord],
) -> tuple[RunRecord, ...]:
    of_campaign = {step.run_id: c.id for c in campaigns for step in c.steps if step.run_id}
    environments = {
        row.id: (row.digest, dict(row.facts or {})) for row in session.scalars(select(Environment))
    }
    results: dict[str, list[ResultRecord]] = defaultdict(list)
    for run_id, test, outcome, seconds, message, values in session.execute(
        select(
            Result.run_id, Result.test, Result.outcome, Result.seconds, Result.message, Result.values
        ).order_by(Result.run_id, Result.position)
    ):
        results[run_id].append(_result(test, outcome, seconds, message or "", dict(values or {})))
    findings: dict[str, list[FindingRecord]] = defaultdict(list)
    for row in session.scalars(select(Finding).order_by(Finding.run_id, Finding.line, Finding.id)):
        findings[row.run_id].append(
            FindingRecord(
                row.line,
                row.log,
                row.signature,
                row.klass,
                row.severity,
                row.text,
                row.test,
                row.environment_fault,
            )
        )
    runs: list[RunRecord] = []
    for run in session.scalars(select(Run).order_by(Run.started_at, Run.id)):
        digest, facts = environments.get(run.environment_id or 0, (None, {}))
        runs.append(
            RunRecord(
                id=run.id,
                machine=machines[run.machine_id],
                kernel=kernels.get(run.kernel_id or 0),
                environment=facts,
                environment_digest=digest,
                suite=run.suite,
                suite_digest=run.suite_digest,
                requested=run.requested,
                started_at=run.started_at,
                ended_at=run.ended_at,
                state=run.state,
                verdict=run.verdict,
                reason=run.reason or "",
                boot_id=run.boot_id,
                seconds=_finite(run.seconds),
                faults=tuple(run.faults or ()),
                folder=run.folder,
                results=tuple(results.get(run.id, ())),
                findings=tuple(findings.get(run.id, ())),
                campaign=of_campaign.get(run.id),
            )
        )
    return tuple(runs)


def _finite(seconds: Mapping[str, Any] | None) -> dict[str, Any]:
    """JSON knows no infinity; a duration that is none is left out."""
    return {k: v for k, v in (seconds or {}).items() if not isinstance(v, float) or isfinite(v)}


def _result(test: str, outcome: str, seconds: float, message: str, values: dict[str, Any]) -> ResultRecord:
    """The harness keeps what the test is about beside what it recorded; here they part."""
    title, suspect = values.pop("title", ""), values.pop("suspect", None)
    expectations = values.pop("expectations", ())
    return ResultRecord(
        test=test,
        outcome=outcome,
        seconds=seconds if isfinite(seconds) else 0.0,
        message=message,
        values=values,
        title=str(title or ""),
        suspect=str(suspect) if suspect else None,
        expectations=tuple(e for e in expectations if isinstance(e, dict))
        if isinstance(expectations, list)
        else (),
    )


def _campaigns(session: Session) -> tuple[CampaignRecord, ...]:
    steps: dict[str, list[StepRecord]] = defaultdict(list)
    for row in session.scalars(select(CampaignStep).order_by(CampaignStep.campaign_id, CampaignStep.number)):
        steps[row.campaign_id].append(
            StepRecord(
                row.number, row.candidate, row.verdict, row.reason or "", row.run_id, _finite(row.seconds)
            )
        )
    return tuple(
        CampaignRecord(
            id=row.id,
            kind=row.kind,
            machine=row.machine,
            test=row.test,
            good=row.good,
            bad=row.bad,
            base_kernel=row.base_kernel,
            repository=row.repository,
            started_at=row.started_at,
            ended_at=row.ended_at,
            state=row.state,
            candidates=tuple(dict(c) for c in row.candidates or () if isinstance(c, dict)),
            culprit=row.culprit,
            probability=row.probability,
            reason=row.reason or "",
            change_id=row.change_id,
            detail=dict(row.detail or {}),
            steps=tuple(steps.get(row.id, ())),
        )
        for row in session.scalars(select(Campaign).order_by(Campaign.started_at, Campaign.id))
    )


def _tags(session: Session) -> tuple[TagRecord, ...]:
    rows = session.execute(
        select(Tree.name, Tree.role, Tag.name, Tag.date, Source.sample)
        .join(Tree, Tag.tree_id == Tree.id)
        .join(Source, Tree.source_id == Source.id)
        .order_by(Tag.id)
    )
    return tuple(TagRecord(tree, role, name, date, sample) for tree, role, name, date, sample in rows)


def _changes(session: Session) -> tuple[ChangeRecord, ...]:
    matches = _matches(session)
    versions = _versions(session)
    rows = session.scalars(select(Change).order_by(Change.first_posted, Change.id))
    return tuple(
        ChangeRecord(
            id=row.id,
            key=row.key,
            slug=row.slug,
            title=row.title,
            author_name=row.author_name,
            author_email=row.author_email,
            first_posted=row.first_posted,
            last_posted=row.last_posted,
            state=row.state,
            window=row.window,
            first_tag=row.first_tag,
            rule=row.rule,
            probability=row.probability,
            evidence=tuple(item for item in row.evidence or () if isinstance(item, dict)),
            notes=dict(row.notes or {}),
            sample=row.sample,
            versions=tuple(versions.get(row.id, ())),
            matches=tuple(matches.get(row.id, ())),
        )
        for row in rows
    )


def _matches(session: Session) -> Mapping[int, Sequence[MatchRecord]]:
    tag_dates = {
        (tree, name): date for tree, name, date in session.execute(select(Tag.tree_id, Tag.name, Tag.date))
    }
    landings: dict[int, list[LandingRecord]] = defaultdict(list)
    for commit_id, tree_id, tag, window, tree_name, role, sample in session.execute(
        select(
            Landing.commit_id,
            Landing.tree_id,
            Landing.tag,
            Landing.window,
            Tree.name,
            Tree.role,
            Source.sample,
        )
        .join(Tree, Landing.tree_id == Tree.id)
        .join(Source, Tree.source_id == Source.id)
        .order_by(Landing.id)
    ):
        date = tag_dates.get((tree_id, tag)) if tag else None
        landings[commit_id].append(LandingRecord(tree_name, role, tag, window, date, sample))
    commits: dict[int, CommitRecord] = {}
    reverted_by: dict[str, list[RevertRecord]] = defaultdict(list)
    for line in session.execute(
        select(
            Commit.id,
            Commit.sha,
            Commit.title,
            Commit.author_name,
            Commit.author_date,
            Commit.commit_date,
            Commit.reverts,
            Commit.upstream,
        ).order_by(Commit.commit_date, Commit.id)
    ):
        commits[line.id] = CommitRecord(
            line.sha,
            line.title,
            line.author_name,
            line.author_date,
            line.commit_date,
            tuple(landings.get(line.id, ())),
            line.reverts,
            line.upstream,
        )
        if line.reverts:
            tags = tuple(landing.tag for landing in landings.get(line.id, ()) if landing.tag)
            reverted_by[line.reverts[:SHORT]].append(RevertRecord(line.sha, line.title, tags))
    found: dict[int, list[MatchRecord]] = defaultdict(list)
    for match in session.execute(
        select(Match.change_id, Match.commit_id, Match.rule, Match.score, Match.evidence).order_by(
            Match.change_id, Match.score.desc(), Match.id
        )
    ):
        commit = commits[match.commit_id]
        commit = replace(commit, reverted_by=tuple(reverted_by.get(commit.sha[:SHORT], ())))
        found[match.change_id].append(MatchRecord(commit, match.rule, match.score, match.evidence))
    return found


def _versions(session: Session) -> Mapping[int, Sequence[VersionRecord]]:
    mails: dict[int, MailRecord] = {}
    by_message_id: dict[str, int] = {}
    parents: dict[int, list[str]] = {}
    for row in session.execute(
        select(
            Message.id,
            Message.message_id,
            Message.date,
            Message.author_name,
            Message.author_email,
            Message.subject,
            Message.kind,
            Message.trailers,
            Message.in_reply_to,
            Message.references,
            Message.corrupted,
            Source.sample,
        )
        .join(Source, Message.source_id == Source.id)
        .order_by(Message.date, Message.id)
    ):
        mails[row.id] = MailRecord(
            row.message_id,
            row.date,
            row.author_name,
            row.author_email,
            row.subject,
            row.kind,
            _trailers(row.trailers),
            row.sample,
            row.corrupted,
        )
        by_message_id[row.message_id] = row.id
        chain = [row.in_reply_to] if row.in_reply_to else []
        parents[row.id] = chain + [str(ref) for ref in reversed(row.references or ())]
    patches = session.execute(
        select(
            Patch.message_id,
            Patch.change_id,
            Patch.number,
            Patch.title,
            Patch.link_rule,
            Patch.link_score,
            Patch.link_evidence,
            Series.version,
            Series.total,
            Series.title.label("series_title"),
        )
        .join(Series, Patch.series_id == Series.id)
        .where(Patch.change_id.is_not(None))
    ).all()
    replies = _replies({patch.message_id for patch in patches}, mails, by_message_id, parents)
    found: dict[int, list[VersionRecord]] = defaultdict(list)
    for patch in patches:
        found[patch.change_id].append(
            VersionRecord(
                version=patch.version,
                number=patch.number,
                total=patch.total,
                title=patch.title,
                series_title=patch.series_title,
                mail=mails[patch.message_id],
                link_rule=patch.link_rule,
                link_score=patch.link_score,
                link_evidence=patch.link_evidence,
                replies=tuple(mails[reply] for reply in replies.get(patch.message_id, ())),
            )
        )
    for versions in found.values():
        versions.sort(key=lambda v: (v.mail.date or _EPOCH, v.mail.message_id))
    return found


def _trailers(stored: Any) -> tuple[tuple[str, str], ...]:
    pairs = stored if isinstance(stored, list) else []
    return tuple((str(p[0]), str(p[1])) for p in pairs if isinstance(p, list) and len(p) >= 2)


def _replies(
    patches: set[int],
    mails: Mapping[int, MailRecord],
    by_message_id: Mapping[str, int],
    parents: Mapping[int, Sequence[str]],
) -> Mapping[int, Sequence[int]]:
    """Each mail that is no patch -> the nearest patch above it in its thread."""
    found: dict[int, list[int]] = defaultdict(list)
    for mail in mails:
        if mail in patches or mails[mail].kind in ("patch", "cover"):
            continue
        at = mail
        for _ in range(THREAD_DEPTH):
            up = next((by_message_id[p] for p in parents[at] if p in by_message_id), None)
            if up is None:
                break
            if up in patches:
                found[up].append(mail)
                break
            at = up
    return found
