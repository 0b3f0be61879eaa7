"""Change <-> commit, rung by rung; and the state machine of windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tracker.applied import parse_applied
from tracker.calendar import parse_tag
from tracker.changes import group_changes
from tracker.git.commits import CommitFacts
from tracker.mail.diff import parse_diff
from tracker.mail.headers import Address
from tracker.mail.message import parse_mail
from tracker.mail.patch_mail import patch_mail
from tracker.mail.series import PatchMail, group_series
from tracker.matching import MatchFact, Notice, fold_copies, match_commits
from tracker.revisions import link_series
from tracker.settings import DriverProfile
from tracker.windows import Case, Landed, Reverted, TagDate, Voice, forecast, judge

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
ADA = Address("Ada", "ada@example.org")


def sha(letter: str) -> str:
    return letter * 40


@pytest.fixture
def posted(mail: Callable[..., bytes], driver_diff: Callable[..., str]) -> Callable[..., PatchMail]:
    """posted(subject, id, day=..., new=..., file=...): a patch mail."""

    def make(
        subject: str, message_id: str, *, day: float = 0, new: str = "int a = 2;", file: str = "drivers/a.c"
    ) -> PatchMail:
        read = parse_mail(
            mail(subject, message_id=message_id, author="Ada <ada@example.org>",
                 date=NOW + timedelta(days=day), diff=driver_diff(file, new=new))
        )  # fmt: skip
        head = read.head
        return patch_mail(
            read.message_id, head.subject, head.author, head.date, head.parents, read.body, DriverProfile()
        )

    return make


@pytest.fixture
def committed(driver_diff: Callable[..., str]) -> Callable[..., CommitFacts]:
    """committed(id letter, title, new=..., file=..., **fields): a commit."""

    def make(
        letter: str, title: str, *, new: str = "int a = 2;", file: str = "drivers/a.c", **fields: object
    ) -> CommitFacts:
        diff = parse_diff(driver_diff(file, new=new))
        made = CommitFacts(
            sha=sha(letter), title=title, message=title, author=ADA, author_date=NOW + timedelta(days=5),
            commit_date=NOW + timedelta(days=6), trailers=(), files=diff.paths, diff_hash=diff.diff_hash,
            patch_id=diff.patch_id, reverts=None, upstream=None, lines=tuple(sorted(diff.signature)),
        )  # fmt: skip
        return replace(made, **fields)  # type: ignore[arg-type]  # the fields are named by the test

    return make


def match(
    mails: list[PatchMail], commits: list[CommitFacts], notices: list[Notice] | None = None
) -> dict[str, MatchFact]:
    series = group_series(mails)
    lineages = group_changes(series, link_series(series))
    found = match_commits(lineages, series, commits, notices or [])
    return {one.sha: one for one in found.matches}


STRANGER = Address("Eve", "eve@y.org")


def test_a_link_decides_even_when_title_and_lines_changed(
    posted: Callable[..., PatchMail], committed: Callable[..., CommitFacts]
) -> None:
    link = (("Link", "https://patch.msgid.link/a@x"),)
    found = match(
        [posted("[PATCH] drm: x", "a@x")], [committed("1", "drm: renamed", new="int q;", trailers=link)]
    )
    assert (found[sha("1")].rule, found[sha("1")].score) == ("link", 1.0)


def test_a_link_to_a_discussion_of_something_else_does_not(
    posted: Callable[..., PatchMail], committed: Callable[..., CommitFacts]
) -> None:
    link = (("Link", "https://lore.kernel.org/r/a@x"),)
    commit = committed(
        "1", "net: wholly different", new="int q;", file="net/b.c", trailers=link, author=STRANGER
    )
    assert match([posted("[PATCH] drm: x", "a@x")], [commit]) == {}


def test_an_applied_mail_that_names_the_commit(
    posted: Callable[..., PatchMail], committed: Callable[..., CommitFacts]
) -> None:
    """The maintainer changed the title; the list gives number and commit."""
    body = f"Applied, thanks!\n\n[1/1] drm: better title of x\n      commit: {sha('1')}\n"
    notice = Notice("n@x", NOW + timedelta(days=6), ("a@x",), parse_applied(body))
    commit = committed("1", "drm: better title of x", new="int q;", file="z.c", author=STRANGER)
    found = match([posted("[PATCH] drm: x", "a@x")], [commit], [notice])
    assert found[sha("1")].rule == "applied mail"


def test_renamed_on_apply_is_found_by_its_lines(
    posted: Callable[..., PatchMail], committed: Callable[..., CommitFacts]
) -> None:
    found = match([posted("[PATCH] drm: x", "a@x")], [committed("1", "drm: other words", author=STRANGER)])
    assert found[sha("1")].rule == "same lines"


def test_changed_on_apply_is_found_by_title_and_author(
    posted: Callable[..., PatchMail], committed: Callable[..., CommitFacts]
) -> None:
    mails = [posted("[PATCH] drm: x", "a@x")]
    assert match(mails, [committed("1", "drm: X", new="int q;")])[sha("1")].rule == "title"
    stranger = committed("1", "drm: x", new="int q;", file="z.c", author=STRANGER)
    assert match(mails, [stranger]) == {}


def test_a_commit_older_than_the_mail_is_not_its_result(
    posted: Callable[..., PatchMail], committed: Callable[..., CommitFacts]
) -> None:
    assert match([posted("[PATCH] drm: x", "a@x", day=30)], [committed("1", "drm: x")]) == {}


def test_equal_lines_in_other_files_are_no_match(
    posted: Callable[..., PatchMail], committed: Callable[..., CommitFacts]
) -> None:
    """Real: intel-vbtn and intel-hid got the same fix."""
    mails = [
        posted("[PATCH] vbtn: Fix check", "v@x", file="vbtn.c"),
        posted("[PATCH] hid: Fix check", "h@x", file="hid.c"),
    ]
    found = match(
        mails, [committed("1", "hid: Fix check", file="hid.c"), committed("2", "vbtn: Fix it", file="vbtn.c")]
    )
    assert {one.sha[0]: one.change for one in found.values()} == {"1": "h@x", "2": "v@x"}


def test_a_revert_never_matches_what_it_reverts(
    posted: Callable[..., PatchMail], committed: Callable[..., CommitFacts]
) -> None:
    mails = [posted("[PATCH] drm: x", "a@x"), posted('[PATCH] Revert "drm: x"', "r@x", day=2, new="int r;")]
    found = match(
        mails, [committed("1", "drm: x"), committed("2", 'Revert "drm: x"', new="int r;", reverts=sha("1"))]
    )
    assert {one.sha[0]: one.change for one in found.values()} == {"1": "a@x", "2": "r@x"}


def test_a_revert_that_links_to_the_original_is_not_its_result(
    posted: Callable[..., PatchMail], committed: Callable[..., CommitFacts]
) -> None:
    link = (("Link", "https://patch.msgid.link/a@x"),)
    undo = committed("2", 'Revert "drm: x"', new="int r;", reverts=sha("1"), trailers=link)
    assert match([posted("[PATCH] drm: x", "a@x")], [undo]) == {}


def test_copies_are_one_change(
    posted: Callable[..., PatchMail], committed: Callable[..., CommitFacts]
) -> None:
    """Mainline, its stable copy (other lines after a conflict), and a rebase."""
    copies = [
        committed("1", "drm: x"),
        committed(
            "2", "drm: x", new="int conflict;", upstream=sha("1"), commit_date=NOW + timedelta(days=60)
        ),
        committed("3", "drm: x", new="int rebased;", commit_date=NOW + timedelta(days=5)),
        committed("4", "drm: other", new="int o;", file="o.c", author_date=NOW),
    ]
    assert sorted(len(group) for group in fold_copies(copies)) == [1, 3]
    found = match([posted("[PATCH] drm: x", "a@x")], copies)
    assert {one.change for one in found.values()} == {"a@x"}
    assert sorted(one.sha[0] for one in found.values()) == ["1", "2", "3"]


def test_equal_titles_take_the_nearest_version_before_the_commit(
    posted: Callable[..., PatchMail], committed: Callable[..., CommitFacts]
) -> None:
    mails = [
        posted("[PATCH] drm: Fix leak", "old@x", day=-500, file="o.c", new="int o;"),
        posted("[PATCH] drm: Fix leak", "new@x", new="int n;"),
    ]
    assert match(mails, [committed("1", "drm: Fix leak", new="int q;")])[sha("1")].change == "new@x"


def test_likeness_is_the_last_rung() -> None:
    """Title and lines both changed on apply: rated, and believed only when it is clear."""
    body = "".join(f"+\tline_{n}();\n" for n in range(20))
    text = f"diff --git a/d.c b/d.c\n--- a/d.c\n+++ b/d.c\n@@ -1,1 +1,21 @@\n x\n{body}"
    raw = (
        "From: Ada <ada@example.org>\nSubject: [PATCH] drm: Add lines to d\n"
        f"Date: Mon, 05 Jan 2026 12:00:00 +0000\nMessage-ID: <a@x>\n\nWords.\n---\n{text}"
    )
    read = parse_mail(raw.encode())
    one = patch_mail(
        "a@x", read.head.subject, read.head.author, read.head.date, (), read.body, DriverProfile()
    )
    changed = parse_diff(text.replace("line_3()", "line_three()"))
    commit = CommitFacts(
        sha("1"), "drm: Add many lines to d", "drm: Add many lines to d\n\nWords.", ADA, NOW, NOW,
        (), changed.paths, changed.diff_hash, changed.patch_id, None, None, tuple(sorted(changed.signature)),
    )  # fmt: skip
    assert match([one], [commit])[sha("1")].rule == "likeness"
    far = replace(commit, lines=tuple(range(20)))
    assert match([one], [far]) == {}


def tags(*names: str) -> list[TagDate]:
    """Mainline tags, a week apart, ending now."""
    found = []
    for index, name in enumerate(reversed(names)):
        version = parse_tag(name)
        assert version is not None
        found.append(TagDate(name, version, NOW - timedelta(days=7 * index)))
    return found[::-1]


def landed(role: str, tag: str | None, window: str | None = None, *, day: float = 0) -> Landed:
    return Landed(sha("1"), role, role, tag, window, NOW + timedelta(days=day), "link", 1.0, "e")


def voice(kind: str, day: float, text: str = "x", tree: str | None = None) -> Voice:
    return Voice(kind, f"{kind}@x", NOW + timedelta(days=day), "Rea", text, tree)


MAINLINE = tags("v7.1-rc1", "v7.1-rc2", "v7.1-rc3")


@pytest.mark.parametrize(
    ("case", "state", "window"),
    [
        (Case(posted=NOW), "posted", None),
        (Case(posted=NOW, voices=(voice("reviewed", 1),)), "reviewed", None),
        (Case(posted=NOW, voices=(voice("remarks", 1),)), "changes-requested", None),
        (Case(posted=NOW, voices=(voice("remarks", 1), voice("reviewed", 2))), "reviewed", None),
        (Case(posted=NOW, voices=(voice("reviewed", 1), voice("report", 2))), "changes-requested", None),
        (Case(posted=NOW, superseded_by="s@x"), "superseded", None),
        (Case(posted=NOW - timedelta(days=400)), "dropped", None),
        (Case(posted=NOW, voices=(voice("applied", 1, tree="drm-misc-next"),)), "applied", "7.2"),
        (Case(posted=NOW, landed=(landed("maintainer", None),)), "applied", "7.2"),
        (Case(posted=NOW, landed=(landed("next", None),)), "queued", "7.2"),
        (Case(posted=NOW, landed=(landed("mainline", "v7.1-rc2", "7.1"),)), "landed", "7.1"),
        (Case(posted=NOW, landed=(landed("mainline", None, "7.1"), landed("next", None))), "landed", "7.1"),
    ],
)
def test_states(case: Case, state: str, window: str | None) -> None:
    judged = judge(case, MAINLINE, NOW + timedelta(days=3))
    assert (judged.state, judged.window) == (state, window)
    assert judged.rule


def test_git_beats_mail_and_a_release_is_certain() -> None:
    case = Case(
        landed=(landed("mainline", "v7.1-rc2", "7.1"), landed("stable", "v7.0.9", "7.0")),
        voices=(voice("remarks", 1),),
    )
    judged = judge(case, tags("v7.1-rc1", "v7.1-rc2", "v7.1"), NOW)
    assert (judged.state, judged.first_tag, judged.probability) == ("released", "v7.1-rc2", 1.0)
    assert judged.notes == {"stable": ["v7.0.9"]}
    assert {one["ref"] for one in judged.evidence} == {sha("1")}


def test_a_revert_inside_the_window_and_a_second_landing() -> None:
    revert = Reverted(sha("2"), 'Revert "x"', "v7.2-rc1", "7.2", NOW + timedelta(days=2))
    once = Case(landed=(landed("mainline", "v7.2-rc1", "7.2"),), reverted=(revert,))
    judged = judge(once, tags("v7.2-rc1", "v7.2"), NOW)
    assert (judged.state, judged.window) == ("reverted", "7.2")
    assert "same window" in judged.rule
    assert judged.notes["reverted"]["commit"] == sha("2")
    again = replace(once, landed=(*once.landed, landed("mainline", "v7.3-rc1", "7.3", day=9)))
    assert judge(again, tags("v7.2-rc1", "v7.2"), NOW).state == "released"


@pytest.mark.parametrize(
    ("tree", "newest", "window"),
    [
        ("drm-misc-fixes", "v7.1-rc3", "7.1"),
        ("drm-misc-next", "v7.1-rc3", "7.2"),
        ("drm-misc-next", "v7.1-rc6", "7.3"),
        ("drm-misc-next-fixes", "v7.1-rc6", "7.2"),
        ("drm-misc-next", "v7.1", "7.3"),
        ("for-next", "v6.19-rc2", "7.0"),
    ],
)
def test_drm_misc_rules(tree: str, newest: str, window: str) -> None:
    found, probability, why = forecast(tree, NOW + timedelta(days=1), tags(newest))
    assert found == window
    assert 0 < probability < 1
    assert why


def test_without_tags_nothing_is_forecast() -> None:
    assert forecast("drm-misc-next", NOW, [])[0] is None
    assert forecast("drm-misc-next", None, MAINLINE)[0] is None
