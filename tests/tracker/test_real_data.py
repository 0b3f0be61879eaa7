"""Real mails and truth tables: what the rules must find there (marker ``real``)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db.database import Database
from db.mail_tables import Change, Message, Patch, Series
from tracker import answers
from tracker.archive_study import read_archive
from tracker.changes import Lineage, group_changes
from tracker.git.commits import CommitFacts
from tracker.mail.headers import parse_address
from tracker.mail.mbox import MboxReader
from tracker.mail.message import Mail, parse_mail
from tracker.mail.patch_mail import patch_mail
from tracker.mail.series import Series as MailSeries
from tracker.mail.series import group_series
from tracker.mail.subject import parse_subject, version_key
from tracker.matching import match_commits
from tracker.revisions import SeriesEdge, link_series
from tracker.sample import SampleCommit, SampleFacts, load_facts, write_history
from tracker.settings import DriverProfile, SourceSettings, TreeSettings
from tracker.sync import sync
from tracker.truth import pairs_of, read_pairs, score

pytestmark = pytest.mark.real
NOW = datetime(2026, 11, 23, tzinfo=UTC)
PLATFORM = DriverProfile(
    name="platform", paths=("drivers/platform", "include/linux/platform_data"), subject_words=("platform",)
)


def ingest(
    database: Database, tmp_path: Path, files: list[Path], profile: DriverProfile | None = None
) -> None:
    sources = [SourceSettings(name=file.name, kind="mbox", location=str(file)) for file in files]
    report = sync(database, sources, [], profile or DriverProfile(), clones=tmp_path, now=NOW)
    assert all(one.problem is None for one in report.sources)


def test_all_32_patches_and_covers_and_none_of_the_78_mentions(
    database: Database, tmp_path: Path, real_data: Path
) -> None:
    folder = real_data / "mails"
    ingest(database, tmp_path, [folder / "amdxdna-patches.mbox", folder / "amdxdna-mentions.mbox"])
    index = json.loads((folder / "index.json").read_text())
    expected = {
        one["message_id"].strip("<>")
        for one in index
        if one["mbox"] == "amdxdna-patches.mbox"
        and parse_subject(one["subject"]).patch
        and not parse_subject(one["subject"]).reply
    }
    mentions = {one["message_id"].strip("<>") for one in index if one["mbox"] == "amdxdna-mentions.mbox"}
    assert (len(expected), len(mentions)) == (32, 78)
    with database.engine.connect() as connection:
        found = set(
            connection.scalars(select(Message.message_id).where(Message.kind.in_(["patch", "cover"])))
        )
        of_a_change = set(
            connection.scalars(select(Message.message_id).join(Patch).where(Patch.change_id.is_not(None)))
        )
    assert found == expected
    assert not of_a_change & mentions


def test_the_mixed_thread_is_one_series_and_tagged_replies_are_replies(
    database: Database, tmp_path: Path, real_data: Path
) -> None:
    """With the list that has 1/2 too: V1 0/2, V1 1/2, V2 2/2."""
    folder = real_data / "mails"
    ingest(database, tmp_path, [folder / "amdxdna-patches.mbox", folder / "pdx86-2025q4.mbox.gz"])
    key = "20251211175802.1760860-1-lizhi.hou@amd.com"
    with database.engine.connect() as connection:
        series = connection.execute(
            select(Series.id, Series.total, Series.version).where(Series.key == key)
        ).one()
        members = connection.execute(
            select(Message.subject, Patch.number)
            .join(Patch, Patch.message_id == Message.id)
            .where(Patch.series_id == series.id)
            .order_by(Patch.number)
        ).all()
        tagged = connection.execute(
            select(Message.kind).where(Message.subject.startswith("[Linaro-mm-sig] Re:"))
        ).scalars()
        kinds = set(tagged)
    assert (series.total, series.version) == (2, "1")
    assert [subject[:12] for subject, _ in members] == ["[PATCH V1 0/", "[PATCH V1 1/", "[PATCH V2 2/"]
    assert kinds <= {"reply", "applied"}
    assert kinds


def test_the_npu_power_lineage_crosses_sender_and_title(
    database: Database, tmp_path: Path, real_data: Path
) -> None:
    """Shyam's v2 4/5 and 5/5 go on as Lizhi's V1 1/2 and V2 2/2 (5/5 with another title), V2, V3."""
    folder = real_data / "mails"
    pmf = DriverProfile(
        paths=("drivers/accel/amdxdna", "drivers/platform/x86/amd/pmf"), subject_words=("amdxdna",)
    )
    ingest(database, tmp_path, [folder / "amdxdna-patches.mbox", folder / "pdx86-2025q4.mbox.gz"], pmf)
    runs = ("20251211175802.1760860", "20251212181803.1825142", "20260105172956.3732123")
    stamps = [
        "20251111063737.4156385-{}-Shyam-sundar.S-k@amd.com",
        *(f"{run}-{{}}-lizhi.hou@amd.com" for run in runs),
    ]
    for first, later in ((5, 2), (6, 3)):
        names = {stamps[0].format(first), *(stamp.format(later) for stamp in stamps[1:])}
        with database.engine.connect() as connection:
            rows = connection.execute(
                select(Message.message_id, Patch.change_id)
                .join(Patch, Patch.message_id == Message.id)
                .where(Message.message_id.in_(names))
            ).all()
        assert {row.message_id for row in rows} == names
        assert len({row.change_id for row in rows}) == 1


@pytest.fixture(scope="module")
def pdx86(real_data: Path) -> dict[str, Mail]:
    """Every mail of the volume sample, by message id."""
    found: dict[str, Mail] = {}
    for item in MboxReader(real_data / "mails" / "pdx86-2025q4.mbox.gz").read({}):
        mail = parse_mail(item.raw)
        found.setdefault(mail.message_id, mail)
    return found


@pytest.fixture(scope="module")
def truth(real_data: Path) -> list[dict[str, Any]]:
    """Patch mail -> commit, from maintainers' applied mails."""
    return [json.loads(line) for line in (real_data / "truth_pairs.jsonl").read_text().splitlines()]


Platform = tuple[list[MailSeries], list[SeriesEdge], list[Lineage]]


@pytest.fixture(scope="module")
def platform(pdx86: dict[str, Mail]) -> Platform:
    """(series, edges, lineages) of the whole list."""
    mails = [
        patch_mail(m.message_id, m.head.subject, m.head.author, m.head.date, m.head.parents, m.body, PLATFORM)
        for m in pdx86.values()
        if m.kind in ("patch", "cover")
    ]
    series = group_series(mails)
    edges = link_series(series)
    return series, edges, group_changes(series, edges)


def test_commits_are_led_back_to_their_mails(real_data: Path) -> None:
    """By applied mails; by title and author alone; by the lines alone, as if everything else were renamed.

    The commits' own diffs are not at hand here, so the mail's diff stands for them: this shows that the hash
    leads back to one change among all of the list, not how often a maintainer edits a patch.
    """
    study = read_archive(real_data / "mails" / "pdx86-2025q4.mbox.gz")
    pairs = read_pairs((real_data / "truth_pairs.jsonl").read_text("utf-8"))
    series = group_series(study.patches)
    lineages = group_changes(series, link_series(series))
    scores = score(pairs, lineages, series, study.notices, study.kinds)
    assert [one.way for one in scores] == ["applied mails", "title and author", "changed lines"]
    for one in scores:
        assert one.pairs > 140
        assert one.recall >= 0.97, one.misses
        assert one.precision >= 0.995, one.misses
    own = {(pair.commit, pair.patch_mail) for pair in pairs_of(study.patches, study.notices)}
    known = {(pair.commit, pair.patch_mail) for pair in pairs}
    assert len(own & known) >= 140  # what is derived from the archive is what was collected by other means
    assert not {commit for commit, _ in own - known} & {commit for commit, _ in known}


def test_earlier_versions_in_the_archive_are_of_the_same_change(
    truth: list[dict[str, Any]], platform: Platform, pdx86: dict[str, Mail]
) -> None:
    change_of = {patch.message_id: one.key for one in platform[2] for patch in one.patches}
    known = linked = 0
    for pair in truth:
        for earlier in pair["earlier_versions"]:
            name = (earlier if isinstance(earlier, str) else earlier["message_id"]).strip("<>")
            if name in change_of:
                known += 1
                linked += change_of[name] == change_of.get(pair["patch_mail"].strip("<>"))
    assert known > 100
    assert linked / known >= 0.97


def test_later_versions_are_linked(platform: Platform) -> None:
    series, edges, _ = platform
    later = [one for one in series if version_key(one.version) >= (2,)]
    continued = {edge.newer for edge in edges}
    assert len(later) > 100
    assert sum(one.key in continued for one in later) / len(later) >= 0.87


def test_every_commit_of_the_record_gets_its_window(
    database: Database, tmp_path: Path, real_data: Path
) -> None:
    """A history in the shape of mainline, made from commits.json: each title must come out with its cycle."""
    rows = json.loads((real_data / "commits.json").read_text())["commits"]
    facts = SampleFacts(
        tags=load_facts().tags,
        commits=tuple(
            SampleCommit(
                row["title"], row["author"] or "Unknown Author", row["mainline_cycle"], 1, row["sha"],
                row["cycle_confidence"] == "inferred",
            )
            for row in rows
        ),
    )  # fmt: skip
    write_history(facts, tmp_path / "history.git")
    tree = TreeSettings(name="mainline", location=str(tmp_path / "history.git"), branch="master", sample=True)
    sync(database, [], [tree], DriverProfile(), clones=tmp_path, now=NOW)
    stated = [row for row in rows if row["mainline_cycle"] and row["cycle_confidence"] != "inferred"]
    assert len(stated) > 140
    for row in stated:
        assert answers.show(database, row["title"]).line.window == row["mainline_cycle"], row["title"]
    page = answers.window(database, "7.1")
    titles = {row["title"] for row in rows if row["mainline_cycle"] == "7.1"}
    assert {line.title for line in (*page.merge_window, *page.fixes)} == titles
    undone = answers.show(database, "accel/amdxdna: Support read-only user-pointer BO mappings")
    assert (undone.line.state, undone.line.window) == ("reverted", "7.2")


def test_one_title_with_many_ids_is_one_change(real_data: Path) -> None:
    """Rebases and stable copies: the same title, author and author date, or the upstream id in the text."""
    titles = json.loads((real_data / "same_title_many_commits.json").read_text())["by_title"]
    made = CommitFacts(
        sha="", title="", message="", author=parse_address("A <a@x>"), author_date=NOW, commit_date=NOW,
        trailers=(), files=(), diff_hash=None, patch_id=None, reverts=None, upstream=None, lines=(),
    )  # fmt: skip
    commits = [
        replace(made, sha=sha, title=title, message=title, upstream=None if index == 0 else shas[0])
        for title, shas in titles.items()
        for index, sha in enumerate(shas)
    ]
    found = match_commits([], [], commits, [])
    assert sorted(len(group) for group in found.unmatched) == sorted(len(shas) for shas in titles.values())
    assert {group[0].sha for group in found.unmatched} == {shas[0] for shas in titles.values()}


def test_no_real_mail_is_refused(real_data: Path) -> None:
    """Every mail of every file is parsed; damage that is named stays rare."""
    total = damaged = 0
    for file in sorted((real_data / "mails").glob("*.mbox*")):
        for item in MboxReader(file).read({}):
            mail = parse_mail(item.raw)
            total += 1
            damaged += mail.corrupted is not None or mail.head.date is None or not mail.head.author.email
            assert mail.kind
    assert total > 2500
    assert damaged < total / 200


def test_changes_have_names_for_files(database: Database, tmp_path: Path, real_data: Path) -> None:
    ingest(database, tmp_path, [real_data / "mails" / "pdx86-2025q4.mbox.gz"], PLATFORM)
    with database.engine.connect() as connection:
        slugs = list(connection.scalars(select(Change.slug)))
    assert len(slugs) > 200
    assert len(set(slugs)) == len(slugs)
