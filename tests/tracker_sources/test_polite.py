"""How the tracker behaves as a guest, and what it does when the host misbehaves."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, formatdate
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tracker_sources.servers import Double, Hurry, Reply, Request, free_port, new_mail
from tracker.errors import SourceError
from tracker.mail.atom import NotAtomError, parse_feed
from tracker.mail.lore import LoreReader
from tracker.mail.polite import (
    AnswerTooLargeError,
    ChallengeError,
    ForeignHostError,
    OutageError,
    PoliteClient,
    RefusedError,
)
from tracker.settings import DriverProfile

MakeDouble = Callable[..., Double]
CHALLENGE = b"<!doctype html><title>Making sure you&#39;re not a bot!</title><p>Loading..."
ENVELOPE = b"From mboxrd@z Thu Jan  1 00:00:00 1970\n"


def packed(*mails: bytes) -> bytes:
    return gzip.compress(b"".join(ENVELOPE + raw + b"\n" for raw in mails))


def test_it_says_its_name_and_keeps_one_connection(double: MakeDouble) -> None:
    host = double(lambda request: Reply(b"yes"))
    with PoliteClient(host.url, contact="ada@example.org", pause=0.05) as client:
        start = time.monotonic()
        for _ in range(4):
            assert client.get("/x", ("text/plain",))[1] == b"yes"
        assert time.monotonic() - start >= 0.15
    assert host.connections == 1
    name = host.asked[0].headers["user-agent"]
    assert name.startswith("xdnawatch/")
    assert "ada@example.org" in name
    assert "mozilla" not in name.lower()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_a_refusal_is_final(double: MakeDouble, hurry: Hurry, status: int) -> None:
    host = double(lambda request: Reply(b"<b>go</b> away", "text/html", status))
    with hurry.client(host.url) as client, pytest.raises(RefusedError, match=f"{status} go away") as caught:
        client.get("/", ("text/plain",))
    assert caught.value.status == status
    assert len(host.asked) == 1
    assert hurry.waits == []


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_trouble_is_waited_out_as_long_as_the_server_says(
    double: MakeDouble, hurry: Hurry, status: int
) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    replies = iter(
        [
            Reply(status=status, headers={"Retry-After": "7"}),
            Reply(status=status, headers={"Retry-After": soon}),
            Reply(status=status),
            Reply(b"yes"),
        ]
    )
    host = double(lambda request: next(replies))
    with hurry.client(host.url) as client:
        assert client.get("/", ("text/plain",))[1] == b"yes"
    first, second, third = hurry.waits
    assert 7 <= first <= 9
    assert 50 <= second <= 76
    assert 8 <= third <= 10  # no word from the server: it doubles with each attempt


def test_a_server_that_wants_peace_gets_it(double: MakeDouble, hurry: Hurry) -> None:
    host = double(lambda request: Reply(status=429, headers={"Retry-After": "3600"}))
    with hurry.client(host.url) as client, pytest.raises(OutageError, match="3600 s"):
        client.get("/", ("text/plain",))
    assert len(host.asked) == 1
    assert hurry.waits == []


def test_it_gives_up_after_four_attempts(double: MakeDouble, hurry: Hurry) -> None:
    host = double(lambda request: Reply(b"half", cut=True))
    with hurry.client(host.url) as client, pytest.raises(OutageError, match="4 times"):
        client.get("/", ("text/plain",))
    assert len(host.asked) == 4
    assert [round(wait) >= least for wait, least in zip(hurry.waits, (2, 4, 8), strict=True)] == [True] * 3


def test_a_machine_without_a_network_is_told_soon(hurry: Hurry) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    with hurry.client(url) as client, pytest.raises(OutageError, match="cannot connect to"):
        client.get("/", ("text/plain",))
    assert len(hurry.waits) == 1


def test_an_endless_answer_is_cut_off(double: MakeDouble, hurry: Hurry) -> None:
    host = double(lambda request: Reply(b"x" * 65536, endless=True))
    start = time.monotonic()
    with hurry.client(host.url) as client, pytest.raises(AnswerTooLargeError, match="1000000 bytes"):
        client.get("/", ("text/plain",), limit=1_000_000)
    assert time.monotonic() - start < 10


def test_redirects_stay_on_the_host(double: MakeDouble, hurry: Hurry) -> None:
    other = double(lambda request: Reply(b"secret"))

    def answer(request: Request) -> Reply:
        where = {"/away": other.url, "/file": "file:///etc/passwd", "/here": "/there", "/round": "/round"}
        target = where.get(request.path)
        return Reply(status=302, headers={"Location": target}) if target else Reply(b"yes")

    host = double(answer)
    with hurry.client(host.url) as client:
        assert client.get("/here", ("text/plain",))[1] == b"yes"
        for path in ("/away", "/file"):
            with pytest.raises(ForeignHostError, match="another place"):
                client.get(path, ("text/plain",))
        with pytest.raises(RefusedError, match="redirects"):
            client.get("/round", ("text/plain",))
        with pytest.raises(ForeignHostError):
            client.get(other.url, ("text/plain",))
    assert other.asked == []


def test_a_challenge_page_is_known_by_its_type_and_nothing_is_asked_again(
    double: MakeDouble, hurry: Hurry
) -> None:
    host = double(lambda request: Reply(CHALLENGE, "text/html; charset=utf-8"))
    reader = LoreReader(f"{host.url}list", DriverProfile(), client=hurry.client)
    with pytest.raises(ChallengeError, match="not a bot"):
        list(reader.read({}))
    assert len(host.asked) == 1
    assert hurry.waits == []


def test_no_search_result_is_no_error_and_the_cursor_moves(double: MakeDouble, hurry: Hurry) -> None:
    host = double(lambda request: Reply(b"No results found\n", status=404))
    reader = LoreReader(f"{host.url}list", DriverProfile(), client=hurry.client, clock=lambda: 1_790_000_000)
    assert list(reader.read({})) == []
    assert reader.end_cursor({})["reached"] == 1_790_000_000
    assert [request.method for request in host.asked] == ["GET", "POST"]
    assert host.asked[1].body == b"x=m"


class Archive:
    """A double of a search that gives only spans of at most ``whole`` seconds undamaged."""

    def __init__(self, mails: dict[int, bytes], whole: int, damage: str) -> None:
        self.mails, self.whole, self.damage = mails, whole, damage

    def __call__(self, request: Request) -> Reply:
        if request.method == "GET":
            return Reply(b"<feed xmlns='http://www.w3.org/2005/Atom'></feed>", "application/atom+xml")
        span = parse_qs(urlsplit(request.path).query)["q"][0].rpartition("rt:")[2]
        start, _, until = span.partition("..")
        end = int(until or 2_000_000_000)
        found = [raw for when, raw in sorted(self.mails.items()) if int(start) <= when <= end]
        if not found:
            return Reply(b"No results found\n", status=404)
        body = packed(*reversed(found))
        if end - int(start) > self.whole:
            body = body[: len(body) // 2] if self.damage == "cut" else gzip.compress(CHALLENGE)
        return Reply(body, "application/gzip")


@pytest.mark.parametrize("damage", ["cut", "html"])
def test_a_damaged_answer_is_asked_for_again_in_halves(double: MakeDouble, hurry: Hurry, damage: str) -> None:
    day = 86400
    start = 1_780_000_000
    mails = {
        start + n * day: new_mail(
            f"[PATCH] accel/amdxdna: {n}", f"{n}@x", received=datetime.fromtimestamp(start + n * day, UTC)
        ).replace(b"\nDate: ", f"\nDate: {formatdate(start + n * day)}\nX-Was: ".encode())
        for n in range(30)
    }
    host = double(Archive(mails, 10 * day, damage))
    now = start + 40 * day
    reader = LoreReader(f"{host.url}list", DriverProfile(), client=hurry.client, clock=lambda: float(now))
    found = list(reader.read({}))
    assert [item.location for item in found] == [f"{n}@x" for n in range(30)]

    # Killed anywhere, the next sync gives the rest: nothing is lost, and only overlaps come twice.
    for stop in (0, 7, 15, 29):
        again = LoreReader(f"{host.url}list", DriverProfile(), client=hurry.client, clock=lambda: float(now))
        rest = [item.location for item in again.read(found[stop].cursor)]
        assert {*(item.location for item in found[: stop + 1]), *rest} == {f"{n}@x" for n in range(30)}
        assert len(rest) <= 30 - stop + 2


def test_a_server_that_only_gives_damage_is_an_error(double: MakeDouble, hurry: Hurry) -> None:
    host = double(Archive({1_780_000_000: new_mail("x", "1@x")}, -1, "cut"))
    reader = LoreReader(f"{host.url}list", DriverProfile(), client=hurry.client)
    with pytest.raises(SourceError, match="narrower"):
        list(reader.read({}))
    assert len(host.asked) < 60


def test_a_partial_mirror_is_believed_about_how_far_it_reaches(double: MakeDouble, hurry: Hurry) -> None:
    behind = 1_779_999_000

    def answer(request: Request) -> Reply:
        headers = {"X-Archive-Coverage": f"partial; updated={behind}"}
        if request.method == "GET":
            feed = b"<feed xmlns='http://www.w3.org/2005/Atom'></feed>"
            return Reply(feed, "application/atom+xml", headers=headers)
        return Reply(packed(new_mail("[PATCH] accel/amdxdna: x", "1@x")), "application/gzip", headers=headers)

    host = double(answer)
    reader = LoreReader(
        f"{host.url}list", DriverProfile(), client=hurry.client, clock=lambda: 1_780_000_000.0
    )
    assert len(list(reader.read({}))) == 1
    assert reader.end_cursor({})["reached"] == behind


def test_a_feed_is_read_as_hostile_input(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    raw = (
        f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>'
        "<feed xmlns='http://www.w3.org/2005/Atom'><entry><link href='http://h/l/a%2Fb@x/'/>"
        "<title>T \x0c &e;</title><updated>2026-01-05T12:00:00Z</updated></entry>"
        "<entry><link href='http://h/l/'/></entry></feed>"
    ).encode()
    (entry,) = parse_feed(raw)
    assert entry.message_id == "a/b@x"
    assert "secret" not in entry.title
    assert entry.updated == datetime(2026, 1, 5, 12, tzinfo=UTC)


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=400))
def test_any_bytes_are_a_feed_or_none(raw: bytes) -> None:
    for text in (raw, b"<feed xmlns='http://www.w3.org/2005/Atom'><entry>" + raw):
        try:
            parse_feed(text)
        except NotAtomError:
            continue
