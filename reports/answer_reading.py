"""Database -> the tracker's further answers, in a fixed number of queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import answer_tables as rows
from db.git_tables import Tree
from db.mail_tables import Source
from reports.answer_records import (
    Answers,
    BackportRecord,
    BranchRecord,
    BugRecord,
    CarrierRecord,
    ComingRecord,
    DatesRecord,
    KnownKernelRecord,
    Milestone,
    TouchedRecord,
)
from reports.versions import sort_key


def read_answers(session: Session) -> Answers:
    """Everything of ``db.answer_tables``."""
    carriers: dict[int, list[CarrierRecord]] = defaultdict(list)
    for one in session.scalars(select(rows.Carrier).order_by(rows.Carrier.position)):
        carriers[one.change_id].append(
            CarrierRecord(one.kind, one.name, one.carries, one.since, one.date, one.why)
        )
    outlooks = {one.name: one for one in session.scalars(select(rows.Outlook))}
    dates, backtest = outlooks.get("dates"), outlooks.get("backtest")
    return Answers(
        branches=_branches(session),
        backports=_backports(session),
        bugs=tuple(
            BugRecord(name, bug.fix_id, bug.cause, bug.since, bug.fixed)
            for bug, name in session.execute(
                select(rows.BackportBug, Tree.name)
                .join(Tree, Tree.id == rows.BackportBug.tree_id)
                .order_by(rows.BackportBug.id)
            )
        ),
        carriers={change: tuple(found) for change, found in carriers.items()},
        kernels=_kernels(session),
        touched={
            one.change_id: TouchedRecord(one.source, one.verdict, _objects(one.uapi), _objects(one.named))
            for one in session.scalars(select(rows.Touched))
        },
        coming={
            one.change_id: ComingRecord(Milestone.read(one.first), Milestone.read(one.release))
            for one in session.scalars(select(rows.Coming))
        },
        dates=_dates(dates.value) if dates is not None else None,
        backtest=dict(backtest.value) if backtest is not None else None,
        backtest_at=backtest.made_at if backtest is not None else None,
    )


def _branches(session: Session) -> tuple[BranchRecord, ...]:
    found = session.execute(
        select(rows.StableBranch, Tree.name, Source.sample)
        .join(Tree, Tree.id == rows.StableBranch.tree_id)
        .join(Source, Source.id == Tree.source_id)
    )
    branches = [
        BranchRecord(name, one.base, one.newest, one.newest_date, one.ended, sample)
        for one, name, sample in found
    ]
    return tuple(sorted(branches, key=lambda one: (sort_key(one.base), one.name), reverse=True))


def _backports(session: Session) -> tuple[BackportRecord, ...]:
    found = session.execute(
        select(rows.Backport, Tree.name)
        .join(Tree, Tree.id == rows.Backport.tree_id)
        .order_by(rows.Backport.id)
    )
    return tuple(
        BackportRecord(
            one.change_id,
            name,
            one.state,
            one.version,
            one.rule,
            one.score,
            tuple(str(line) for line in one.evidence or ()),
            one.inherited,
        )
        for one, name in found
    )


def _kernels(session: Session) -> tuple[KnownKernelRecord, ...]:
    entered: dict[tuple[int, str], list[int]] = defaultdict(list)
    for one in session.scalars(select(rows.KernelChange).order_by(rows.KernelChange.id)):
        entered[one.kernel_id, one.what].append(one.change_id)
    return tuple(
        KnownKernelRecord(
            one.kind,
            one.line,
            one.version,
            one.upstream,
            one.date,
            one.carried,
            one.unknown,
            one.sample,
            tuple(entered.get((one.id, "added"), ())),
            tuple(entered.get((one.id, "removed"), ())),
        )
        for one in session.scalars(
            select(rows.KnownKernel).order_by(rows.KnownKernel.line, rows.KnownKernel.position)
        )
    )


def _dates(stored: Mapping[str, Any]) -> DatesRecord:
    following = stored.get("following")
    days = stored.get("newest_days")
    stones = [Milestone.read(one) for one in following] if isinstance(following, list) else []
    return DatesRecord(
        str(stored.get("today") or ""),
        str(stored.get("newest") or ""),
        tuple(map(str, days)) if isinstance(days, list) else (),
        bool(stored.get("stale")),
        float(stored.get("rc8") or 0.0),
        float(stored.get("next_is_final") or 0.0),
        tuple(stone for stone in stones if stone is not None),
    )


def _objects(stored: Any) -> tuple[Mapping[str, Any], ...]:
    return tuple(dict(one) for one in stored or () if isinstance(one, dict))
