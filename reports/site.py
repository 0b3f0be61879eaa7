"""Database -> a folder of pages. The one door of this room for publishing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from db.database import Database
from reports.catalogue import Catalogue
from reports.feeds import Feed, feeds
from reports.folder import SiteFolder, opened
from reports.page import Page
from reports.pages.abi import abi_page
from reports.pages.around import around_pages
from reports.pages.campaign import campaign_page
from reports.pages.change import change_page
from reports.pages.coming import coming_page
from reports.pages.comparison import comparison_page
from reports.pages.front import front_page
from reports.pages.history import history_page, results_by_test
from reports.pages.kernels import kernel_pages
from reports.pages.lists import compared, list_pages
from reports.pages.machine import machine_page
from reports.pages.run import run_pages
from reports.pages.stable import stable_pages
from reports.pages.window import window_page
from reports.reading import read_snapshot
from reports.records import Snapshot
from reports.rendering import STYLE_SHEET, Renderer, style_sheet

Progress = Callable[[int, int, str], None]  # done, total, what was done last
Job = tuple[str, Callable[[], Iterable[Page]]]


@dataclass(frozen=True)
class Published:
    """A publication that ended; ``front`` is the page to open."""

    front: Path
    written: int
    kept: int
    removed: int


def publish(
    database: Database,
    folder: Path,
    *,
    version: str,
    runs: Path,
    progress: Progress | None = None,
    now: datetime | None = None,
) -> Published:
    """Read ``database`` and write the site to ``folder``; what is already right is not touched.

    ``runs`` anchors relative run folders. Raises what ``folder.opened`` raises.
    """
    with database.session() as session:
        snapshot = read_snapshot(session)
    return publish_snapshot(snapshot, folder, version=version, runs=runs, progress=progress, now=now)


def publish_snapshot(
    snapshot: Snapshot,
    folder: Path,
    *,
    version: str,
    runs: Path,
    progress: Progress | None = None,
    now: datetime | None = None,
) -> Published:
    """Write the site of a snapshot; see ``publish``."""
    renderer = Renderer(version)
    catalogue = Catalogue(snapshot)
    jobs = _jobs(catalogue, runs)
    with opened(folder, now) as site:
        style = style_sheet()
        site.put((STYLE_SHEET,), hashlib.sha256(style).hexdigest(), lambda _: (style,))
        for feed in feeds(catalogue):  # leaves too: every page names them
            _put_feed(site, feed)
        for done, (what, pages) in enumerate(jobs, 1):
            for page in pages():
                _put(site, renderer, page)
            if progress is not None:
                progress(done, len(jobs), what)
        site.finish()
        counts = site.done
    return Published(folder / "index.html", counts.written, counts.kept, counts.removed)


def _put(site: SiteFolder, renderer: Renderer, page: Page) -> None:
    site.put(
        (page.path, page.twin),
        renderer.digest(page),
        lambda now: (renderer.html(page, now), renderer.twin(page, now)),
    )


def _put_feed(site: SiteFolder, feed: Feed) -> None:
    content = feed.xml()
    site.put((feed.path,), hashlib.sha256(content).hexdigest(), lambda _: (content,))


def _jobs(catalogue: Catalogue, runs: Path) -> Sequence[Job]:
    """What to make, leaves first and the front page last."""
    snapshot = catalogue.snapshot
    seen = results_by_test(catalogue)

    def one(make: Callable[[], Page]) -> Callable[[], Iterable[Page]]:
        return lambda: (make(),)

    jobs: list[Job] = [
        (f"run {run.id}", partial(run_pages, catalogue, run, runs / run.folder)) for run in snapshot.runs
    ]
    jobs += [(c.title[:60], one(partial(change_page, catalogue, c))) for c in snapshot.changes]
    jobs += [(f"bisection {c.id}", one(partial(campaign_page, catalogue, c))) for c in snapshot.campaigns]
    jobs += [(test, one(partial(history_page, catalogue, test, seen[test]))) for test in catalogue.tests]
    jobs += [
        (f"comparison {a.id} {b.id}", one(partial(comparison_page, catalogue, a, b)))
        for a, b in compared(catalogue)
    ]
    jobs += [(m.name, one(partial(machine_page, catalogue, m))) for m in catalogue.machines]
    jobs += [(f"window {w}", one(partial(window_page, catalogue, w))) for w in catalogue.windows]
    jobs.append(("stable branches", partial(stable_pages, catalogue)))
    jobs.append(("kernels", partial(kernel_pages, catalogue)))
    jobs.append(("user interface", one(partial(abi_page, catalogue))))
    jobs.append(("CVE records, firmware, out of tree", partial(around_pages, catalogue)))
    jobs.append(("what comes next", one(partial(coming_page, catalogue))))
    jobs.append(("lists", partial(list_pages, catalogue, seen)))
    jobs.append(("front page", one(partial(front_page, catalogue))))
    return jobs
