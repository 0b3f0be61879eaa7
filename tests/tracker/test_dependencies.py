"""What mails state that patches wait for: the grammar, in own words, and what it finds in real mails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from db.database import Database
from tracker import answers, outlook
from tracker.answers import ChangeAnswer
from tracker.dependencies import MAX_SENTENCE, MAX_STATEMENTS, Stated, stated_by_patch, stated_by_reply
from tracker.mail.body import split_patch
from tracker.mail.mbox import MboxReader
from tracker.mail.message import parse_mail
from tracker.settings import DriverProfile, SourceSettings, TreeSettings
from tracker.sync import sync

NOW = datetime(2026, 2, 1, tzinfo=UTC)
LINK = "https://lore.kernel.org/dri-devel/20260105.77-1-ada@example.org/"
TARGET = "20260105.77-1-ada@example.org"
SHA = "0123456789abcdef0123456789abcdef01234567"


def brief(stated: Stated) -> list[tuple[str, str, int, str | None]]:
    return [(one.kind, one.target, one.waiter, one.tree) for one in stated.statements]


def cover(text: str) -> Stated:
    return stated_by_patch(split_patch(text), cover=True)


def patch(remarks: str, message: str = "Do it.\n") -> Stated:
    body = f"{message}---\n{remarks}\n a.c | 2 +-\n\ndiff --git a/a.c b/a.c\n--- a/a.c\n+++ b/a.c\n"
    return stated_by_patch(split_patch(body), cover=False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"Depends-on: {LINK}", [("message", TARGET)]),
        (f"Depends-on: <{TARGET}>", [("message", TARGET)]),
        (f'depends-on: {SHA[:12]} ("accel: a title")', [("commit", SHA[:12])]),
        (f"prerequisite-message-id: <{TARGET}>", [("message", TARGET)]),
        (f"prerequisite-message-id: {TARGET}", [("message", TARGET)]),
        (
            "prerequisite-change-id: 20260101-a-thing-0123abcd:v2",
            [("change-id", "20260101-a-thing-0123abcd")],
        ),
        (f"prerequisite-patch-id: {SHA}", [("patch-id", SHA)]),
        ("prerequisite-patch-id: 0123", []),
        ("Depends-on: I0123456789abcdef", []),  # another system's name
        (f" Depends-on: {LINK}", []),  # not at the beginning of a line: a diff's context
        (f"> Depends-on: {LINK}", []),
    ],
)
def test_explicit_lines(line: str, expected: list[tuple[str, str]]) -> None:
    for stated in (cover(f"A series.\n\n{line}\n"), patch(line), stated_by_reply(f"Sure.\n\n{line}\n")):
        assert [(one.kind, one.target) for one in stated.statements] == expected
        assert all(one.score == 1.0 for one in stated.statements)


def test_a_base_commit_is_a_fact_and_no_dependency() -> None:
    stated = patch(f"base-commit: {SHA}")
    assert (stated.base, stated.statements) == (SHA, ())
    behind = "Do it.\n---\n\ndiff --git a/a.c b/a.c\n--- a/a.c\n+++ b/a.c\n@@ -1 +1 @@\n-a\n+b\n\n"
    stated = stated_by_patch(
        split_patch(f"{behind}base-commit: {SHA}\nprerequisite-patch-id: {SHA}\n"), cover=False
    )
    assert (stated.base, brief(stated)) == (SHA, [("patch-id", SHA, 0, None)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"This series depends on {LINK}.", [("message", TARGET, 0, None)]),
        (f"It applies cleanly on top of the fixes at {LINK}", [("message", TARGET, 0, None)]),
        (f"The work is based\non top of {LINK}", [("message", TARGET, 0, None)]),
        (f"This series depends on [1].\n\n[1] {LINK}", [("message", TARGET, 0, None)]),
        (f"This is dependent on the X series [2].\n\n[1] x\n[2]: {LINK}", [("message", TARGET, 0, None)]),
        (f"Patch 3 depends on {LINK}", [("message", TARGET, 3, None)]),
        ('It depends on the patch "accel/x: Add a thing".', [("title", "accel/x: Add a thing", 0, None)]),
        ("Patch 2 depends on patch 1.", [("number", "1", 2, None)]),
        ("All patches depend on the first patch.", [("number", "1", 0, None)]),
        (
            "We wait for patch 1 to be merged and reach drm-misc-next, then send patch 2 there.",
            [("number", "1", 2, "drm-misc-next")],
        ),
        ("Once patch 1 has landed upstream, please apply patch 2.", [("number", "1", 2, "mainline")]),
        ("Take patch 2 when patch 1/2 is in the accel tree.", [("number", "1", 2, "accel")]),
        # What must say nothing:
        (f"This series does not depend on {LINK}.", []),
        (f"It no longer depends on {LINK}.", []),
        (f"Does this series depend on {LINK}?", []),
        (f"If it depends on the series {LINK}, tell me.", []),
        (f"It depends on the series {LINK}, which has been merged.", []),
        (f"It depends on who reads it, see {LINK}", []),  # no piece of work is named
        ("It depends on the series [7].", []),  # no such reference
        ("It depends on the series [1].\n\n[1] https://example.org/x", []),  # no mail
        ("Patch 2 depends on patch 1 of the other series.", []),
        ("Patch 2 depends on patch 2.", []),
        ("Once patch 1 is in good shape, send patch 2.", []),  # no tree
        ("Once patch 1 is upstream we are happy.", []),  # nobody waits
        ("Do not wait until patch 1 is upstream, send patch 2.", []),
        (f"> This series depends on {LINK}.", []),
        ("The driver depends on IOMMU_SVA.", []),
    ],
)  # fmt: skip
def test_sentences_of_a_cover(text: str, expected: list[tuple[str, str, int, str | None]]) -> None:
    quoted = text.startswith(">")
    assert brief(stated_by_reply(text) if quoted else cover(text)) == expected


def test_who_waits_is_told_by_the_mail() -> None:
    (all_others,) = cover("All patches depend on the first patch.").statements
    assert all_others.others
    (further,) = patch("All further patches depend on this.").statements
    assert (further.others, further.target) == (True, "0")
    assert brief(patch("Depends on the first accel patch.")) == [("number", "1", 0, None)]
    assert brief(patch("Wait until patch 1 is in drm-misc-next before you apply this.")) == [
        ("number", "1", 0, "drm-misc-next")
    ]
    assert brief(patch("", message=f"This depends on the series {LINK}\n")) == []  # only below ---
    # In a reply "it" may be anything.
    assert brief(stated_by_reply(f"It depends on the series {LINK}")) == []
    assert brief(stated_by_reply(f"This patch depends on {LINK}")) == [("message", TARGET, 0, None)]
    assert brief(stated_by_reply("All further patches depend on this.")) == []


def test_hostile_text_is_bounded() -> None:
    many = "\n".join(f"Depends-on: <{number}@x>" for number in range(1000))
    assert len(cover(many).statements) == MAX_STATEMENTS
    long = cover(f"This series{' very' * 200} much depends on {LINK}")
    assert [len(one.sentence) for one in long.statements] == [MAX_SENTENCE]
    for text in (
        "depends on " * 20_000,
        "patch 1 " * 20_000,
        "wait for patch 1 to " * 20_000,
        "[1] " * 50_000,
    ):
        assert cover(text).statements == ()


class Case:
    """A series of two patches on a list, and the trees they may land in."""

    def __init__(
        self, database: Database, folder: Path, mails: Callable[..., Path], git: Callable[..., str]
    ) -> None:
        self.database, self.folder, self.mails, self.git = database, folder, mails, git
        self.repository = folder / "kernel"
        self.repository.mkdir()
        git(self.repository, "init", "--quiet", "--initial-branch=master")
        git(self.repository, "config", "user.name", "Ada Author")
        git(self.repository, "config", "user.email", "ada@example.org")
        self.commit("accel/amdxdna: begin", "old.c")
        git(self.repository, "tag", "-a", "-m", "x", "v6.19-rc1", when=NOW - timedelta(days=60))
        git(self.repository, "branch", "drm-misc-next")

    def commit(self, title: str, name: str) -> None:
        file = self.repository / "drivers/accel/amdxdna" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(title)
        self.git(self.repository, "add", "-A")
        self.git(self.repository, "commit", "--quiet", "-m", title, when=NOW - timedelta(days=10))

    def show(self, raw: list[bytes], title: str, profile: DriverProfile | None = None) -> ChangeAnswer:
        sources = [SourceSettings(name="list", kind="mbox", location=str(self.mails(raw)))]
        location = str(self.repository)
        trees = [
            TreeSettings(name="linus", location=location, branch="master"),
            TreeSettings(name="drm-misc-next", location=location, branch="drm-misc-next", role="maintainer"),
        ]
        report = sync(
            self.database, sources, trees, profile or DriverProfile(), clones=self.folder / "clones", now=NOW
        )
        assert all(one.problem is None for one in report.sources)
        return answers.show(self.database, title)


@pytest.fixture
def case(database: Database, tmp_path: Path, mbox: Callable[..., Path], run_git: Callable[..., str]) -> Case:
    return Case(database, tmp_path, mbox, run_git)


def series(mail: Callable[..., bytes], driver_diff: Callable[..., str], first: str = "one.c") -> list[bytes]:
    path = "drivers/accel/amdxdna"
    return [
        mail("[PATCH 0/2] accel/amdxdna: power", message_id="20260105.5-1-ada@x", body="Two patches.\n"),
        mail("[PATCH 1/2] accel/amdxdna: export it", message_id="20260105.5-2-ada@x",
             answers="20260105.5-1-ada@x", body="One.\n", diff=driver_diff(f"{path}/{first}")),
        mail("[PATCH 2/2] accel/amdxdna: use it", message_id="20260105.5-3-ada@x",
             answers="20260105.5-1-ada@x", body="Two.\n", diff=driver_diff(f"{path}/two.c")),
    ]  # fmt: skip


def test_a_change_is_blocked_until_the_other_is_in_the_tree_named(
    case: Case, mail: Callable[..., bytes], driver_diff: Callable[..., str]
) -> None:
    """1/2 and 2/2; a reply to 1/2 says in which order they go to which tree."""
    said = mail(
        "Re: [PATCH 1/2] accel/amdxdna: export it", message_id="reply@x", answers="20260105.5-2-ada@x",
        references=["20260105.5-1-ada@x"],
        body="> Which tree?\n\nPatch 2 depends on patch1. I wait for patch 1 to be upstream and reach"
        " drm-misc, then I send patch 2 there.\n",
    )  # fmt: skip
    raw = [*series(mail, driver_diff), said]

    def waits(found: ChangeAnswer) -> tuple[str, str]:
        (one,) = found.line.notes["depends"]
        assert (one["tree"], one["message"]) == ("drm-misc", "reply@x")
        assert one["on_key"] == "20260105.5-2-ada@x"
        (evidence,) = [e for e in found.evidence if e["kind"] == "depends"]
        assert (evidence["rule"], evidence["score"]) == ("order between trees", 0.85)
        assert "drm-misc" in evidence["text"]
        return one["state"], one["text"]

    state, text = waits(case.show(raw, "accel/amdxdna: use it"))
    assert state == "open"
    assert text == (
        'blocked until "accel/amdxdna: export it" is in drm-misc: no tree that is followed has it'
    )
    assert [line.title for line in outlook.blocked(case.database)] == ["accel/amdxdna: use it"]
    assert "depends" not in answers.show(case.database, "accel/amdxdna: export it").line.notes

    case.commit("accel/amdxdna: export it", "one.c")
    state, text = waits(case.show(raw, "accel/amdxdna: use it"))
    assert (state, text.partition(": ")[2].endswith("so far it is in mainline")) == ("open", True)

    case.git(case.repository, "checkout", "--quiet", "drm-misc-next")
    case.git(case.repository, "merge", "--quiet", "master")
    state, text = waits(case.show(raw, "accel/amdxdna: use it"))
    assert state == "fulfilled"
    assert "it is in drm-misc-next" in text
    assert outlook.blocked(case.database) == []

    case.commit("accel/amdxdna: use it", "two.c")
    state, text = waits(case.show(raw, "accel/amdxdna: use it"))
    assert (state, text.endswith("the change itself is in drm-misc-next")) == ("fulfilled", True)


def test_a_patch_of_another_subsystem_and_a_mail_that_is_not_there(
    case: Case, mail: Callable[..., bytes], driver_diff: Callable[..., str]
) -> None:
    patches = series(mail, driver_diff)
    patches[1] = mail(
        "[PATCH 1/2] platform/x86: export it", message_id="20260105.5-2-ada@x", answers="20260105.5-1-ada@x",
        body="One.\n", diff=driver_diff("drivers/platform/x86/a.c"),
    )  # fmt: skip
    patches[0] = mail(
        "[PATCH 0/2] accel/amdxdna: power", message_id="20260105.5-1-ada@x",
        body=f"Patch 2 depends on patch 1.\n\nDepends-on: <absent@x>\nbase-commit: {SHA}\n",
    )  # fmt: skip
    found = case.show(patches, "accel/amdxdna: use it").line.notes
    by_name = {one["on"]: one for one in found["depends"]}
    assert by_name["<absent@x>"]["state"] == by_name['"platform/x86: export it"']["state"] == "unknown"
    assert by_name['"platform/x86: export it"']["on_key"] is None
    assert by_name["<absent@x>"]["text"] == (
        "blocked until <absent@x> is in mainline: not known whether it is: it is not in the record"
    )
    assert found["base_commit"] == SHA

    said = mail(
        "Re: [PATCH 1/2] platform/x86: export it", message_id="applied@x", answers="20260105.5-2-ada@x",
        author="Max Maintainer <max@example.org>",
        body=f"Applied to review-next.\n\n[1/2] platform/x86: export it\n      commit: {SHA}\n",
    )  # fmt: skip
    again = case.show([*patches, said], "accel/amdxdna: use it").line.notes["depends"]
    (one,) = [one for one in again if one["on"] == '"platform/x86: export it"']
    assert (one["state"], SHA[:12] in one["text"]) == ("fulfilled", True)


def test_a_series_waits_for_a_series_by_link_and_change_id_and_patch_id(
    case: Case, mail: Callable[..., bytes], driver_diff: Callable[..., str]
) -> None:
    awaited = series(mail, driver_diff)
    case.commit("accel/amdxdna: export it", "one.c")
    later = mail(
        "[PATCH] accel/amdxdna: later", message_id="later@x", date=datetime(2026, 1, 20, tzinfo=UTC),
        body="Later.\n---\nThis patch depends on\nhttps://lore.kernel.org/r/20260105.5-1-ada@x\n",
        diff=driver_diff("drivers/accel/amdxdna/later.c"),
    )  # fmt: skip
    (one,) = case.show([*awaited, later], "accel/amdxdna: later").line.notes["depends"]
    assert (one["state"], one["on"]) == ("open", 'the series "accel/amdxdna: power"')
    case.commit("accel/amdxdna: use it", "two.c")
    (one,) = case.show([*awaited, later], "accel/amdxdna: later").line.notes["depends"]
    assert one["state"] == "fulfilled"


def _real(folder: Path, name: str) -> Iterator[tuple[str, Stated]]:
    for raw in MboxReader(folder / "mails" / name).read({}):
        mail = parse_mail(raw.raw)
        if mail.kind in ("patch", "cover"):
            yield mail.message_id, stated_by_patch(mail.text, cover=mail.subject.number == 0)
        elif mail.kind in ("reply", "applied", "other"):
            yield mail.message_id, stated_by_reply(mail.body)


@pytest.mark.real
def test_every_statement_in_real_mails_was_read_and_is_right(real_data: Path) -> None:
    """All that is found in 2,775 mails, by rule; each was read and is right. A new one has to be read too."""
    found = {
        name: [
            (one.rule, message_id, one.target)
            for message_id, stated in _real(real_data, name)
            for one in stated.statements
        ]
        for name in ("amdxdna-patches.mbox", "accel-other.mbox", "pdx86-2025q4.mbox.gz")
    }
    order = "93210832-aa75-7639-c9d2-99ec802d88e4@amd.com"
    assert found["amdxdna-patches.mbox"] == [
        ("patch depends on patch", order, "1"),
        ("order between trees", order, "1"),
    ]
    assert found["accel-other.mbox"] == []
    platform = found["pdx86-2025q4.mbox.gz"]
    counts = {rule: sum(one[0] == rule for one in platform) for rule in {one[0] for one in platform}}
    assert counts == {
        "depends on title": 3,
        "all patches depend on": 4,
        "patch depends on patch": 23,
        "prerequisite-message-id line": 3,
        "prerequisite-patch-id line": 12,
        "depends on reference": 3,
        "order between trees": 1,
    }
    sets = {message_id.split("-")[1] for rule, message_id, _ in platform if rule == "all patches depend on"}
    assert sets == {"b4"}
    named = {target for rule, _, target in platform if rule == "depends on reference"}
    assert named == {
        "20251125-pci-m2-v3-0-c528042aea47@oss.qualcomm.com",
        "20260107-pci-m2-v5-0-8173d8a72641@oss.qualcomm.com",
    }


@pytest.mark.real
def test_the_npu_power_patch_waits_for_the_one_of_the_platform_tree(
    database: Database, tmp_path: Path, real_data: Path
) -> None:
    """[PATCH V3 0/2] ─ 1/2 platform/x86/amd/pmf ─ ... ─ the reply of 2026-01-06; 2/2 accel/amdxdna waits."""
    sources = [
        SourceSettings(name=name, kind="mbox", location=str(real_data / "mails" / name))
        for name in ("amdxdna-patches.mbox", "pdx86-2025q4.mbox.gz")
    ]
    sync(database, sources, [], DriverProfile(), clones=tmp_path, now=NOW)
    (line,) = outlook.blocked(database)
    assert line.title == "accel/amdxdna: Add IOCTL to retrieve realtime NPU power estimate"
    (one,) = line.notes["depends"]
    assert (one["tree"], one["state"], one["on_key"]) == ("drm-misc", "unknown", None)
    assert one["on"] == '"platform/x86/amd/pmf: Introduce new interface to export NPU metrics"'
