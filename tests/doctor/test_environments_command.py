"""`xdnawatch matrix environments` without a guest: it resumes, judges, and writes its table into a page."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.breakage import HEALTHY, ROWS, Boot, Seen
from harness.breakage_report import BEGIN, END
from harness.broken_guest import BreakageError
from lab.machine import Candidate
from lab.packages.store import PackageStore
from tests.doctor.test_breakage import seen
from tests.harness.fakes import candidate
from xdnawatch.cli import app
from xdnawatch.cli import environments as command
from xdnawatch.errors import UsageError


class FakeGuest:
    """Says the right thing of every row, except where told otherwise; may break down before one."""

    def __init__(self) -> None:
        self.looked: list[str] = []
        self.boots = 0
        self.wrong: dict[str, dict[str, Any]] = {}
        self.breaks_before: str | None = None

    def go_through(
        self, _store: object, kernel: Candidate, boot: Boot, _suite: object, _folder: Path, **_more: object
    ) -> Iterator[Seen]:
        self.boots += 1
        for row in (HEALTHY, *boot.rows):
            if row.name == self.breaks_before:
                raise BreakageError("the guest broke down")
            self.looked.append(row.name)
            yield replace(seen(row), kernel=kernel.version, **self.wrong.get(row.name, {}))


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGuest:
    made = FakeGuest()

    @contextmanager
    def store(_app: Any) -> Iterator[PackageStore]:
        yield PackageStore(tmp_path / "cache", "http://127.0.0.1:9/nothing")

    monkeypatch.setattr(command, "go_through", made.go_through)
    monkeypatch.setattr(command, "open_store", store)
    monkeypatch.setattr(command, "stock_kernel", lambda _store, name: candidate(version=name))
    monkeypatch.setenv("XDNAWATCH_DATA", str(tmp_path / "data"))
    return made


def environments(*words: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run the command; exit code, rows, everything it said."""
    done = CliRunner().invoke(app, ["--quiet", "matrix", "environments", *words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    with contextlib.suppress(ValueError):
        return done.exit_code, json.loads(done.stdout), done.output
    return done.exit_code, [], done.output


def test_every_row_that_exists_on_a_kernel_is_looked_at_once(guest: FakeGuest) -> None:
    code, rows, said = environments("--kernel", "7.3.4", "--json")
    assert code == 0, said
    assert {row["row"] for row in rows} == {row.name for row in ROWS if row.exists_on((7, 3))}
    assert all(row["right"] for row in rows)
    boots = guest.boots
    code, again, _ = environments("--kernel", "7.3.4", "--json")
    assert (code, again) == (0, rows)
    assert guest.boots == boots, "nothing is booted twice"
    environments("--kernel", "7.3.4", "--only", "memlock", "--again", "--json")
    assert guest.boots == boots + 1


def test_what_was_looked_at_before_a_breakdown_is_kept(guest: FakeGuest) -> None:
    guest.breaks_before = "memlock"
    with pytest.raises(BreakageError):
        environments("--kernel", "7.3.4", "--json")
    before = set(guest.looked) - {"nothing"}
    assert before
    guest.breaks_before, guest.looked = None, []
    assert environments("--kernel", "7.3.4", "--json")[0] == 0
    assert not before & set(guest.looked), "the same command goes on where it was"
    assert "memlock" in guest.looked


def test_a_wrong_name_and_a_blamed_kernel_are_exit_code_1_and_said(guest: FakeGuest) -> None:
    guest.wrong = {"memlock": {"cause": "kernel"}}
    code, _, said = environments("--kernel", "7.3.4", "--only", "memlock")
    assert code == 1
    assert "memlock on 7.3.4: doctor's cause is kernel" in said
    guest.wrong = {}
    assert environments("--kernel", "7.3.4", "--only", "memlock")[0] == 0, "what was wrong is tried again"
    guest.wrong = {"no-device": {"verdict": "fail"}}
    code, _, said = environments("--kernel", "7.3.4", "--only", "no-device")
    assert code == 1
    assert "the run's verdict is fail" in said


def test_a_guest_that_was_not_well_to_begin_with_is_wrong_too(guest: FakeGuest) -> None:
    guest.wrong = {"nothing": {"verdict": "fail"}}
    assert environments("--kernel", "7.3.4", "--only", "memlock")[0] == 1


def test_the_table_goes_into_the_page(guest: FakeGuest, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    guest.wrong = {"memlock": {"verdict": "fail"}}
    environments("--kernel", "7.3.4", "--kernel", "7.0.13", "--write", str(page))
    text = page.read_text()
    assert "| kernel 7.3.4 | kernel 7.0.13 |" in text
    assert "(`not-loaded`) | `module` | bad; environment | bad; environment |" in text
    assert "**wrong** (run: fail)" in text
    assert "does not exist here" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    bare = tmp_path / "bare.md"
    bare.write_text("no marks\n")
    boots = guest.boots
    with pytest.raises(UsageError, match="no line"):
        environments("--kernel", "7.3.4", "--again", "--write", str(bare))
    assert (guest.boots, bare.read_text()) == (boots, "no marks\n"), "said before anything boots"


def test_an_unknown_row_lists_those_there_are(guest: FakeGuest) -> None:
    with pytest.raises(UsageError, match="memlock"):
        environments("--kernel", "7.3.4", "--only", "nonsense")
