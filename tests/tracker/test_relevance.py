"""Which mails are the driver's: the sieve, in any order, across sources and kills."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tracker.mail.relevance import Kept, Passed, Sieve
from tracker.mail.source import RawMail
from tracker.settings import DriverProfile

MailMaker = Callable[..., bytes]
PROFILE = DriverProfile()


class Source:
    """Mails by location, as a reader would give them back."""

    def __init__(self, mails: list[bytes]) -> None:
        self.items = [RawMail(str(n), raw, len(raw), {"n": n}) for n, raw in enumerate(mails)]

    def fetch(self, location: str) -> bytes | None:
        return self.items[int(location)].raw


def sift(mails: list[bytes], profile: DriverProfile = PROFILE) -> dict[str, str]:
    """message id -> kind of what is kept."""
    source = Source(mails)
    sieve = Sieve(profile, {}, source.fetch)
    return {kept.mail.message_id: kept.kind for item in source.items for kept in sieve.sift(item)}


@pytest.fixture
def thread(mail: MailMaker, driver_diff: Callable[..., str]) -> list[bytes]:
    """A series of three, one patch of it the driver's, with replies.

    0/3 cover
    +- 1/3 other driver
    |  +- reply to 1/3
    +- 2/3 the driver, named nowhere but in its diff
    |  +- reply
    |     +- reply to the reply
    +- 3/3 other driver
    """
    c, p1, p2, p3 = (f"20260105120000.77-{n}-ada@example.org" for n in (1, 2, 3, 4))
    ivpu, qaic = driver_diff("drivers/accel/ivpu/a.c"), driver_diff("drivers/accel/qaic/a.c")
    re1, re2 = "Re: [PATCH v2 1/3] ivpu: rename", "Re: [PATCH v2 2/3] sched: rename"
    like_ours = "as drivers/accel/amdxdna does\n"
    return [
        mail("[PATCH v2 0/3] drm: rename", message_id=c, body="cover\n"),
        mail("[PATCH v2 1/3] ivpu: rename", message_id=p1, answers=c, diff=ivpu),
        mail(re1, message_id="r1@x", answers=p1, references=[c, p1]),
        mail("[PATCH v2 2/3] sched: rename", message_id=p2, answers=c, diff=driver_diff()),
        mail(re2, message_id="r2@x", answers=p2, references=[c, p2]),
        mail(re2, message_id="r3@x", answers="r2@x", references=[c, p2, "r2@x"]),
        mail("[PATCH v2 3/3] qaic: rename", message_id=p3, answers=c, diff=qaic),
        mail("[PATCH] ivpu: other", message_id="foreign@x", diff=ivpu),
        mail("Re: [PATCH] ivpu: other", message_id="fr@x", answers="foreign@x", body="see amdxdna\n"),
        mail("[PATCH] ivpu: like amdxdna_gem.c", message_id="mention@x", body=like_ours, diff=ivpu),
    ]


def test_a_patch_brings_its_cover_its_sisters_and_its_replies(thread: list[bytes]) -> None:
    kept = sift(thread)
    assert kept == {
        "20260105120000.77-1-ada@example.org": "context",
        "20260105120000.77-2-ada@example.org": "context",
        "r1@x": "reply",
        "20260105120000.77-3-ada@example.org": "patch",
        "r2@x": "reply",
        "r3@x": "reply",
        "20260105120000.77-4-ada@example.org": "context",
    }


def test_sisters_of_a_large_series_stay_away(thread: list[bytes]) -> None:
    kept = sift(thread, DriverProfile(companions_up_to=2))
    assert "20260105120000.77-1-ada@example.org" in kept
    assert "20260105120000.77-2-ada@example.org" not in kept
    assert "20260105120000.77-4-ada@example.org" not in kept


def test_a_mention_is_no_patch_but_a_named_subject_is(
    mail: MailMaker, driver_diff: Callable[..., str]
) -> None:
    other = driver_diff("drivers/accel/ivpu/c.c")
    assert sift([mail("[PATCH] ivpu: as in amdxdna", message_id="a@x", diff=other)]) == {"a@x": "patch"}
    assert sift([mail("[PATCH] ivpu: x", message_id="a@x", body="amdxdna does it\n", diff=other)]) == {}
    assert sift([mail("[PATCH] accel: amdxdnas", message_id="a@x", diff=other)]) == {}
    assert (
        sift([mail("[PATCH] ivpu: x", message_id="a@x", diff=driver_diff("drivers/accel/amdxdna2/x.c"))])
        == {}
    )


def test_coded_mails_are_looked_into(mail: MailMaker, driver_diff: Callable[..., str]) -> None:
    import base64

    body = base64.encodebytes(driver_diff().encode()).decode()
    raw = mail("[PATCH] x", message_id="a@x", headers=["Content-Transfer-Encoding: base64"], body=body)
    assert sift([raw]) == {"a@x": "patch"}


def test_a_pull_request_counts_by_its_shortlog(mail: MailMaker) -> None:
    with_it = "Author (1):\n      accel/amdxdna: Fix it\n"
    assert sift([mail("[PULL] drm-misc-next", message_id="a@x", body=with_it)]) == {"a@x": "pull"}
    assert sift([mail("[PULL] drm-misc-next", message_id="a@x", body="about amdxdna\n")]) == {}


def test_unreadable_and_oversized_mails_are_kept_with_their_reason(mail: MailMaker) -> None:
    from tracker.mail.message import MAX_MAIL

    raw = mail("anything", message_id="big@x")
    sieve = Sieve(PROFILE, {}, lambda _: None)
    kept: list[Kept] = sieve.sift(RawMail("0", raw, MAX_MAIL + 1, {}))
    assert [one.mail.message_id for one in kept] == ["big@x"]
    assert kept[0].mail.corrupted is not None
    assert str(MAX_MAIL + 1) in kept[0].mail.corrupted


def test_a_truncated_copy_is_replaced_by_the_whole_one(
    mail: MailMaker, driver_diff: Callable[..., str]
) -> None:
    raw = mail("[PATCH] accel/amdxdna: x", message_id="a@x", diff=driver_diff())
    sieve = Sieve(PROFILE, {"a@x": "patch"}, lambda _: None, damaged={"a@x"})
    assert sieve.sift(RawMail("0", raw[:-30], len(raw) - 30, {}, "the archive ends inside this mail")) == []
    assert len(sieve.sift(RawMail("0", raw, len(raw), {}))) == 1


def test_a_cover_that_comes_later_or_from_elsewhere_is_still_found(thread: list[bytes]) -> None:
    late = [*thread[1:], thread[0]]
    assert sift(late).keys() == sift(thread).keys()


@pytest.mark.parametrize("stop", range(1, 10))
def test_a_resumed_sieve_keeps_what_an_undisturbed_one_keeps(stop: int, thread: list[bytes]) -> None:
    source = Source(thread)
    first = Sieve(PROFILE, {}, source.fetch)
    kept = [one for item in source.items[:stop] for one in first.sift(item)]
    memory = [Passed.from_json(entry.to_json()) for entry in first.memory]
    again = Sieve(PROFILE, {one.mail.message_id: one.kind for one in kept}, source.fetch, memory)
    kept += [one for item in source.items[stop:] for one in again.sift(item)]
    assert {one.mail.message_id: one.kind for one in kept} == sift(thread)
