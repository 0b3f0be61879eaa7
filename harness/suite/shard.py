"""A part of the suite: `-p harness.suite.shard --shard=2/3` keeps the second of three parts.

A test's part depends on its name alone, so that a new test moves no other: two machines that run 1/2 and 2/2
of one suite have run all of it, also while one of them resumes.
"""

from __future__ import annotations

import zlib

import pytest


def part_of(test: str, parts: int) -> int:
    """Which of ``parts`` (1...) a test belongs to; parametrised tests are spread over them."""
    return zlib.crc32(test.encode()) % parts + 1


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shard", default="1/1", metavar="I/N", help="only the Ith of N parts")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is not of this part; tests keep their order."""
    part, parts = (int(word) for word in str(config.getoption("--shard")).split("/"))
    mine = [item for item in items if part_of(item.nodeid, parts) == part]
    others = [item for item in items if part_of(item.nodeid, parts) != part]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = mine
