"""Pipermail archives: monthly files and HTML pages, as Mailman 2 lays them out."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tracker_sources.servers import Double, Hurry, Reply, Request
from tracker.mail.message import parse_mail
from tracker.mail.pipermail import (
    NoPipermailError,
    PipermailReader,
    find_articles,
    find_months,
    mail_of_page,
    respell,
)
from tracker.mail.polite import ForeignHostError
from tracker.mail.source import RawMail

MakeDouble = Callable[..., Double]


def text_mail(number: int, *, month: str = "Jan") -> bytes:
    """A mail as the text archive writes it."""
    return (
        f"From ada at example.org  Mon {month}  5 12:00:{number:02} 2026\n"
        "From: ada at example.org (Ada Author)\n"
        f"Date: Mon, 5 {month} 2026 12:00:{number:02} +0000\n"
        f"Subject: [PATCH] accel/amdxdna: {month} {number}\n"
        f"Message-ID: <{month}{number}@example.org>\n\n"
        "Look at this.\n\nSigned-off-by: Ada Author <ada at example.org>\n\n\n"
    ).encode()


class Files:
    """A static web server with ETags."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def __call__(self, request: Request) -> Reply:
        body = self.files.get(request.path)
        if body is None:
            return Reply(b"not found", status=404)
        kind = "text/html" if request.path.endswith((".html", "/")) else "application/x-gzip"
        mark = f'"{hash(body)}"'
        if kind != "text/html" and request.headers.get("if-none-match") == mark:
            return Reply(kind=kind, status=304)
        return Reply(body, kind, headers={"ETag": mark})


FRONT = b"""<html><body><table>
<tr><td>February 2026:</td><td><A href="2026-February/thread.html">[ Thread ]</a></td>
<td><A href="2026-February.txt.gz">[ Gzip'd Text 1 KB ]</a></td></tr>
<tr><td>January 2026:</td><td><A href="2026-January/thread.html">[ Thread ]</a></td>
<td><A href="2026-January.txt.gz">[ Gzip'd Text 1 KB ]</a></td></tr>
<tr><td>December 2025:</td><td><A href="2025-December/thread.html">[ Thread ]</a></td>
<td><A href="2025-December.txt.gz">[ Gzip'd Text 1 KB ]</a></td></tr>
</table><a href="https://elsewhere.example.org/2026-March.txt.gz">x</a></body></html>"""


@pytest.fixture
def files() -> Files:
    return Files(
        {
            "/dri/": FRONT,
            "/dri/2025-December.txt.gz": gzip.compress(text_mail(1, month="Dec") + text_mail(2, month="Dec")),
            "/dri/2026-January.txt.gz": gzip.compress(text_mail(3) + text_mail(4)),
            "/dri/2026-February.txt.gz": gzip.compress(text_mail(5, month="Feb")),
        }
    )


def names(found: list[RawMail]) -> list[str]:
    return [item.location for item in found]


def test_months_are_read_once_and_the_newest_two_are_asked_about(
    double: MakeDouble, hurry: Hurry, files: Files
) -> None:
    host = double(files)
    reader = PipermailReader(f"{host.url}dri", client=hurry.client)
    found = list(reader.read({}))
    assert names(found) == [
        "2025-12/Dec1@example.org", "2025-12/Dec2@example.org", "2026-01/Jan3@example.org",
        "2026-01/Jan4@example.org", "2026-02/Feb5@example.org",
    ]  # fmt: skip
    mail = parse_mail(found[0].raw)
    assert (mail.head.author.name, mail.head.author.email) == ("Ada Author", "ada@example.org")
    assert mail.trailers == (("Signed-off-by", "Ada Author <ada@example.org>"),)

    host.asked.clear()
    cursor = reader.end_cursor({})
    assert list(reader.read(cursor)) == []
    assert [request.path for request in host.asked] == [
        "/dri/", "/dri/2026-January.txt.gz", "/dri/2026-February.txt.gz",
    ]  # fmt: skip

    files.files["/dri/2026-February.txt.gz"] = gzip.compress(
        text_mail(5, month="Feb") + text_mail(6, month="Feb")
    )
    assert names(list(reader.read(reader.end_cursor(cursor))))[-1] == "2026-02/Feb6@example.org"


def test_a_killed_sync_goes_on_inside_the_month(double: MakeDouble, hurry: Hurry, files: Files) -> None:
    host = double(files)
    found = list(PipermailReader(f"{host.url}dri", client=hurry.client).read({}))
    for stop, item in enumerate(found):
        rest = list(PipermailReader(f"{host.url}dri", client=hurry.client).read(item.cursor))
        assert names(rest) == names(found[stop + 1 :])
    # A month that changed meanwhile is read from its beginning.
    files.files["/dri/2026-January.txt.gz"] = gzip.compress(text_mail(0) + text_mail(3) + text_mail(4))
    rest = list(PipermailReader(f"{host.url}dri", client=hurry.client).read(found[2].cursor))
    assert "2026-01/Jan0@example.org" in names(rest)


def test_a_mail_of_an_earlier_month_is_fetched_again(double: MakeDouble, hurry: Hurry, files: Files) -> None:
    host = double(files)
    reader = PipermailReader(f"{host.url}dri", client=hurry.client)
    walk = reader.read({})
    last = [next(walk) for _ in range(5)][-1]
    assert last.location == "2026-02/Feb5@example.org"
    raw = reader.fetch("2025-12/Dec2@example.org")
    assert raw is not None
    assert b"Dec 2\n" in raw
    assert reader.fetch("2025-12/none@example.org") is None
    assert reader.fetch("../../etc/passwd") is None
    with pytest.raises(ForeignHostError):
        reader.fetch("http://elsewhere.example.org/1.html")
    walk.close()


def test_a_page_without_months(double: MakeDouble, hurry: Hurry) -> None:
    host = double(lambda request: Reply(b"<html><a href='x'>x</a></html>", "text/html"))
    with pytest.raises(NoPipermailError, match="no months"):
        list(PipermailReader(host.url, client=hurry.client).read({}))


THREADS = b"""<html><body><b><a href="date.html#start">[ date ]</a></b>
<ul>
<!--0 01- -->
<LI><A HREF="000100.html">[PATCH 0/1] Power</A><A NAME="100">&nbsp;</A><I>Ada Author</I>
<UL>
<!--1 01-02- -->
<LI><A HREF="000101.html">[PATCH 1/1] accel/amdxdna: Power</A><I>Ada Author</I>
<UL>
<!--2 -->
<LI><A HREF="000103.html">[PATCH 1/1] accel/amdxdna: Power</A><I>Bob</I>
</UL>
<LI><A HREF="000104.html">[PATCH 0/1] Power</A><I>Bob</I>
</UL>
<!--0 02- -->
<LI><A HREF="000102.html">Another thread</A><I>Eve</I>
</ul></body></html>"""


def article(number: int, subject: str = "[PATCH 1/1] accel/amdxdna: Power") -> bytes:
    return f"""<HTML><HEAD><TITLE>x</TITLE></HEAD><BODY><H1>{subject}</H1>
<B>Ada &quot;A&quot; Author</B>
<A HREF="mailto:dri%40example.org?Subject=Re%3A%20x&In-Reply-To=%3Cm{number}%40example.org%3E"
 TITLE="x">ada at example.org</A><BR><I>Mon Jan  5 12:00:{number % 60:02} UTC 2026</I><P><UL></UL><HR>
<!--beginarticle--><PRE>Look &lt;at&gt; this.

Signed-off-by: Ada Author &lt;<A HREF="https://elsewhere.example.org">ada at example.org</A>&gt;
</PRE><!--endarticle--></BODY></HTML>""".encode()


def test_html_pages_keep_their_threads(double: MakeDouble, hurry: Hurry) -> None:
    """100 <- 101 <- 103, 100 <- 104; 102 alone."""
    pages = {f"/dri/2026-January/{number:06}.html": article(number) for number in (100, 101, 103, 104)}
    front = b'<html><a href="2026-January/thread.html">[ Thread ]</a></html>'
    host = double(Files({"/dri/": front, "/dri/2026-January/thread.html": THREADS, **pages}))
    reader = PipermailReader(f"{host.url}dri", client=hurry.client)
    found = list(reader.read({}))
    heads = [parse_mail(item.raw).head for item in found]
    assert [(head.message_id, head.in_reply_to) for head in heads] == [
        ("m100@example.org", None), ("m101@example.org", "m100@example.org"),
        ("m103@example.org", "m101@example.org"), ("m104@example.org", "m100@example.org"),
    ]  # fmt: skip
    assert (heads[0].author.name, heads[0].author.email) == ('Ada "A" Author', "ada@example.org")
    assert heads[0].date is not None
    assert heads[0].date.isoformat() == "2026-01-05T12:00:40+00:00"
    assert b"Look <at> this.\n" in found[0].raw
    assert b"<ada@example.org>" in found[0].raw.partition(b"\n\n")[2]
    host.asked.clear()
    assert list(reader.read(reader.end_cursor({}))) == []
    assert len(host.asked) == 2
    # A kill after 101: the rest, with the same parents.
    rest = list(PipermailReader(f"{host.url}dri", client=hurry.client).read(found[1].cursor))
    assert [item.raw for item in rest] == [item.raw for item in found[2:]]
    assert reader.fetch(found[2].location) is not None


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=600))
def test_any_page_is_read_without_a_fall(page: bytes) -> None:
    find_months(page, "http://h/")
    find_articles(b"<ul><li><a href='000001.html'>x</a>" + page)
    mail_of_page(b"<h1>" + page + b"</h1><b>x</b><pre>" + page, None)
    respell(page)


def test_a_heading_cannot_smuggle_headers() -> None:
    page = b"<h1>x\nBcc: eve@example.org\n\nbody</h1><pre>text</pre>"
    raw = mail_of_page(page, None)
    assert raw is not None
    assert b"\nBcc:" not in raw
