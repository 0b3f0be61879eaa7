"""A tree of user space (XRT, amd/xdna-driver) into the database: releases, what they use, ship and pin."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from db.around_tables import UserspaceRelease
from db.database import Database
from tracker.driver_releases import read_versions
from tracker.driver_source import MAX_SOURCE, SourceFacts, used_names
from tracker.errors import SourceError, TrackerError
from tracker.firmware.whence import parse_whence
from tracker.git.graph import first_tags
from tracker.git.repository import Entry, Ref, Repository, is_url, open_or_clone, safe_name
from tracker.ingest_git import GitCount
from tracker.progress import Progress
from tracker.settings import TWIN_FOLDERS, TreeSettings
from tracker.tree_rows import digest_of, open_tree, tree_synced
from tracker.userspace.releases import build_version, is_release, listed_firmware

READER = 2
_SHIM = re.compile(r"(?:^|/)shim/.*\.(?:c|cpp|h|hpp)$")
_BUILD = ("tools/info.json", "src/CMake/settings.cmake")
_MODULES = ".gitmodules"
_MODULE_LINE = re.compile(r"^\s*(path|url)\s*=\s*(\S{1,300})\s*$", re.MULTILINE)
_LISTS = ("tools/WHENCE", "WHENCE")


@dataclass(frozen=True)
class _Release:
    """A tag or branch that is a release."""

    kind: str
    ref: Ref


def ingest_userspace(
    database: Database, settings: TreeSettings, clones: Path, progress: Progress
) -> GitCount:
    """Bring the releases of one tree up to date. Raises SourceError or GitError. The count is of releases."""
    repository = open_or_clone(settings.location, clones, settings.name, progress)
    head = repository.resolve(settings.branch)
    if head is None:
        raise SourceError(f"{settings.location} has no branch {settings.branch!r}; set `branch`")
    releases = [_Release("tag", one) for one in repository.tags() if is_release(one.name, branch=False)]
    releases += [
        _Release("branch", one) for one in repository.branches() if is_release(one.name, branch=True)
    ]
    state = {
        "releases": digest_of(one.ref for one in releases),
        "role": settings.role,
        "reader": READER,
    }
    source_id, tree_id, cursor = open_tree(database, settings)
    with database.engine.connect() as connection:
        known = connection.execute(
            select(func.count()).select_from(UserspaceRelease).where(UserspaceRelease.tree_id == tree_id)
        ).scalar_one()
    if cursor == state:
        with database.engine.begin() as connection:
            tree_synced(connection, source_id, tree_id, state, head)
        return GitCount(known, 0)
    progress.start(settings.name, len(releases))
    rows = _rows(repository, releases, tree_id, progress)
    with database.engine.begin() as connection:
        connection.execute(delete(UserspaceRelease).where(UserspaceRelease.tree_id == tree_id))
        if rows:
            connection.execute(insert(UserspaceRelease), rows)
        tree_synced(connection, source_id, tree_id, state, head)
    return GitCount(len(rows), max(0, len(rows) - known))


def resolve_pins(database: Database, trees: Iterable[TreeSettings], clones: Path) -> None:
    """For each pinned commit, the first release of a followed tree that contains it, and the commit's date.

    Reads repositories that are on this machine; one that is not, or has not the commit, says nothing.
    """
    with database.engine.connect() as connection:
        rows = connection.execute(select(UserspaceRelease.id, UserspaceRelease.pins)).all()
    told: dict[tuple[str, str], dict[str, Any]] = {}
    pinned = {(_last(str(pin.get("url"))), str(pin["commit"])) for row in rows for pin in row.pins}
    for tree in trees:
        # Only what may be there by its name: a partial clone would ask its server for any commit it lacks.
        names = {tree.name.lower(), _last(tree.location)}
        mine = sorted({commit for name, commit in pinned if name in names})
        if tree.role == "userspace" and mine and (repository := _here(tree, clones)) is not None:
            with suppress(TrackerError):  # a repository that cannot answer leaves the pins as they are
                found = _releases_of(tree.name, repository, mine)
                told |= {(name, commit): one for name in names for commit, one in found.items()}
    with database.engine.begin() as connection:
        for row in rows:
            pins = [
                {**pin, **told.get((_last(str(pin.get("url"))), str(pin["commit"])), {})} for pin in row.pins
            ]
            if pins != row.pins:
                connection.execute(
                    update(UserspaceRelease).where(UserspaceRelease.id == row.id).values(pins=pins)
                )


def _releases_of(tree: str, repository: Repository, commits: list[str]) -> dict[str, dict[str, Any]]:
    mine = [one for one in commits if repository.resolve(one) is not None]
    tags = [one for one in repository.tags() if is_release(one.name, branch=False)]
    tags.sort(key=lambda one: (one.date is None, one.date, one.name))
    found = first_tags(repository, [(one.name, one.commit) for one in tags], mine, heads=mine)
    dates = repository.commit_dates(mine)
    return {one: {"tree": tree, "release": found.get(one), "date": dates[one].isoformat()} for one in mine}


def _last(location: str) -> str:
    """The name of a repository in its location: "https://github.com/Xilinx/XRT.git" -> "xrt"."""
    return location.rstrip("/").replace(":", "/").rpartition("/")[2].lower().removesuffix(".git")


def _here(tree: TreeSettings, clones: Path) -> Repository | None:
    location = tree.location
    try:
        return Repository(
            clones / f"{safe_name(tree.name)}.git" if is_url(location) else Path(location).expanduser()
        )
    except TrackerError:
        return None


def _rows(
    repository: Repository, releases: list[_Release], tree_id: int, progress: Progress
) -> list[dict[str, Any]]:
    drivers = read_versions(repository, dict.fromkeys(one.ref.commit for one in releases), list(TWIN_FOLDERS))
    rows = []
    cache: dict[str, str] = {}
    for one in releases:
        progress.advance()
        rows.append(_row(repository, one, drivers[one.ref.commit], tree_id, cache))
    return rows


def _row(
    repository: Repository, release: _Release, driver: SourceFacts, tree_id: int, cache: dict[str, str]
) -> dict[str, Any]:
    entries = repository.entries(release.ref.commit)
    shim = [one for one in entries if one.kind == "blob" and _SHIM.search(one.path)]
    by_path = {one.path: one for one in entries}
    named = [by_path[path] for path in (*_BUILD, *_LISTS, _MODULES) if path in by_path]
    text = _texts(repository, [*shim, *named], cache)
    used = sorted({name for one in shim for name in used_names(text[one.object_id])})
    version = next(
        (
            told
            for path in _BUILD
            if path in by_path and (told := build_version(path, text[by_path[path].object_id])) is not None
        ),
        None,
    )
    return {
        "tree_id": tree_id,
        "name": release.ref.name,
        "kind": release.kind,
        "commit_id": release.ref.commit,
        "date": release.ref.date,
        "version": version,
        "driver_version": driver.version,
        "uapi": used,
        "firmware": _firmware(by_path, text),
        "pins": _pins(entries, by_path, text),
    }


def _pins(
    entries: list[Entry], by_path: Mapping[str, Entry], text: Mapping[str, str]
) -> list[dict[str, str]]:
    """Submodules with their commit and, from .gitmodules, their URL (the path where it tells none)."""
    urls: dict[str, str] = {}
    if _MODULES in by_path:
        for block in text[by_path[_MODULES].object_id].split("[submodule")[1:]:
            told = dict(_MODULE_LINE.findall(block))
            urls[told.get("path", "")] = told.get("url", "")
    return [
        {"path": one.path, "commit": one.object_id, "url": urls.get(one.path) or one.path}
        for one in entries
        if one.kind == "commit"
    ]


def _firmware(by_path: Mapping[str, Entry], text: Mapping[str, str]) -> dict[str, str]:
    """Name -> version of what the release ships: its WHENCE's links, else the list in info.json."""
    for path in _LISTS:
        if path in by_path:
            listed = sorted(parse_whence(text[by_path[path].object_id], "amdnpu/").items())
            if links := {name: one.version for name, one in listed if one.version and name != one.file}:
                return links
    info = by_path.get(_BUILD[0])
    return listed_firmware(text[info.object_id]) if info else {}


def _texts(repository: Repository, entries: list[Entry], cache: dict[str, str]) -> dict[str, str]:
    """Blob id -> text, each read once for all releases."""
    wanted = list(dict.fromkeys(one.object_id for one in entries if one.object_id not in cache))
    for blob in repository.blobs(wanted, limit=MAX_SOURCE):
        cache[blob.name] = blob.data.decode("utf-8", "replace") if blob.data is not None else ""
    return cache
