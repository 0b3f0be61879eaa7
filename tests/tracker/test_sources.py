"""Where mail comes from: mbox, folders, public-inbox archives; cursors and damage."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tracker.errors import NotARepositoryError, SourceError
from tracker.mail.eml import EmlReader
from tracker.mail.inbox import InboxReader
from tracker.mail.mbox import MboxReader, split_mbox
from tracker.mail.message import MAX_MAIL, parse_mail
from tracker.mail.source import Cursor, MailReader

MailMaker = Callable[..., bytes]


def read_all(reader: MailReader, cursor: Cursor | None = None) -> tuple[list[str], Cursor]:
    """(message ids in order, the cursor to keep)."""
    found: list[str] = []
    last: Cursor = dict(cursor or {})
    for item in reader.read(last):
        found.append(parse_mail(item.raw).message_id)
        last = item.cursor
    return found, reader.end_cursor(last)


def read_into(found: list[str], path: Path) -> None:
    for item in MboxReader(path).read({}):
        found.append(item.location)


def numbered(mail: MailMaker, count: int, start: int = 0) -> list[bytes]:
    return [mail(f"mail {n}", message_id=f"m{n}@x", body="text\n") for n in range(start, start + count)]


def test_mbox_is_split_and_unquoted(mail: MailMaker, mbox: Callable[..., Path]) -> None:
    raw = mail("x", message_id="q@x", body="a\n>From here\n>>From there\n\nFrom no envelope\nb\n")
    path = mbox([raw, *numbered(mail, 2)])
    items = list(MboxReader(path).read({}))
    assert [parse_mail(item.raw).message_id for item in items] == ["q@x", "m0@x", "m1@x"]
    assert "a\nFrom here\n>From there\n\nFrom no envelope\nb\n" in parse_mail(items[0].raw).body
    assert MboxReader(path).fetch(items[1].location) == items[1].raw


@pytest.mark.parametrize("piece", [1, 7, 64, 100_000])
def test_mbox_pieces_do_not_matter(
    piece: int, mail: MailMaker, mbox: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mbox(numbered(mail, 20))
    whole = [one.raw for one in split_mbox(io.BytesIO(path.read_bytes()))]
    monkeypatch.setattr("tracker.mail.mbox.PIECE", piece + 600)
    assert [one.raw for one in split_mbox(io.BytesIO(path.read_bytes()))] == whole
    assert len(whole) == 20


def test_gzip_is_told_by_content(mail: MailMaker, mbox: Callable[..., Path], tmp_path: Path) -> None:
    packed = tmp_path / "no-suffix"
    packed.write_bytes(gzip.compress(mbox(numbered(mail, 3)).read_bytes()))
    assert read_all(MboxReader(packed))[0] == ["m0@x", "m1@x", "m2@x"]


def test_a_cut_gzip_keeps_what_came_before(
    mail: MailMaker, mbox: Callable[..., Path], tmp_path: Path
) -> None:
    noise = [
        mail(f"m {n}", message_id=f"m{n}@x", body=random.Random(n).randbytes(900).hex()) for n in range(300)
    ]
    packed = tmp_path / "cut.mbox.gz"
    data = gzip.compress(mbox(noise).read_bytes())
    packed.write_bytes(data[: len(data) * 2 // 3])
    found: list[str] = []
    with pytest.raises(SourceError, match="damaged"):
        read_into(found, packed)
    assert 100 < len(found) < 300


def test_an_unchanged_mbox_is_not_opened_and_a_grown_one_goes_on(
    mail: MailMaker, mbox: Callable[..., Path]
) -> None:
    mails = numbered(mail, 5)
    path = mbox(mails[:3])
    first, cursor = read_all(MboxReader(path))
    assert first == ["m0@x", "m1@x", "m2@x"]
    assert read_all(MboxReader(path), cursor) == ([], cursor)
    mbox(mails)
    grown, _ = read_all(MboxReader(path), cursor)
    assert grown == ["m2@x", "m3@x", "m4@x"]  # the last one is read again: it might have been half written


def test_a_replaced_mbox_is_read_anew(mail: MailMaker, mbox: Callable[..., Path]) -> None:
    path = mbox(numbered(mail, 3))
    _, cursor = read_all(MboxReader(path))
    mbox(numbered(mail, 4, start=10))
    assert read_all(MboxReader(path), cursor)[0] == ["m10@x", "m11@x", "m12@x", "m13@x"]


def test_a_truncated_mbox_says_so_in_its_last_mail(mail: MailMaker, mbox: Callable[..., Path]) -> None:
    path = mbox(numbered(mail, 2))
    path.write_bytes(path.read_bytes()[:-4])
    items = list(MboxReader(path).read({}))
    assert items[0].problem is None
    assert items[1].problem is not None


def test_a_mail_beyond_the_limit_costs_no_memory_and_hides_no_other(
    mail: MailMaker, mbox: Callable[..., Path]
) -> None:
    huge = mail("huge", message_id="huge@x") + b"x" * 70 + b"\n" + (b"y" * 99 + b"\n") * (MAX_MAIL // 90)
    items = list(MboxReader(mbox([huge, *numbered(mail, 2)])).read({}))
    assert [item.size > MAX_MAIL for item in items] == [True, False, False]
    assert len(items[0].raw) < 1024 * 1024
    assert parse_mail(items[0].raw).message_id == "huge@x"
    assert parse_mail(items[1].raw).message_id == "m0@x"


@pytest.mark.parametrize("text", [b"\x7fELF garbage", b"Subject: one mail, no envelope\n\n"])
def test_a_file_that_is_no_mbox(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(text)
    with pytest.raises(SourceError, match="no mbox"):
        list(MboxReader(tmp_path / "x").read({}))
    with pytest.raises(SourceError, match="cannot read"):
        list(MboxReader(tmp_path / "absent").read({}))
    with pytest.raises(SourceError, match="folder"):
        list(MboxReader(tmp_path).read({}))


def test_a_folder_of_mails(mail: MailMaker, tmp_path: Path) -> None:
    folder = tmp_path / "mails"
    (folder / "sub").mkdir(parents=True)
    for index, raw in enumerate(numbered(mail, 3)):
        (folder / "sub" / f"{index}.eml").write_bytes(raw)
    (folder / "notes.txt").write_text("no mail")
    found, cursor = read_all(EmlReader(folder))
    assert found == ["m0@x", "m1@x", "m2@x"]
    assert read_all(EmlReader(folder), cursor)[0] == []
    (folder / "a.eml").write_bytes(mail("late", message_id="late@x"))
    assert "late@x" in read_all(EmlReader(folder), cursor)[0]
    assert EmlReader(folder).fetch("../mails/a.eml") is not None
    assert EmlReader(folder).fetch("../../etc/passwd") is None
    with pytest.raises(SourceError, match="not a folder"):
        list(EmlReader(folder / "a.eml").read({}))


def test_public_inbox_epochs_cursors_and_deletions(mail: MailMaker, inbox: Callable[..., Path]) -> None:
    mails = numbered(mail, 6)
    location = inbox(0, [mails[0], None, mails[1]])
    first, cursor = read_all(InboxReader(location))
    assert first == ["m0@x", "m1@x"]
    assert read_all(InboxReader(location), cursor) == ([], cursor)
    inbox(0, [mails[2]])
    inbox(1, [mails[3], mails[4]])
    second, cursor = read_all(InboxReader(location), cursor)
    assert second == ["m2@x", "m3@x", "m4@x"]
    inbox(1, [None])
    assert read_all(InboxReader(location), cursor)[0] == []
    single = InboxReader(location / "git" / "1.git")
    items = list(single.read({}))
    assert single.fetch(items[1].location) == mails[4]


def test_a_killed_read_of_an_archive_goes_on(mail: MailMaker, inbox: Callable[..., Path]) -> None:
    location = inbox(0, numbered(mail, 5))
    reader = InboxReader(location).read({})
    third = [next(reader) for _ in range(3)][-1]
    reader.close()  # type: ignore[attr-defined]  # the generator behind the protocol
    assert read_all(InboxReader(location), third.cursor)[0] == ["m3@x", "m4@x"]


def test_a_rewritten_archive_is_read_anew(mail: MailMaker, inbox: Callable[..., Path]) -> None:
    _, cursor = read_all(InboxReader(inbox(0, numbered(mail, 3))))
    other = inbox(0, numbered(mail, 2, start=7), name="other")
    assert read_all(InboxReader(other), cursor)[0] == ["m7@x", "m8@x"]


def test_a_path_that_is_no_archive(tmp_path: Path, run_git: Callable[..., str]) -> None:
    with pytest.raises(NotARepositoryError, match="does not exist"):
        list(InboxReader(tmp_path / "absent").read({}))
    plain = tmp_path / "plain"
    plain.mkdir()
    with pytest.raises(NotARepositoryError, match="empty"):
        list(InboxReader(plain).read({}))
    (plain / "file").write_text("x")
    with pytest.raises(NotARepositoryError, match="not a git repository"):
        list(InboxReader(plain).read({}))
    run_git(plain, "init", "--quiet", "--initial-branch=master")
    run_git(plain, "add", "file")
    run_git(plain, "commit", "--quiet", "-m", "code, no mail")
    with pytest.raises(SourceError, match="public-inbox"):
        list(InboxReader(plain).read({}))
