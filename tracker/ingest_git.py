"""One git tree into the database: its tags, the driver's commits, and each commit's first tag.

Commits are stored in batches as they are read; tags, landings and the cursor follow in one transaction.
A killed sync therefore starts the tree again from its old cursor and finds the commits already there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from db.around_tables import TwinPair
from db.database import Database
from db.git_tables import Commit, Landing, Match, Tag
from tracker.calendar import dated_order, parse_tag, release_order, window_of_untagged
from tracker.driver_releases import store_driver_releases
from tracker.errors import SourceError
from tracker.git.commits import CommitFacts, driver_commits, read_commits
from tracker.git.graph import first_tags
from tracker.git.repository import Ref, Repository, open_or_clone
from tracker.progress import Progress
from tracker.settings import DriverProfile, TreeSettings
from tracker.tree_rows import digest_of, open_tree, tree_synced

BATCH = 500  # commits a transaction
READER = 3  # raised when more is read of a commit than before: trees are then gone through once more
_IN = 500  # values of one IN (...)


@dataclass(frozen=True)
class GitCount:
    """What one sync of one tree did."""

    commits: int  # of the driver, in the tree
    new: int


def ingest_git(
    database: Database, settings: TreeSettings, profile: DriverProfile, clones: Path, progress: Progress
) -> GitCount:
    """Bring one tree up to date. Raises SourceError or GitError; the old state stays in that case."""
    repository = open_or_clone(settings.location, clones, settings.name, progress)
    head = repository.resolve(settings.branch)
    if head is None:
        raise SourceError(f"{settings.location} has no branch or commit {settings.branch!r}; set `branch`")
    refs = repository.tags()
    state = {
        "head": head,
        "tags": digest_of(refs),
        "profile": profile.model_dump(mode="json"),
        "role": settings.role,
        "reader": READER,
    }
    folders = settings.kernel_paths if settings.role == "twin" else {}
    if folders:
        state["folders"] = folders
    source_id, tree_id, cursor = open_tree(database, settings)
    if cursor == state:
        with database.engine.begin() as connection:
            count = len(connection.execute(select(Landing.id).where(Landing.tree_id == tree_id)).all())
            tree_synced(connection, source_id, tree_id, cursor, head)
        return GitCount(count, 0)
    progress.start(settings.name)
    ids = driver_commits(repository, folders or profile.paths, head)
    new = _store_commits(database, repository, ids, folders, progress)
    order = tag_order(settings, refs)
    labels = first_tags(repository, order, ids, heads=[head])
    newest = _newest(repository, [name for name, _ in order], dict(order), head)
    with database.engine.begin() as connection:
        _store_tags(connection, tree_id, refs)
        _store_landings(connection, tree_id, settings.role, labels, newest)
        if settings.role in ("mainline", "stable"):
            with_driver = _tags_with_driver(settings, refs, order, labels, newest)
            store_driver_releases(connection, tree_id, repository, with_driver, profile.paths)
        tree_synced(connection, source_id, tree_id, state, head)
    return GitCount(len(ids), new)


def tag_order(settings: TreeSettings, refs: Iterable[Ref]) -> list[tuple[str, str]]:
    """The tags that can be a landing in a tree of this role, in order, with their commits.

    Mainline: vX.Y and its -rc. Stable: updates too. Maintainer trees and linux-next: the dated tags they
    make for pull requests (dim: ``<branch>-YYYY-MM-DD``), then mainline's for what came from there.
    """
    by_name = {ref.name: ref.commit for ref in refs}
    names = release_order(by_name, stable=settings.role == "stable")
    if settings.role in ("maintainer", "next"):
        names = dated_order(by_name) or names
    return [(name, by_name[name]) for name in names]


def _tags_with_driver(
    settings: TreeSettings,
    refs: list[Ref],
    order: list[tuple[str, str]],
    labels: dict[str, str | None],
    newest: str | None,
) -> list[Ref]:
    """The tags of this tree from the first with a commit of the driver; of a stable branch its updates."""
    names = [name for name, _ in order]
    landed = [names.index(tag) for tag in set(labels.values()) if tag is not None]
    if not landed:
        return []
    by_name = {ref.name: ref for ref in refs}
    branch = parse_tag(newest) if newest else None
    base = branch.window if branch else None
    return [
        by_name[name]
        for name in names[min(landed) :]
        if (version := parse_tag(name)) is not None
        and (settings.role == "mainline" or (version.stable and version.window == base))
    ]


def _newest(repository: Repository, names: list[str], commits: dict[str, str], head: str) -> str | None:
    """The newest tag that the head contains."""
    for name in reversed(names):
        if repository.is_ancestor(commits[name], head):
            return name
    return None


def _store_commits(
    database: Database, repository: Repository, ids: list[str], folders: dict[str, str], progress: Progress
) -> int:
    with database.engine.begin() as connection:
        known = {
            sha: touched is not None
            for part in _parts(ids)
            for sha, touched in connection.execute(
                select(Commit.sha, Commit.touches).where(Commit.sha.in_(part))
            )
        }
    fresh = [sha for sha in ids if sha not in known]
    progress.advance(len(ids) - len(fresh))
    batch: list[dict[str, Any]] = []
    for facts in read_commits(repository, fresh, folders):
        batch.append(_row(facts))
        progress.advance()
        if len(batch) >= BATCH:
            _insert(database, batch)
            batch = []
    _insert(database, batch)
    _complete(database, repository, [sha for sha, whole in known.items() if not whole], folders)
    return len(fresh)


def _complete(database: Database, repository: Repository, ids: list[str], folders: dict[str, str]) -> None:
    """Add what an earlier version of this program did not read of a commit: what it touches."""
    for part in _parts(ids):
        rows = [
            {"b_sha": facts.sha, "b_touches": facts.touches.to_json()}
            for facts in read_commits(repository, part, folders)
            if facts.touches is not None
        ]
        if rows:
            with database.engine.begin() as connection:
                connection.execute(
                    update(Commit)
                    .where(Commit.sha == bindparam("b_sha"))
                    .values(touches=bindparam("b_touches")),
                    rows,
                )


def _insert(database: Database, batch: list[dict[str, Any]]) -> None:
    if batch:
        with database.engine.begin() as connection:
            connection.execute(insert(Commit), batch)


def _row(facts: CommitFacts) -> dict[str, Any]:
    return {
        "sha": facts.sha,
        "title": facts.title,
        "message": facts.message,
        "author_name": facts.author.name,
        "author_email": facts.author.email,
        "author_date": facts.author_date,
        "commit_date": facts.commit_date,
        "trailers": [list(entry) for entry in facts.trailers],
        "files": list(facts.files),
        "lines": list(facts.lines),
        "diff_hash": facts.diff_hash,
        "patch_id": facts.patch_id,
        "reverts": facts.reverts,
        "upstream": facts.upstream,
        "touches": facts.touches.to_json() if facts.touches else None,
    }


def _store_tags(connection: Connection, tree_id: int, refs: list[Ref]) -> None:
    connection.execute(delete(Tag).where(Tag.tree_id == tree_id))
    if refs:
        connection.execute(
            insert(Tag),
            [
                {"tree_id": tree_id, "name": ref.name, "commit_id": ref.commit, "date": ref.date}
                for ref in refs
            ],
        )


def _store_landings(
    connection: Connection, tree_id: int, role: str, labels: dict[str, str | None], newest: str | None
) -> None:
    """Landings are made anew: a tree may have been rewound, a tag may have come."""
    before = set(connection.scalars(select(Landing.commit_id).where(Landing.tree_id == tree_id)))
    connection.execute(delete(Landing).where(Landing.tree_id == tree_id))
    rows: list[dict[str, Any]] = []
    for part in _parts(list(labels)):
        for commit_id, sha in connection.execute(select(Commit.id, Commit.sha).where(Commit.sha.in_(part))):
            tag = labels[sha]
            rows.append(
                {"commit_id": commit_id, "tree_id": tree_id, "tag": tag, "window": _window(role, tag, newest)}
            )
    if rows:
        connection.execute(insert(Landing), rows)
    if role == "twin":  # what a vendor's tree rewound is nobody's commit any more, least of all a change
        _forget(connection, sorted(before - {int(row["commit_id"]) for row in rows}))


def _forget(connection: Connection, commits: list[int]) -> None:
    """Remove commits that no tree has any more."""
    for commit_id in commits:
        if connection.execute(select(Landing.id).where(Landing.commit_id == commit_id)).first() is None:
            connection.execute(delete(TwinPair).where(TwinPair.commit_id == commit_id))
            connection.execute(delete(Match).where(Match.commit_id == commit_id))
            connection.execute(delete(Commit).where(Commit.id == commit_id))


def _window(role: str, tag: str | None, newest: str | None) -> str | None:
    """The release of a tag; in mainline also of what no tag contains yet."""
    if tag is None:
        return window_of_untagged(newest) if role == "mainline" else None
    version = parse_tag(tag)
    return version.window if version else None


def _parts(values: list[str]) -> list[list[str]]:
    return [values[at : at + _IN] for at in range(0, len(values), _IN)]
