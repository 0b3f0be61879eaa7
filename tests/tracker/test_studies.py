"""`track truth` and `track versions`: measuring the rules on an archive."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tracker.archive_study import read_archive
from tracker.changes import group_changes
from tracker.errors import SourceError
from tracker.link_study import (
    Judged,
    first_links,
    link_share,
    read_judgements,
    rescore,
    sample_links,
)
from tracker.mail.headers import Address
from tracker.mail.patch_mail import patch_mail
from tracker.mail.series import PatchMail, group_series
from tracker.revisions import link_series
from tracker.settings import DriverProfile
from tracker.truth import Pair, pairs_of, read_pairs, score
from tracker.voices import Letter, read_letter
from xdnawatch.cli import app

NAMES = ("engine", "solver", "mailbox", "clock", "cache", "ring", "fence", "queue")


def _mail(number: int, subject: str, name: str, text: str, answers: str = "") -> str:
    return (
        f"From mboxrd@z Thu Jan  1 00:00:00 1970\nFrom: Ada <ada@x.org>\nSubject: {subject}\n"
        f"Date: Tue, {number:02} Feb 2025 10:11:12 +0000\nMessage-ID: <{name}@x.org>\n"
        + (f"In-Reply-To: <{answers}@x.org>\n" if answers else "")
        + f"\n{text}\n"
    )


def _patch(name: str, version: int) -> str:
    return (
        f"It is mended.\n\nSigned-off-by: Ada <ada@x.org>\n---\ndiff --git a/{name}.c b/{name}.c\n"
        f"--- a/{name}.c\n+++ b/{name}.c\n@@ -1,2 +1,3 @@\n context\n-\told_{name}(it);\n"
        f"+\tnew_{name}(it);\n+\treturn check_{name}(it, {version});\n"
    )


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of eight patches in two versions each, and the maintainer's word on the second ones.

    NAME-v1 [PATCH] Mend the NAME      NAME-v2 [PATCH v2] Mend the NAME
                                        `- NAME-taken Re: [1/1] Mend the NAME, commit: ...
    """
    text = ""
    for number, name in enumerate(NAMES, 1):
        text += _mail(number, f"[PATCH] Mend the {name}", f"{name}-v1", _patch(name, 1))
        text += _mail(number + 1, f"[PATCH v2] Mend the {name}", f"{name}-v2", _patch(name, 2))
        taken = f"Applied to for-next, thanks!\n\n[1/1] Mend the {name}\n      commit: {number:040x}\n"
        text += _mail(number + 2, f"Re: [PATCH v2] Mend the {name}", f"{name}-taken", taken, f"{name}-v2")
    file = tmp_path_factory.mktemp("studies") / "sample.mbox"
    file.write_text(text)
    return file


def test_pairs_of_an_archive_are_found_again_and_misses_have_causes(sample: Path) -> None:
    study = read_archive(sample)
    pairs = pairs_of(study.patches, study.notices)
    assert [pair.patch_mail for pair in pairs] == [f"{name}-v2@x.org" for name in NAMES]
    series = group_series(study.patches)
    lineages = group_changes(series, link_series(series))
    announced, by_title, by_lines = score(pairs, lineages, series, study.notices, study.kinds)
    assert (announced.recall, announced.precision) == (1.0, 1.0)
    assert by_title.recall == 1.0
    assert by_lines.recall == 1.0
    reply = next(name for name, kind in study.kinds.items() if kind == "applied")
    first, second = pairs[0], pairs[1]
    faulty: list[Pair] = [
        replace(first, patch_mail=second.patch_mail),
        replace(first, commit="0" * 40, title="nobody wrote this", patch_mail=first.patch_mail),
        replace(second, commit="1" * 40, patch_mail="absent@example.org"),
        replace(second, commit="2" * 40, patch_mail=reply),
    ]
    again = score(faulty, lineages, series, study.notices, study.kinds)[0]
    causes = [miss.cause for miss in again.misses]
    assert again.recall == 0.0
    assert causes[0].startswith("another change was given")
    assert causes[1:] == [
        "no rule gave exactly one change",
        "the patch mail is not in the archive",
        "the patch mail was read as 'applied', not as a patch",
    ]
    assert [miss.wrong for miss in again.misses] == [True, False, False, False]
    assert again.precision == 0.0


def test_pairs_are_read_back_as_they_were_written(sample: Path) -> None:
    pairs = pairs_of((study := read_archive(sample)).patches, study.notices)
    text = "".join(json.dumps(pair.to_json()) + "\n" for pair in pairs)
    assert read_pairs(text) == pairs
    with pytest.raises(SourceError, match="line 1"):
        read_pairs("[1]\n")
    with pytest.raises(SourceError, match="no 'commit'"):
        read_pairs('\n{"title": "x"}\n')


def test_links_are_counted_sampled_and_scored_again(sample: Path) -> None:
    series = group_series(read_archive(sample).patches)
    links = first_links(series, link_series(series))
    share = link_share(series, links)
    assert (share.later, share.linked) == (8, 8)
    assert links[0].older == "engine-v1@x.org"
    assert sum(count for _, count in share.rules) == len(links)
    drawn = sample_links(links, 5, 1)
    assert drawn == sample_links(list(reversed(links)), 5, 1)
    judged = [
        Judged(link.newer, link.older, link.rule, link.score, judgement)
        for link, judgement in zip(drawn, ("right", "right", "wrong", "unsure"), strict=False)
    ]
    judged += [
        Judged("gone@example.org", "x@example.org", "titles", 0.9, "right"),
        Judged(drawn[4].newer, "other@example.org", "titles", 0.9, "wrong", "another driver"),
    ]
    again = rescore(links, judged)
    assert (again.kept, again.right, len(again.wrong), len(again.unsure)) == (4, 2, 1, 1)
    assert again.precision == pytest.approx(2 / 3)
    assert [one.newer for one in again.lost] == ["gone@example.org"]
    assert [(one.newer, link.older) for one, link in again.changed] == [(drawn[4].newer, drawn[4].older)]


def test_the_judgements_of_the_project_can_be_read() -> None:
    file = Path(__file__).parents[2] / "benchmarks" / "judged" / "pdx86-links.jsonl"
    judged = read_judgements(file.read_text("utf-8"))
    assert len(judged) == 200
    assert len({one.newer for one in judged}) == 200
    with pytest.raises(SourceError, match="is none of"):
        read_judgements('{"newer": "a", "older": "b", "rule": "x", "score": 1, "judgement": "maybe"}')


def test_the_commands_print_both_figures(sample: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    run = CliRunner().invoke(app, ["track", "truth", str(sample), "--write", str(pairs), "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)[0]["way"] == "applied mails"
    run = CliRunner().invoke(app, ["track", "truth", str(sample), "--pairs", str(pairs)])
    assert "recall" in run.stdout
    assert "100.00%" in run.stdout
    run = CliRunner().invoke(app, ["track", "versions", str(sample), "--sample", "3", "--json"])
    answer = json.loads(run.stdout)
    assert len(answer["sample"]) == 3
    judged = tmp_path / "judged.jsonl"
    judged.write_text(json.dumps({**{k: answer["sample"][0][k] for k in ("newer", "older", "rule", "score")},
                                  "judgement": "right"}))  # fmt: skip
    run = CliRunner().invoke(app, ["track", "versions", str(sample), "--judged", str(judged)])
    assert "1 right, 0 wrong" in run.stdout
    run = CliRunner().invoke(app, ["track", "truth", str(tmp_path / "absent.mbox")])
    assert isinstance(run.exception, SourceError)


def test_an_archive_without_applied_mails_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "few.mbox"
    file.write_text(_mail(1, "[PATCH] Mend the engine", "engine-v1", _patch("engine", 1)))
    run = CliRunner().invoke(app, ["track", "truth", str(file)])
    assert isinstance(run.exception, SourceError)
    assert "--pairs" in str(run.exception)


def test_equal_lines_of_two_people_are_no_versions_of_one_work() -> None:
    """A wrong link of a real list: two people mended one line in the same way, months apart."""
    profile = DriverProfile()

    def patch(name: str, who: str, subject: str, day: int) -> PatchMail:
        return patch_mail(
            f"{name}@x.org", subject, Address(who, f"{who.lower()}@{who.lower()}.org"),
            datetime(2025, 2, day, tzinfo=UTC), (),
            _patch("engine", 1).replace("Ada <ada@x.org>", who), profile,
        )  # fmt: skip

    first = patch("first", "Bob", "[PATCH] Use the new engine", 1)
    other = patch("other", "Eve", "[PATCH v4] Simplify the engine", 9)
    again = patch("again", "Bob", "[PATCH v2] Replace the engine", 5)
    assert [edge.newer for edge in link_series(group_series([first, other, again]))] == ["again@x.org"]


def test_a_letter_keeps_what_is_asked_of_it_and_no_text() -> None:
    taken = "Applied to for-next, thanks!\n\n[1/1] Mend the ring\n      commit: " + "ab" * 20 + "\n"
    trailers = [("Reviewed-by", "Ada <ada@x.org>"), ("Link", "https://x.org/")]
    who = Address("Ada", "ada@x.org")
    letter = read_letter(
        "a@x", "applied", who, None, ("b@x",), "Re: x", taken + "> +quoted\n" * 500, trailers
    )
    assert letter.notice is not None
    assert letter.notice.entries[0].sha == "ab" * 20
    assert letter.reviews == (("Reviewed-by", "Ada <ada@x.org>"),)
    assert letter.quotes_diff
    assert 60 < letter.own_length < 200
    pull = read_letter(
        "p@x", "pull", who, None, (), "[GIT PULL] x", "\n      Mend the Ring.\n      Mend the queue\n", []
    )
    assert pull.titles == {"mend the ring", "mend the queue"}
    assert pull.notice is None
    assert max(len(str(getattr(letter, name))) for name in Letter.__slots__) < 1000
