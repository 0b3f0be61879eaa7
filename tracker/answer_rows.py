"""The derived answers as rows: series, patches, changes, matches, in one transaction.

Series, patches and matches are made anew. Changes keep their row and slug: a change is recognised by its
key, else by a mail or commit that belonged to it before.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from db.git_tables import Commit, Match
from db.mail_tables import Change, Message, Patch
from db.mail_tables import Series as SeriesRow
from db.run_tables import Campaign
from tracker.changes import Lineage
from tracker.mail.headers import Address
from tracker.mail.series import PatchMail, Series
from tracker.matching import MatchFact
from tracker.waiting import Wait
from tracker.windows import Judgement

SLUG_LENGTH = 80
ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class ChangeAnswer:
    """One change with its answer. ``lineage`` is None when only git knows it."""

    key: str
    title: str
    author: Address
    judgement: Judgement
    lineage: Lineage | None
    commits: tuple[str, ...]
    sample: bool
    uapi: bool
    real_commits: tuple[str, ...] = ()
    waits: tuple[Wait, ...] = ()
    base_commit: str | None = None  # of its newest version, where the mail says so


def write_answers(
    connection: Connection,
    series: list[Series],
    answers: list[ChangeAnswer],
    matches: list[MatchFact],
    message_ids: dict[str, int],
    commit_ids: dict[str, int],
    kinds: dict[str, str],
) -> dict[str, int]:
    """Replace what was derived before. ``kinds``: message id -> kind to correct. Gives change key -> row."""
    known = _known_changes(connection)
    connection.execute(delete(Match))
    connection.execute(delete(Patch))
    connection.execute(delete(SeriesRow))
    for message_id, kind in kinds.items():
        connection.execute(update(Message).where(Message.message_id == message_id).values(kind=kind))
    change_ids = _write_changes(connection, answers, known)
    _write_series(connection, series, answers, change_ids, message_ids)
    rows = [
        {
            "change_id": change_ids[match.change],
            "commit_id": commit_ids[match.sha],
            "rule": match.rule,
            "score": match.score,
            "evidence": match.evidence,
        }
        for match in matches
    ]
    rows += [
        {
            "change_id": change_ids[answer.key],
            "commit_id": commit_ids[sha],
            "rule": "commit" if sha == answer.key else "copy",
            "score": 1.0,
            "evidence": "no mail is known",
        }
        for answer in answers
        if answer.lineage is None
        for sha in answer.commits
    ]
    if rows:
        connection.execute(insert(Match), rows)
    return change_ids


@dataclass
class _Known:
    """The changes of the last time, findable by what belonged to them."""

    slug_of: dict[int, str]
    by_key: dict[str, int]
    by_part: dict[str, int]  # message id or commit id -> change row


def _known_changes(connection: Connection) -> _Known:
    slug_of: dict[int, str] = {}
    by_key: dict[str, int] = {}
    for row in connection.execute(select(Change.id, Change.key, Change.slug)):
        slug_of[row.id] = row.slug
        by_key[row.key] = row.id
    parts = select(Message.message_id, Patch.change_id).join(Patch, Patch.message_id == Message.id)
    by_part = {name: change for name, change in connection.execute(parts) if change is not None}
    commits = select(Commit.sha, Match.change_id).join(Match, Match.commit_id == Commit.id)
    by_part.update(connection.execute(commits).all())
    return _Known(slug_of, by_key, by_part)


def _write_changes(connection: Connection, answers: list[ChangeAnswer], known: _Known) -> dict[str, int]:
    """change key -> row id. Rows that no answer claims are removed."""
    rows: dict[str, int] = {}
    taken: set[int] = set()
    ordered = sorted(answers, key=lambda answer: answer.key)
    for answer in ordered:
        row = known.by_key.get(answer.key)
        if row is not None:
            rows[answer.key] = row
            taken.add(row)
    for answer in ordered:
        if answer.key in rows:
            continue
        for part in _parts(answer):
            row = known.by_part.get(part)
            if row is not None and row not in taken:
                rows[answer.key] = row
                taken.add(row)
                break
    _remove(connection, [row for row in known.slug_of if row not in taken])
    slugs = {known.slug_of[row] for row in taken}
    fresh: list[dict[str, Any]] = []
    for answer in ordered:
        values = _change_values(answer)
        if answer.key in rows:
            row = rows[answer.key]
            connection.execute(update(Change).where(Change.id == row).values(**values))
        else:
            slug = _slug(answer, slugs)
            slugs.add(slug)
            fresh.append({**values, "slug": slug})
    if fresh:
        connection.execute(insert(Change), fresh)
        rows.update(connection.execute(select(Change.key, Change.id)).all())
    return rows


def _remove(connection: Connection, rows: list[int]) -> None:
    """Changes that merged into others or vanished; a campaign that named one keeps its commit."""
    for row in rows:
        connection.execute(update(Campaign).where(Campaign.change_id == row).values(change_id=None))
        connection.execute(delete(Change).where(Change.id == row))


def _parts(answer: ChangeAnswer) -> list[str]:
    mails = [patch.message_id for patch in answer.lineage.patches] if answer.lineage else []
    return [*mails, *answer.commits]


def _change_values(answer: ChangeAnswer) -> dict[str, Any]:
    judged = answer.judgement
    dates = [p.date for p in answer.lineage.patches if p.date is not None] if answer.lineage else []
    notes = dict(judged.notes)
    if answer.real_commits:
        notes["real_commit"] = list(answer.real_commits)
    if answer.uapi:
        notes["uapi"] = True
    if answer.waits:
        notes["depends"] = [wait.to_json() for wait in answer.waits]
    if answer.base_commit:
        notes["base_commit"] = answer.base_commit
    return {
        "key": answer.key,
        "title": answer.title,
        "author_name": answer.author.name,
        "author_email": answer.author.email,
        "first_posted": min(dates, default=None),
        "last_posted": max(dates, default=None),
        "state": judged.state,
        "window": judged.window,
        "first_tag": judged.first_tag,
        "rule": judged.rule,
        "probability": judged.probability,
        "evidence": [*judged.evidence, *(wait.evidence() for wait in answer.waits)],
        "notes": notes,
        "sample": answer.sample,
    }


def _slug(answer: ChangeAnswer, taken: set[str]) -> str:
    """A name for files and addresses: [a-z0-9-]+, never empty, unique."""
    plain = unicodedata.normalize("NFKD", answer.title).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SLUG_LENGTH].strip("-") or "change"
    if slug not in taken:
        return slug
    digest = hashlib.sha1(answer.key.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
    for length in (6, 12, 40):
        if f"{slug}-{digest[:length]}" not in taken:
            break
    return f"{slug}-{digest[:length]}"


def _write_series(
    connection: Connection,
    series: list[Series],
    answers: list[ChangeAnswer],
    change_ids: dict[str, int],
    message_ids: dict[str, int],
) -> None:
    if not series:
        return
    insert_rows(
        connection,
        SeriesRow,
        (
            {
                "key": one.key,
                "title": one.title,
                "version": one.version,
                "author_name": one.author.name,
                "author_email": one.author.email,
                "date": one.date,
                "total": one.total,
                "received": len(one.patches),
                "rule": one.rule,
            }
            for one in series
        ),
    )
    series_ids = dict(connection.execute(select(SeriesRow.key, SeriesRow.id)).all())
    edges: dict[str, Any] = {}
    change_of: dict[str, int] = {}
    for answer in answers:
        if answer.lineage is not None:
            edges.update(answer.lineage.edges)
            for patch in answer.lineage.patches:
                change_of[patch.message_id] = change_ids[answer.key]
    insert_rows(
        connection,
        Patch,
        (
            _patch_values(mail, message_ids[mail.message_id], series_ids[one.key], change_of, edges)
            for one in series
            for mail in one.mails
        ),
    )


def insert_rows(connection: Connection, table: type[Any], rows: Iterable[dict[str, Any]]) -> None:
    """Insert any number of rows, ``ROWS_AT_ONCE`` a statement."""
    source = iter(rows)
    while some := list(islice(source, ROWS_AT_ONCE)):
        connection.execute(insert(table), some)


def _patch_values(
    mail: PatchMail, row: int, series_id: int, change_of: dict[str, int], edges: dict[str, Any]
) -> dict[str, Any]:
    edge = edges.get(mail.message_id)
    return {
        "message_id": row,
        "series_id": series_id,
        "change_id": change_of.get(mail.message_id),
        "number": mail.number,
        "title": mail.subject.title,
        "tags": list(mail.subject.tags),
        "files": list(mail.files),
        "diff_hash": mail.diff_hash,
        "patch_id": mail.patch_id,
        "link_rule": edge.rule if edge else None,
        "link_score": edge.score if edge else None,
        "link_evidence": f"{edge.evidence} (continues {edge.older})" if edge else None,
    }
