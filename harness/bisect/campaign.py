"""A bisection from the first question to the named culprit.

What to ask next is the search's (search.py), what a candidate's verdict is, the judge's (judge.py), how it is
kept, record.py's. Every step is committed before the next one begins, so a campaign that was killed goes on
with its next step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from sqlalchemy.exc import DBAPIError

from db.database import Database, WriterBusyError
from harness.bisect.record import (
    Judgement,
    Question,
    Step,
    Subject,
    finish,
    load_question,
    load_steps,
    load_symptom,
    next_number,
    record_step,
    set_state,
    set_symptom,
    void_steps,
)
from harness.bisect.search import Answer, Ask, Observation, Outcome, Search, Verdict
from harness.errors import HarnessError

#: How often one subject is tried while the laboratory fails on it; then it is skipped.
TRIES = 2
#: After this many subjects in a row that only the laboratory failed on, the laboratory is mended first.
INFRASTRUCTURE_LIMIT = 3


class LaboratoryError(HarnessError):
    """Subjects could not be judged for reasons that are not theirs; what was recorded is kept."""


class Judge(Protocol):
    """Makes a subject run the test and says how that went."""

    def judge(self, subject: Subject, *, again: bool, say: Callable[[str], None]) -> Judgement:
        """Judge one subject. ``again`` forbids a remembered verdict. Raises LabError when nothing can run."""
        ...


@dataclass(frozen=True)
class Watch:
    """How a campaign tells of its progress; every callback may be called many times."""

    asked: Callable[[int, Subject, Ask], None] = lambda _number, _subject, _ask: None
    said: Callable[[str], None] = lambda _text: None
    stepped: Callable[[Step], None] = lambda _step: None


def run_campaign(
    database: Database, campaign_id: str, judge: Judge, search: Search, watch: Watch | None = None
) -> Answer:
    """Take steps until the search has its answer, and record it. The caller is ``leading`` (record.py).

    An exception of the judge (the laboratory cannot work, the user pressed ^C) leaves the campaign
    ``interrupted`` with all its steps; running it again continues. Raises LaboratoryError when the laboratory
    fails on an end of the range, on the confirmation, or on several subjects in a row.
    """
    watch = watch or Watch()
    question = load_question(database, campaign_id)
    history = question.history()
    set_state(database, campaign_id, "running", "")
    failures = Failures(database, campaign_id)
    symptom = load_symptom(database, campaign_id)
    try:
        while True:
            steps = load_steps(database, campaign_id)
            move = search.decide(history, _observations(question, steps))
            if isinstance(move, Answer):
                finish(database, campaign_id, move, sentence(question, move, steps))
                return move
            subject = question.subjects[move.index]
            watch.asked(next_number(database, campaign_id), subject, move)
            judgement = judge.judge(subject, again=move.again, say=watch.said)
            if judgement.error is not None and subject == question.bad_end and symptom is None:
                symptom = judgement.error
                set_symptom(database, campaign_id, symptom)
            judgement = by_symptom(judgement, symptom)
            step = record_step(database, campaign_id, subject, judgement)
            watch.stepped(step)
            failures.weigh(step, judgement, move)
    except BaseException as error:
        with suppress(DBAPIError, WriterBusyError):  # a state left "running" is taken up again just as well
            set_state(database, campaign_id, "interrupted", str(error) or type(error).__name__)
        raise


def by_symptom(judgement: Judgement, symptom: str | None) -> Judgement:
    """A test that could not be prepared is bad when that is what the bad end shows, in the same words.

    A regression may break the way to the test (a second open is refused with EBUSY) and never reach its
    assertions; any other error on the way says nothing about this one.
    """
    if judgement.error is None or judgement.error != symptom:
        return judgement
    return replace(judgement, verdict=Verdict.BAD, reason=judgement.error)


class Failures:
    """The laboratory's failures in a row: which step is tried again, when to stop altogether."""

    def __init__(self, database: Database, campaign_id: str) -> None:
        self._database = database
        self._campaign_id = campaign_id
        self._row: list[Step] = []

    def weigh(self, step: Step, judgement: Judgement, asked: Ask) -> None:
        """Take note of a step. Raises LaboratoryError when going on would only waste candidates."""
        if not judgement.infrastructure:
            self._row.clear()
            return
        self._row.append(step)
        tries = sum(1 for failed in self._row if failed.subject == step.subject)
        if tries < TRIES:
            void_steps(self._database, self._campaign_id, [step.number])
            return
        subjects = {failed.subject.id for failed in self._row}
        if asked.why == "halving" and len(subjects) < INFRASTRUCTURE_LIMIT:
            return  # a skip: other candidates can still be judged
        void_steps(self._database, self._campaign_id, [failed.number for failed in self._row])
        raise LaboratoryError(
            f"the laboratory failed {len(self._row)} times in a row (last: {step.reason}); "
            f"mend it and run `xdnawatch bisect resume {self._campaign_id}`"
        )


def _observations(question: Question, steps: Sequence[Step]) -> list[Observation]:
    """Steps as the search sees them: for it the older end is the good one."""
    place = {subject.id: index for index, subject in enumerate(question.subjects)}
    swap = {Verdict.GOOD: Verdict.BAD, Verdict.BAD: Verdict.GOOD} if question.mended else {}
    return [Observation(place[step.subject.id], swap.get(step.verdict, step.verdict)) for step in steps]


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
