"""Cases of the past out of a mail archive: notice, pull and the robot's answer joined."""

from __future__ import annotations

from datetime import UTC, date, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from tracker.applied_history import AppliedCase, ArchiveHistory, branch_of
from tracker.archive_cases import archive_cases
from tracker.errors import SourceError
from tracker.mail.message import parse_mail
from tracker.release_facts import release_facts

TAGS = release_facts().tags
KEEPER = "Kim Keeper <kim@example.org>"
FILLER = [f"platform/x86: filler {number}" for number in range(20)]


def mail(subject: str, day: str, body: str, author: str = KEEPER) -> bytes:
    when = datetime.fromisoformat(day).replace(hour=10, tzinfo=UTC)
    return (
        f"From: {author}\nSubject: {subject}\nDate: {format_datetime(when)}\n"
        f"Message-ID: <{abs(hash((subject, day)))}@example.org>\n\n{body}"
    ).encode()


def notice(title: str, day: str, words: str, author: str = KEEPER) -> bytes:
    return mail(
        f"Re: [PATCH v2 1/2] {title}", day, f"> quoted for-next\n\nThank you, applied.\n{words}\n", author
    )


def pull(tag: str, day: str, titles: list[str]) -> list[bytes]:
    log = "".join(f"      {title}\n" for title in titles)
    robot = (
        f"The pull request you sent:\n\n> git://example.org/x.git tags/{tag}\n\n"
        "has been merged into torvalds/linux.git:\nhttps://example.org/c/1\n"
    )
    where = f"are available at:\n\n  git://example.org/x.git tags/{tag}\n\n"
    return [
        mail(f"[GIT PULL] {tag}", day, f"{where}Kim (9):\n{log}"),
        mail(f"Re: [GIT PULL] {tag}", day, robot, "pr-tracker-bot@kernel.org"),
    ]  # fmt: skip


# v6.18 was released on 2025-11-30, v6.19-rc1 on 12-14; v6.18-rc5 was of 11-09.
MAILS = [
    notice("platform/x86: new thing", "2025-11-12", "It is in the review-kim-next branch."),
    notice("platform/x86: mend thing", "2025-11-12", "I will include it in the next fixes pull-req."),
    notice("platform/x86: silent thing", "2025-11-13", "Regards"),
    notice("platform/x86: foreign thing", "2025-11-13", "In hwmon-next.", "Other <other@example.org>"),
    notice("platform/x86: lost thing", "2025-11-13", "In for-next."),
    *pull("pdx86-v6.18-4", "2025-11-20", ["platform/x86: mend thing"]),
    *pull(
        "pdx86-v6.19-1", "2025-12-09",
        [*FILLER, "platform/x86: new thing", "platform/x86: silent thing", "platform/x86: foreign thing"],
    ),
]  # fmt: skip


def history(mails: list[bytes]) -> ArchiveHistory:
    made = ArchiveHistory()
    for raw in mails:
        assert made.may_matter(raw)
        made.add(parse_mail(raw))
    return made


def test_notices_become_cases_with_the_window_of_the_merge() -> None:
    day, other = date(2025, 11, 12), date(2025, 11, 13)
    assert history(MAILS).cases(TAGS) == [
        AppliedCase(day, "pdx86/fixes", "platform/x86: mend thing", "6.18", date(2025, 11, 20)),
        AppliedCase(day, "pdx86/review-kim-next", "platform/x86: new thing", "6.19", date(2025, 12, 9)),
        AppliedCase(other, "pdx86/", "platform/x86: silent thing", "6.19", date(2025, 12, 9)),
    ]
    assert history(MAILS[::-1]).cases(TAGS) == history(MAILS).cases(TAGS)


def test_without_the_main_pull_of_the_next_window_nothing_is_proved() -> None:
    assert history(MAILS[:7]).cases(TAGS) == []


def test_a_pull_that_nobody_saw_merged_is_no_truth() -> None:
    assert history(MAILS[:-1]).cases(TAGS) == []


@pytest.mark.parametrize(
    ("body", "branch"),
    [
        ("applied to my local review-ilpo-fixes branch", "review-ilpo-fixes"),
        ("added to the platform-drivers-x86/for-next branch", "platform-drivers-x86/for-next"),
        ("in the next fixes pull-req to Linus", "fixes"),
        ("> for-next\nmerged, thanks", ""),
        ("Pushed to drm-misc-next-fixes.", "drm-misc-next-fixes"),
        ("what comes next fixes nothing", ""),
    ],
)
def test_branches_are_read_from_own_words(body: str, branch: str) -> None:
    assert branch_of(body) == branch


def test_an_archive_is_read_from_an_mbox_file(tmp_path: Path) -> None:
    file = tmp_path / "list.mbox"
    file.write_bytes(b"".join(b"From mboxrd@z Thu Jan  1 00:00:00 1970\n" + raw + b"\n" for raw in MAILS))
    assert len(archive_cases(file, TAGS)) == 3
    with pytest.raises(SourceError, match="mbox"):
        archive_cases(tmp_path / "absent", TAGS)
