"""A revert's verdict about the user interface: what no release had may be taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from db.database import Database
from tracker.abi import AbiAnswer, abi

UAPI = "include/uapi/drm/amdxdna_accel.h"
BEFORE = "#define AMDXDNA_OLD 1\n"
AFTER = BEFORE + "#define AMDXDNA_NEW 2\n"


@pytest.fixture
def reverted(kernel: Any, read: Callable[..., None], database: Database) -> Callable[..., AbiAnswer]:
    """The answer about a revert: reverted(tags between the commit and it, what it leaves of the header)."""

    def make(tags: tuple[str, ...], left: str) -> AbiAnswer:
        kernel.commit("Add the header", file=UAPI, content=BEFORE)
        kernel.tag("v7.1")
        first = kernel.commit("Add NEW", file=UAPI, content=AFTER)
        for name in tags:
            kernel.tag(name)
        text = f"This reverts commit {first}.\n"
        kernel.commit('Revert "accel/amdxdna: Add NEW"', text, file=UAPI, content=left)
        kernel.tag("v7.3-rc1" if "v7.2" in tags else "v7.2-rc3")
        read([])
        return abi(database, 'Revert "accel/amdxdna: Add NEW"')

    return make


def test_what_came_in_the_same_window_is_taken_back(reverted: Callable[..., AbiAnswer]) -> None:
    found = reverted(("v7.2-rc1",), BEFORE).touches
    assert found.verdict == "compatible"
    (one,) = found.uapi
    assert (one.name, one.what) == ("AMDXDNA_NEW", "removed")
    assert "brought in 7.2" in one.reason


def test_what_a_release_had_is_missed(reverted: Callable[..., AbiAnswer]) -> None:
    found = reverted(("v7.2-rc1", "v7.2"), BEFORE).touches
    assert found.verdict == "breaking"
    assert "from 7.2 until 7.3" in found.uapi[0].reason


def test_what_the_original_never_touched_stays_as_it_reads(reverted: Callable[..., AbiAnswer]) -> None:
    found = reverted(("v7.2-rc1",), "\n").touches
    assert found.verdict == "breaking"
    assert {one.name: one.verdict for one in found.uapi} == {
        "AMDXDNA_NEW": "compatible", "AMDXDNA_OLD": "breaking",
    }  # fmt: skip
