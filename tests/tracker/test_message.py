"""Bytes -> Mail: coding, parts, kinds, damage."""

from __future__ import annotations

import base64
import quopri
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.applied import parse_applied
from tracker.mail.body import linked_messages, split_patch, upstream_commit
from tracker.mail.headers import parse_address, parse_date, read_head
from tracker.mail.message import MAX_HTML, MAX_MAIL, parse_mail

MailMaker = Callable[..., bytes]


def test_headers_are_unfolded_and_decoded() -> None:
    head = read_head(
        b"Received: from x\nSubject: =?utf-8?q?accel/amdxdna=3A_M=C3=A4?=\n =?UTF-8?B?cno=?= end\n"
        b'From: "Ma\xc3\xadra (X)" <M@Example.org>\nMessage-Id: <a@b>\n'
        b"References: <r1@x>\n\t<r2@x>\nIn-Reply-To: <r2@x>\nDate: Thu, 11 Dec 2025 09:58:00 -0800\n\nbody"
    )
    assert head.subject == "accel/amdxdna: März end"
    assert (head.author.name, head.author.email) == ("Maíra (X)", "m@example.org")
    assert head.references == ("r1@x", "r2@x")
    assert head.parents == ("r2@x", "r1@x")
    assert head.date == datetime(2025, 12, 11, 17, 58, tzinfo=UTC)


def test_a_header_name_inside_the_body_is_no_header() -> None:
    assert read_head(b"From: a <a@b>\n\nSubject: not this\n").subject == ""


@pytest.mark.parametrize(
    ("text", "name", "email"),
    [
        ("Ada <ada@x.org>", "Ada", "ada@x.org"),
        ('"Hou, Lizhi" <Lizhi.Hou@amd.com>', "Hou, Lizhi", "lizhi.hou@amd.com"),
        ("ada@x.org", "", "ada@x.org"),
        ("=?utf-8?q?Ilpo_J=C3=A4rvinen?= <i@x.org>", "Ilpo Järvinen", "i@x.org"),
        ("nobody", "nobody", ""),
    ],
)
def test_addresses(text: str, name: str, email: str) -> None:
    assert (parse_address(text).name, parse_address(text).email) == (name, email)


@pytest.mark.parametrize(
    "text", ["Mon, 32 Jan 2026 00:00:00 +0000", "yesterday", "", "Mon, 1 Jan 99999 00:00:00 +0000"]
)
def test_a_date_that_is_none_is_none(text: str) -> None:
    assert parse_date(text) is None


@pytest.mark.parametrize("coding", ["base64", "quoted-printable", "8bit"])
def test_every_transfer_encoding_gives_the_same_diff(
    coding: str, mail: MailMaker, driver_diff: Callable[..., str]
) -> None:
    plain = mail("[PATCH] accel/amdxdna: x", body="Text with ä.\n", diff=driver_diff())
    head, _, body = plain.partition(b"\n\n")
    coded = {"base64": base64.encodebytes(body), "quoted-printable": quopri.encodestring(body), "8bit": body}
    raw = (
        head
        + f"\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: {coding}\n\n".encode()
        + coded[coding]
    )
    assert parse_mail(raw).diff.patch_id == parse_mail(plain).diff.patch_id
    assert parse_mail(raw).diff.patch_id is not None
    assert parse_mail(raw.replace(b"\n", b"\r\n")).diff.patch_id == parse_mail(plain).diff.patch_id


def test_a_patch_in_a_part_is_read_and_html_is_only_the_last_resort(
    mail: MailMaker, driver_diff: Callable[..., str]
) -> None:
    parts = (
        "--B\nContent-Type: text/html\n\n<p>words</p>\n"
        "--B\nContent-Type: multipart/alternative; boundary=C\n\n"
        f"--C\nContent-Type: text/plain; charset=utf-8\n\nwords\n{driver_diff()}\n--C--\n--B--\n"
    )
    raw = mail("[PATCH] x", headers=['Content-Type: multipart/mixed; boundary="B"'], body=parts)
    assert parse_mail(raw).diff.paths == ("drivers/accel/amdxdna/aie2_ctx.c",)
    html = mail(
        "x", headers=["Content-Type: text/html"], body="<p>only &lt;this&gt;</p><script>no()</script>"
    )
    assert "only <this>" in parse_mail(html).body


def test_in_body_from_message_remarks_and_trailers() -> None:
    text = split_patch(
        'From: Real Author <real@x.org>\n\nDo it.\n\nFixes: 123456789012 ("x")\n'
        "Reviewed-by: R <r@x.org>\n---\nv2: new\n\ndiff --git a/x b/x\n"
    )
    assert text.author is not None
    assert text.author.email == "real@x.org"
    assert text.message.startswith("Do it.")
    assert text.remarks.strip() == "v2: new"
    assert dict(text.trailers) == {"Fixes": '123456789012 ("x")', "Reviewed-by": "R <r@x.org>"}


def test_a_quoted_line_glued_to_a_tag_is_not_part_of_it(mail: MailMaker) -> None:
    body = (
        "Reviewed-by: R (AMD) <r@x.org>> ---\n>  drivers/x.c | 2 +-\nTested-by: T <t@x.org> # a >>big<< box\n"
    )
    raw = mail("Re: [PATCH] accel/amdxdna: x", body=body)
    assert parse_mail(raw).trailers == (
        ("Reviewed-by", "R (AMD) <r@x.org>"),
        ("Tested-by", "T <t@x.org> # a >>big<< box"),
    )


def test_quoted_trailers_and_diffs_are_nobodys(mail: MailMaker) -> None:
    raw = mail("Re: [PATCH] x", answers="one@x", body="> Reviewed-by: A <a@x>\n> diff --git a/x b/x\nno\n")
    assert parse_mail(raw).trailers == ()
    assert parse_mail(raw).kind == "reply"


@pytest.mark.parametrize(
    ("subject", "body", "kind"),
    [
        ("[PATCH] x", "text", "patch"),
        ("[PATCH 0/2] x", "text", "cover"),
        ("[PATCH 6.18 1/600] x", "text", "stable"),
        (
            "[PATCH] x",
            "commit 1111111111111111111111111111111111111111 upstream.\n\ndiff --git a/x b/x\n",
            "stable",
        ),
        ("[GIT PULL] x", "text", "pull"),
        ("Re: [PATCH] x", "Looks odd to me.", "reply"),
        ("Re: [PATCH] x", "Applied to drm-misc-next.", "applied"),
        ("Re: [PATCH] x", "I tried it on my machine.\n\n> Applied to drm-misc-next.", "reply"),
        ("Linux 7.1", "text", "other"),
    ],
)
def test_kinds(subject: str, body: str, kind: str, mail: MailMaker) -> None:
    assert parse_mail(mail(subject, body=body)).kind == kind


def test_damage_is_named_and_the_mail_is_kept(mail: MailMaker) -> None:
    nameless = parse_mail(mail("[PATCH] x", message_id=None))
    assert nameless.message_id.endswith("@missing")
    assert nameless.corrupted is not None
    assert "Message-ID" in nameless.corrupted
    assert parse_mail(mail("[PATCH] x", message_id=None)).message_id == nameless.message_id
    broken = parse_mail(mail("x", headers=["Content-Transfer-Encoding: base64"], body="abcde!\n"))
    assert broken.corrupted is not None
    huge = parse_mail(mail("[PATCH] accel/amdxdna: x") + b"x" * MAX_MAIL)
    assert huge.corrupted is not None
    assert huge.head.subject == "[PATCH] accel/amdxdna: x"
    assert huge.body == ""


@pytest.mark.parametrize(
    "raw",
    [
        b"Subject: " + b"[" * 100_000,
        b"Subject: x\nReferences: " + b"<a@b> " * 100_000,
        b"From: a\n\n" + b"\n" * 1_000_000,
        b"From: a\n\n" + b"--- \n" * 200_000,
        b"From: a\nSubject: Re: x\n\n" + b"[1/1] x\n" * 100_000,
        b"From: a\nSubject: Re: x\n\napplied " + b"x " * 500_000,
        b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n" * 200_000,
        b"From: a\nSubject: [PATCH] x\n\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n" * 5_000,
        b"From: a\n" + b" folded\n" * 200_000,
        b"Subject: =?utf-8?q?" + b"=41" * 100_000 + b"?=\n\n",
    ],
    ids=["brackets", "references", "newlines", "cuts", "lists", "applied", "parts", "diffs", "folds", "word"],
)
def test_hostile_mails_cost_little(raw: bytes) -> None:
    start = time.process_time()
    mail = parse_mail(raw)
    parse_applied(mail.body)
    assert mail.kind
    assert mail.diff is not None
    assert time.process_time() - start < 5.0


def test_comments_in_comments_of_an_address_are_no_endless_ladder() -> None:
    """Found by tests/mail_fuzz: the email package calls itself for each "(" inside a "("."""
    mail = parse_mail(b"From: a (" + b"(" * 1500 + b" <a@b.org>\nSubject: [PATCH] x\n\nbody\n")
    assert mail.head.author.email == "a@b.org"
    assert parse_address("ada@x.org (Ada)").name == "Ada"


def test_an_endless_page_of_html_is_cut_and_says_so() -> None:
    """Found by tests/mail_fuzz: tags inside tags cost milliseconds a kilobyte."""
    mail = parse_mail(
        b"From: a@b.org\nMessage-ID: <h@b.org>\nContent-Type: text/html\n\n" + b"x y " * 100_000
    )
    assert MAX_HTML - 10 < len(mail.body) <= MAX_HTML
    assert mail.corrupted == f"its HTML is longer than {MAX_HTML} characters and was cut"


@given(st.binary(max_size=2000))
def test_any_bytes_are_borne(raw: bytes) -> None:
    mail = parse_mail(raw)
    assert mail.message_id
    assert mail.kind
    assert mail.diff is not None
    assert mail.trailers is not None


def test_links_of_all_hosts_name_a_message() -> None:
    text = (
        "Link: https://lore.kernel.org/r/a@x\nLink: https://patch.msgid.link/b@x\n"
        "https://lore.kernel.org/dri-devel/c@x/T/#u and https://lkml.kernel.org/r/d%40x."
        " https://lore.kernel.org/all/e@x/ https://example.org/f@x"
    )
    assert linked_messages(text) == ("a@x", "b@x", "c@x", "d@x", "e@x")


def test_upstream_ids() -> None:
    sha = "a" * 40
    assert upstream_commit(f"[ Upstream commit {sha} ]\n\ntext") == sha
    assert upstream_commit(f"commit {sha} upstream.\n\ntext") == sha
    assert upstream_commit(f"text\n(cherry picked from commit {sha})") == sha
    assert upstream_commit(f"This was broken by commit {sha} upstream of here") is None


def test_applied_lists_and_sentences() -> None:
    notice = parse_applied(
        "Thank you, pushed to the review-ilpo-fixes branch. List:\n[1/2] a: long title\n      that goes on\n"
        "      commit: 5ae9382ac3c56d044ed065d0ba6d8c42139a8f98\n[2/2] b: other\n"
        "      https://git.kernel.org/x/c/1111111111112222\n> [3/3] c\n>       commit: 222222222222\n"
    )
    assert notice.tree == "review-ilpo-fixes"
    assert [(e.number, e.title, e.sha[:12]) for e in notice.entries] == [
        (1, "a: long title that goes on", "5ae9382ac3c5"),
        (2, "b: other", "111111111111"),
    ]
    assert parse_applied("Applied to drm-misc-next.\n\nThanks").tree == "drm-misc-next"
    assert parse_applied("Fine with me.").tree is None
