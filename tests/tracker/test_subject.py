"""The grammar of subjects, on the shapes that real lists have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.mail.subject import normal_title, parse_subject, version_key


@pytest.mark.parametrize(
    ("text", "version", "number", "total", "title"),
    [
        ("[PATCH] accel/amdxdna: Fix it", "1", None, None, "accel/amdxdna: Fix it"),
        ("[PATCH V1] accel/amdxdna: Fix it", "1", None, None, "accel/amdxdna: Fix it"),
        ("[PATCH V3 2/2] accel/amdxdna: Add it", "3", 2, 2, "accel/amdxdna: Add it"),
        ("[PATCHv3 02/05] foo: bar", "3", 2, 5, "foo: bar"),
        ("[PATCH v5.1 10/12] foo: bar", "5.1", 10, 12, "foo: bar"),
        ("[PATCH 2 / 7] foo: bar", "1", 2, 7, "foo: bar"),
        ("[PATCH v2,3/4] foo: bar", "2", 3, 4, "foo: bar"),
        ("[Linaro-mm-sig] [PATCH V2] accel/amdxdna: x", "2", None, None, "accel/amdxdna: x"),
        ("[PATCH RFC 17/26] treewide: Rename dma_buf()", "1", 17, 26, "treewide: Rename dma_buf()"),
        ("[PATCH] [v2] foo: bar", "2", None, None, "foo: bar"),
        ("[PATCH [v2] 1/2] foo: bar", "2", 1, 2, "foo: bar"),
        ("[PATCH v4 0/9 foo: unbalanced", "1", None, None, "PATCH v4 0/9 foo: unbalanced"),
        ('[PATCH V1] Revert "accel/amdxdna: x"', "1", None, None, 'Revert "accel/amdxdna: x"'),
        ("[PATCH] [media] foo: bar", "1", None, None, "[media] foo: bar"),
        ("[ PATCH: 1/1]  foo: bar", "1", 1, 1, "foo: bar"),
    ],
)
def test_patch_subjects(text: str, version: str, number: int | None, total: int | None, title: str) -> None:
    parsed = parse_subject(text)
    assert (parsed.version, parsed.number, parsed.total, parsed.title) == (version, number, total, title)
    assert not parsed.reply
    assert parsed.patch == (not title.startswith("PATCH"))


@pytest.mark.parametrize(
    "text",
    [
        "Re: [PATCH V1] accel/amdxdna: x",
        "[Linaro-mm-sig] Re: [PATCH V1] accel/amdxdna: x",
        "RE: Re: [PATCH V1] accel/amdxdna: x",
        "Re: [Linaro-mm-sig] [PATCH V1] accel/amdxdna: x",
        "AW: [PATCH V1] accel/amdxdna: x",
        "回复: [PATCH V1] accel/amdxdna: x",
        "答复：[PATCH V1] accel/amdxdna: x",
        "Re: (subset) [PATCH V1] accel/amdxdna: x",
    ],
)
def test_a_reply_is_seen_wherever_the_list_tag_stands(text: str) -> None:
    parsed = parse_subject(text)
    assert parsed.reply
    assert parsed.patch
    assert parsed.title == "accel/amdxdna: x"


@pytest.mark.parametrize(
    ("text", "branch"),
    [
        ("[PATCH 6.18 123/614] accel/amdxdna: x", "6.18"),
        ("[PATCH 6.18.y] accel/amdxdna: x", "6.18.y"),
        ("[PATCH 00/19 v6.1.y] accel/amdxdna: x", "v6.1.y"),
        ("[PATCH 6.1/6.6] accel/amdxdna: x", "6.1/6.6"),
        ("[PATCH AUTOSEL 6.19-6.18] accel/amdxdna: x", "AUTOSEL 6.19-6.18"),
        ("[PATCH AUTOSEL 6.14 439/642] accel/amdxdna: x", "AUTOSEL 6.14"),
        ("[PATCH stable 6.12] x", "stable 6.12"),
    ],
)
def test_stable_mails_name_their_branch(text: str, branch: str) -> None:
    parsed = parse_subject(text)
    assert parsed.stable == branch
    assert parsed.version == "1"


def test_tags_and_pulls() -> None:
    assert parse_subject("[RFC PATCH v2] x").rfc
    assert parse_subject("[PATCH RESEND v2 1/3] x").resend
    assert parse_subject("[GIT PULL] drm fixes for 7.1-rc3").pull
    assert not parse_subject("[PULL] drm-misc-next").patch
    assert parse_subject("[PATCH v2] x").explicit_version
    assert not parse_subject("[PATCH] x").explicit_version
    assert not parse_subject("Linux 7.1-rc1").patch


def test_titles_are_compared_as_git_am_leaves_them() -> None:
    assert normal_title("[next] foo: Bar") == normal_title("foo: bar") == "foo: bar"
    assert normal_title("[media] [v4l] foo") == "foo"
    assert normal_title("[only]") == "[only]"


def test_brackets_without_an_end_are_taken_off_at_once() -> None:
    """Found by tests/mail_fuzz: one by one, each with a search to the end, they took a second."""
    parsed = parse_subject("[[[[[[[[ x")
    assert (parsed.title, parsed.patch) == ("x", False)


def test_versions_are_ordered_as_numbers() -> None:
    assert sorted(["10", "2", "5.1", "5"], key=version_key) == ["2", "5", "5.1", "10"]


def test_titles_are_compared_without_case_space_and_final_dot() -> None:
    assert normal_title("Accel/amdxdna:  Fix v2 of IT.") == normal_title("accel/amdxdna: fix of it")
    assert normal_title("accel/amdxdna: a") != normal_title("accel/amdxdna: b")


@given(st.text(max_size=300))
def test_any_text_is_borne(text: str) -> None:
    parsed = parse_subject(text)
    assert version_key(parsed.version)
    assert isinstance(parsed.title, str)


@given(
    version=st.integers(1, 60),
    number=st.integers(0, 300),
    total=st.integers(1, 300),
    word=st.sampled_from(["PATCH", "patch", "PATCH RFC", "RFC PATCH", "PATCH RESEND", "list PATCH"]),
    letter=st.sampled_from("vV"),
    reply=st.sampled_from(["", "Re: ", "RE: ", "[list] Re: "]),
)
def test_what_was_written_is_read(
    version: int, number: int, total: int, word: str, letter: str, reply: str
) -> None:
    parsed = parse_subject(f"{reply}[{word} {letter}{version} {number:02}/{total}] accel/amdxdna: do it")
    assert (parsed.version, parsed.number, parsed.total) == (str(version), number, total)
    assert parsed.title == "accel/amdxdna: do it"
    assert parsed.reply == bool(reply)
