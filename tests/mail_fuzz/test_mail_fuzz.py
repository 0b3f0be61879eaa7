"""The fuzz job in small: what it finds is found again, and a planted fault does not pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mail_fuzz import __main__ as job
from tests.mail_fuzz import check
from tests.mail_fuzz.mutate import mutated
from tests.mail_fuzz.shapes import corpus, own_shapes
from tracker.mail.message import parse_mail


@pytest.fixture(autouse=True)
def _own_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDNAWATCH_REAL_DATA", raising=False)


def test_a_number_names_a_mail_for_ever() -> None:
    mails = corpus()
    first = [mutated(7, number, mails) for number in range(200)]
    assert first == [mutated(7, number, corpus()) for number in range(200)]
    assert len(set(first)) > 190
    assert first != [mutated(8, number, mails) for number in range(200)]


def test_the_shapes_are_of_every_kind() -> None:
    kinds = {parse_mail(raw).kind for raw in own_shapes()}
    assert kinds == {"patch", "cover", "stable", "pull", "applied", "reply", "other"} - {"cover"}
    texts = [parse_mail(raw) for raw in own_shapes()]
    assert sum(bool(mail.diff.files) for mail in texts) >= 18


def test_some_hundred_mails_keep_the_promises() -> None:
    mails = corpus()
    assert [
        problem for number in range(400) if (problem := job.run_one(mutated(3, number, mails), number))
    ] == []


def test_a_fault_is_found_kept_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The workers are forked, so a fault that is planted here is in them too."""

    def faulty(raw: bytes) -> object:
        if b"Fixes:" in raw:
            raise IndexError("planted")
        return check.check_mail(raw)

    monkeypatch.setattr(job, "check_mail", faulty)
    mails = corpus()
    bad = [number for number in range(60) if b"Fixes:" in mutated(5, number, mails)]
    assert bad
    assert job.fuzz(5, 0, 60, 2, tmp_path) == len(bad)
    said = capsys.readouterr().out
    assert all(f"--seed 5 --show {number} " in said for number in bad)
    assert "IndexError: planted" in said
    assert (tmp_path / f"5-{bad[0]}.eml").read_bytes() == mutated(5, bad[0], mails)
