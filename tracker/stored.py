"""The facts of the database as dataclasses, the records and the sample apart. No rules here.

What is read of a mail is all that the rules ask, and none of its text: a driver that is a whole list has
hundreds of megabytes of it. Message ids and names come often and are kept once.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from sys import intern
from typing import Any

from sqlalchemy import Connection, select

from db.git_tables import Commit, Landing, Tag, Tree
from db.mail_tables import Message, Source
from tracker.calendar import parse_tag
from tracker.git.commits import CommitFacts
from tracker.mail.headers import Address
from tracker.mail.patch_mail import patch_mail
from tracker.mail.series import PatchMail
from tracker.settings import DriverProfile
from tracker.voices import Letter, read_letter
from tracker.windows import TagDate

ROWS_AT_ONCE = 200
_MESSAGE = (
    Message.id, Message.source_id, Message.message_id, Message.kind, Message.in_reply_to, Message.references,
    Message.author_name, Message.author_email, Message.subject, Message.date, Message.body, Message.trailers,
)  # fmt: skip


@dataclass
class Stored:
    """The facts of the database, as dataclasses."""

    sample: bool = False
    patches: list[PatchMail] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    message_ids: dict[str, int] = field(default_factory=dict)  # message id -> row id
    kinds: dict[str, str] = field(default_factory=dict)
    commits: list[CommitFacts] = field(default_factory=list)
    twins: dict[str, list[CommitFacts]] = field(default_factory=lambda: defaultdict(list))  # tree -> its own
    commit_ids: dict[str, int] = field(default_factory=dict)
    landings: dict[str, list[tuple[str, str, str | None, str | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )  # sha -> (tree, role, tag, window)
    mainline: list[TagDate] = field(default_factory=list)


def load(connection: Connection, profile: DriverProfile) -> tuple[Stored, Stored]:
    """(the records, the sample): what the project generated never explains what people wrote."""
    worlds = (Stored(), Stored(sample=True))
    sample = dict(connection.execute(select(Source.id, Source.sample)).all())
    people: dict[tuple[str, str], Address] = {}
    rows = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(
        select(*_MESSAGE).order_by(Message.message_id)
    )
    for row in rows:
        stored = worlds[sample[row.source_id]]
        message_id, kind = intern(row.message_id), intern(row.kind)
        stored.message_ids[message_id] = row.id
        stored.kinds[message_id] = kind
        parents = _parents(row.in_reply_to, row.references)
        named = (row.author_name, row.author_email)
        sender = people.setdefault(named, Address(*named))
        if kind in ("patch", "cover", "context"):
            patch = patch_mail(message_id, row.subject, sender, row.date, parents, row.body, profile)
            stored.patches.append(patch)
        else:
            trailers = ((str(key), str(value)) for key, value in row.trailers)
            stored.letters.append(
                read_letter(message_id, kind, sender, row.date, parents, row.subject, row.body, trailers)
            )
    _load_git(connection, worlds, sample)
    return worlds


def _load_git(connection: Connection, worlds: tuple[Stored, Stored], sample: dict[int, bool]) -> None:
    in_sample, twin_trees = _load_landings(connection, worlds, sample)
    for row in connection.execute(select(Commit.__table__).order_by(Commit.sha)).mappings():
        stored = worlds[row["sha"] in in_sample]
        stored.commit_ids[row["sha"]] = row["id"]
        trees = twin_trees.get(row["sha"], ())
        if trees and row["sha"] not in stored.landings:  # of the twin only: no change of the kernel
            for tree in trees:
                stored.twins[tree].append(_commit(row))
        else:
            stored.commits.append(_commit(row))
    tags = select(Tag.name, Tag.date, Tree.source_id).join(Tree, Tree.id == Tag.tree_id)
    found: tuple[dict[str, TagDate], dict[str, TagDate]] = ({}, {})
    for name, date, source_id in connection.execute(tags.where(Tree.role == "mainline")):
        version = parse_tag(name)
        if version is not None and not version.stable and date is not None:
            found[sample[source_id]][name] = TagDate(name, version, date)
    for stored, by_name in zip(worlds, found, strict=True):
        stored.mainline = sorted(by_name.values(), key=lambda tag: tag.version)


def _commit(row: Any) -> CommitFacts:
    return CommitFacts(
        sha=row["sha"],
        title=row["title"],
        message=row["message"],
        author=Address(row["author_name"], row["author_email"]),
        author_date=row["author_date"],
        commit_date=row["commit_date"],
        trailers=tuple((str(key), str(value)) for key, value in row["trailers"]),
        files=tuple(row["files"]),
        diff_hash=row["diff_hash"],
        patch_id=row["patch_id"],
        reverts=row["reverts"],
        upstream=row["upstream"],
        lines=tuple(row["lines"]),
    )


def _load_landings(
    connection: Connection, worlds: tuple[Stored, Stored], sample: dict[int, bool]
) -> tuple[set[str], dict[str, list[str]]]:
    """Fill the landings. The answer: the commits that are only in trees of the sample; those of out-of-tree
    drivers, with their trees."""
    twin_trees: dict[str, list[str]] = defaultdict(list)
    in_sample: set[str] = set()
    in_record: set[str] = set()
    landings = (
        select(Commit.sha, Tree.name, Tree.role, Tree.source_id, Landing.tag, Landing.window)
        .join(Landing, Landing.commit_id == Commit.id)
        .join(Tree, Tree.id == Landing.tree_id)
        .order_by(Commit.sha, Tree.name)
    )
    for sha, tree, role, source_id, tag, window in connection.execute(landings):
        if role == "twin":
            twin_trees[sha].append(tree)
        else:
            worlds[sample[source_id]].landings[sha].append((tree, role, tag, window))
        (in_sample if sample[source_id] else in_record).add(sha)
    return in_sample - in_record, twin_trees


def _parents(in_reply_to: str | None, references: list[Any]) -> tuple[str, ...]:
    chain = [intern(str(entry)) for entry in reversed(references)]
    if in_reply_to is not None:
        chain = [intern(in_reply_to), *(entry for entry in chain if entry != in_reply_to)]
    return tuple(chain)
