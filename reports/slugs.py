"""Names of pages. Nothing from outside becomes a path as it is.

A name is stable: it depends on the thing alone, never on what else is in the database, so a link in a
mail stays good. Names that had to be altered end in eight hex digits of the SHA-256 of the original.
"""

from __future__ import annotations

import hashlib
import re

# "7.3.4", "virtual-npu4", "20261123T143000-ab12cd"
_PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,78}[A-Za-z0-9]|[A-Za-z0-9]", re.ASCII)
# the query file's aie_version test: "test_query.py::test_aie_version"
_TEST = re.compile(r"test_([a-z0-9_]{1,40})\.py::test_([a-z0-9_]{1,60})", re.ASCII)
_ALTER = re.compile(r"[^a-z0-9]+")
RESERVED = frozenset({"index"})


def slug(name: str) -> str:
    """A page name for any text: itself where that is harmless, else an altered form with a digest."""
    if _PLAIN.fullmatch(name) and name.lower() not in RESERVED and not name.endswith((".html", ".json")):
        return name
    return _altered(name)


def slug_of_test(test: str) -> str:
    """``test_query.py::test_aie_version`` -> ``query.aie_version``; any other id gets a digest."""
    found = _TEST.fullmatch(test)
    return f"{found[1]}.{found[2]}" if found else _altered(test)


def _altered(name: str) -> str:
    readable = _ALTER.sub("-", name.lower()).strip("-")[:48].strip("-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{readable}-{digest}" if readable else digest
