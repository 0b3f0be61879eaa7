"""A firmware tree (linux-firmware, or a branch of it) into the database: the driver's names in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, insert, select

from db.around_tables import FirmwareStep
from db.database import Database
from tracker.errors import SourceError
from tracker.firmware.history import State, steps
from tracker.firmware.whence import MAX_WHENCE, parse_whence
from tracker.git.graph import first_tags
from tracker.git.repository import Ref, Repository, open_or_clone
from tracker.ingest_git import GitCount
from tracker.progress import Progress
from tracker.settings import TreeSettings
from tracker.tree_rows import digest_of, open_tree, tree_synced

LIST = "WHENCE"


def ingest_firmware(database: Database, settings: TreeSettings, clones: Path, progress: Progress) -> GitCount:
    """Bring one firmware tree up to date. Raises SourceError or GitError; the old state stays then.

    The count is of steps. The history is made anew when head or tags moved: it is small, and a tag may have
    been put on an older commit.
    """
    repository = open_or_clone(settings.location, clones, settings.name, progress)
    head = repository.resolve(settings.branch)
    if head is None:
        raise SourceError(f"{settings.location} has no branch {settings.branch!r}; set `branch`")
    tags = release_tags(repository.tags())
    state = {"head": head, "tags": digest_of(tags), "role": settings.role, "prefix": settings.prefix}
    source_id, tree_id, cursor = open_tree(database, settings)
    with database.engine.connect() as connection:
        before = connection.execute(
            select(func.count()).select_from(FirmwareStep).where(FirmwareStep.tree_id == tree_id)
        ).scalar_one()
    if cursor != state:
        progress.start(settings.name)
        rows = _rows(repository, head, tags, settings.prefix, tree_id, progress)
        if not rows:
            raise SourceError(
                f"{settings.location} lists nothing below {settings.prefix!r} in {LIST}; set `prefix`"
            )
        with database.engine.begin() as connection:
            connection.execute(delete(FirmwareStep).where(FirmwareStep.tree_id == tree_id))
            connection.execute(insert(FirmwareStep), rows)
            tree_synced(connection, source_id, tree_id, state, head)
        return GitCount(len(rows), max(0, len(rows) - before))
    with database.engine.begin() as connection:
        tree_synced(connection, source_id, tree_id, state, head)
    return GitCount(before, 0)


def release_tags(tags: list[Ref]) -> list[Ref]:
    """The releases of linux-firmware: tags named by a day (20260221), in order."""
    return sorted(
        (one for one in tags if one.name.isdigit() and len(one.name) == 8), key=lambda one: one.name
    )


def _rows(
    repository: Repository, head: str, tags: list[Ref], prefix: str, tree_id: int, progress: Progress
) -> list[dict[str, Any]]:
    line = ["--first-parent", "--reverse", head, "--"]
    commits = list(repository.rev_list([*line, LIST, prefix.rstrip("/")]))
    own = set(repository.rev_list([*line, prefix.rstrip("/")]))
    tag_of = first_tags(repository, [(one.name, one.commit) for one in tags], commits, heads=[head])
    last_of_release = [
        position
        for position in range(len(commits) - 1)
        if tag_of.get(commits[position]) != tag_of.get(commits[position + 1])
    ]
    fixed = [position for position, commit in enumerate(commits) if commit in own]

    def state(position: int) -> State:
        progress.advance()
        (blob,) = repository.blobs([f"{commits[position]}:{LIST}"], limit=MAX_WHENCE)
        return parse_whence(blob.data.decode("utf-8", "replace"), prefix) if blob.data is not None else {}

    found = steps(commits, [*last_of_release, *fixed], state)
    dates = repository.commit_dates({one.commit for one in found})
    tag_dates = {one.name: one.date for one in tags}
    return [
        {
            "tree_id": tree_id,
            "position": position,
            "path": one.path,
            "what": one.what,
            "file": one.now.file if one.now else None,
            "version": one.now.version if one.now else None,
            "tag": tag_of.get(one.commit),
            "tag_date": tag_dates.get(tag_of.get(one.commit) or ""),
            "commit_id": one.commit,
            "date": dates[one.commit],
        }
        for position, one in enumerate(found)
    ]
