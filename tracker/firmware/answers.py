"""The firmware answers: rows in, `tracker.firmware.needs`, rows out, and read again. The edge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from db.around_tables import DriverRelease, FirmwareNeed, FirmwareStep
from db.database import Database
from db.git_tables import Tree
from db.mail_tables import Source
from tracker.calendar import parse_tag
from tracker.firmware.needs import Kernel, Known, Need, needs


@dataclass(frozen=True)
class FirmwareAnswer:
    """Every name with its verdict, and the steps of the firmware tree, the latest first."""

    needs: tuple[Need, ...]
    steps: tuple[Known, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; dates in ISO 8601."""
        return {
            "needs": [_plain(asdict(one)) for one in self.needs],
            "steps": [_plain(asdict(one)) for one in self.steps],
        }


def derive_needs(connection: Connection) -> int:
    """Compute the needs of the records and of the sample and replace those of before."""
    connection.execute(delete(FirmwareNeed))
    rows: list[dict[str, Any]] = []
    for sample in (False, True):
        kernels = list(read_kernels(connection, sample=sample))
        history = list(read_steps(connection, sample=sample))
        for one in needs(kernels, history, followed=bool(history)):
            values = {**asdict(one), "generations": list(one.generations)}
            rows.append({**values, "position": len(rows), "sample": sample})
    if rows:
        connection.execute(insert(FirmwareNeed), rows)
    return len(rows)


def firmware_answer(
    database: Database, name: str | None = None, *, verdict: str | None = None
) -> FirmwareAnswer:
    """The stored answer. ``name``: part of a firmware name or of a file."""
    with database.engine.connect() as connection:
        rows = connection.execute(select(FirmwareNeed.__table__).order_by(FirmwareNeed.position)).mappings()
        found = [
            Need(
                **{key: row[key] for key in Need.__dataclass_fields__ if key != "generations"},
                generations=tuple(row["generations"]),
            )
            for row in rows
        ]
        history = [*read_steps(connection, sample=False), *read_steps(connection, sample=True)]

    def fits(path: str, file: str | None) -> bool:
        return name is None or name in path or name in (file or "")

    return FirmwareAnswer(
        tuple(
            one for one in found if fits(one.path, one.file) and (verdict is None or one.verdict == verdict)
        ),
        tuple(one for one in reversed(history) if fits(one.path, one.file)),
    )


def read_kernels(connection: Connection, *, sample: bool) -> Iterable[Kernel]:
    """The tagged kernels of mainline and the stable branches, each tag once."""
    seen: set[str] = set()
    rows = connection.execute(
        select(DriverRelease.tag, DriverRelease.date, DriverRelease.firmware, DriverRelease.loads)
        .join(Tree, Tree.id == DriverRelease.tree_id)
        .join(Source, Source.id == Tree.source_id)
        .where(Source.sample == sample)
        .order_by(DriverRelease.id)
    )
    for tag, date, firmware, loads in rows:
        if tag not in seen and parse_tag(tag) is not None:
            seen.add(tag)
            pairs = frozenset(
                (str(generation), str(name)) for generation, names in loads.items() for name in names
            )
            yield Kernel(tag, date, frozenset(map(str, firmware)), pairs)


def read_steps(connection: Connection, *, sample: bool) -> Iterable[Known]:
    """The history of the firmware trees, the oldest first."""
    rows = connection.execute(
        select(
            FirmwareStep.path,
            FirmwareStep.what,
            FirmwareStep.file,
            FirmwareStep.version,
            FirmwareStep.tag,
            FirmwareStep.tag_date,
            FirmwareStep.date,
        )
        .join(Tree, Tree.id == FirmwareStep.tree_id)
        .join(Source, Source.id == Tree.source_id)
        .where(Source.sample == sample)
        .order_by(FirmwareStep.tree_id, FirmwareStep.position)
    )
    for path, what, file, version, tag, tag_date, date in rows:
        yield Known(path, what, file, version, tag, tag_date or date)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in values.items()}
