"""Of which facts, rules and day the stored answers are: what has not changed need not be derived again.

A fingerprint is taken of everything that deriving reads, without reading it: mails come and stay, and what
else a source says is replaced in the transaction that moves its cursor. The mark is taken away in the first
transaction of a derivation and set in its last, so that answers of which only a half was written are never
taken for whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from db.answer_tables import Outlook
from db.around_tables import Cve, DriverRelease, FirmwareStep, UserspaceRelease
from db.database import NEWEST
from db.distribution_tables import ListedTitle, Upload
from db.git_tables import Commit, Landing, Tag, Tree
from db.mail_tables import Message, Source
from tracker.settings import DriverProfile

NAME = "derived"  # its row among the answers that are whole
#: What sources say.
FACTS = (
    Message, Commit, Landing, Tag, Upload, ListedTitle, Cve, FirmwareStep, DriverRelease, UserspaceRelease,
)  # fmt: skip
_RULES = (".py", ".json")
# Of a list's cursor: how far it was read. It moves with the server's clock, also when no mail came.
_READ_TO = ("position", "passed")


@dataclass(frozen=True)
class DeriveReport:
    """How much there is after deriving. ``unchanged``: nothing had come, and the answers were left."""

    series: int
    changes: int
    matches: int
    commits: int
    unchanged: bool = False

    def to_json(self) -> dict[str, int]:
        """For ``--json``."""
        return {
            "series": self.series,
            "changes": self.changes,
            "matches": self.matches,
            "commits": self.commits,
            "unchanged": self.unchanged,
        }


def fingerprint(connection: Connection, profile: DriverProfile, now: datetime) -> str:
    """The same for the same facts, settings, rules and day (UTC: forecasts and states depend on it)."""
    digest = hashlib.sha256()
    for part in _parts(connection, profile, now):
        digest.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def still_whole(connection: Connection, mark: str) -> DeriveReport | None:
    """What the last derivation made, if it was of this fingerprint and came to its end, else None."""
    found = connection.execute(select(Outlook.value).where(Outlook.name == NAME)).scalar_one_or_none()
    if found is None or found.get("fingerprint") != mark:
        return None
    made = found["report"]
    return DeriveReport(made["series"], made["changes"], made["matches"], made["commits"], unchanged=True)


def forget(connection: Connection) -> None:
    """The answers are about to change."""
    connection.execute(delete(Outlook).where(Outlook.name == NAME))


def remember(connection: Connection, mark: str, report: DeriveReport, now: datetime) -> None:
    """The answers are whole."""
    forget(connection)
    value = {"fingerprint": mark, "report": report.to_json()}
    connection.execute(insert(Outlook).values(name=NAME, made_at=now, value=value))


def _parts(connection: Connection, profile: DriverProfile, now: datetime) -> Iterator[Any]:
    yield [_rules(), NEWEST, now.date().isoformat(), profile.model_dump(mode="json")]
    sources = select(Source.id, Source.kind, Source.name, Source.location, Source.sample, Source.cursor)
    for *source, cursor in connection.execute(sources.order_by(Source.id)):
        yield [*source, {key: value for key, value in cursor.items() if key not in _READ_TO}]
    trees = select(Tree.id, Tree.name, Tree.role, Tree.source_id, Tree.head)
    for tree in connection.execute(trees.order_by(Tree.id)):
        yield list(tree)
    for table in FACTS:
        yield [table.__tablename__, *connection.execute(select(func.count(), func.max(table.id))).one()]
    # A mail that was cut off is replaced by a whole copy.
    damaged = select(func.count(), func.sum(func.length(Message.body))).where(Message.corrupted.is_not(None))
    yield list(connection.execute(damaged).one())
    # Pins are resolved after their release was stored, when another tree can tell.
    pins = select(UserspaceRelease.id, UserspaceRelease.pins).order_by(UserspaceRelease.id)
    for release in connection.execute(pins):
        yield list(release)


@cache
def _rules() -> str:
    """A digest of this program's rules and tables of facts: another version derives anew."""
    digest = hashlib.sha256()
    room = Path(__file__).parent
    for path in sorted(room.rglob("*")):
        if path.suffix in _RULES:
            digest.update(f"{path.relative_to(room)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
