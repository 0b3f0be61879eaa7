"""A campaign as the database keeps it: its question, its steps, its answer.

Nothing here decides anything: what to ask is the search's, what to do with it campaign.py's. Subjects,
questions, judgements and steps are plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from db.base import utc_now
from db.database import Database, WriterBusyError
from db.mail_tables import Change
from db.run_tables import Campaign, CampaignStep
from harness.bisect.locks import CampaignBusyError, leading, writing
from harness.bisect.origin import find_change
from harness.bisect.search import Answer, History, Outcome, Search, Verdict
from harness.errors import HarnessError

UNFINISHED = ("running", "interrupted")


class CampaignError(HarnessError):
    """What was asked cannot be searched; the text names the cause and the next step."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Subject:
    """One candidate of a campaign. ``parents`` are ids of earlier subjects; the good end has none."""

    id: str
    title: str
    author: str = ""
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """What a campaign is asked: on which machine did which test begin to fail, among which subjects.

    When the bad end is the older one, the question is which subject mended the test.
    """

    kind: str  # "kernels", "driver-history"
    machine: str
    test: str
    good: str
    bad: str
    subjects: tuple[Subject, ...]  # oldest first; the first and the last are the two ends
    base_kernel: str | None = None
    repository: str | None = None
    mended: bool = False  # the first subject is the bad end

    @property
    def bad_end(self) -> Subject:
        """The subject that the user says is bad."""
        return self.subjects[0] if self.mended else self.subjects[-1]

    def history(self) -> History:
        """The subjects' graph for the search."""
        place = {subject.id: index for index, subject in enumerate(self.subjects)}
        return History(tuple(tuple(place[p] for p in subject.parents) for subject in self.subjects))


@dataclass(frozen=True)
class Judgement:
    """What the judge says of one subject.

    ``infrastructure``: the laboratory failed, not the subject. ``error``: the test could not be prepared, in
    one line; such a judgement is a skip unless the campaign is about this very error.
    """

    verdict: Verdict
    reason: str
    run_id: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    infrastructure: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Step:
    """One step as it is recorded."""

    number: int
    subject: Subject
    verdict: Verdict
    reason: str
    run_id: str | None
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Report:
    """A campaign as it stands."""

    id: str
    question: Question
    state: str  # running, interrupted, finished, failed
    outcome: str | None  # harness.bisect.search.Outcome, None while it runs
    culprit: Subject | None
    suspects: tuple[Subject, ...]
    probability: float | None
    rule: str
    reason: str
    change: tuple[str, str, str] | None  # slug and title of the culprit's Change, and the rule that found it
    started_at: datetime
    ended_at: datetime | None
    steps: tuple[Step, ...]


def settle_dead(database: Database, folder: Path) -> None:
    """Mark campaigns whose process was killed as interrupted; a later command does it when others write."""
    with database.session() as session:
        running = session.scalars(select(Campaign.id).where(Campaign.state == "running")).all()
    dead = []
    for campaign_id in running:
        with suppress(CampaignBusyError), leading(folder, campaign_id):
            dead.append(campaign_id)
    if not dead:
        return
    with suppress(WriterBusyError), writing(database, wait=0.0) as session:
        for campaign in session.scalars(select(Campaign).where(Campaign.id.in_(dead))):
            campaign.state = "interrupted"
            campaign.reason = f"its process was killed; `xdnawatch bisect resume {campaign.id}` goes on"


def open_campaign(database: Database, question: Question, search: Search) -> tuple[str, bool]:
    """The id of the campaign for ``question`` and whether it goes on with an unfinished one."""
    if len(question.subjects) < 2:
        raise CampaignError(
            f"between {question.good} and {question.bad} there is nothing to choose from; "
            "name two ends with at least one candidate after the good one"
        )
    with writing(database) as session:
        query = (
            select(Campaign)
            .where(
                Campaign.kind == question.kind,
                Campaign.machine == question.machine,
                Campaign.test == question.test,
                Campaign.good == question.good,
                Campaign.bad == question.bad,
                Campaign.state.in_(UNFINISHED),
            )
            .order_by(Campaign.started_at.desc())
        )
        for campaign in session.scalars(query):
            if _question(campaign) == question:
                return campaign.id, True
        now = utc_now()
        made = Campaign(
            id=f"{now:%Y%m%dT%H%M%S}-{uuid4().hex[:6]}",
            kind=question.kind,
            machine=question.machine,
            test=question.test,
            good=question.good,
            bad=question.bad,
            base_kernel=question.base_kernel,
            repository=question.repository,
            started_at=now,
            state="running",
            candidates=[
                {"id": s.id, "title": s.title, "author": s.author, "parents": list(s.parents)}
                for s in question.subjects
            ],
            detail={"search": search.name, "mended": question.mended},
        )
        session.add(made)
        return made.id, False


def load_question(database: Database, campaign_id: str) -> Question:
    """The question of a recorded campaign. Raises CampaignError."""
    with database.session() as session:
        return _question(_get(session, campaign_id))


def load_steps(database: Database, campaign_id: str) -> list[Step]:
    """The steps that count, in order."""
    with database.session() as session:
        return _steps(_get(session, campaign_id))


def load_report(database: Database, campaign_id: str) -> Report:
    """A campaign with its steps and what is known of its culprit. Raises CampaignError."""
    with database.session() as session:
        return _report(session, _get(session, campaign_id))


def list_reports(database: Database) -> list[Report]:
    """Every campaign, the newest first."""
    with database.session() as session:
        rows = session.scalars(
            select(Campaign).options(selectinload(Campaign.steps)).order_by(Campaign.started_at.desc())
        )
        return [_report(session, campaign) for campaign in rows]


def record_step(database: Database, campaign_id: str, subject: Subject, judgement: Judgement) -> Step:
    """Store one judgement as the campaign's next step, in one transaction."""
    with writing(database) as session:
        campaign = _get(session, campaign_id)
        number = 1 + max((row.number for row in campaign.steps), default=0)
        session.add(
            CampaignStep(
                campaign_id=campaign_id,
                number=number,
                candidate=subject.id,
                verdict=judgement.verdict.value,
                reason=judgement.reason,
                run_id=judgement.run_id,
                seconds=dict(judgement.seconds),
            )
        )
    return Step(
        number, subject, judgement.verdict, judgement.reason, judgement.run_id, dict(judgement.seconds)
    )


def void_steps(database: Database, campaign_id: str, numbers: Sequence[int]) -> None:
    """Let steps no longer count: they stay to be read, and their subjects are asked again."""
    with writing(database) as session:
        campaign = _get(session, campaign_id)
        void = sorted({*campaign.detail.get("void", ()), *numbers})
        campaign.detail = {**campaign.detail, "void": void}


def load_symptom(database: Database, campaign_id: str) -> str | None:
    """The error that the campaign is about, None when it is about a failing test."""
    with database.session() as session:
        symptom: str | None = _get(session, campaign_id).detail.get("symptom")
        return symptom


def set_symptom(database: Database, campaign_id: str, error: str) -> None:
    """Make the campaign one about this error."""
    with writing(database) as session:
        campaign = _get(session, campaign_id)
        campaign.detail = {**campaign.detail, "symptom": error}


def next_number(database: Database, campaign_id: str) -> int:
    """The number that the next recorded step will have."""
    with database.session() as session:
        return 1 + max((row.number for row in _get(session, campaign_id).steps), default=0)


def set_state(database: Database, campaign_id: str, state: str, reason: str) -> None:
    """Store where the campaign stands."""
    with writing(database) as session:
        campaign = _get(session, campaign_id)
        campaign.state = state
        campaign.reason = reason


def finish(database: Database, campaign_id: str, answer: Answer, reason: str) -> None:
    """Store the answer, and the culprit's Change where the tracker knows it."""
    with writing(database) as session:
        campaign = _get(session, campaign_id)
        question = _question(campaign)
        suspects = [question.subjects[index] for index in answer.suspects]
        detail: dict[str, Any] = {
            **campaign.detail,
            "outcome": answer.outcome.value,
            "rule": answer.rule,
            "suspects": [subject.id for subject in suspects],
        }
        if answer.outcome is Outcome.CULPRIT:
            culprit = suspects[0]
            campaign.culprit = culprit.id
            campaign.probability = answer.probability
            detail["culprit"] = {"title": culprit.title, "author": culprit.author}
            if question.kind == "driver-history":
                found = find_change(session, culprit.id, culprit.title, culprit.author)
                if found is not None:
                    campaign.change_id = found.change_id
                    detail["change_rule"] = found.rule
        campaign.reason = reason
        campaign.state = "finished" if answer.outcome in (Outcome.CULPRIT, Outcome.RANGE) else "failed"
        campaign.ended_at = utc_now()
        campaign.detail = detail


def _report(session: Session, campaign: Campaign) -> Report:
    question = _question(campaign)
    by_id = {subject.id: subject for subject in question.subjects}
    change = session.get(Change, campaign.change_id) if campaign.change_id is not None else None
    return Report(
        id=campaign.id,
        question=question,
        state=campaign.state,
        outcome=campaign.detail.get("outcome"),
        culprit=by_id.get(campaign.culprit or ""),
        suspects=tuple(by_id[name] for name in campaign.detail.get("suspects", ())),
        probability=campaign.probability,
        rule=campaign.detail.get("rule", ""),
        reason=campaign.reason,
        change=(change.slug, change.title, campaign.detail.get("change_rule", "")) if change else None,
        started_at=campaign.started_at,
        ended_at=campaign.ended_at,
        steps=tuple(_steps(campaign)),
    )


def _steps(campaign: Campaign) -> list[Step]:
    by_id = {subject.id: subject for subject in _subjects(campaign)}
    void = set(campaign.detail.get("void", ()))
    return [
        Step(
            row.number,
            by_id[row.candidate],
            Verdict(row.verdict),
            row.reason,
            row.run_id,
            {name: float(value) for name, value in row.seconds.items()},
        )
        for row in campaign.steps
        if row.number not in void
    ]


def _question(campaign: Campaign) -> Question:
    return Question(
        kind=campaign.kind,
        machine=campaign.machine,
        test=campaign.test,
        good=campaign.good,
        bad=campaign.bad,
        subjects=_subjects(campaign),
        base_kernel=campaign.base_kernel,
        repository=campaign.repository,
        mended=bool(campaign.detail.get("mended")),
    )


def _subjects(campaign: Campaign) -> tuple[Subject, ...]:
    return tuple(
        Subject(entry["id"], entry["title"], entry.get("author", ""), tuple(entry.get("parents", ())))
        for entry in campaign.candidates
    )


def _get(session: Session, campaign_id: str) -> Campaign:
    campaign = session.get(Campaign, campaign_id, options=[selectinload(Campaign.steps)])
    if campaign is None:
        raise CampaignError(f"there is no campaign {campaign_id!r}; see `xdnawatch bisect list`")
    return campaign
