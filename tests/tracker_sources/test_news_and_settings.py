"""News servers that misbehave, and settings that name a source wrongly."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tracker.errors import SourceError
from tracker.mail import nntp
from tracker.mail.message import MAX_MAIL
from tracker.mail.nntp import NntpError, NntpReader
from tracker.settings import DriverProfile, SourceSettings

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A news server that gives fixed answers: serve({command: answer}, greeting) -> location."""
    listeners = []

    def start(answers: dict[str, bytes], greeting: bytes = b"200 hello\r\n") -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def work() -> None:
            with suppress(OSError):
                near, _ = listener.accept()
                with near, near.makefile("rb") as lines:
                    near.sendall(greeting)
                    for line in lines:
                        command = line.decode().strip()
                        found = answers.get(command, answers.get(command.split()[0], b""))
                        if not found:
                            return
                        near.sendall(found)

        threading.Thread(target=work, daemon=True).start()
        return f"nntp://127.0.0.1:{listener.getsockname()[1]}/a.group"

    yield start
    for listener in listeners:
        listener.close()


def overview(*numbers: int) -> bytes:
    lines = [f"{n}\tsubject\tAda\tdate\t<{n}@x>\t\t10\t1\r\n" for n in numbers]
    return b"224 follows\r\n" + "".join(lines).encode() + b".\r\n"


def article(number: int, text: bytes = b"Subject: x\r\n\r\n..dot\r\n") -> bytes:
    return b"220 %d <%d@x>\r\n" % (number, number) + text + b".\r\n"


def read(location: str, cursor: dict[str, object] | None = None) -> list[bytes]:
    return [item.raw for item in NntpReader(location, DriverProfile()).read(cursor or {})]


def test_articles_come_unstuffed_and_a_cancelled_one_is_passed_over(serve: Serve) -> None:
    answers = {
        "GROUP": b"211 3 1 3 a.group\r\n", "OVER": overview(1, 2, 3),
        "ARTICLE 1": article(1), "ARTICLE 2": b"423 gone\r\n", "ARTICLE 3": article(3),
    }  # fmt: skip
    assert read(serve(answers)) == [b"Subject: x\n\n.dot\n"] * 2


def test_an_old_server_knows_only_xover(serve: Serve) -> None:
    answers = {
        "GROUP": b"211 1 1 1 a.group\r\n", "OVER": b"500 what?\r\n", "XOVER": overview(1),
        "ARTICLE": article(1),
    }  # fmt: skip
    assert len(read(serve(answers))) == 1


def test_a_group_that_was_made_anew_is_read_from_its_beginning(serve: Serve) -> None:
    answers = {"GROUP": b"211 1 1 1 a.group\r\n", "OVER": overview(1), "ARTICLE": article(1)}
    assert len(read(serve(answers), {"article": 900, "history": 0})) == 1


@pytest.mark.parametrize(
    ("answers", "greeting", "words"),
    [
        ({}, b"SSH-2.0-OpenSSH_9\r\n", "does not speak NNTP"),
        ({}, b"400 busy\r\n", "is closing"),
        ({}, b"502 go away\r\n", "502 go away"),
        ({}, b"", "hung up|does not answer"),
        ({"GROUP": b"411 no such group\r\n"}, b"200 x\r\n", "411 no such group"),
        ({"GROUP": b"211 nonsense\r\n"}, b"200 x\r\n", "cannot be read"),
        ({"GROUP": b"211 1 1 1 g\r\n", "OVER": b"224 x\r\n1\tcut"}, b"200 x\r\n", "hung up|does not answer"),
        ({"GROUP": b"211 1 1 1 g\r\n", "OVER": overview(1), "ARTICLE": b"480 log in\r\n"}, b"200\r\n", "480"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_told(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, bytes],
    greeting: bytes,
    words: str,
) -> None:
    monkeypatch.setattr(nntp, "SILENCE_SECONDS", 0.5)
    with pytest.raises(NntpError, match=words):
        read(serve(answers, greeting))


def test_an_article_without_end_is_cut_off(serve: Serve) -> None:
    huge = article(1, b"Subject: x\r\n\r\n" + b"y" * (MAX_MAIL + 100) + b"\r\n")
    location = serve({"GROUP": b"211 1 1 1 g\r\n", "OVER": overview(1), "ARTICLE": huge})
    (item,) = NntpReader(location, DriverProfile()).read({})
    assert item.size > MAX_MAIL
    assert len(item.raw) < 1024 * 1024


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=200))
def test_any_overview_line_is_read_without_a_fall(raw: bytes) -> None:
    for line in (raw, b"12\t" + raw, b"12\ts\tf\td\t" + raw):
        found = nntp._overview(line)
        assert found is None or found.number >= 0


@pytest.mark.parametrize(
    ("kind", "location"),
    [
        ("lore", "lore.kernel.org/dri-devel"),
        ("lore", "/srv/mail"),
        ("nntp", "https://news.example.org/group"),
        ("pipermail", "archives/dri-devel"),
        ("patchwork", "nntp://x/y"),
    ],
)
def test_a_location_fits_its_kind(kind: str, location: str) -> None:
    with pytest.raises(ValidationError, match="takes a location such as"):
        SourceSettings.model_validate({"name": "x", "kind": kind, "location": location})


def test_a_query_goes_with_a_search() -> None:
    with pytest.raises(ValidationError, match="query goes with"):
        SourceSettings.model_validate({"name": "x", "kind": "mbox", "location": "x", "query": "s:x"})
    with pytest.raises(SourceError, match="names no group"):
        NntpReader("nntp://host/", DriverProfile())
