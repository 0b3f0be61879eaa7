"""Campaigns with a judge made of rules: what is remembered, what a kill costs, who is never blamed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from db.database import Database
from db.git_tables import Commit, Match
from db.mail_tables import Change
from db.run_tables import Campaign
from harness.bisect.campaign import LaboratoryError, Watch, run_campaign
from harness.bisect.origin import bare_title
from harness.bisect.record import (
    CampaignError,
    Judgement,
    Question,
    Subject,
    list_reports,
    load_report,
    load_steps,
    open_campaign,
)
from harness.bisect.search import Halving, Outcome, Verdict

LENGTH = 40


def question(kind: str = "driver-history", length: int = LENGTH) -> Question:
    subjects = tuple(
        Subject(
            f"c{n:03d}", f"accel/amdxdna: Change number {n}", "Ada Author", (f"c{n - 1:03d}",) if n else ()
        )
        for n in range(length)
    )
    return Question(
        kind,
        "virtual-npu4",
        "test_x.py::test_it",
        "v1",
        "v2",
        subjects,
        base_kernel="7.3.4",
        repository="repo",
    )


@dataclass
class RuleJudge:
    """A judge that knows the truth, counts its work, and can be told to fail."""

    culprit: int
    skips: dict[int, str] = field(default_factory=dict)
    broken_laboratory: Callable[[int], bool] = lambda _index: False
    die_at: int | None = None  # the number of judgements after which the user presses ^C
    judged: list[str] = field(default_factory=list)

    def judge(self, subject: Subject, *, again: bool, say: Callable[[str], None]) -> Judgement:
        if self.die_at is not None and len(self.judged) >= self.die_at:
            raise KeyboardInterrupt
        self.judged.append(subject.id)
        say(f"judging {subject.id}")
        index = int(subject.id[1:])
        if self.broken_laboratory(index):
            return Judgement(Verdict.SKIP, "no answer from the device model", infrastructure=True)
        if index in self.skips:
            return Judgement(Verdict.SKIP, self.skips[index])
        bad = index >= self.culprit
        return Judgement(
            Verdict.BAD if bad else Verdict.GOOD,
            "failed" if bad else "passed",
            None,
            {"build": 1.0, "boot": 2.0},
        )


def stored(database: Database, campaign_id: str) -> Campaign:
    with database.session() as session:
        campaign = session.get(Campaign, campaign_id)
        assert campaign is not None
        return campaign


def test_a_campaign_names_the_culprit_and_keeps_its_evidence(database: Database) -> None:
    campaign_id, resumed = open_campaign(database, question(), Halving())
    assert not resumed
    steps = []
    answer = run_campaign(
        database, campaign_id, RuleJudge(23), Halving(), Watch(stepped=lambda step: steps.append(step.number))
    )
    assert (answer.outcome, answer.suspects) == (Outcome.CULPRIT, (23,))
    campaign = stored(database, campaign_id)
    assert (campaign.state, campaign.culprit, campaign.probability) == ("finished", "c023", 1.0)
    assert "Change number 23" in campaign.reason
    assert campaign.detail["rule"] == answer.rule
    assert campaign.ended_at is not None
    recorded = load_steps(database, campaign_id)
    assert steps == [step.number for step in recorded] == list(range(1, len(recorded) + 1))
    # the ends came first, the culprit and its parent were run twice
    assert [step.subject.id for step in recorded[:2]] == ["c039", "c000"]
    again = [step.subject.id for step in recorded]
    assert again.count("c023") == again.count("c022") == 2
    assert recorded[0].seconds == {"build": 1.0, "boot": 2.0}


def test_an_interrupted_campaign_takes_its_next_step_and_repeats_none(database: Database) -> None:
    whole = RuleJudge(7)
    campaign_id, _ = open_campaign(database, question(), Halving())
    run_campaign(database, campaign_id, whole, Halving())

    first, second = RuleJudge(7, die_at=4), RuleJudge(7)
    campaign_id, resumed = open_campaign(database, question(), Halving())
    assert not resumed, "a finished campaign is not taken up again"
    with pytest.raises(KeyboardInterrupt):
        run_campaign(database, campaign_id, first, Halving())
    assert stored(database, campaign_id).state == "interrupted"

    same, resumed = open_campaign(database, question(), Halving())
    assert (same, resumed) == (campaign_id, True)
    run_campaign(database, campaign_id, second, Halving())
    assert first.judged + second.judged == whole.judged
    assert stored(database, campaign_id).culprit == "c007"


def test_a_killed_process_loses_no_step(tmp_path: Path) -> None:
    """kill -9 in the middle of a judgement: everything recorded before it is there, the rest is done anew."""
    url = f"sqlite:///{tmp_path / 'campaign.db'}"
    program = textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from db.database import Database
        from harness.bisect.campaign import run_campaign
        from harness.bisect.record import open_campaign
        from harness.bisect.search import Halving
        from test_bisect_campaign import RuleJudge, question

        class Slow(RuleJudge):
            def judge(self, subject, *, again, say):
                if len(self.judged) == 5:
                    print("in the middle", flush=True)
                    time.sleep(60)
                return super().judge(subject, again=again, say=say)

        database = Database({url!r})
        database.migrate()
        campaign_id, _ = open_campaign(database, question(), Halving())
        run_campaign(database, campaign_id, Slow(31), Halving())
    """)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "in the middle"
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    process.stdout.close()

    database = Database(url)
    campaign_id, resumed = open_campaign(database, question(), Halving())
    assert resumed
    assert len(load_steps(database, campaign_id)) == 5
    answer = run_campaign(database, campaign_id, RuleJudge(31), Halving())
    assert answer.suspects == (31,)
    numbers = [step.number for step in load_steps(database, campaign_id)]
    assert numbers == list(range(1, len(numbers) + 1))
    database.close()


def test_what_cannot_be_built_is_skipped_and_said(database: Database) -> None:
    skips = dict.fromkeys((18, 19, 20, 21), "does not build: no rule to make target")
    campaign_id, _ = open_campaign(database, question(), Halving())
    answer = run_campaign(database, campaign_id, RuleJudge(20, skips), Halving())
    assert answer.outcome is Outcome.RANGE
    campaign = stored(database, campaign_id)
    assert (campaign.state, campaign.culprit, campaign.probability) == ("finished", None, None)
    assert campaign.detail["suspects"] == ["c018", "c019", "c020", "c021", "c022"]
    assert "one of 5 candidates" in campaign.reason
    reasons = [step.reason for step in load_steps(database, campaign_id) if step.verdict is Verdict.SKIP]
    assert reasons
    assert set(reasons) == {"does not build: no rule to make target"}


@pytest.mark.parametrize(
    ("culprit", "skips", "outcome", "text"),
    [
        (LENGTH, {}, "not-reproduced", "passes at c039 as well: passed"),
        (0, {}, "already-bad", "fails at c000 already: failed"),
        (5, {39: "the guest never booted"}, "unresolved", "c039 cannot be judged: the guest never booted"),
        (5, {0: "does not build"}, "unresolved", "c000 cannot be judged: does not build"),
    ],
)
def test_wrong_ends_are_told_in_one_sentence(
    database: Database, culprit: int, skips: dict[int, str], outcome: str, text: str
) -> None:
    campaign_id, _ = open_campaign(database, question(), Halving())
    run_campaign(database, campaign_id, RuleJudge(culprit, skips), Halving())
    campaign = stored(database, campaign_id)
    assert (campaign.state, campaign.detail["outcome"], campaign.culprit) == ("failed", outcome, None)
    assert text in campaign.reason


def test_the_commit_that_mended_a_test_is_found_too(database: Database) -> None:
    """The bad end is the older one: the same search, good and bad changed over; steps keep their words."""
    campaign_id, _ = open_campaign(database, replace(question(), mended=True), Halving())

    class Mended(RuleJudge):
        def judge(self, subject: Subject, *, again: bool, say: Callable[[str], None]) -> Judgement:
            bad = int(subject.id[1:]) < self.culprit
            return Judgement(Verdict.BAD if bad else Verdict.GOOD, "failed" if bad else "passed")

    answer = run_campaign(database, campaign_id, Mended(13), Halving())
    assert (answer.outcome, answer.suspects) == (Outcome.CULPRIT, (13,))
    assert "passes from c013" in stored(database, campaign_id).reason
    verdicts = {step.subject.id: step.verdict for step in load_steps(database, campaign_id)}
    assert (verdicts["c000"], verdicts["c039"]) == (Verdict.BAD, Verdict.GOOD)


def test_a_broken_laboratory_stops_the_campaign_and_blames_nobody(database: Database) -> None:
    """Three candidates in a row that only the lab failed on; mended, the same candidates are asked again."""
    mended = False
    judge = RuleJudge(11, broken_laboratory=lambda index: not mended and index not in (0, 39))
    campaign_id, _ = open_campaign(database, question(), Halving())
    with pytest.raises(LaboratoryError, match="bisect resume") as caught:
        run_campaign(database, campaign_id, judge, Halving())
    assert caught.value.exit_code == 3
    assert stored(database, campaign_id).state == "interrupted"
    assert [step.subject.id for step in load_steps(database, campaign_id)] == ["c039", "c000"]
    mended = True
    answer = run_campaign(database, campaign_id, judge, Halving())
    assert answer.suspects == (11,)
    with database.session() as session:
        campaign = session.get(Campaign, campaign_id)
        assert campaign is not None
        void = len(campaign.steps) - len(load_steps(database, campaign_id))
        assert void == 6, "three candidates, two tries each, stay to be read"


@pytest.mark.parametrize("broken", [39, 0, 11])
def test_ends_and_confirmation_are_never_skipped_for_the_laboratory(database: Database, broken: int) -> None:
    """A failing lab is no reason to give up the question, nor to leave a culprit unsure."""
    calm = [False]
    judge = RuleJudge(11, broken_laboratory=lambda index: index == broken and calm == [False])
    if broken == 11:  # the first look is fine, the confirmation is not
        looks: list[int] = []

        def second_look(index: int) -> bool:
            looks.append(index)
            return index == 11 and looks.count(11) > 1 and calm == [False]

        judge.broken_laboratory = second_look
    campaign_id, _ = open_campaign(database, question(), Halving())
    with pytest.raises(LaboratoryError):
        run_campaign(database, campaign_id, judge, Halving())
    calm[0] = True
    assert run_campaign(database, campaign_id, judge, Halving()).suspects == (11,)


def test_one_bad_moment_of_the_laboratory_costs_one_try(database: Database) -> None:
    moments = iter([True])
    judge = RuleJudge(11, broken_laboratory=lambda index: index == 19 and next(moments, False))
    campaign_id, _ = open_campaign(database, question(), Halving())
    answer = run_campaign(database, campaign_id, judge, Halving())
    assert answer.suspects == (11,)
    assert judge.judged.count("c019") == 2
    verdicts = {step.subject.id: step.verdict for step in load_steps(database, campaign_id)}
    assert verdicts["c019"] is Verdict.BAD


def test_one_bad_candidate_of_the_laboratory_is_a_skip_never_a_verdict(database: Database) -> None:
    judge = RuleJudge(11, broken_laboratory=lambda index: index == 19)
    campaign_id, _ = open_campaign(database, question(), Halving())
    answer = run_campaign(database, campaign_id, judge, Halving())
    assert answer.suspects == (11,)
    verdicts = {step.subject.id: step.verdict for step in load_steps(database, campaign_id)}
    assert verdicts["c019"] is Verdict.SKIP


def test_reports_show_a_campaign_at_any_time(database: Database) -> None:
    first, _ = open_campaign(database, question(), Halving())
    with pytest.raises(KeyboardInterrupt):
        run_campaign(database, first, RuleJudge(7, die_at=3), Halving())
    report = load_report(database, first)
    assert (report.state, report.outcome, report.culprit, len(report.steps)) == ("interrupted", None, None, 3)
    run_campaign(database, first, RuleJudge(7), Halving())
    second, _ = open_campaign(database, question("kernels"), Halving())
    newest, older = list_reports(database)
    assert (newest.id, newest.state, older.id) == (second, "running", first)
    assert older.culprit is not None
    assert (older.culprit.id, older.outcome, older.probability) == ("c007", "culprit", 1.0)


def test_two_ends_that_are_one_are_refused(database: Database) -> None:
    with pytest.raises(CampaignError, match="nothing to choose from"):
        open_campaign(database, question(length=1), Halving())


def test_an_unknown_campaign_is_an_error_of_usage(database: Database) -> None:
    with pytest.raises(CampaignError, match="bisect list") as caught:
        load_steps(database, "20261123T000000-000000")
    assert caught.value.exit_code == 2


def change(key: str, title: str, author: str = "Ada Author") -> Change:
    return Change(
        key=key,
        slug=key,
        title=title,
        author_name=author,
        author_email="ada@example.org",
        state="landed",
        rule="r",
    )


def test_the_culprit_is_joined_to_its_change(database: Database) -> None:
    """By commit id first; the vendor's tree has other ids and prefixes, then title and author decide."""
    when = datetime(2026, 4, 1, tzinfo=UTC)
    with database.session() as session, session.begin():
        by_id, by_bare = change("a", "unlike"), change("b", "accel: amdxdna: change NUMBER 5")
        session.add_all([by_id, by_bare, change("c", "accel: Change number 6", "Someone Else")])
        commit = Commit(
            sha="c004", title="unlike", author_name="A", author_email="a", author_date=when, commit_date=when
        )
        session.add(commit)
        session.flush()
        session.add(
            Match(change_id=by_id.id, commit_id=commit.id, rule="message-id", score=1.0, evidence="Link:")
        )
        ids = {4: by_id.id, 5: by_bare.id, 6: None}
    for culprit, change_id in ids.items():
        campaign_id, _ = open_campaign(database, question(), Halving())
        run_campaign(database, campaign_id, RuleJudge(culprit), Halving())
        campaign = stored(database, campaign_id)
        assert campaign.change_id == change_id
        assert ("change_rule" in campaign.detail) == (change_id is not None)


def test_titles_lose_only_their_prefixes() -> None:
    assert bare_title("accel/amdxdna: Fix a: b") == "fix a: b"
    assert bare_title("drivers: accel: Fix it") == "fix it"
    assert bare_title("Fix all: everything") == "fix all: everything"
