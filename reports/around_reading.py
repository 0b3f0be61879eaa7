"""Database -> what surrounds the kernel, in a fixed number of queries."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import around_tables as rows
from db.git_tables import Commit, Tree
from db.mail_tables import Source
from reports.around_records import (
    Around,
    CheckRecord,
    CveRecord,
    FirmwareRecord,
    FirmwareStepRecord,
    TwinRecord,
    UserspaceRecord,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_around(session: Session) -> Around:
    """The derived rows of ``db.around_tables``, with the steps of the firmware trees."""
    needs = session.scalars(select(rows.FirmwareNeed).order_by(rows.FirmwareNeed.position))
    steps = session.execute(
        select(rows.FirmwareStep, Source.sample)
        .join(Tree, Tree.id == rows.FirmwareStep.tree_id)
        .join(Source, Source.id == Tree.source_id)
        .order_by(rows.FirmwareStep.date.desc(), rows.FirmwareStep.id.desc())
    )
    return Around(
        cves=_cves(session),
        firmware=tuple(
            FirmwareRecord(
                one.path,
                one.device,
                tuple(str(name) for name in one.generations or ()),
                one.first_kernel,
                one.last_kernel,
                one.version,
                one.since,
                one.since_date,
                one.verdict,
                one.why,
                one.sample,
            )
            for one in needs
        ),
        steps=tuple(
            FirmwareStepRecord(one.path, one.what, one.version, one.tag, one.tag_date or one.date, sample)
            for one, sample in steps
        ),
        twins=_twins(session),
        userspace=_userspace(session),
    )


def _cves(session: Session) -> tuple[CveRecord, ...]:
    checks: dict[int, list[rows.CveCheck]] = defaultdict(list)
    for check in session.scalars(
        select(rows.CveCheck).order_by(rows.CveCheck.cve_id, rows.CveCheck.position)
    ):
        checks[check.cve_id].append(check)
    found = []
    for one, sample in session.execute(
        select(rows.Cve, Source.sample).join(Source, Source.id == rows.Cve.source_id)
    ):
        own = checks.get(one.id, [])
        tied = next((check for check in own if check.change_id is not None), None)
        found.append(
            CveRecord(
                one.name,
                one.state,
                one.title,
                one.published,
                one.severity,
                tied.change_id if tied else None,
                tied.rule if tied else None,
                tied.score if tied else None,
                sample,
                tuple(CheckRecord(c.place, c.says, c.found, c.verdict, c.why) for c in own),
            )
        )
    return tuple(sorted(found, key=lambda cve: (cve.published or _EPOCH, cve.name), reverse=True))


def _twins(session: Session) -> tuple[TwinRecord, ...]:
    found = session.execute(
        select(
            rows.TwinPair,
            Tree.name,
            Commit.sha,
            Commit.title,
            Commit.author_name,
            Commit.commit_date,
            Source.sample,
        )
        .join(Commit, Commit.id == rows.TwinPair.commit_id)
        .join(Tree, Tree.id == rows.TwinPair.tree_id)
        .join(Source, Source.id == Tree.source_id)
        .order_by(Commit.commit_date.desc(), Commit.sha)
    )
    return tuple(
        TwinRecord(
            tree,
            sha,
            title,
            author,
            date,
            pair.status,
            pair.change_id,
            pair.rule,
            pair.score,
            pair.evidence,
            pair.first,
            pair.days,
            sample,
        )
        for pair, tree, sha, title, author, date, sample in found
    )


def _userspace(session: Session) -> tuple[UserspaceRecord, ...]:
    lacks: dict[int, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
    for fit in session.scalars(
        select(rows.UserspaceFit).order_by(rows.UserspaceFit.release_id, rows.UserspaceFit.position)
    ):
        if fit.verdict in ("whole", "lacks"):
            lacks[fit.release_id].append((fit.kernel, tuple(str(name) for name in fit.lacks)))
    found = session.execute(
        select(rows.UserspaceRelease, Tree.name, Source.sample)
        .join(Tree, Tree.id == rows.UserspaceRelease.tree_id)
        .join(Source, Source.id == Tree.source_id)
    )
    releases = [
        UserspaceRecord(
            tree,
            one.name,
            one.kind,
            one.commit_id,
            one.date,
            one.version,
            one.driver_version,
            tuple(
                f"{pin['tree']} {pin.get('release') or str(pin.get('commit'))[:12]}"
                for pin in one.pins
                if isinstance(pin, dict) and pin.get("tree")
            ),
            tuple(lacks[one.id]),
            sample,
        )
        for one, tree, sample in found
    ]
    return tuple(sorted(releases, key=lambda one: (one.date or _EPOCH, one.tree, one.name), reverse=True))
