"""The table of known log lines: data in ``data/signatures.json``, checked when it is read.

Each entry was seen in a report or read in the driver's source (``source``), and carries one line that it
must match. The first entry that matches names a line. Classes and severities are words of this project.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harness.errors import SignatureError

SCHEMA = 1
CLASSES = frozenset(
    {
        "abi", "context", "driver", "fault", "firmware", "hang", "hw", "info", "iommu", "mailbox",
        "model-gap", "module", "oops", "platform", "pm", "power", "resource", "sensors", "suspect",
    }
)  # fmt: skip
SEVERITIES = frozenset(
    {
        "ok", "info", "reject", "unsupported", "warning", "degraded", "timeout", "cmd-timeout", "create-fail",
        "open-fail", "load-fail", "probe-fail", "suspend-abort", "resume-fail", "crash", "panic",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Signature:
    """One kind of log line. ``environment``: it never speaks against the kernel."""

    id: str
    klass: str
    severity: str
    pattern: re.Pattern[str]
    environment: bool
    cause: str
    next_step: str
    source: str
    example: str


@lru_cache(maxsize=1)
def known_signatures() -> tuple[Signature, ...]:
    """The project's own table, in order. Raises SignatureError when the data file is wrong."""
    text = importlib.resources.files("harness").joinpath("data/signatures.json").read_text("utf-8")
    return parse_signatures(json.loads(text))


def parse_signatures(document: Mapping[str, Any]) -> tuple[Signature, ...]:
    """A table from its JSON form. Raises SignatureError naming the entry and what is wrong with it."""
    if document.get("schema") != SCHEMA:
        raise SignatureError(f"signatures: schema {document.get('schema')!r}, this program reads {SCHEMA}")
    found: list[Signature] = []
    for entry in document["signatures"]:
        signature = _signature(entry)
        if signature.id in {other.id for other in found}:
            raise SignatureError(f"signature {signature.id}: the name is used twice")
        found.append(signature)
    for signature in found:
        first = next((other for other in found if other.pattern.search(signature.example)), None)
        if first is not signature:
            taken = f"taken by {first.id}" if first else "not matched by its own expression"
            raise SignatureError(f"signature {signature.id}: its example is {taken}")
    return tuple(found)


def _signature(entry: Mapping[str, Any]) -> Signature:
    name = str(entry.get("id"))
    try:
        signature = Signature(
            id=name,
            klass=entry["klass"],
            severity=entry["severity"],
            pattern=re.compile(entry["regex"]),
            environment=bool(entry["environment"]),
            cause=entry["cause"],
            next_step=entry["next_step"],
            source=entry["source"],
            example=entry["example"],
        )
    except (KeyError, re.error) as error:
        raise SignatureError(f"signature {name}: {error!r}") from error
    if signature.klass not in CLASSES:
        raise SignatureError(f"signature {name}: unknown class {signature.klass!r}")
    if signature.severity not in SEVERITIES:
        raise SignatureError(f"signature {name}: unknown severity {signature.severity!r}")
    return signature
