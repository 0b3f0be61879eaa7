"""The further answers as rows (`db.answer_tables`), made anew at the end of a sync.

The edge: it asks the rules about every change at once and writes what they say in one transaction. The
commands may ask the same rules at any time; the site reads these rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from db import answer_tables as rows
from db.database import Database
from db.git_tables import Commit, Tag, Tree
from db.mail_tables import Change, Message, Patch, Source
from tracker import answers, outlook
from tracker.answer_rows import insert_rows
from tracker.answers import ChangeAnswer
from tracker.backtest import DateBacktest, WindowBacktest
from tracker.calendar import parse_tag
from tracker.known_kernels import Contents, Known, contents
from tracker.mail.body import split_patch
from tracker.stable import StableAnswer, stable
from tracker.taken_back import taken_back
from tracker.touches import Touches, touches
from tracker.where import Carrier, Reach, Shipped, answer, listed_updates, reach_of, shipped_kernels

Row = dict[str, Any]
MADE = (
    rows.StableBranch, rows.Backport, rows.BackportBug, rows.Carrier, rows.KernelChange, rows.KnownKernel,
    rows.Touched, rows.Coming,
)  # fmt: skip


def store_answers(database: Database, now: datetime) -> None:
    """Ask about every change and replace what was stored. The same facts and ``now`` give the same rows."""
    ports = stable(database, now=now)
    followed = frozenset(branch.base for branch in ports.branches)
    everything = answers.everything(database)
    with database.engine.connect() as connection:
        listed = listed_updates(connection)
        shipped = {sample: shipped_kernels(connection, sample=sample) for sample in (False, True)}
        kernels = _tagged(connection, ports) + [one for world in shipped for one in _uploaded(shipped, world)]
    of_change = defaultdict(list)
    for port in ports.backports:
        of_change[port.change].append(port)
    reaches: dict[bool, dict[str, Reach]] = {False: {}, True: {}}
    carriers: list[tuple[str, Carrier]] = []
    for found in everything:
        line = found.line
        reach = reach_of(found, of_change[line.slug], listed, followed)
        if reach.first is not None or reach.updates:
            reaches[line.sample][line.slug] = reach
        told = answer(found, reach, of_change[line.slug], shipped[line.sample])
        carriers += [(line.slug, one) for one in told.carriers]
    dates = outlook.dates(database, now)
    coming = outlook.coming(database, now)
    with database.engine.begin() as connection:
        for table in MADE:
            connection.execute(delete(table))
        ids = dict(connection.execute(select(Change.slug, Change.id)).all())
        _store_stable(connection, ports, ids)
        insert_rows(
            connection,
            rows.Carrier,
            (
                {"change_id": ids[slug], "position": position, **asdict(one)}
                for position, (slug, one) in enumerate(carriers)
            ),
        )
        for name in dict.fromkeys(one.line for one in kernels):
            own = [one for one in kernels if one.line == name]
            _store_kernels(connection, contents(own, reaches[own[0].sample]), ids)
        insert_rows(connection, rows.Touched, _touched(connection, everything, ids))
        insert_rows(
            connection,
            rows.Coming,
            (
                {
                    "change_id": ids[one.line.slug],
                    "first": outlook.milestone_json(one.first),
                    "release": outlook.milestone_json(one.release),
                }
                for one in coming
            ),
        )
        _store_outlook(connection, "dates", now, outlook.dates_json(dates))


def store_backtest(database: Database, dates: DateBacktest, windows: WindowBacktest, now: datetime) -> None:
    """Keep the scores of the replay of the shipped record, for the page of forecasts."""
    value = {
        "first": dates.first.isoformat(),
        "last": dates.last.isoformat(),
        "dates": [{**asdict(one), "rate": one.rate, "peer_rate": one.peer_rate} for one in dates.scores],
        "inside": asdict(dates.inside),
        "rc8": asdict(dates.rc8),
        "windows": [asdict(one) for one in windows.scores],
        "right": asdict(windows.right),
        "misses": len(windows.misses),
    }
    with database.writer("track backtest"), database.engine.begin() as connection:
        _store_outlook(connection, "backtest", now, value)


def _store_outlook(connection: Connection, name: str, now: datetime, value: Row) -> None:
    connection.execute(delete(rows.Outlook).where(rows.Outlook.name == name))
    connection.execute(insert(rows.Outlook).values(name=name, made_at=now, value=value))


def _store_stable(connection: Connection, found: StableAnswer, ids: dict[str, int]) -> None:
    trees = dict(connection.execute(select(Tree.name, Tree.id)).all())
    insert_rows(
        connection,
        rows.StableBranch,
        (
            {
                "tree_id": trees[one.name],
                "base": one.base,
                "newest": one.newest,
                "newest_date": one.newest_date,
                "ended": one.name in found.ended,
            }
            for one in found.branches
        ),
    )
    insert_rows(
        connection,
        rows.Backport,
        (
            {
                "change_id": ids[one.change],
                "tree_id": trees[one.branch],
                "state": one.state,
                "version": one.version,
                "rule": one.rule,
                "score": one.score,
                "evidence": list(one.evidence),
                "inherited": one.inherited,
            }
            for one in found.backports
        ),
    )
    insert_rows(
        connection,
        rows.BackportBug,
        (
            {
                "tree_id": trees[one.branch],
                "fix_id": ids[one.fix],
                "cause": one.cause,
                "since": one.since,
                "fixed": one.fixed,
            }
            for one in found.only_here
        ),
    )


def _store_kernels(connection: Connection, line: Sequence[Contents], ids: dict[str, int]) -> None:
    entered: list[Row] = []
    for position, one in enumerate(line):
        kernel = one.kernel
        made = connection.execute(
            insert(rows.KnownKernel).values(
                kind=kernel.kind,
                line=kernel.line,
                position=position,
                version=kernel.version,
                upstream=kernel.tag,
                date=kernel.date,
                carried=one.carried,
                unknown=one.unknown,
                sample=kernel.sample,
            )
        )
        key = made.inserted_primary_key
        assert key is not None
        for what, slugs in (("added", one.added), ("removed", one.removed)):
            entered += [{"kernel_id": key[0], "change_id": ids[slug], "what": what} for slug in slugs]
    insert_rows(connection, rows.KernelChange, entered)


def _tagged(connection: Connection, found: StableAnswer) -> list[Known]:
    """Mainline's tags, and of each stable branch its base with its updates; the oldest first."""
    bases = {one.name: one.base for one in found.branches}
    query = (
        select(Tree.name, Tree.role, Tag.name, Tag.date, Source.sample)
        .join(Tag, Tag.tree_id == Tree.id)
        .join(Source, Source.id == Tree.source_id)
        .where(Tree.role.in_(("mainline", "stable")))
    )
    kernels = []
    for tree, role, name, date, sample in connection.execute(query):
        version = parse_tag(name)
        if version is None:
            continue
        updates = role == "stable" and version.final and version.window == bases.get(tree)
        if updates or (role == "mainline" and not version.stable):
            kernels.append(Known(role, tree, name, name, version, date, sample))
    return sorted(kernels, key=lambda one: (one.kind, one.line, one.upstream))


def _uploaded(shipped: dict[bool, list[Shipped]], sample: bool) -> list[Known]:
    """The kernels of distributions, a line for each suite, oldest first."""
    return [
        Known(
            "distribution",
            f"{one.distribution} {one.suite}",
            one.version,
            one.upstream.tag,
            one.upstream,
            one.date,
            sample,
        )
        for one in shipped[sample]
    ]


def _touched(connection: Connection, found: Iterable[ChangeAnswer], ids: dict[str, int]) -> list[Row]:
    """What each change touches: by the diff of its commit, read with its tree, else of its newest mail."""
    of_commit = {
        sha: told for sha, told in connection.execute(select(Commit.sha, Commit.touches)) if told is not None
    }
    lines = [one.line for one in found]
    undone = {line.notes["reverted"]["commit"]: line for line in lines if "reverted" in line.notes}
    made = []
    for line in lines:
        told = of_commit.get(line.commit or "")
        source = f"commit {(line.commit or '')[:12]}"
        if told is None:
            source, told = _of_mail(connection, ids[line.slug])
        elif (original := undone.get(line.commit or "")) is not None and original.commit in of_commit:
            told = taken_back(
                Touches.of_json(told["uapi"], told["named"]),
                Touches.of_json(of_commit[original.commit]["uapi"], []),
                commit=original.commit,
                brought_in=original.window,
                undone_in=line.window,
            ).to_json()
        if told is not None:
            made.append(
                {
                    "change_id": ids[line.slug],
                    "source": source,
                    "verdict": told["verdict"],
                    "uapi": told["uapi"],
                    "named": told["named"],
                }
            )
    return made


def _of_mail(connection: Connection, change: int) -> tuple[str, Row | None]:
    """(source, what it touches) of the newest mail of a change that has a diff."""
    mails = connection.execute(
        select(Message.message_id, Message.body)
        .join(Patch, Patch.message_id == Message.id)
        .where(Patch.change_id == change)
        .order_by(Message.date.desc(), Message.message_id.desc())
    )
    for message_id, body in mails:
        diff = split_patch(body).diff
        if diff:
            return f"mail {message_id}", touches(diff).to_json()
    return "", None
