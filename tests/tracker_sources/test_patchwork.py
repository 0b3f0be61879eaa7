"""Patchwork servers: the REST API 1.3 with Link paging and events, and the freedesktop shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tracker_sources.servers import Double, Hurry, Reply, Request
from tracker.errors import SourceError
from tracker.mail.message import parse_mail
from tracker.mail.patchwork import PatchworkReader, mail_of
from tracker.mail.polite import ForeignHostError
from tracker.mail.source import RawMail
from tracker.settings import DriverProfile

MakeDouble = Callable[..., Double]
DIFF = (
    "diff --git a/drivers/accel/amdxdna/a.c b/drivers/accel/amdxdna/a.c\n--- a/drivers/accel/amdxdna/a.c\n"
    "+++ b/drivers/accel/amdxdna/a.c\n@@ -1,2 +1,2 @@\n x\n-a\n+b\n"
)


class Patchwork:
    """Two series of the driver (the second with a foreign sister), one foreign; pages of two."""

    def __init__(self) -> None:
        self.url = ""
        self.items = {
            "covers/10": self.item(10, "[0/2] Power", cover=True),
            "patches/11": self.item(11, "[1/2] accel/amdxdna: Power", series=1),
            "patches/12": self.item(12, "[2/2] platform/x86: Power", series=1),
            "patches/13": self.item(13, "accel/amdxdna: Fix", series=2),
            "patches/14": self.item(14, "drm: Foreign", series=3),
            "patches/15": self.item(15, "accel/amdxdna: Again", series=4),
        }
        self.series: dict[int, dict[str, Any]] = {
            1: {"id": 1, "cover_letter": {"id": 10}, "patches": self.named(11, 12)},
            2: {"id": 2, "cover_letter": None, "patches": self.named(13)},
            3: {"id": 3, "cover_letter": None, "patches": self.named(14)},
            4: {"id": 4, "cover_letter": None, "patches": self.named(15)},
        }
        self.comments: dict[str, list[dict[str, Any]]] = {"patches/11": [self.comment(100, "m11@x")]}
        self.events: list[dict[str, Any]] = []
        self.foreign_link = False

    def named(self, *numbers: int) -> list[dict[str, Any]]:
        return [{"id": number, "name": self.items[f"patches/{number}"]["name"]} for number in numbers]

    @staticmethod
    def item(number: int, name: str, *, cover: bool = False, series: int = 0) -> dict[str, Any]:
        return {
            "id": number, "name": name, "series": [{"id": series}] if series else [],
            "headers": {
                "From": "Ada Author <ada@example.org>", "Subject": f"[PATCH] {name}",
                "Date": "Mon, 5 Jan 2026 12:00:00 +0000", "Message-Id": f"<m{number}@x>",
                "Received": ["from a\n by b", "from c"], "Content-Transfer-Encoding": "base64",
            },
            "content": "Why.\n\nSigned-off-by: Ada Author <ada@example.org>\n---\n a.c | 2 +-\n",
            **({} if cover else {"diff": DIFF}),
        }  # fmt: skip

    @staticmethod
    def comment(number: int, answers: str) -> dict[str, Any]:
        return {
            "id": number,
            "headers": {
                "From": "Bob <bob@example.org>", "Subject": "Re: x", "Message-Id": f"<c{number}@x>",
                "In-Reply-To": f"<{answers}>", "Date": "Tue, 6 Jan 2026 12:00:00 +0000",
            },
            "content": "Reviewed-by: Bob <bob@example.org>\n",
        }  # fmt: skip

    def event(self, number: int, category: str, date: str, **payload: Any) -> None:
        self.events.append({"id": number, "category": category, "date": date, "payload": payload})

    def __call__(self, request: Request) -> Reply:
        path = urlsplit(request.path).path.removeprefix("/api/1.3/").strip("/")
        query = {key: values[0] for key, values in parse_qs(urlsplit(request.path).query).items()}
        if path == "":
            return self.json({})
        if path in ("patches", "covers"):
            found = [
                one for key, one in self.items.items()
                if key.startswith(path) and query["q"] in one["name"] and query["project"] == "dri-devel"
            ]  # fmt: skip
            return self.page(request, query, found)
        if path == "events":
            found = [one for one in self.events if one["date"] >= query["since"]]
            return self.page(request, query, sorted(found, key=lambda one: str(one["date"])))
        if path.startswith("series/"):
            return self.json(self.series[int(path.removeprefix("series/"))])
        if path.endswith("/comments"):
            return self.json(self.comments.get(path.removesuffix("/comments"), []))
        if path in self.items:
            return self.json(self.items[path])
        return Reply(b"{}", "application/json", 404)

    def page(self, request: Request, query: dict[str, str], found: list[dict[str, Any]]) -> Reply:
        number = int(query.get("page", 1))
        headers = {}
        if len(found) > number * 2:
            base = "http://elsewhere.example.org" if self.foreign_link else self.url.rstrip("/")
            bare = request.path.replace(f"&page={number}", "")
            headers["Link"] = f'<{base}{bare}&page={number + 1}>; rel="next"'
        reply = self.json(found[number * 2 - 2 : number * 2])
        reply.headers = headers
        return reply

    @staticmethod
    def json(data: Any) -> Reply:
        return Reply(json.dumps(data).encode(), "application/json")


@pytest.fixture
def server() -> Patchwork:
    return Patchwork()


def names(found: list[RawMail]) -> list[str | None]:
    return [parse_mail(item.raw).head.message_id for item in found]


def reader_of(host: Double, hurry: Hurry) -> PatchworkReader:
    return PatchworkReader(f"{host.url}project/dri-devel/list/", DriverProfile(), client=hurry.client)


def test_the_listing_gives_whole_series_with_comments(
    double: MakeDouble, hurry: Hurry, server: Patchwork
) -> None:
    host = double(server)
    server.url = host.url
    found = list(reader_of(host, hurry).read({}))
    assert names(found) == ["m10@x", "m11@x", "c100@x", "m12@x", "m13@x", "m15@x"]
    patch = parse_mail(found[1].raw)
    assert patch.diff.paths == ("drivers/accel/amdxdna/a.c",)
    assert patch.trailers == (("Signed-off-by", "Ada Author <ada@example.org>"),)
    # Killed in the second series, the next sync begins with it.
    assert names(list(reader_of(host, hurry).read(found[4].cursor))) == ["m13@x", "m15@x"]


def test_events_bring_what_is_new_and_a_second_sync_is_one_small_question(
    double: MakeDouble, hurry: Hurry, server: Patchwork
) -> None:
    host = double(server)
    server.url = host.url
    reader = reader_of(host, hurry)
    list(reader.read({}))
    cursor = reader.end_cursor({})
    host.asked.clear()
    assert list(reader.read(cursor)) == []
    assert len(host.asked) == 1

    server.items["patches/20"] = server.item(20, "accel/amdxdna: New", series=5)
    server.series[5] = {"id": 5, "cover_letter": None, "patches": server.named(20)}
    server.comments["covers/10"] = [server.comment(101, "m10@x")]
    late = "2099-01-01T00:00:00.000000"
    server.event(1, "patch-created", late, patch={"id": 20, "name": "accel/amdxdna: New"})
    server.event(2, "check-created", late, patch={"id": 14, "name": "drm: Foreign"})
    server.event(3, "patch-created", late, patch={"id": 14, "name": "drm: Foreign"})
    server.event(4, "series-completed", late, series={"id": 5, "name": "accel/amdxdna: New"})
    server.event(5, "cover-comment-created", late, cover={"id": 10, "name": "[0/2] Power"})
    found = list(reader.read(reader.end_cursor(cursor)))
    assert names(found) == ["m20@x", "m20@x", "c101@x"]
    host.asked.clear()
    assert list(reader.read(reader.end_cursor({}))) == []
    assert {urlsplit(request.path).path for request in host.asked} == {"/api/1.3/events/"}


def test_paging_stays_on_the_host(double: MakeDouble, hurry: Hurry, server: Patchwork) -> None:
    host = double(server)
    server.foreign_link = True
    with pytest.raises(ForeignHostError):
        list(reader_of(host, hurry).read({}))


def test_damaged_json_and_a_location_without_a_project(double: MakeDouble, hurry: Hurry) -> None:
    host = double(lambda request: Reply(b"[" * 100_000, "application/json"))
    with pytest.raises(SourceError, match="damaged JSON"):
        list(reader_of(host, hurry).read({}))
    with pytest.raises(SourceError, match="names no project"):
        PatchworkReader("https://patchwork.example.org/", DriverProfile())


class Freedesktop:
    """The fork: 404 for 1.3, pages of one series, revisions as mbox."""

    def __init__(self) -> None:
        self.series = [
            {"id": 7, "name": "accel/amdxdna: Power", "version": 2, "last_updated": "2026-01-05T12:00:00"},
            {"id": 8, "name": "drm: Foreign", "version": 1, "last_updated": "2026-01-04T12:00:00"},
            {"id": 9, "name": "accel/amdxdna: Fix", "version": 1, "last_updated": "2026-01-03T12:00:00"},
        ]

    def __call__(self, request: Request) -> Reply:
        path = urlsplit(request.path).path
        if path.startswith("/api/1.3/"):
            return Reply(b"", "text/html", 404)
        if path == "/api/1.0/projects/dri-devel/series/":
            page = int(parse_qs(urlsplit(request.path).query).get("page", ["1"])[0])
            following = f"/api/1.0/projects/dri-devel/series/?page={page + 1}"
            return Patchwork.json(
                {
                    "count": len(self.series),
                    "next": following if page < len(self.series) else None,
                    "results": self.series[page - 1 : page],
                }
            )
        _, _, _, _, number, _, version, _, _ = path.split("/")
        return Reply(
            "From x@y Mon Jan  5 12:00:00 2026\nFrom: Ada <ada@example.org>\n"
            f"Subject: [PATCH v{version}] accel/amdxdna: S{number}\nMessage-ID: <s{number}v{version}@x>\n\n"
            f"text\n\n{DIFF}".encode()
        )


def test_the_freedesktop_shape(double: MakeDouble, hurry: Hurry) -> None:
    server = Freedesktop()
    host = double(server)
    reader = reader_of(host, hurry)
    found = list(reader.read({}))
    assert names(found) == ["s9v1@x", "s7v1@x", "s7v2@x"]
    assert reader.fetch(found[1].location) == found[1].raw
    assert names(list(reader_of(host, hurry).read(found[1].cursor))) == ["s7v1@x", "s7v2@x"]

    host.asked.clear()
    cursor = reader.end_cursor({})
    assert list(reader.read(cursor)) == []
    assert len(host.asked) <= 2
    server.series.insert(
        0, {"id": 9, "name": "accel/amdxdna: Fix", "version": 2, "last_updated": "2026-02-01T00:00:00"}
    )
    assert names(list(reader.read(reader.end_cursor(cursor)))) == ["s9v2@x"]


@settings(deadline=None)  # the machine may be busy
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["headers", "content", "diff", "From", "X-A"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_a_mail_or_none(item: Any) -> None:
    raw = mail_of(item)
    assert raw is None or raw.partition(b"\n\n")[0]


def test_json_cannot_smuggle_headers() -> None:
    raw = mail_of({"headers": {"Subject": "x\nBcc: eve@example.org\n\nbody", "Bad Name": "y"}, "content": ""})
    assert raw is not None
    assert b"\nBcc:" not in raw
    assert b"Bad Name" not in raw
