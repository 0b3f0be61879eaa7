"""Mail number N of a seed: deterministic, so that a failure is named by two numbers and made again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

MOST_STEPS = 6  # mutations of one mail
LARGEST_RUN = 900  # repetitions that one mutation makes
LARGEST = 100_000  # bytes of a mutated mail

# What parsers trip over, put in at random places.
_TOKENS = (
    b"\n\n",
    b"\n",
    b"\r\n",
    b"\r",
    b"\0",
    b"\t",
    b" ",
    b"\n ",
    b"\n\t",
    b"\n--",
    b"\n---\n",
    b"\n-- \n",
    b"\n--- ",
    b"\n+++ ",
    b"\n--- a/x\n+++ b/x\n",
    b"\n@@ -1,3 +1,4 @@\n",
    b"\n@@ -0,0 +1 @@",
    b"\n@@ -1,999999999 +1,999999999 @@\n",
    b"\ndiff --git a/x b/x\n",
    b"\ndiff --git ",
    b"\nindex 1..2\n",
    b"\nGIT binary patch\n",
    b"\nBinary files ",
    b"\\ No newline at end of file\n",
    b"=?utf-8?q?",
    b"=?utf-8?B?////?=",
    b"=?x?q?=\xff?=",
    b"?=",
    b"=\n",
    b"=3D",
    b"=",
    b"[PATCH",
    b"]",
    b"[",
    b"[[[[",
    b"Re: ",
    b"v99999",
    b"1/0",
    b"0/0",
    b"9999/9999",
    b" / ",
    b"<",
    b">",
    b"<>",
    b"@",
    b'"',
    b"\\",
    b"(",
    b")",
    b",",
    b";",
    b"\nFrom: x <y@z>\n\n",
    b"\nFrom mboxrd@z Thu Jan  1 00:00:00 1970\n",
    b"\n>From ",
    b'\nContent-Type: multipart/mixed; boundary="x"\n',
    b"\n--x\n",
    b"\n--x--\n",
    b"\nContent-Type: text/html\n",
    b"\nContent-Transfer-Encoding: base64\n",
    b"\nContent-Transfer-Encoding: quoted-printable\n",
    b"charset=utf-16",
    b"charset=utf-7",
    b"charset=idna",
    b"charset=unicode_escape",
    b"charset=rot13",
    b"charset=hex",
    b"charset=punycode",
    b"\\ud800",
    b"+2AA-",
    b"=?unicode_escape?q?=5Cud800?=",
    b"((((((((((",
    b"\xff\xfe",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x80\xa8",
    b"\x85",
    b"\x1b[2J",
    b"\nDate: ",
    b"\nDate: Mon, 1 Jan 0001 00:00:00 +2359\n",
    b"\nDate: Fri, 31 Dec 9999 23:59:59 -2359\n",
    b"\nSubject: ",
    b"\nReferences: ",
    b"\nIn-Reply-To: <",
    b"\nMessage-ID: <",
    b"\nSigned-off-by: ",
    b"\nFixes: ",
    b"\nchange-id: ",
    b"\nLink: https://lore.kernel.org/r/",
    b"https://patch.msgid.link/%40",
    b"%40%40%ff",
    b"\n> ",
    b"\n>>>> ",
    b"\nThis reverts commit 0123456789abcdef.\n",
    b"\ncommit 0123456789ab upstream.\n",
    b"\n[1/2] x\n      commit: ",
    b"Applied to ",
    b"\n      x: y\n",
    b" x.c | 3 ++-\n",
    b"<html>",
    b"<table>",
    b"<![CDATA[",
    b"<!--",
    b"&#x110000;",
)

Step = Callable[[bytearray, random.Random, Sequence[bytes]], None]


def mutated(seed: int, number: int, corpus: Sequence[bytes]) -> bytes:
    """The mail: some base, some mutations. The same for the same corpus."""
    chance = random.Random(f"{seed}:{number}")
    mail = bytearray(chance.choice(corpus))
    for _ in range(chance.randint(1, MOST_STEPS)):
        chance.choice(_STEPS)(mail, chance, corpus)
        if len(mail) > LARGEST:
            del mail[LARGEST:]
    return bytes(mail)


def _slice(mail: bytearray, chance: random.Random, most: int = 3000) -> slice:
    start = chance.randint(0, len(mail))
    return slice(start, min(len(mail), start + chance.randint(0, most)))


def _flip_bits(mail: bytearray, chance: random.Random, _corpus: Sequence[bytes]) -> None:
    for _ in range(chance.randint(1, 20) if mail else 0):
        mail[chance.randrange(len(mail))] ^= 1 << chance.randrange(8)


def _put_bytes(mail: bytearray, chance: random.Random, _corpus: Sequence[bytes]) -> None:
    at = chance.randint(0, len(mail))
    mail[at:at] = chance.randbytes(chance.randint(1, 60))


def _put_token(mail: bytearray, chance: random.Random, _corpus: Sequence[bytes]) -> None:
    at = chance.randint(0, len(mail))
    if chance.random() < 0.5:  # into the headers, where a byte weighs more
        at = chance.randint(0, max(0, mail.find(b"\n\n")))
    mail[at:at] = chance.choice(_TOKENS)


def _run_of_token(mail: bytearray, chance: random.Random, _corpus: Sequence[bytes]) -> None:
    at = chance.randint(0, len(mail))
    mail[at:at] = chance.choice(_TOKENS) * chance.choice((2, 9, 90, LARGEST_RUN))


def _delete(mail: bytearray, chance: random.Random, _corpus: Sequence[bytes]) -> None:
    del mail[_slice(mail, chance)]


def _double(mail: bytearray, chance: random.Random, _corpus: Sequence[bytes]) -> None:
    part = _slice(mail, chance)
    at = chance.randint(0, len(mail))
    mail[at:at] = bytes(mail[part]) * chance.choice((1, 1, 2, 30))


def _splice(mail: bytearray, chance: random.Random, corpus: Sequence[bytes]) -> None:
    other = chance.choice(corpus)
    start = chance.randint(0, len(other))
    mail[_slice(mail, chance)] = other[start : start + chance.randint(0, 3000)]


def _cut(mail: bytearray, chance: random.Random, _corpus: Sequence[bytes]) -> None:
    del mail[chance.randint(0, len(mail)) :]


def _shuffle_lines(mail: bytearray, chance: random.Random, _corpus: Sequence[bytes]) -> None:
    lines = bytes(mail).split(b"\n")
    part = slice(start := chance.randrange(len(lines)), start + chance.randint(2, 30))
    moved = lines[part]
    chance.shuffle(moved)
    lines[part] = moved
    mail[:] = b"\n".join(lines)


def _swap_line_ends(mail: bytearray, chance: random.Random, _corpus: Sequence[bytes]) -> None:
    mail[:] = mail.replace(
        b"\n", chance.choice((b"\r\n", b"\r", b"\n\n", b"\n ")), chance.choice((3, 40, -1))
    )


def _change_digits(mail: bytearray, chance: random.Random, _corpus: Sequence[bytes]) -> None:
    places = [index for index, byte in enumerate(mail[:6000]) if 48 <= byte <= 57]
    for index in chance.sample(places, min(len(places), chance.randint(1, 12))):
        mail[index] = chance.choice(b"0123456789-")


def _wrap_in_part(mail: bytearray, chance: random.Random, _corpus: Sequence[bytes]) -> None:
    """The mail becomes a part of itself, with the boundary it had or another."""
    head, _, _ = bytes(mail).partition(b"\n\n")
    name = chance.choice((b"x", b"out", b"in", b"=", b"-" * 70))
    for _ in range(chance.choice((1, 2, 12))):
        mail[:] = (
            head[:300]
            + b'\nContent-Type: multipart/mixed; boundary="'
            + name
            + b'"\n\n--'
            + name
            + b"\n"
            + mail
        )


_STEPS: tuple[Step, ...] = (
    _flip_bits,
    _put_bytes,
    _put_token,
    _put_token,
    _put_token,
    _run_of_token,
    _delete,
    _double,
    _splice,
    _splice,
    _cut,
    _shuffle_lines,
    _swap_line_ends,
    _change_digits,
    _wrap_in_part,
)
