"""The tracker's door: bring sources and trees into the database, then derive the answers.

This is the edge; the rules live in the modules it calls. A source that cannot be reached costs one clear
line and the rest goes on. What reads a kind of source, and the rules, are imported where there is work for
them: a sync of unchanged sources is nearly all imports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from db.base import utc_now
from db.database import Database
from tracker.derivation import DeriveReport, fingerprint, still_whole
from tracker.errors import TrackerError
from tracker.progress import Progress, Silent
from tracker.settings import DriverProfile, SourceSettings, TreeSettings
from tracker.source_rows import note_problem
from tracker.tree_rows import note_tree_problem


@dataclass(frozen=True)
class SourceReport:
    """One source after a sync. ``scanned``: mails or commits looked at; ``problem``: why it failed, if so."""

    name: str
    kind: str
    scanned: int = 0
    new: int = 0
    problem: str | None = None

    @property
    def skipped(self) -> int:
        """Looked at and not stored: foreign, or known already."""
        return self.scanned - self.new

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "name": self.name,
            "kind": self.kind,
            "scanned": self.scanned,
            "new": self.new,
            "skipped": self.skipped,
            "problem": self.problem,
        }


@dataclass(frozen=True)
class SyncReport:
    """All sources after a sync, and what was derived."""

    sources: tuple[SourceReport, ...]
    derived: DeriveReport

    @property
    def failed(self) -> bool:
        """No source at all could be read."""
        return bool(self.sources) and all(source.problem is not None for source in self.sources)

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"sources": [source.to_json() for source in self.sources], "derived": self.derived.to_json()}


def sync(
    database: Database,
    sources: Iterable[SourceSettings],
    trees: Iterable[TreeSettings],
    profile: DriverProfile,
    progress: Progress | None = None,
    *,
    clones: Path,
    now: datetime | None = None,
    again: bool = False,
) -> SyncReport:
    """Read every source and tree, then derive series, changes, matches and windows.

    Nothing is derived when nothing came since the last time, unless ``again``. ``clones`` is where
    repositories given by URL are kept. Raises WriterBusyError when another process writes; problems of
    single sources are in the report instead.
    """
    shown = progress or Silent()
    reports: list[SourceReport] = []
    followed = list(trees)
    with database.writer("track sync"):
        for source in sources:
            reports.append(_one_source(database, source, profile, clones, shown))
        for tree in followed:
            reports.append(_one_tree(database, tree, profile, clones, shown))
        if any(tree.role == "userspace" for tree in followed):
            from tracker.userspace.ingest import resolve_pins

            resolve_pins(database, followed, clones)
        shown.start("changes and windows")
        derived = _derived(database, profile, now or utc_now(), again=again)
        shown.finish(
            f"{derived.changes} changes, {derived.matches} matched to commits"
            + ("; nothing came, nothing is worked out anew" if derived.unchanged else "")
        )
    return SyncReport(tuple(reports), derived)


def derive(database: Database, profile: DriverProfile, now: datetime | None = None) -> DeriveReport:
    """Recompute series, changes, matches and windows from what is stored. Doing it twice changes nothing."""
    with database.writer("track derive"):
        return _derived(database, profile, now or utc_now(), again=True)


def _derived(database: Database, profile: DriverProfile, now: datetime, *, again: bool) -> DeriveReport:
    if not again:
        with database.engine.begin() as connection:
            known = still_whole(connection, fingerprint(connection, profile, now))
        if known is not None:
            return known
    from tracker.derive import derive_answers

    return derive_answers(database, profile, now)


def _one_source(
    database: Database, source: SourceSettings, profile: DriverProfile, clones: Path, progress: Progress
) -> SourceReport:
    def work() -> SourceReport:
        if source.kind == "debian-changelog":
            from tracker.ingest_debian import ingest_changelog

            read = ingest_changelog(database, source, profile, progress)
            progress.finish(f"{source.name}: {read.uploads} uploads, {read.new} new")
            return SourceReport(source.name, source.kind, read.uploads, read.new)
        if source.kind == "cve":
            from tracker.cves.ingest import ingest_cves

            cves = ingest_cves(database, source, profile, clones, progress)
            damaged = f"; {len(cves.damaged)} damaged, the first: {cves.damaged[0]}" if cves.damaged else ""
            progress.finish(f"{source.name}: {cves.read} CVE records read, {cves.new} new{damaged}")
            return SourceReport(source.name, source.kind, cves.read, cves.new)
        from tracker.ingest_mail import ingest_mail

        count = ingest_mail(database, source, profile, clones, progress)
        progress.finish(f"{source.name}: {count.scanned} mails read, {count.new} new of the driver")
        return SourceReport(source.name, source.kind, count.scanned, count.new)

    def failed(problem: str) -> SourceReport:
        note_problem(database, source, problem)
        return SourceReport(source.name, source.kind, problem=problem)

    return _guarded(work, failed, source.name, progress)


def _one_tree(
    database: Database, tree: TreeSettings, profile: DriverProfile, clones: Path, progress: Progress
) -> SourceReport:
    def work() -> SourceReport:
        if tree.role == "firmware":
            from tracker.firmware.ingest import ingest_firmware

            steps = ingest_firmware(database, tree, clones, progress)
            progress.finish(f"{tree.name}: {steps.commits} steps in the history of the firmware")
            return SourceReport(tree.name, "git", steps.commits, steps.new)
        if tree.role == "userspace":
            from tracker.userspace.ingest import ingest_userspace

            releases = ingest_userspace(database, tree, clones, progress)
            progress.finish(f"{tree.name}: {releases.commits} releases of user space, {releases.new} new")
            return SourceReport(tree.name, "git", releases.commits, releases.new)
        from tracker.ingest_git import ingest_git

        count = ingest_git(database, tree, profile, clones, progress)
        progress.finish(f"{tree.name}: {count.commits} commits of the driver, {count.new} new")
        return SourceReport(tree.name, "git", count.commits, count.new)

    def failed(problem: str) -> SourceReport:
        note_tree_problem(database, tree, problem)
        return SourceReport(tree.name, "git", problem=problem)

    return _guarded(work, failed, tree.name, progress)


def _guarded(
    work: Callable[[], SourceReport], failed: Callable[[str], SourceReport], name: str, progress: Progress
) -> SourceReport:
    try:
        return work()
    except TrackerError as error:
        progress.finish(f"{name}: left out: {error}")
        return failed(str(error))
