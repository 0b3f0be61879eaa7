"""The driver's sources at every tag of a kernel tree, as rows: `tracker.driver_source` at the edge.

Files are read by their blob id, each once, however many tags have it; tags that are known are not read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from db.around_tables import DriverRelease
from tracker.driver_source import MAX_SOURCE, FileFacts, SourceFacts, put_together, read_file
from tracker.git.repository import Ref, Repository

KINDS = (".c", ".h")


def read_versions(
    repository: Repository, commits: Iterable[str], paths: Sequence[str]
) -> dict[str, SourceFacts]:
    """Commit -> what the sources below ``paths`` say there."""
    files: dict[str, list[tuple[str, str]]] = {}
    for commit in commits:
        entries = repository.entries(commit, paths)
        files[commit] = [(one.path, one.object_id) for one in entries if one.path.endswith(KINDS)]
    every = list(dict.fromkeys(one for found in files.values() for one in found))
    read: dict[tuple[str, str], FileFacts] = {}  # two files may have one content and differ by their names
    contents = repository.blobs((blob for _, blob in every), limit=MAX_SOURCE)
    for (path, blob_id), blob in zip(every, contents, strict=True):
        if blob.data is not None and blob.size <= MAX_SOURCE:
            read[path, blob_id] = read_file(path, blob.data.decode("utf-8", "replace"))
    return {
        commit: put_together(read[one] for one in found if one in read) for commit, found in files.items()
    }


def store_driver_releases(
    connection: Connection, tree_id: int, repository: Repository, tags: Sequence[Ref], paths: Sequence[str]
) -> None:
    """Bring the rows of one tree up to date. ``tags``: those that hold the driver, in release order."""
    known = {
        row.tag: row.commit_id
        for row in connection.execute(
            select(DriverRelease.tag, DriverRelease.commit_id).where(DriverRelease.tree_id == tree_id)
        )
    }
    now = {ref.name: ref.commit for ref in tags}
    for tag, commit in known.items():
        if now.get(tag) != commit:
            connection.execute(
                delete(DriverRelease).where(DriverRelease.tree_id == tree_id, DriverRelease.tag == tag)
            )
    fresh = [ref for ref in tags if known.get(ref.name) != ref.commit]
    found = read_versions(repository, dict.fromkeys(ref.commit for ref in fresh), paths)
    rows = [_row(tree_id, ref, found[ref.commit]) for ref in fresh if not found[ref.commit].empty]
    if rows:
        connection.execute(insert(DriverRelease), rows)


def _row(tree_id: int, ref: Ref, facts: SourceFacts) -> dict[str, Any]:
    loads: dict[str, list[str]] = {}
    for generation, name in facts.loads:
        loads.setdefault(generation or "driver", []).append(name)
    return {
        "tree_id": tree_id,
        "tag": ref.name,
        "commit_id": ref.commit,
        "date": ref.date,
        "driver_version": facts.version,
        "firmware": list(facts.firmware),
        "loads": loads,
        "uapi": list(facts.uapi),
    }
