"""Inputs built to be slow, at rising sizes: the time must grow like the size, not like its square.

Processor time of this process is measured, the best of some rounds, so another load on the machine does not
matter much; still this is a measurement and no part of the test suite.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.mail_fuzz.check import check_archive, check_mail, check_readers

SMALL, STEP = 60_000, 4  # bytes; from a size to the next
ROUNDS = 3
LEAST = 0.02  # seconds: below that a ratio says nothing, and the size is not yet a burden
MOST_RATIO = 9.0  # 4 is linear, 16 is quadratic
MOST_SECONDS = 1.0  # for the small size; a bound of bytes must not hide a square below it

_HEAD = b"From: a <a@b.org>\nSubject: [PATCH] accel/amdxdna: x\nMessage-ID: <g@b.org>\n"
_DIFF = b"diff --git a/x b/x\n--- a/x\n+++ b/x\n"


@dataclass(frozen=True)
class Growth:
    """Seconds of one kind of input at two sizes. ``ratio`` is between them; ``slow``: it grows too fast."""

    name: str
    size: int
    seconds: float
    larger: int
    larger_seconds: float

    @property
    def ratio(self) -> float:
        """How many times longer the larger one takes."""
        return self.larger_seconds / max(self.seconds, 1e-9)

    @property
    def slow(self) -> bool:
        """More than its share, and long enough to matter; or too long from the start."""
        if self.seconds > MOST_SECONDS:
            return True
        return self.larger_seconds >= LEAST and self.ratio > MOST_RATIO * self.larger / self.size / STEP


def _fill(piece: bytes, size: int) -> bytes:
    return piece * (size // len(piece))


def _body(piece: bytes, start: bytes = b"", end: bytes = b"\n") -> Callable[[int], bytes]:
    return lambda size: _HEAD + b"\n" + start + _fill(piece, size) + end


def _header(name: bytes, piece: bytes) -> Callable[[int], bytes]:
    author = b"" if name == b"From" else b"From: a <a@b.org>\n"
    return lambda size: author + name + b": " + _fill(piece, size) + b"\n\nx\n"


def _coded(header: bytes, piece: bytes) -> Callable[[int], bytes]:
    return lambda size: _HEAD + header + b"\n\n" + _fill(piece, size)


def _nested(size: int) -> bytes:
    kind = b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n'
    levels = b"".join(kind % (number, number) for number in range(7))
    return _HEAD + levels + b"Content-Type: text/plain\n\n" + _fill(b"x\n", size)


INPUTS: dict[str, Callable[[int], bytes]] = {
    "one long line": _body(b"x"),
    "blanks": _body(b" "),
    "blanks and line ends": _body(b" \n"),
    "line ends": _body(b"\n"),
    "carriage returns": _body(b"\r"),
    "tabs after a bar": _body(b" \t", b" x.c |"),
    "diffstat lines": _body(b" a/b/c.c | 3 ++-\n"),
    "diffstat names without a bar": _body(b" a => "),
    "signs of a diffstat": _body(b"+", b" x.c | 12 "),
    "dashes": _body(b"---\n"),
    "old marks without new": _body(b"--- a/x\n"),
    "new marks without old": _body(b"+++ a/x\n"),
    "file headers": _body(b"diff --git a/x b/x\n"),
    "other files": lambda size: _HEAD + b"\n" + b"".join(
        b"diff --git a/%d b/%d\n--- a/%d\n+++ b/%d\n@@ -1 +1 @@\n-a\n+b\n" % (n, n, n, n)
        for n in range(size // 60)
    ),
    "a hunk that never ends": _body(b"+x\n", _DIFF + b"@@ -1,1 +1,999999999 @@\n"),
    "hunks": _body(b"@@ -1 +1 @@\n-a\n+b\n", _DIFF),
    "broken hunks": _body(b"@@ -1,3 +1,3 @@\n", _DIFF),
    "quoted lines": _body(b"> > > x\n"),
    "quote signs": _body(b">"),
    "quote signs and blanks": _body(b"> "),
    "trailers": _body(b"Reviewed-by: A <a@b.org>\n"),
    "a trailer's key": _body(b"A-", b"\nSigned"),
    "long words with dashes": _body(b"Aa-", b"\n"),
    "links": _body(b"https://lore.kernel.org/r/1@2 "),
    "a link that never ends": _body(b"a", b"https://lore.kernel.org/r/"),
    "hosts of links": _body(b"https://lore.kernel.org/"),
    "percent signs of a link": _body(b"%40", b"https://patch.msgid.link/"),
    "applied": _body(b"applied "),
    "applied lines": _body(b"applied x y z\n"),
    "applied entries": _body(b"[1/2] x\n      y\n      z\n"),
    "applied numbers": _body(b"[1/2] "),
    "commit words": _body(b"commit 0123456789ab"),
    "hexadecimal digits": _body(b"a1", b"This reverts commit "),
    "upstream blanks": _body(b" \t", b"[ Upstream commit "),
    "change ids": _body(b"change-id: x\n"),
    "supersedes": _body(b"Supersedes: <a@b\n"),
    "in-body headers": _body(b"From: a <\n", b""),
    "from and blanks": _body(b" ", b"From:"),
    "shortlog lines": _body(b"      accel/amdxdna: x\n"),
    "branches": _body(b"x-next-", b"applied to "),
    "release claims": _body(b"v7.1-rc", b""),
    "subject brackets": _header(b"Subject", b"["),
    "subject closed brackets": _header(b"Subject", b"[PATCH] "),
    "subject replies": _header(b"Subject", b"Re: "),
    "subject counters": _header(b"Subject", b"[1 / 2 "),
    "encoded words": _header(b"Subject", b"=?utf-8?q?x?= "),
    "encoded words unclosed": _header(b"Subject", b"=?utf-8?q?"),
    "encoded word ends": _header(b"Subject", b"?= "),
    "author quotes": _header(b"From", b'"'),
    "author quoted pairs": _header(b"From", b'\\"'),
    "author brackets": _header(b"From", b"<"),
    "author parentheses": _header(b"From", b"("),
    "author commas": _header(b"From", b"a,"),
    "author blanks": _header(b"From", b"a "),
    "references": _header(b"References", b"<a@b>"),
    "references unclosed": _header(b"References", b"<a"),
    "references one letter": _header(b"References", b"<"),
    "date words": _header(b"Date", b"Mon, "),
    "date digits": _header(b"Date", b"1 "),
    "folded header": lambda size: b"Subject: " + _fill(b"x\n ", size) + b"\n\n",
    "many headers": lambda size: _fill(b"X-A: b\n", size) + b"\n",
    "same headers": lambda size: _fill(b"Subject: b\n", size) + b"\n",
    "content type": _header(b"Content-Type", b'multipart/mixed; boundary="'),
    "parts": _coded(b'Content-Type: multipart/mixed; boundary="x"', b"--x\n\n"),
    "nested parts": _nested,
    "quoted-printable": _coded(b"Content-Transfer-Encoding: quoted-printable", b"=3D=\n"),
    "damaged base64": _coded(b"Content-Transfer-Encoding: base64", b"A=B-"),
    "html tags": _coded(b"Content-Type: text/html", b"<b>x"),
    "html table": _coded(b"Content-Type: text/html", b"<table><tr><td>x"),
    "html brackets": _coded(b"Content-Type: text/html", b"<"),
    "html entities": _coded(b"Content-Type: text/html", b"&lt;"),
    "html comments": _coded(b"Content-Type: text/html", b"<!--"),
    "NUL bytes": _body(b"\0"),
    "latin bytes": _body(b"\xe9"),
    "line separators": _body(b"\xe2\x80\xa8"),
    "C-quoted names": _body(b"\\303", _DIFF.replace(b"a/x", b'"a/'), b'"\n'),
}  # fmt: skip
ARCHIVES: dict[str, Callable[[int], bytes]] = {
    "envelope lines": lambda size: _fill(b"\n\nFrom x@y Thu Jan  1 00:00:00 1970\n", size),
    "almost envelope lines": lambda size: _fill(b"\n\nFrom ", size),
    "quoted envelopes": lambda size: _fill(b"\n>From ", size),
    "quote signs": lambda size: _fill(b"\n>>>>>>>>>>", size),
}


def measure(smallest: int = SMALL) -> Iterator[Growth]:
    """Every kind of input at two sizes, ``STEP`` apart."""
    for kinds, read in ((INPUTS, _read), (ARCHIVES, check_archive)):
        for name, make in kinds.items():
            small, large = make(smallest), make(smallest * STEP)
            yield Growth(
                name, len(small), _best(read, small), len(large), _best(read, large)
            )  # fmt: skip


def _read(raw: bytes) -> None:
    check_readers(check_mail(raw), raw)


def _best(read: Callable[[bytes], object], raw: bytes) -> float:
    taken = []
    for _ in range(ROUNDS):
        start = time.process_time()
        read(raw)
        taken.append(time.process_time() - start)
        if taken[-1] > 5:
            break
    return min(taken)
