"""Small pure pieces of the reports: versions, page names, visible text, addresses, statistics, values."""

from __future__ import annotations

import random
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reports.links import mail_url
from reports.printable import MAX_TEXT, visible
from reports.records import MailRecord
from reports.slugs import slug, slug_of_test
from reports.statistics import Tally, probability_rate_rose
from reports.values import flatten, gist, is_duration, shown
from reports.versions import carries, kernel_version, sort_key

RISING = ["6.19", "v7.0-rc1", "7.0~rc7", "7.0", "7.0.13+deb13-amd64", "v7.1-rc2", "7.1", "7.1.2", "7.1.13"]


def test_versions_of_tags_debian_and_uname_have_one_order() -> None:
    shuffled = random.Random(1).sample(RISING, len(RISING))
    assert sorted(shuffled, key=sort_key) == RISING


@pytest.mark.parametrize("text", ["", "next-20260101", "v7", "linux-7.1", "amd-v7.1"])
def test_what_is_no_version_is_none(text: str) -> None:
    assert kernel_version(text) is None


@pytest.mark.parametrize(
    ("kernel", "tags", "expected"),
    [
        ("7.1.13", ["v7.1-rc1"], True),
        ("7.1.13", ["v7.2-rc1"], False),
        ("7.1~rc1", ["v7.1-rc2"], False),
        ("7.1.13", ["v7.1.9"], True),
        ("7.1.8", ["v7.1.9"], False),
        ("7.2.1", ["v7.1.9"], False),  # a stable tag says nothing about the next series
        ("7.1.13", ["v7.2-rc1", "v7.1.9"], True),  # backported before its own release
        ("7.2.1", ["v7.2-rc1", "v7.1.9"], True),
        ("7.1.13", [], False),
        ("unknown", ["v7.1-rc1"], False),
    ],
)
def test_which_kernel_carries_what_landed_under_which_tag(
    kernel: str, tags: list[str], expected: bool
) -> None:
    assert carries(kernel, tags) is expected


@given(st.text())
@example("../../etc/passwd")
@example("index")
@example("a..b")
@example("x.html")
@example("\ud800")
@example("")
def test_a_page_name_never_leaves_its_folder(name: str) -> None:
    made = slug(name)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", made)
    assert ".." not in made
    assert made.lower() != "index"
    assert not made.endswith((".html", ".json"))


@given(st.text(), st.text())
@example("me@minipc", "me-minipc")
@example("a/b", "a-b")
def test_two_names_never_share_a_page(left: str, right: str) -> None:
    assert (slug(left) == slug(right)) is (left == right)
    assert (slug_of_test(left) == slug_of_test(right)) is (left == right)


def test_harmless_names_stay_readable() -> None:
    assert slug("20261123T143000-ab12cd") == "20261123T143000-ab12cd"
    assert slug("virtual-npu4") == "virtual-npu4"
    assert slug("me@minipc").startswith("me-minipc-")
    assert slug_of_test("test_query.py::test_aie_version") == "query.aie_version"
    assert slug_of_test("test_buffers.py::test_share[4096]").startswith("test-buffers-py-test-share-4096-")


@given(st.text())
@example("\x1b[2J\u202eevil\u2066\x00\ud800\u200b\U000e0041")
def test_no_shown_text_can_erase_or_reorder_a_line(text: str) -> None:
    for character in visible(text):
        if character in "\t\n":
            continue
        category = unicodedata.category(character)
        assert category not in ("Cc", "Cs"), f"{character!r} is a control character"
        assert unicodedata.bidirectional(character) not in (
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        )  # fmt: skip


def test_long_text_is_bounded_and_says_so() -> None:
    text = visible("x" * (MAX_TEXT + 7))
    assert len(text) < MAX_TEXT + 40
    assert text.endswith("(7 more characters)")


@pytest.mark.parametrize(
    ("message_id", "url"),
    [
        ("20260515155332.743097-1-a@b.org", "https://lore.kernel.org/r/20260515155332.743097-1-a@b.org"),
        ("a/../b?x#y@c.org", "https://lore.kernel.org/r/a%2F..%2Fb%3Fx%23y@c.org"),
        ("sha1-0123@missing", None),
        ("javascript:alert(1)", None),
        ('x"onclick=1@a.org', None),
        ("no at sign", None),
    ],
)
def test_only_well_formed_message_ids_become_links(message_id: str, url: str | None) -> None:
    mail = MailRecord(message_id, None, "A", "a@b.org", "s", "patch")
    assert mail_url(mail) == url


def test_a_sample_mail_is_not_linked_as_if_it_existed() -> None:
    mail = MailRecord("1@example.org", None, "A", "a@b.org", "s", "patch", sample=True)
    assert mail_url(mail) is None


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [((0, 1), (1, 1), 5 / 6), ((0, 0), (0, 0), 1 / 2), ((2, 5), (2, 5), 1 / 2), ((0, 3), (3, 3), 69 / 70)],
)
def test_how_sure_a_change_of_rate_is(
    before: tuple[int, int], after: tuple[int, int], expected: float
) -> None:
    assert probability_rate_rose(Tally(*before), Tally(*after)) == pytest.approx(expected)


tallies = st.integers(0, 8).flatmap(lambda n: st.integers(0, n).map(lambda f: Tally(f, n)))


@given(tallies, tallies)
def test_the_probabilities_of_rise_and_fall_make_one(before: Tally, after: Tally) -> None:
    rose, fell = probability_rate_rose(before, after), probability_rate_rose(after, before)
    assert rose + fell == pytest.approx(1)
    worse = Tally(after.failed + 1, after.runs + 1)
    assert probability_rate_rose(before, worse) > rose


def test_the_probability_agrees_with_drawing_the_rates() -> None:
    draw = random.Random(3)
    hits = sum(draw.betavariate(2, 4) > draw.betavariate(4, 8) for _ in range(40_000))
    assert probability_rate_rose(Tally(3, 10), Tally(1, 4)) == pytest.approx(hits / 40_000, abs=0.01)


def test_recorded_values_are_made_flat_and_short() -> None:
    assert flatten({"clock": {"mp": 400, "h": {}}, "list": [1, 2]}) == {
        "clock.mp": 400,
        "clock.h": {},
        "list": [1, 2],
    }
    assert shown(None) == "—"
    assert shown(True) == "yes"
    assert shown(2**64 - 1) == "0xffffffffffffffff"
    assert len(shown(["x" * 500])) <= 160


@pytest.mark.parametrize("name", ["milliseconds", "median_milliseconds", "exec_us", "wait.seconds"])
def test_durations_are_known_by_name(name: str) -> None:
    assert is_duration(name)
    assert not is_duration("status")
    assert not is_duration("columns")


def test_the_gist_of_a_message_is_what_was_wrong() -> None:
    message = "tests/test_query.py:12: in test_x\n    assert a == b\nE   assert 0 > 0\nE    +  where 0 = x"
    assert gist(message) == "assert 0 > 0"
    assert gist("no sensor source\nmore") == "no sensor source"
    assert gist("") == ""
