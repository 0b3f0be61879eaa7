"""A bisection from the first question to the named culprit, kept in the database step by step.

The campaign owns memory and order: which question was asked, which steps were taken, what came out. What to
ask next is the search's (search.py), what a candidate's verdict is, the judge's (judge.py). Every step is
committed before the next one begins, so a campaign that was killed goes on with its next step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, selectinload

from db.base import utc_now
from db.database import Database
from db.run_tables import Campaign, CampaignStep
from harness.bisect.origin import find_change
from harness.bisect.search import Answer, Ask, History, Observation, Outcome, Search, Verdict
from harness.errors import HarnessError

# After this many candidates in a row that only the laboratory failed on, the laboratory is mended first.
INFRASTRUCTURE_LIMIT = 3

UNFINISHED = ("running", "interrupted")


class CampaignError(HarnessError):
    """What was asked cannot be searched; the text names the cause and the next step."""

    exit_code: ClassVar[int] = 2


class LaboratoryError(HarnessError):
    """Several candidates in a row could not be judged for reasons that are not the candidates'."""


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

    def history(self) -> History:
        """The subjects' graph for the search."""
        place = {subject.id: index for index, subject in enumerate(self.subjects)}
        return History(tuple(tuple(place[p] for p in subject.parents) for subject in self.subjects))


@dataclass(frozen=True)
class Judgement:
    """What the judge says of one subject. ``infrastructure``: the laboratory failed, not the subject."""

    verdict: Verdict
    reason: str
    run_id: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    infrastructure: bool = False


class Judge(Protocol):
    """Makes a subject run the test and says how that went."""

    def judge(self, subject: Subject, *, again: bool, say: Callable[[str], None]) -> Judgement:
        """Judge one subject. ``again`` forbids a remembered verdict. Raises LabError when nothing can run."""
        ...


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
class Watch:
    """How a campaign tells of its progress; every callback may be called many times."""

    asked: Callable[[int, Subject, Ask], None] = lambda _number, _subject, _ask: None
    said: Callable[[str], None] = lambda _text: None
    stepped: Callable[[Step], None] = lambda _step: None


def open_campaign(database: Database, question: Question, search: Search) -> tuple[str, bool]:
    """The id of the campaign for ``question`` and whether it goes on with an unfinished one."""
    if len(question.subjects) < 2:
        raise CampaignError(
            f"between {question.good} and {question.bad} there is nothing to choose from; "
            "name two ends with at least one candidate after the good one"
        )
    with database.session() as session, session.begin():
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


def run_campaign(
    database: Database, campaign_id: str, judge: Judge, search: Search, watch: Watch | None = None
) -> Answer:
    """Take steps until the search has its answer, and record it. The caller holds the writer lock.

    An exception of the judge (the laboratory cannot work, the user pressed ^C) leaves the campaign
    ``interrupted`` with all its steps; running it again continues. Raises LaboratoryError after
    INFRASTRUCTURE_LIMIT candidates in a row failed for reasons of the laboratory; those steps are void.
    """
    watch = watch or Watch()
    question = load_question(database, campaign_id)
    history = question.history()
    _set_state(database, campaign_id, "running", "")
    try:
        while True:
            steps = load_steps(database, campaign_id)
            move = search.decide(history, _observations(question, steps))
            if isinstance(move, Answer):
                _finish(database, campaign_id, question, move, steps)
                return move
            number = _next_number(database, campaign_id)
            subject = question.subjects[move.index]
            watch.asked(number, subject, move)
            judgement = judge.judge(subject, again=move.again, say=watch.said)
            step = _record(database, campaign_id, number, subject, judgement)
            watch.stepped(step)
            _stop_if_laboratory_fails(database, campaign_id)
    except BaseException as error:
        with suppress(DBAPIError):  # a state left "running" is taken up again just as well
            _set_state(database, campaign_id, "interrupted", str(error) or type(error).__name__)
        raise


def load_steps(database: Database, campaign_id: str) -> list[Step]:
    """The steps that count, in order."""
    with database.session() as session:
        campaign = _get(session, campaign_id)
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


def _observations(question: Question, steps: Sequence[Step]) -> list[Observation]:
    """Steps as the search sees them: for it the older end is the good one."""
    place = {subject.id: index for index, subject in enumerate(question.subjects)}
    swap = {Verdict.GOOD: Verdict.BAD, Verdict.BAD: Verdict.GOOD} if question.mended else {}
    return [Observation(place[step.subject.id], swap.get(step.verdict, step.verdict)) for step in steps]


def _record(
    database: Database, campaign_id: str, number: int, subject: Subject, judgement: Judgement
) -> Step:
    with database.session() as session, session.begin():
        campaign = _get(session, campaign_id)
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
        failing = [*campaign.detail.get("laboratory", ()), number] if judgement.infrastructure else []
        campaign.detail = {**campaign.detail, "laboratory": failing}
    return Step(
        number, subject, judgement.verdict, judgement.reason, judgement.run_id, dict(judgement.seconds)
    )


def _stop_if_laboratory_fails(database: Database, campaign_id: str) -> None:
    with database.session() as session, session.begin():
        campaign = _get(session, campaign_id)
        failing = list(campaign.detail.get("laboratory", ()))
        if len(failing) < INFRASTRUCTURE_LIMIT:
            return
        # These skips say nothing about the candidates: they are kept to be read, and asked again later.
        void = [*campaign.detail.get("void", ()), *failing]
        campaign.detail = {**campaign.detail, "void": void, "laboratory": []}
        last = campaign.steps[-1].reason
    raise LaboratoryError(
        f"{INFRASTRUCTURE_LIMIT} candidates in a row could not be judged because of the laboratory "
        f"(last: {last}); mend it and run `xdnawatch bisect resume {campaign_id}`"
    )


def _finish(
    database: Database, campaign_id: str, question: Question, answer: Answer, steps: Sequence[Step]
) -> None:
    suspects = [question.subjects[index] for index in answer.suspects]
    with database.session() as session, session.begin():
        campaign = _get(session, campaign_id)
        detail: dict[str, Any] = {
            **campaign.detail,
            "outcome": answer.outcome.value,
            "rule": answer.rule,
            "suspects": [subject.id for subject in suspects],
            "wall_seconds": round(sum(sum(step.seconds.values()) for step in steps), 3),
        }
        if answer.outcome is Outcome.CULPRIT:
            culprit = suspects[0]
            campaign.culprit = culprit.id
            campaign.probability = answer.probability
            if question.kind == "driver-history":
                found = find_change(session, culprit.id, culprit.title, culprit.author)
                if found is not None:
                    campaign.change_id = found.change_id
                    detail["change_rule"] = found.rule
        campaign.reason = sentence(question, answer, steps)
        campaign.state = "finished" if answer.outcome in (Outcome.CULPRIT, Outcome.RANGE) else "failed"
        campaign.ended_at = utc_now()
        campaign.detail = detail


def sentence(question: Question, answer: Answer, steps: Sequence[Step]) -> str:
    """The answer in one sentence for a person."""
    suspects = [question.subjects[index] for index in answer.suspects]
    reasons = {step.subject.id: step.reason for step in steps}
    older, newer = question.subjects[0], question.subjects[-1]
    before, after = ("fails", "passes") if question.mended else ("passes", "fails")
    match answer.outcome:
        case Outcome.CULPRIT:
            first = f"{suspects[0].id[:12]} {suspects[0].title!r}"
            return f"{question.test} {after} from {first} on; confirmed by a second run"
        case Outcome.RANGE:
            return (
                f"one of {len(suspects)} candidates from {suspects[0].id[:12]} to {suspects[-1].id[:12]}: "
                "those between them could not be judged"
            )
        case Outcome.NOT_CONFIRMED:
            return "verdicts contradict each other: the test gives different answers on the same candidate"
        case Outcome.NOT_REPRODUCED:
            return f"{question.test} {before} at {newer.id[:12]} as well: {reasons[newer.id]}"
        case Outcome.ALREADY_BAD:
            return f"{question.test} {after} at {older.id[:12]} already: {reasons[older.id]}"
        case Outcome.UNRESOLVED:
            end = older if older.id in reasons else newer
            return f"{end.id[:12]} cannot be judged: {reasons[end.id]}; choose another end"


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


def _next_number(database: Database, campaign_id: str) -> int:
    with database.session() as session:
        return max((step.number for step in _get(session, campaign_id).steps), default=0) + 1


def _set_state(database: Database, campaign_id: str, state: str, reason: str) -> None:
    with database.session() as session, session.begin():
        campaign = _get(session, campaign_id)
        campaign.state = state
        campaign.reason = reason


def _get(session: Session, campaign_id: str) -> Campaign:
    campaign = session.get(Campaign, campaign_id, options=[selectinload(Campaign.steps)])
    if campaign is None:
        raise CampaignError(f"there is no campaign {campaign_id!r}; see `xdnawatch bisect list`")
    return campaign
