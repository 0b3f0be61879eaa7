"""Releases parsed and ordered, the rows of the table chosen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.suite import releases
from harness.suite.releases import Level, Release, Row


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7.3.4+deb13-amd64", Release(7, 3, 4)),
        ("7.3.0-rc7-00012-gabcdef0", Release(7, 3, 0, 7)),
        ("7.3-rc7-amd64", Release(7, 3, 0, 7)),
        ("7.3~rc7", Release(7, 3, 0, 7)),
        ("6.18.44-fc-v669", Release(6, 18, 44)),
        ("7.0", Release(7, 0)),
    ],
)
def test_parse(text: str, expected: Release) -> None:
    assert releases.parse(text) == expected


@pytest.mark.parametrize("text", ["", "linux", "v7", "-7.3"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(releases.UnknownReleaseError, match="kernel release"):
        releases.parse(text)


def test_order() -> None:
    texts = [
        "6.14",
        "6.19.14",
        "7.0-rc1",
        "7.0-rc10",
        "7.0",
        "7.0.13",
        "7.1-rc1",
        "7.1.13",
        "7.3~rc7",
        "7.3.4",
    ]
    keys = [releases.parse(text).key for text in texts]
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("release", "points", "carried"),
    [
        ("7.3-rc1", ("7.3",), True),  # the merge window's work is in rc1
        ("7.2.12", ("7.3",), False),
        ("7.3-rc1", ("7.2.7", "7.3-rc2"), False),
        ("7.3-rc2", ("7.2.7", "7.3-rc2"), True),
        ("7.2.6", ("7.2.7", "7.3-rc2"), False),
        ("7.2.7", ("7.2.7", "7.3-rc2"), True),
        ("7.1.13", ("7.2.7", "7.3-rc2"), False),
        ("7.4.0", ("7.2.7", "7.3-rc2"), True),
        ("6.14", (), True),
    ],
)
def test_carries(release: str, points: tuple[str, ...], carried: bool) -> None:
    assert releases.carries(releases.parse(release), points) is carried


def _level(release: str, minor: int, generation: str = "npu4") -> Level:
    return Level(releases.parse(release), minor, generation)


@pytest.mark.parametrize(
    ("key", "level", "value"),
    [
        ("bo-usage", _level("7.0.13", 6), "EOPNOTSUPP"),
        ("bo-usage", _level("7.1.13", 8), "ok"),
        ("get-array", _level("6.17.13", 0), "EINVAL"),
        ("driver-minor", _level("6.19.14", 6), 6),
        ("driver-minor", _level("7.3.4", 10), 10),
        ("power-low-medium", _level("7.1.13", 8), "EOPNOTSUPP"),
        ("second-heap", _level("7.3.4", 10, "npu1"), "ENOSPC"),
        ("second-heap", _level("7.3.4", 10, "npu4"), "ok"),
    ],
)
def test_row_that_holds(key: str, level: Level, value: object) -> None:
    assert releases.expect(key, level).row.value == value


def test_driver_version_decides_over_the_release() -> None:
    """A module newer than its kernel brings its own features."""
    assert releases.expect("bo-usage", _level("7.0.13", 10)).row.value == "ok"


def test_a_fix_is_expected_before_it_came() -> None:
    """The test shall fail on a kernel without the fix, and the expectation says so."""
    old = releases.expect("short-info-buffer", _level("7.0.13", 6))
    new = releases.expect("short-info-buffer", _level("7.3.4", 10))
    assert (old.row.value, old.carried) == ("truncated", False)
    assert (new.row.value, new.carried) == ("truncated", True)
    assert old.plain()["since"] == ["7.1.5", "7.2"]


def test_feature_tells_until_when_the_old_behaviour_was_right() -> None:
    expectation = releases.expect("wait-cmd", _level("7.1.13", 8))
    assert expectation.plain() == {
        "key": "wait-cmd",
        "expected": "EINVAL",
        "kind": "initial",
        "carried": True,
        "since": [],
        "until": ["7.2"],
        "source": "",
    }


def test_table_is_in_order() -> None:
    """Rows of a key come in the order of their releases, so the last that holds is the newest."""
    for key, rows in releases.TABLE.items():
        assert rows, key
        newest = [max(releases._point(point) for point in row.since) for row in rows if row.since]
        assert newest == sorted(newest), key
        assert all(row.since and row.source for row in rows[1:]), key


@given(st.text(max_size=40))
def test_parse_never_fails_otherwise(text: str) -> None:
    try:
        release = releases.parse(text)
    except releases.UnknownReleaseError:
        return
    assert releases.parse(str(release)).key == release.key


def test_unknown_row_type_holds_by_default() -> None:
    assert Row("x").holds(_level("6.14", 0))
