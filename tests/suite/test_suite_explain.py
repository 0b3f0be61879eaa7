"""A failed assert says what it compared, and nothing is called a second time."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from harness.suite.explain import VALUE_LIMIT, explain

SOURCE = """
calls = []

def ask():
    calls.append(1)
    return "EINVAL"

class Thing:
    size = 8

def name(got):
    assert got == ask()

def attribute(thing):
    assert (
        thing.size
        == 4
    )

def long(text):
    assert not text

def words():
    assert False, "of its own"
"""


def module(folder: Path) -> ModuleType:
    """Asserts as the suite's are on a machine: not rewritten."""
    path = folder / "plain.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("plain_asserts", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def said(plain: ModuleType, function: str, *arguments: object) -> str:
    try:
        getattr(plain, function)(*arguments)
    except AssertionError as error:
        return explain(error)
    return "it held"


def test_names_and_their_values(tmp_path: Path) -> None:
    plain = module(tmp_path)
    assert said(plain, "name", "ok") == "assert got == ask() where got = 'ok'"
    assert plain.calls == [1]


def test_attributes_over_several_lines(tmp_path: Path) -> None:
    plain = module(tmp_path)
    assert said(plain, "attribute", plain.Thing()).startswith("assert thing.size == 4 where thing.size = 8")


def test_values_are_bounded(tmp_path: Path) -> None:
    assert len(said(module(tmp_path), "long", "x" * 5000)) < VALUE_LIMIT + 100


def test_words_of_its_own_are_kept(tmp_path: Path) -> None:
    assert said(module(tmp_path), "words") == ""
    assert explain(ValueError("no assert")) == ""
