"""The table of broken environments: as few boots as can be, and a judgement that can say no."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.breakage import HEALTHY, ROWS, Breakage, Seen, boots, chosen
from harness.breakage_report import BEGIN, END, plain, put_into, seen_of, table, wrong
from harness.doctor import CHECKS, diagnose
from harness.doctor_facts import State
from harness.foreign_module import SIGNED, foreign
from harness.verdict import RunVerdict
from tests.harness.fakes import healthy_report


def seen(row: Breakage, **changes: object) -> Seen:
    """A look that said what it must."""
    right = Seen(
        row,
        "7.3.4",
        row.point if row.state is State.BAD else None,
        row.state.value,
        f"... {row.words} ...",
        "do this",
        row.verdict.value,
        f"... {row.reason} ...",
        (3, 3),
        (1.0, 2.0),
    )
    return replace(right, **changes)  # type: ignore[arg-type] # names of its own fields


def test_every_row_asks_for_a_point_that_the_doctor_has() -> None:
    points = {check.id for check in diagnose(healthy_report("n"), {}).checks}
    assert len(points) == len(CHECKS)
    for row in (HEALTHY, *ROWS):
        assert row.point in points | {"python"}
        assert row.words
        assert row.final or bool(row.do) == bool(row.undo), f"{row.name} is not undone"


def test_at_least_twelve_environments_and_none_blames_the_kernel() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS) >= 12
    assert {row.verdict for row in ROWS} == {RunVerdict.ENVIRONMENT, RunVerdict.PASS}


@pytest.mark.parametrize("kernel", [(6, 18), (7, 0), (7, 3)])
def test_rows_share_boots_and_what_cannot_be_undone_comes_last(kernel: tuple[int, int]) -> None:
    made = boots(ROWS, kernel)
    rows = [row for boot in made for row in boot.rows]
    assert sorted(row.name for row in rows) == sorted(row.name for row in ROWS if row.exists_on(kernel))
    for boot in made:
        assert {(row.append, row.protocol) for row in boot.rows} == {(boot.append, boot.protocol)}
        assert not any(row.final for row in boot.rows[:-1])
    finals = sum(row.final for row in rows)
    ways = len({(row.append, row.protocol) for row in rows})
    assert len(made) == ways + finals - 1, "no boot more than needed"


def test_a_look_is_right_only_when_both_name_it() -> None:
    row = next(row for row in ROWS if row.name == "not-loaded")
    assert seen(row).right
    for changes in (
        {"cause": "kernel"},
        {"cause": None},
        {"state": "warn"},
        {"said": "something else"},
        {"verdict": "fail"},
        {"reason": "something else"},
    ):
        bad = seen(row, **changes)
        assert not bad.right, changes
        assert wrong([bad])
    assert not wrong([seen(row)])


def test_a_warning_that_is_also_made_a_cause_is_wrong() -> None:
    row = next(row for row in ROWS if row.state is State.WARN)
    assert seen(row).right
    assert not seen(row, cause=row.point).right


def test_a_look_is_remembered_until_its_row_changes() -> None:
    look = seen(ROWS[0])
    assert seen_of(plain(look)) == look
    with pytest.raises(ValueError, match="changed"):
        seen_of({**plain(look), "key": "7.3.4 not-loaded 000000000000"})


def test_the_table_replaces_itself_and_says_what_is_wrong() -> None:
    looks = [seen(ROWS[0]), seen(ROWS[1], verdict="fail"), seen(ROWS[2], cause=None)]
    section = table(looks, {"7.3.4": (7, 3)}, command="c", machine="m", date="2026-11-25")
    assert "1 of 3" in section
    assert "**wrong** (run: fail)" in section
    assert "**wrong** (doctor: no cause" in section
    assert "does not exist here" in section, "new-firmware-only"
    page = f"head\n{BEGIN}\nold\n{END}\ntail\n"
    once = put_into(page, section)
    assert once.startswith("head\n")
    assert once.endswith("tail\n")
    assert "old" not in once
    assert put_into(once, section) == once
    with pytest.raises(ValueError, match="no line"):
        put_into("no marks", section)


def test_names_choose_rows() -> None:
    assert [row.name for row in chosen(["memlock"])] == ["memlock"]
    assert chosen([]) == list(ROWS)
    with pytest.raises(ValueError, match="there are not-loaded"):
        chosen(["nonsense"])


def test_a_module_becomes_somebody_elses() -> None:
    signature = b"s" * 100
    whole = b"ELF intree=Y end" + signature + bytes(8) + (100).to_bytes(4, "big") + SIGNED
    assert foreign(whole, b"intree=Y", b"outree=Y") == b"ELF outree=Y end"
    assert foreign(b"ELF intree=Y end", b"intree=Y", b"outree=Y") == b"ELF outree=Y end"
    for old, new in ((b"absent", b"ABSENT"), (b"intree=Y", b"short"), (b"n", b"m")):
        with pytest.raises(ValueError, match="wanted once"):
            foreign(whole, old, new)
