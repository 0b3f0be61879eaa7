"""Series and changes: the threads of real lists, drawn, with what each must become."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tracker.changes import Lineage, group_changes
from tracker.mail.message import parse_mail
from tracker.mail.patch_mail import patch_mail
from tracker.mail.series import PatchMail, Series, group_series, submission_prefix
from tracker.revisions import link_series
from tracker.settings import DriverProfile

START = datetime(2026, 1, 5, tzinfo=UTC)
PROFILE = DriverProfile()
MailMaker = Callable[..., bytes]


@pytest.fixture
def patch(mail: MailMaker, driver_diff: Callable[..., str]) -> Callable[..., PatchMail]:
    """patch(subject, id, day=..., file=..., new=..., author=..., answers=..., body=...)."""

    def make(
        subject: str,
        message_id: str,
        *,
        day: float = 0,
        file: str = "drivers/accel/amdxdna/a.c",
        new: str = "int a = 2;",
        author: str = "Ada <ada@amd.com>",
        answers: str | None = None,
        references: tuple[str, ...] = (),
        body: str = "",
    ) -> PatchMail:
        diff = "" if " 0/" in subject else driver_diff(file, new=new)
        raw = mail(
            subject, message_id=message_id, author=author, date=START + timedelta(days=day), answers=answers,
            references=references, body=body, diff=diff,
        )  # fmt: skip
        read = parse_mail(raw)
        return patch_mail(
            read.message_id,
            read.head.subject,
            read.head.author,
            read.head.date,
            read.head.parents,
            read.body,
            PROFILE,
        )

    return make


def lineages(*mails: PatchMail) -> list[Lineage]:
    series = group_series(mails)
    return group_changes(series, link_series(series))


def ids(found: list[Lineage]) -> list[list[str]]:
    return [[version.message_id for version in one.patches] for one in found]


def run(number: int, stamp: str = "20251211175802.1760860", who: str = "lizhi.hou@amd.com") -> str:
    return f"{stamp}-{number}-{who}"


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (run(1), run(3), True),
        (run(1), run(1, stamp="20251212181803.1825142"), False),
        ("20250714-skip-v6-1-5c5ba4f55039@igalia.com", "20250714-skip-v6-0-5c5ba4f55039@igalia.com", True),
        ("20250714-skip-v6-1-5c5ba4f55039@igalia.com", "20250708-skip-v5-1-2612b601f01a@igalia.com", False),
        (
            "17-v1-b5cab63049c0+191af-dmabuf_jgg@nvidia.com",
            "0-v1-b5cab63049c0+191af-dmabuf_jgg@nvidia.com",
            True,
        ),
        ("1771860581-82092-1-git-send-email-a@b.c", "1771860581-82092-2-git-send-email-a@b.c", True),
    ],
)
def test_the_ids_of_one_sending_run(a: str, b: str, same: bool) -> None:
    assert (submission_prefix(a) == submission_prefix(b)) == same
    assert submission_prefix("CAHk-=x@mail.gmail.com") is None


def test_mixed_version_words_of_one_run_are_one_series(patch: Callable[..., PatchMail]) -> None:
    """Real, 2025-12-11:

    [PATCH V1 0/2] Get real time power input
    +- [PATCH V1 1/2] platform/x86/amd/pmf: ...
    +- [PATCH V2 2/2] accel/amdxdna: ...
    """
    cover = patch("[PATCH V1 0/2] Get power", run(1))
    found = group_series(
        [
            patch("[PATCH V2 2/2] accel/amdxdna: b", run(3), answers=run(1)),
            patch("[PATCH V1 1/2] pmf: a", run(2), answers=run(1)),
            cover,
        ]
    )
    assert [(one.key, one.version, one.total, len(one.mails)) for one in found] == [(run(1), "1", 2, 3)]


def test_two_runs_in_one_thread_are_two_series(patch: Callable[..., PatchMail]) -> None:
    """Real (patchwork's bugs-mixed-versions): v2 is sent as a reply into v1's thread."""
    found = group_series(
        [
            patch("[PATCH 1/2] a", "1473632524.8585-1-x@y"),
            patch("[PATCH v2 1/2] a", run(1), answers="1473632524.8585-1-x@y", day=1),
            patch("[PATCH v2 2/2] b", run(2), answers="1473632524.8585-1-x@y", day=1),
        ]
    )
    assert [len(one.mails) for one in found] == [1, 2]


def test_threads_without_telling_ids(patch: Callable[..., PatchMail]) -> None:
    found = group_series(
        [
            patch("[PATCH v7 0/2] c", "c@stgit"),
            patch("[PATCH v7 1/2] a", "a@stgit", answers="c@stgit"),
            patch("[PATCH v7 2/2] b", "b@stgit", answers="c@stgit"),
        ]
    )
    assert [(one.rule, len(one.mails)) for one in found] == [("one thread", 3)]


def test_unthreaded_patches_of_one_author_within_minutes(patch: Callable[..., PatchMail]) -> None:
    found = group_series(
        [
            patch("[PATCH 1/2] a", "a@x"),
            patch("[PATCH 2/2] b", "b@x", day=0.01),
            patch("[PATCH 2/2] other", "c@x", day=0.3),
        ]
    )
    assert sorted(len(one.mails) for one in found) == [1, 2]


def test_versions_by_title_with_their_reason(patch: Callable[..., PatchMail]) -> None:
    found = lineages(
        patch("[PATCH V1] accel/amdxdna: Fix it", "v1@x"),
        patch("[PATCH V2] accel/amdxdna: Fix  it.", "v2@x", day=3, new="int a = 3;"),
        patch("[PATCH] accel/amdxdna: Other", "o@x", day=3, file="drivers/accel/amdxdna/o.c"),
    )
    assert ids(found) == [["v1@x", "v2@x"], ["o@x"]]
    edge = found[0].edges["v2@x"]
    assert edge.older == "v1@x"
    assert "title" in edge.rule
    assert 0.9 <= edge.score <= 1


def test_a_change_id_ties_what_nothing_else_would(patch: Callable[..., PatchMail]) -> None:
    body = "\nchange-id: 20250502-skip-bf7c163233da\n"
    found = lineages(
        patch("[PATCH 1/1] one name", "a@x", body=body),
        patch("[PATCH v2 1/1] a new name", "b@x", day=9, body=body, author="Eve <eve@y.org>"),
    )
    assert ids(found) == [["a@x", "b@x"]]
    other = lineages(
        patch("[PATCH 1/1] one name", "a@x", body="\nprerequisite-change-id: 20250502-skip-bf7c163233da\n"),
        patch(
            "[PATCH v2 1/1] a new name", "b@x", day=9, file="drivers/z.c", body=body, author="Eve <e@y.org>"
        ),
    )
    assert ids(other) == [["a@x"], ["b@x"]]


def test_an_explicit_link_ties_a_renamed_patch(patch: Callable[..., PatchMail]) -> None:
    found = lineages(
        patch("[PATCH] accel/amdxdna: one name", "a@x"),
        patch("[PATCH v2] accel/amdxdna: new words", "b@x", day=9, new="int c = 7;",
              body="text\n---\nv1: https://lore.kernel.org/dri-devel/a@x/\n"),
    )  # fmt: skip
    assert ids(found) == [["a@x", "b@x"]]
    assert "link" in found[0].edges["b@x"].rule


def test_another_sender_goes_on_and_counts_from_one_again(patch: Callable[..., PatchMail]) -> None:
    """Real: Shyam's v2 4/5 and 5/5 continue as Lizhi's V1 1/2 and V2 2/2; the title of 5/5 changes.

    v2 4/5 pmf: Introduce interface      ->  V1 1/2 pmf: Introduce interface
    v2 5/5 amdxdna: Provide estimate     ->  V2 2/2 amdxdna: Add IOCTL for estimate
    """
    shyam, lizhi = "Shyam <shyam@amd.com>", "Lizhi <lizhi@amd.com>"
    old, new = "20251111063737.41-{}-shyam@amd.com", "20251211175802.17-{}-lizhi@amd.com"
    found = lineages(
        patch("[PATCH v2 4/5] pmf: Introduce interface", old.format(4), file="drivers/pmf.c", author=shyam),
        patch("[PATCH v2 5/5] accel/amdxdna: Provide estimate", old.format(5), author=shyam),
        patch("[PATCH V1 1/2] pmf: Introduce interface", new.format(2), file="drivers/pmf.c", author=lizhi,
              day=30),
        patch("[PATCH V2 2/2] accel/amdxdna: Add IOCTL for estimate", new.format(3), author=lizhi, day=30,
              new="int a = 2; "),
    )  # fmt: skip
    assert ids(found) == [[old.format(4), new.format(2)], [old.format(5), new.format(3)]]


def test_a_dropped_patch_is_not_mixed_up_and_a_moved_one_is_found(patch: Callable[..., PatchMail]) -> None:
    """v1: a, b, c; v2: a, c; later b alone, as a new single patch."""
    files = {name: f"drivers/accel/amdxdna/{name}.c" for name in "abc"}
    v1 = [patch(f"[PATCH {n}/3] amdxdna: {x}", run(n), file=files[x]) for n, x in enumerate("abc", start=1)]
    stamp = "20251220175802.1"
    v2 = [
        patch(f"[PATCH v2 {n}/2] amdxdna: {x}", run(n, stamp=stamp), file=files[x], day=5)
        for n, x in enumerate("ac", start=1)
    ]
    alone = patch("[PATCH] amdxdna: b", "alone@x", file=files["b"], day=9)
    assert ids(lineages(*v1, *v2, alone)) == [
        [run(1), run(1, stamp=stamp)],
        [run(2), "alone@x"],
        [run(3), run(2, stamp=stamp)],
    ]


def test_a_revert_is_its_own_change(patch: Callable[..., PatchMail]) -> None:
    found = lineages(
        patch("[PATCH V1] accel/amdxdna: Support it", "a@x"),
        patch('[PATCH V1] Revert "accel/amdxdna: Support it"', "r@x", day=30, answers="a@x"),
    )
    assert ids(found) == [["a@x"], ["r@x"]]


def test_equal_titles_of_strangers_in_other_files_are_two_changes(patch: Callable[..., PatchMail]) -> None:
    found = lineages(
        patch("[PATCH] Fix return value check", "a@x", file="drivers/a.c", author="Ada <a@one.org>"),
        patch(
            "[PATCH v2] Fix return value check", "b@x", file="drivers/b.c", author="Bob <b@two.org>", day=2
        ),
    )
    assert ids(found) == [["a@x"], ["b@x"]]


def test_a_title_that_comes_back_after_more_than_a_year_is_new_work(patch: Callable[..., PatchMail]) -> None:
    years = (patch("[PATCH] drm: x", "a@x"), patch("[PATCH v2] drm: x", "b@x", day=400, new="int z;"))
    assert ids(lineages(*years)) == [["a@x"], ["b@x"]]
    assert len(lineages(years[0], patch("[PATCH v2] drm: x", "b@x", day=300, new="int z;"))) == 1


def test_resends_and_forgotten_versions(patch: Callable[..., PatchMail]) -> None:
    assert ids(
        lineages(
            patch("[PATCH] accel/amdxdna: x", "a@x"),
            patch("[PATCH RESEND] accel/amdxdna: x", "b@x", day=14),
            patch("[PATCH] accel/amdxdna: x", "c@x", day=20, new="int b = 9;"),
        )
    ) == [["a@x", "b@x", "c@x"]]


def test_order_of_arrival_does_not_matter(patch: Callable[..., PatchMail]) -> None:
    mails = [
        patch(f"[PATCH v{n}] accel/amdxdna: x", f"v{n}@x", day=n, new=f"int a = {n + 5};") for n in (1, 2, 3)
    ]
    first: list[Series] = group_series(mails)
    assert group_series(reversed(mails)) == first
    assert ids(lineages(*reversed(mails))) == [["v1@x", "v2@x", "v3@x"]]
