"""Text from a machine can be stored, printed and put on a page, whatever it was."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from harness.untrusted import clean, clean_bytes, clean_values

any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=300)


@example("a lone surrogate \ud800 from a JSON escape", 100)
@given(any_text, st.integers(60, 400))
def test_cleaned_text_is_bounded_printable_and_encodable(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    assert len(cleaned) <= limit
    cleaned.encode("utf-8")
    assert not any(ord(c) < 32 and c not in "\t\n" for c in cleaned)
    assert not set(cleaned) & set("\x7f\x9b\u202e\u2066")
    assert clean(cleaned, limit) == cleaned


def test_what_is_cut_is_said() -> None:
    assert clean("x" * 1000, 100).endswith("characters cut]")
    assert clean("short", 100) == "short"


@given(st.binary(max_size=500))
def test_any_bytes_become_text(data: bytes) -> None:
    clean_bytes(data, 100).encode("utf-8")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | any_text,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
        max_leaves=20,
    )
)
def test_any_value_becomes_json_that_databases_take(value: Any) -> None:
    cleaned = clean_values({"value": value})
    text = json.dumps(cleaned, allow_nan=False)
    assert json.loads(text) == cleaned


def test_too_much_is_replaced_by_its_size() -> None:
    assert list(clean_values({"a": ["x" * 1000] * 100})) == ["too-large"]
    assert clean_values("no object") == {}
    assert clean_values({"big": 2**70}) == {"big": hex(2**70)}
