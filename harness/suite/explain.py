"""What a failed assert compared: the values of its names, without rewriting the tests.

pytest rewrites every assert of a module before it runs, which in a simulated machine takes longer than thirty
tests. This looks at an assert only when it has failed: at the names and attributes in its source and their
values in its frame. Calls are not made again.
"""

from __future__ import annotations

import ast
import traceback
from collections.abc import Iterator
from functools import cache
from types import FrameType

VALUE_LIMIT = 160  # characters of one value
VALUES_LIMIT = 8


def explain(error: BaseException) -> str:
    """The failed assert and its values in one line, or nothing where the error has words of its own."""
    if not isinstance(error, AssertionError) or error.args or error.__traceback__ is None:
        return ""
    last = error.__traceback__
    while last.tb_next:
        last = last.tb_next
    found = traceback.extract_tb(last)[-1]
    for node in _asserts(found.filename):
        if node.lineno <= last.tb_lineno <= (node.end_lineno or node.lineno):
            values = dict(_values(node.test, last.tb_frame))
            listed = ", ".join(f"{name} = {value}" for name, value in list(values.items())[:VALUES_LIMIT])
            return f"assert {ast.unparse(node.test)}" + (f" where {listed}" if listed else "")
    return ""


@cache
def _asserts(path: str) -> tuple[ast.Assert, ...]:
    try:
        with open(path, encoding="utf-8") as source:  # noqa: PTH123 - a path as the traceback has it
            tree = ast.parse(source.read())
    except (OSError, SyntaxError):
        return ()
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Assert))


def _values(tree: ast.expr, frame: FrameType) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            try:
                value = _value(node, frame)
            except (LookupError, AttributeError):
                continue
            if not callable(value) and type(value).__name__ != "module":
                yield ast.unparse(node), _short(value)


def _value(node: ast.expr, frame: FrameType) -> object:
    if isinstance(node, ast.Name):
        return frame.f_locals[node.id]
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, frame), node.attr)
    raise LookupError


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= VALUE_LIMIT else text[:VALUE_LIMIT] + "..."
