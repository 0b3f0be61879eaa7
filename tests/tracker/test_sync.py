"""Sources -> database -> answers, whole: incremental, killed, damaged, two worlds apart."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from db.database import Database, WriterBusyError
from db.git_tables import Commit, Landing, Match
from db.mail_tables import Change, Message, Patch, Series, Source
from tracker import answers, ingest_mail
from tracker.errors import NoSuchChangeError
from tracker.mail.relevance import Sieve
from tracker.sample import load_facts, write_mails
from tracker.settings import DriverProfile, SourceSettings, TreeSettings
from tracker.sync import SyncReport, derive, sync

NOW = datetime(2026, 11, 23, tzinfo=UTC)
PROFILE = DriverProfile()


def run(
    database: Database, tmp_path: Path, sources: list[SourceSettings], trees: list[TreeSettings] | None = None
) -> SyncReport:
    return sync(database, sources, trees or [], PROFILE, clones=tmp_path / "clones", now=NOW)


def mails(path: Path, name: str = "list") -> SourceSettings:
    return SourceSettings(name=name, kind="mbox", location=str(path))


def change_row(database: Database, message_id: str) -> int | None:
    query = select(Patch.change_id).join(Message).where(Message.message_id == message_id)
    with database.engine.connect() as connection:
        return connection.execute(query).scalar_one()


def content(database: Database) -> dict[str, Any]:
    """Everything that matters in the database, without row ids and times of syncing."""
    with database.engine.connect() as connection:

        def rows(*columns: Any) -> list[Any]:
            return sorted(map(repr, connection.execute(select(*columns)).all()))

        return {
            "messages": rows(Message.message_id, Message.kind, Message.subject, Message.body),
            "damage": rows(Message.message_id, Message.corrupted),
            "series": rows(Series.key, Series.version, Series.total, Series.received, Series.rule),
            "changes": rows(Change.key, Change.slug, Change.state, Change.window, Change.evidence),
            "patches": rows(Patch.title, Patch.number, Patch.diff_hash, Patch.link_rule, Patch.link_evidence),
            "matches": rows(Match.rule, Match.score, Match.evidence),
            "landings": rows(Landing.tag, Landing.window),
            "commits": rows(Commit.sha, Commit.title),
        }  # fmt: skip


def test_the_sample_gives_every_fact_its_window(synced: Database) -> None:
    for fact in load_facts().commits:
        line = answers.show(synced, fact.title).line
        assert line.sample
        if fact.window is not None:
            assert (line.window, line.probability) == (fact.window, 1.0), fact.title
        if fact.sha is not None:
            assert line.notes["real_commit"] == [fact.sha]


def test_a_window_page(synced: Database) -> None:
    found = answers.window(synced, "7.1")
    expected = {fact.title for fact in load_facts().commits if fact.window == "7.1"}
    assert {line.title for line in (*found.merge_window, *found.fixes)} == expected
    assert [line.title for line in found.fixes] == [
        "accel/amdxdna: Fix mm_struct reference leak in aie2_populate_range()"
    ]
    assert found.to_json()["total"] == len(expected)
    assert answers.window(synced, "v7.1-rc3") == found
    assert ("7.1", len(expected)) in answers.windows(synced)


def test_the_revert_inside_7_2(synced: Database) -> None:
    found = answers.show(synced, "accel/amdxdna: Support read-only user-pointer BO mappings")
    assert (found.line.state, found.line.window, found.line.first_tag) == ("reverted", "7.2", "v7.2-rc1")
    assert found.line.notes["reverted"]["window"] == "7.2"
    assert any(one["kind"] == "revert" for one in found.evidence)
    assert found.line.slug in {line.slug for line in answers.window(synced, "7.2").reverted}
    undo = answers.show(synced, 'Revert "accel/amdxdna: Support read-only user-pointer BO mappings"')
    assert (undo.line.state, undo.line.window) == ("released", "7.2")


def test_a_change_is_found_by_all_its_names(synced: Database) -> None:
    whole = answers.show(synced, "accel/amdxdna: Remove NPU2 support")
    for name in (
        whole.line.slug,
        str(whole.line.commit),
        str(whole.line.commit)[:9],
        whole.key,
        "Remove NPU2",
    ):
        assert answers.show(synced, name) == whole
    assert [one.version for one in whole.versions] == ["1", "2", "3"][: len(whole.versions)]
    assert {one.tree for one in whole.commits} == {"sample-mainline", "sample-drm-misc-next"}
    for name in ("no such title", "accel/amdxdna", "%", "_"):
        with pytest.raises(NoSuchChangeError):
            answers.show(synced, name)


def test_filters(synced: Database) -> None:
    all_of_them = answers.changes(synced)
    assert len(all_of_them) == len(load_facts().commits)
    assert {line.window for line in answers.changes(synced, window="7.0")} == {"7.0"}
    assert {line.author for line in answers.changes(synced, author="MAX zhen")} == {"Max Zhen"}
    assert all("suspend" in line.title for line in answers.changes(synced, text="suspend"))
    assert len(answers.changes(synced, limit=3)) == 3
    recent = answers.changes(synced, since=NOW - timedelta(days=40))
    assert 0 < len(recent) < len(all_of_them)
    assert answers.changes(synced, state="reverted")[0].state == "reverted"


def test_a_second_sync_reads_nothing_and_changes_nothing(
    synced: Database, tmp_path: Path, sample: tuple[list[SourceSettings], list[TreeSettings]]
) -> None:
    before = content(synced)
    with synced.engine.connect() as connection:
        ids = connection.execute(select(Change.id, Change.slug).order_by(Change.id)).all()
    report = run(synced, tmp_path, *sample)
    assert [(one.new, one.scanned) for one in report.sources if one.kind == "mbox"] == [(0, 0)]
    assert content(synced) == before
    derive(synced, PROFILE, NOW)
    assert content(synced) == before
    with synced.engine.connect() as connection:
        assert connection.execute(select(Change.id, Change.slug).order_by(Change.id)).all() == ids


def test_the_sample_never_explains_a_record(
    synced: Database, tmp_path: Path, mail: Callable[..., bytes], mbox: Callable[..., Path]
) -> None:
    """A real mail with a title of the sample stays apart from it."""
    title = "accel/amdxdna: Remove NPU2 support"
    raw = mail(f"[PATCH V1] {title}", message_id="real@x", date=datetime(2025, 12, 17, tzinfo=UTC))
    run(synced, tmp_path, [mails(mbox([raw]))])
    with synced.engine.connect() as connection:
        found = dict(
            connection.execute(select(Change.sample, Change.state).where(Change.title == title)).all()
        )
    assert found.keys() == {True, False}
    assert found[False] != "released"


def test_slugs_are_file_names_and_unique(synced: Database) -> None:
    slugs = [line.slug for line in answers.changes(synced)]
    assert len(set(slugs)) == len(slugs)
    assert all(set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and slug for slug in slugs)


def test_a_later_version_keeps_the_row_and_the_slug(
    database: Database,
    tmp_path: Path,
    mail: Callable[..., bytes],
    mbox: Callable[..., Path],
    driver_diff: Callable[..., str],
) -> None:
    second = mail("[PATCH V2] accel/amdxdna: New words", message_id="v2@x", diff=driver_diff(), date=NOW)
    other = mail("[PATCH] accel/amdxdna: Z", message_id="z@x", diff=driver_diff("drivers/accel/amdxdna/z.c"))
    run(database, tmp_path, [mails(mbox([second, other]))])
    before = answers.show(database, "v2@x").line
    row = change_row(database, "v2@x")
    earlier = mail("[PATCH V1] accel/amdxdna: New words", message_id="v1@x", diff=driver_diff(),
                   date=NOW - timedelta(days=3))  # fmt: skip
    run(database, tmp_path, [mails(mbox([earlier], "other.mbox"), "other")])
    after = answers.show(database, "v1@x")
    assert (after.line.slug, after.line.versions, after.key) == (before.slug, 2, "v1@x")
    assert change_row(database, "v2@x") == row  # campaigns refer to it


def test_one_bad_source_costs_one_line_and_the_rest_goes_on(
    database: Database,
    tmp_path: Path,
    mail: Callable[..., bytes],
    mbox: Callable[..., Path],
    driver_diff: Callable[..., str],
) -> None:
    (tmp_path / "garbage").write_bytes(b"\0\1\2")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "file").write_text("x")
    good = mbox([mail("[PATCH] accel/amdxdna: x", message_id="a@x", diff=driver_diff())])
    report = run(
        database,
        tmp_path,
        [mails(tmp_path / "absent", "a"), mails(tmp_path / "garbage", "b"), mails(good, "c")],
        [
            TreeSettings(name="d", location=str(tmp_path / "plain")),
            TreeSettings(name="e", location="/absent"),
        ],
    )
    assert [one.problem is None for one in report.sources] == [False, False, True, False, False]
    assert all("\n" not in str(one.problem) for one in report.sources)
    assert report.derived.changes == 1
    assert not report.failed
    with database.engine.connect() as connection:
        problems = dict(connection.execute(select(Source.name, Source.problem)).all())
    assert "no mbox" in str(problems["b"])
    assert problems["c"] is None
    assert run(database, tmp_path, [mails(tmp_path / "absent", "a")]).failed


def test_damaged_mails_are_kept_with_their_reason(
    database: Database,
    tmp_path: Path,
    mail: Callable[..., bytes],
    mbox: Callable[..., Path],
    driver_diff: Callable[..., str],
) -> None:
    nameless = mail("[PATCH] accel/amdxdna: nameless", message_id=None, diff=driver_diff())
    cut = mail("[PATCH] accel/amdxdna: cut", message_id="cut@x", diff=driver_diff())[:-40]
    path = mbox([nameless, cut])
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    run(database, tmp_path, [mails(path)])
    with database.engine.connect() as connection:
        reasons = dict(connection.execute(select(Message.subject, Message.corrupted)).all())
    assert "Message-ID" in str(reasons["[PATCH] accel/amdxdna: nameless"])
    assert "ends inside" in str(reasons["[PATCH] accel/amdxdna: cut"])
    whole = mail("[PATCH] accel/amdxdna: cut", message_id="cut@x", diff=driver_diff())
    run(database, tmp_path, [mails(mbox([nameless, whole]))])
    with database.engine.connect() as connection:
        assert dict(connection.execute(select(Message.subject, Message.corrupted)).all())[
            "[PATCH] accel/amdxdna: cut"
        ] is None  # fmt: skip


@pytest.mark.parametrize("stop", [1, 7, 40, 111, 402])
def test_a_sync_that_dies_anywhere_ends_like_an_undisturbed_one(
    stop: int, synced: Database, tmp_path: Path, sample: tuple[list[SourceSettings], list[TreeSettings]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The process dies after so many mails; batches are small, so some are committed and some are lost."""

    class DiedError(BaseException):
        pass

    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    other.migrate()
    monkeypatch.setattr(ingest_mail, "BATCH_KEPT", 5)
    counted = 0
    sift = Sieve.sift

    def dying(self: Any, item: Any) -> Any:
        nonlocal counted
        counted += 1
        if counted == stop:
            raise DiedError
        return sift(self, item)

    with monkeypatch.context() as patched:
        patched.setattr(Sieve, "sift", dying)
        with pytest.raises(DiedError):
            run(other, tmp_path, *sample)
    run(other, tmp_path, *sample)
    assert content(other) == content(synced)
    other.close()


KILLED = """
import sys
from pathlib import Path
from db.database import Database
from tracker import ingest_mail
from tracker.settings import DriverProfile, SourceSettings
from tracker.sync import sync
ingest_mail.BATCH_KEPT = 5
database = Database(sys.argv[1])
source = SourceSettings(name="list", kind="mbox", location=sys.argv[2])
sync(database, [source], [], DriverProfile(), clones=Path("clones"))
print("finished")
"""


@pytest.mark.slow
def test_kill_9_at_any_time_loses_nothing(tmp_path: Path, database: Database) -> None:
    path = tmp_path / "sample.mbox"
    write_mails(load_facts(), path)
    run(database, tmp_path, [mails(path)])
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    other.migrate()
    killed = 0
    for attempt in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, f"sqlite:///{tmp_path / 'other.db'}", str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        time.sleep(0.5 + attempt * 0.06)
        child.send_signal(signal.SIGKILL)
        out, _ = child.communicate()
        killed += b"finished" not in out
    assert killed > 3
    run(other, tmp_path, [mails(path)])
    assert content(other) == content(database)
    other.close()


def test_a_second_writer_is_told_at_once(database: Database, tmp_path: Path) -> None:
    with database.writer("a test"), pytest.raises(WriterBusyError):
        run(database, tmp_path, [])


def test_git_trees_grow_and_are_rewound(
    database: Database, tmp_path: Path, run_git: Callable[..., str]
) -> None:
    folder = tmp_path / "kernel"
    file = folder / "drivers/accel/amdxdna/a.c"
    file.parent.mkdir(parents=True)
    run_git(folder, "init", "--quiet", "--initial-branch=master")

    def commit(title: str, day: int) -> None:
        file.write_text(file.read_text() + title + "\n" if file.exists() else title + "\n")
        run_git(folder, "add", "-A")
        run_git(folder, "commit", "--quiet", "-m", title, when=NOW - timedelta(days=day))

    tree = TreeSettings(name="mainline", location=str(folder))
    commit("accel/amdxdna: one", 40)
    run_git(folder, "tag", "-a", "-m", "x", "v7.1-rc1", when=NOW - timedelta(days=39))
    commit("accel/amdxdna: two", 30)
    run(database, tmp_path, [], [tree])
    lines = {line.title[-3:]: line for line in answers.changes(database)}
    assert (lines["one"].state, lines["one"].first_tag) == ("landed", "v7.1-rc1")
    assert (lines["two"].state, lines["two"].first_tag, lines["two"].window) == ("landed", None, "7.1")
    run_git(folder, "tag", "-a", "-m", "x", "v7.1", when=NOW - timedelta(days=20))
    commit("accel/amdxdna: three", 10)
    report = run(database, tmp_path, [], [tree])
    assert report.sources[0].new == 1
    lines = {line.title[-3:]: line for line in answers.changes(database)}
    assert (lines["two"].state, lines["two"].first_tag) == ("released", "v7.1")
    assert lines["ree"].window == "7.2"
    run_git(folder, "reset", "--quiet", "--hard", "HEAD~1")
    run(database, tmp_path, [], [tree])
    states = {line.title[-3:]: line.window for line in answers.changes(database)}
    assert states == {"one": "7.1", "two": "7.1", "ree": None}


def test_another_driver_can_be_followed(
    database: Database,
    tmp_path: Path,
    mail: Callable[..., bytes],
    mbox: Callable[..., Path],
    driver_diff: Callable[..., str],
) -> None:
    path = mbox(
        [
            mail("[PATCH] accel/ivpu: x", message_id="i@x", diff=driver_diff("drivers/accel/ivpu/x.c")),
            mail("[PATCH] accel/amdxdna: x", message_id="a@x", diff=driver_diff()),
        ]
    )
    ivpu = DriverProfile(name="ivpu", paths=("drivers/accel/ivpu",), subject_words=("ivpu",))
    sync(database, [mails(path)], [], ivpu, clones=tmp_path, now=NOW)
    assert [line.title for line in answers.changes(database)] == ["accel/ivpu: x"]


@pytest.mark.parametrize("paths", [(), ("",), ("/etc",), ("../x",), ("-x",), (":(glob)**",)])
def test_a_profile_with_bad_paths_is_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="path"):
        DriverProfile(paths=paths)


def test_sources_are_counted(database: Database, tmp_path: Path, synced: Database) -> None:
    with synced.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(Source).where(Source.sample)).scalar() == 3


def test_what_a_cut_archive_gave_is_stored(
    database: Database, tmp_path: Path, mail: Callable[..., bytes], mbox: Callable[..., Path]
) -> None:
    subject = "[PATCH] accel/amdxdna: "
    noise = [
        mail(f"{subject}{n}", message_id=f"m{n}@x", body=random.Random(n).randbytes(900).hex())
        for n in range(300)
    ]
    data = gzip.compress(mbox(noise).read_bytes())
    packed = tmp_path / "cut.mbox.gz"
    packed.write_bytes(data[: len(data) // 2])
    report = run(database, tmp_path, [mails(packed)])
    assert "damaged" in str(report.sources[0].problem)
    stored = len(answers.changes(database))
    assert 50 < stored < 300
    packed.write_bytes(data)
    assert run(database, tmp_path, [mails(packed)]).sources[0].problem is None
    assert len(answers.changes(database)) == 300


def test_a_tree_and_a_list_given_by_url_are_cloned_once_and_fetched(
    database: Database, tmp_path: Path, inbox: Callable[..., Path], mail: Callable[..., bytes],
    sample: tuple[list[SourceSettings], list[TreeSettings]], driver_diff: Callable[..., str],
) -> None:  # fmt: skip
    first = mail("[PATCH] accel/amdxdna: one", message_id="1@x", diff=driver_diff())
    epoch = inbox(0, [first]) / "git" / "0.git"
    source = SourceSettings(name="the list/..", kind="public-inbox", location=f"file://{epoch}")
    tree = TreeSettings(name="mainline", location=f"file://{sample[1][0].location}", branch="master")
    report = run(database, tmp_path, [source], [tree])
    assert [one.problem for one in report.sources] == [None, None]
    assert report.sources[1].new > 150
    inbox(
        0,
        [mail("[PATCH] accel/amdxdna: two", message_id="2@x", diff=driver_diff("drivers/accel/amdxdna/b.c"))],
    )
    again = run(database, tmp_path, [source], [tree])
    assert [one.new for one in again.sources] == [1, 0]
    clones = sorted(path.name for path in (tmp_path / "clones").iterdir())
    assert clones == ["mainline.git", "the-list-.git"]
    gone = TreeSettings(name="gone", location=f"file://{tmp_path}/absent")
    assert "cannot fetch" in str(run(database, tmp_path, [], [gone]).sources[0].problem)
