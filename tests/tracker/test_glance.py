"""A sieve that only glances at most mails keeps exactly what one that reads every mail keeps."""

from __future__ import annotations

import base64
import quopri
import random
from collections.abc import Callable

import pytest

from tests.mail_fuzz.mutate import mutated
from tests.mail_fuzz.shapes import corpus
from tracker.mail import passed
from tracker.mail.headers import Head
from tracker.mail.passed import PassedOver
from tracker.mail.relevance import Sieve
from tracker.mail.source import RawMail
from tracker.settings import DriverProfile

MailMaker = Callable[..., bytes]
AMDXDNA = DriverProfile()
Outcome = tuple[list[tuple[str, str, str]], list[list[object]]]


class Reader(Sieve):
    """Every mail is read whole."""

    def _foreign_at_a_glance(self, head: Head, raw: bytes, size: int) -> bool:
        return False

    def _hinted(self, lowered: str) -> bool:
        return True


def outcome(kind: type[Sieve], mails: list[bytes], profile: DriverProfile) -> Outcome:
    """(id, kind, location) of what is kept; the memory at the end."""
    sieve = kind(profile, {}, lambda location: mails[int(location)])
    kept = [
        (one.mail.message_id, one.kind, one.location)
        for number, raw in enumerate(mails)
        for one in sieve.sift(RawMail(str(number), raw, len(raw), {}))
    ]
    return kept, [one.to_json() for one in sieve.memory]


def hidden(mail: MailMaker, diff: str) -> dict[str, bytes]:
    """Mails of the driver in whose bytes its name is not to be seen."""
    path = "drivers/accel/amdxdna"
    only = f"words\n--- a/{path}/x.c\n+++ b/{path}/x.c\n@@ -1 +1 @@\n-a\n+b\n"
    assert "amdxdna" in diff
    word = base64.b64encode(b"accel/amdxdna: x").decode()
    quoted = quopri.encodestring(diff.encode()).replace(b"amdxdna", b"amd=\nxdna").decode()
    octal = only.replace(f"a/{path}/x.c", f'"a/{path}/x.c"').replace("amdxdna", "amdxdn\\141")
    octal = octal.replace(f"b/{path}/x.c".replace("amdxdna", "amdxdn\\141"), "/dev/null")

    def part(text: str, *headers: str) -> str:
        return "\n".join(["--B", *headers, "", text, ""])

    mixed = part("words", "Content-Type: text/plain") + part(
        base64.encodebytes(diff.encode()).decode(),
        "Content-Type: text/x-patch",
        "Content-Transfer-Encoding: base64",
    )
    return {
        "encoded subject": mail(f"=?utf-8?B?{word}?=", message_id="a@x"),
        "encoded subject of a reply": mail("Re: =?utf-8?q?accel/amd=78dna:_x?=", message_id="a@x"),
        "subject in two encoded words": mail("=?utf-8?q?accel/amd?=\n =?utf-8?q?xdna:_x?=", message_id="a@x"),
        "quoted-printable": mail(
            "[PATCH] x",
            message_id="a@x",
            headers=["Content-Transfer-Encoding: Quoted-Printable"],
            body=quoted,
        ),
        "base64": mail(
            "[PATCH] x",
            message_id="a@x",
            headers=["Content-Transfer-Encoding: BASE64"],
            body=base64.encodebytes(diff.encode()).decode(),
        ),
        "a coded part": mail(
            "[PATCH] x", message_id="a@x", headers=["Content-Type: multipart/mixed; boundary=B"], body=mixed
        ),
        "utf-7": mail("[PATCH] x", message_id="a@x", headers=["Content-Type: text/plain; charset=utf-7"])
        + only.encode("utf-7").replace(
            b"amdxdna", b"+" + base64.b64encode("amdxdna".encode("utf-16-be"))[:-1] + b"-"
        ),
        "utf-16": mail("[PATCH] x", message_id="a@x", headers=["Content-Type: text/plain; charset=utf-16"])
        + only.encode("utf-16"),
        "html": mail(
            "[PATCH] x",
            message_id="a@x",
            headers=["Content-Type: text/html"],
            body="<pre>" + only.replace("amdx", "a&#109;dx") + "</pre>",
        ),
        "name of a file in quotes": mail("[PATCH] x", message_id="a@x", body=octal),
        "parts that cannot be told apart": mail(
            "x", message_id="a@x", headers=["Content-Type: multipart/mixed"], body="words\n"
        ),
        "no header of a mail": b"Message-ID: <a@x>\n\n\n",
    }


HIDDEN = (
    "encoded subject", "encoded subject of a reply", "subject in two encoded words", "quoted-printable",
    "base64", "a coded part", "utf-7", "utf-16", "html", "name of a file in quotes",
    "parts that cannot be told apart", "no header of a mail",
)  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_what_hides_the_driver_is_read(name: str, mail: MailMaker, driver_diff: Callable[..., str]) -> None:
    raw = hidden(mail, driver_diff())[name]
    kept, _ = outcome(Reader, [raw], AMDXDNA)
    assert len(kept) == 1
    assert outcome(Sieve, [raw], AMDXDNA)[0] == kept
    crlf = raw.replace(b"\n", b"\r\n") if name != "utf-16" else raw
    assert outcome(Sieve, [crlf], AMDXDNA) == outcome(Reader, [crlf], AMDXDNA)


@pytest.mark.parametrize("blank", ["\n ", "  ", "_"])
def test_a_word_with_a_blank_is_found_however_it_is_written(blank: str, mail: MailMaker) -> None:
    profile = DriverProfile(name="pmf", paths=("drivers/pmf",), subject_words=("amd pmf",))
    subject = "=?utf-8?q?the_AMD_PMF?=" if blank == "_" else f"[PATCH] the AMD{blank}PMF"
    assert len(outcome(Sieve, [mail(subject, message_id="a@x")], profile)[0]) == 1


PROFILES = (
    AMDXDNA,
    DriverProfile(name="list", paths=("drivers/accel/ivpu",), subject_words=("media", "AUTOSEL", "start")),
    DriverProfile(name="mailbox", paths=("drivers/accel/amdxdna/mailbox.c", "x.c"), subject_words=("grüße",)),
)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda one: one.name)
@pytest.mark.parametrize("seed", range(4))
def test_mutated_mails_are_kept_as_if_all_were_read(
    seed: int, profile: DriverProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDNAWATCH_REAL_DATA", raising=False)
    shapes = corpus()
    mails = [mutated(seed, number, shapes) for number in range(250)]
    mails += [foreign for raw in mails if (foreign := raw.replace(b"amdxdna", b"other")) != raw]
    random.Random(seed).shuffle(mails)
    glanced, read = outcome(Sieve, mails, profile), outcome(Reader, mails, profile)
    assert glanced == read
    assert glanced[0]


def thread_mails(mail: MailMaker, count: int) -> list[bytes]:
    """Patches and replies, some twice, some of no interest to anybody; none is the driver's."""
    chance = random.Random(5)
    mails = []
    for number in range(count):
        answers = f"{chance.randrange(number)}@x" if number and chance.random() < 0.5 else None
        subject = "Re: [PATCH 1/2] y" if answers else chance.choice(["[PATCH 1/2] y", "news", "[RFC] z"])
        own = f"{chance.randrange(number) if number and chance.random() < 0.1 else number}@x"
        mails.append(mail(subject, message_id=own, answers=answers, body="z" * chance.randrange(3000)))
    return mails


def test_the_memory_is_that_of_a_sieve_that_reads_each_mail_at_once(
    mail: MailMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    mails = thread_mails(mail, 700)

    def remembered(most_unread: int) -> list[tuple[list[passed.Passed], list[bool]]]:
        monkeypatch.setattr(passed, "MOST_UNREAD", most_unread)
        monkeypatch.setattr(passed, "RAW_MEMORY", 60_000)
        over, seen = PassedOver(), []
        for number, raw in enumerate(mails):
            over.add(str(number), raw)
            if number % 97 == 0:
                over.forget(f"{number - 3}@x")
                every = list(over)
                seen.append((every, [over.raw(one.message_id) is None for one in every]))
        return seen

    at_once, lazily = remembered(-1), remembered(200_000)
    assert at_once == lazily
    assert passed.MEMORY - 1 <= len(at_once[-1][0]) <= passed.MEMORY
    assert {True, False} == set(at_once[-1][1])
