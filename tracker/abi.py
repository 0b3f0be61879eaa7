"""The diff of a change, from a followed tree or from its newest mail, and what it touches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from db.database import Database
from db.mail_tables import Message
from tracker.answers import show
from tracker.errors import SourceError, TrackerError
from tracker.git.repository import Repository, is_url, safe_name
from tracker.mail.body import split_patch
from tracker.settings import TreeSettings
from tracker.touches import Touches, touches


@dataclass(frozen=True)
class AbiAnswer:
    """What one change touches. ``source``: the commit or the mail whose diff was read."""

    slug: str
    title: str
    source: str
    touches: Touches

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "slug": self.slug, "title": self.title, "source": self.source, **self.touches.to_json(),
        }  # fmt: skip


def abi(database: Database, trees: Iterable[TreeSettings], clones: Path, name: str) -> AbiAnswer:
    """What the change called ``name`` touches. The diff comes from its commit, else from its newest mail.

    Raises NoSuchChangeError, and SourceError when neither a commit nor a mail can be read.
    """
    found = show(database, name)
    line = found.line
    if line.commit is not None:
        for tree in trees:
            diff = _commit_diff(tree, clones, line.commit)
            if diff is not None:
                return AbiAnswer(line.slug, line.title, f"commit {line.commit[:12]}", touches(diff))
    for version in reversed(found.versions):
        with database.engine.connect() as connection:
            body = connection.execute(
                select(Message.body).where(Message.message_id == version.message_id)
            ).scalar_one()
        diff = split_patch(body).diff
        if diff:
            return AbiAnswer(line.slug, line.title, f"mail {version.message_id}", touches(diff))
    raise SourceError(
        f"no diff of {line.title!r} can be read: follow a [[tree]] that has {(line.commit or 'it')[:12]}"
    )


def _commit_diff(tree: TreeSettings, clones: Path, sha: str) -> str | None:
    """The diff of a commit, when this tree's repository is here and has it."""
    location = tree.location
    path = clones / f"{safe_name(tree.name)}.git" if is_url(location) else Path(location).expanduser()
    try:
        repository = Repository(path)
        if repository.resolve(sha) is None:
            return None
        return next((diff for _, diff in repository.diffs([sha])), None)
    except TrackerError:
        return None  # this repository is not here or cannot give it: the next one may
