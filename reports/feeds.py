"""Atom feeds of the site (RFC 4287): windows, changes, runs, what is around. Pure: a catalogue -> bytes.

An entry's id is a UUID made from the row's own name, so a reader recognises it when its state changes; its
``updated`` is the newest date of what it tells, never the time of publishing: unchanged data give the same
bytes. Links are relative to the feed, because a site does not know where it will be served.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree

from reports.catalogue import Catalogue, change_path, run_path, window_path
from reports.printable import one_line, visible
from reports.records import ChangeRecord, RunRecord
from reports.versions import sort_key

ATOM = "http://www.w3.org/2005/Atom"
MOST = 100  # entries of a feed, the latest first
_NAMES = uuid.uuid5(uuid.NAMESPACE_OID, "xdnawatch site feed")  # ours; changing it makes every entry new
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class FeedEntry:
    """One entry. ``page`` is relative to the site's root; ``text`` is plain."""

    key: str
    title: str
    updated: datetime
    page: str
    author: str
    text: str
    sample: bool = False


@dataclass(frozen=True)
class Feed:
    """One feed of the site; ``path`` is relative to its root."""

    path: str
    title: str
    page: str  # the page that shows the same
    entries: tuple[FeedEntry, ...]

    def xml(self) -> bytes:
        """The feed as UTF-8. ``updated`` of the feed is that of its newest entry."""
        root = ElementTree.Element("feed", xmlns=ATOM)
        _text(root, "id", _id(self.path))
        _text(root, "title", self.title)
        _text(root, "updated", _stamp(max((one.updated for one in self.entries), default=_EPOCH)))
        author = ElementTree.SubElement(root, "author")
        _text(author, "name", "xdnawatch")
        up = "../" * self.path.count("/")
        own = self.path.rpartition("/")[2]
        ElementTree.SubElement(root, "link", rel="self", type="application/atom+xml", href=own)
        ElementTree.SubElement(root, "link", rel="alternate", type="text/html", href=up + self.page)
        for one in self.entries:
            entry = ElementTree.SubElement(root, "entry")
            _text(entry, "id", _id(one.key))
            _text(entry, "title", ("[sample] " if one.sample else "") + one_line(one.title, 300))
            _text(entry, "updated", _stamp(one.updated))
            writer = ElementTree.SubElement(entry, "author")
            _text(writer, "name", one_line(one.author, 200) or "unknown")
            ElementTree.SubElement(entry, "link", rel="alternate", type="text/html", href=up + one.page)
            if one.sample:
                ElementTree.SubElement(entry, "category", term="sample")
            ElementTree.SubElement(entry, "summary", type="text").text = visible(one.text, 2000)
        ElementTree.indent(root, " ")
        text: str = ElementTree.tostring(root, "unicode")
        return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'.encode()


def feeds(catalogue: Catalogue) -> tuple[Feed, ...]:
    """Every feed of the site."""
    changes = [(_last(one), one) for one in catalogue.snapshot.changes]
    return (
        Feed(
            "feeds/windows.atom",
            "xdnawatch: release windows",
            "windows/index.html",
            _latest(_window(catalogue, name) for name in catalogue.windows),
        ),
        Feed(
            "feeds/changes.atom",
            "xdnawatch: changes",
            "windows/index.html",
            _latest(_change(date, one) for date, one in changes if date is not None),
        ),
        Feed(
            "feeds/around.atom",
            "xdnawatch: CVE records, firmware, user space",
            "firmware/index.html",
            _latest(_around(catalogue)),
        ),
        Feed(
            "feeds/runs.atom",
            "xdnawatch: runs",
            "runs/index.html",
            _latest(_run(one) for one in catalogue.snapshot.runs if one.ended_at is not None),
        ),
    )


def _window(catalogue: Catalogue, name: str) -> FeedEntry:
    changes: Sequence[ChangeRecord] = catalogue.changes_by_window.get(name, ())
    tags = [
        (tag.name, tag.date)
        for tag in catalogue.snapshot.tags
        if tag.role == "mainline" and tag.date and (tag.name + "-").startswith(f"v{name}-")
    ]
    newest = max(tags, key=lambda tag: sort_key(tag[0]), default=None)
    dates = [date for one in changes if (date := _last(one)) is not None] + [date for _, date in tags]
    states = Counter(one.state for one in changes)
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no change known"
    return FeedEntry(
        f"window {name}",
        f"{name}: {len(changes)} change{'s' * (len(changes) != 1)}" + (f", {newest[0]}" if newest else ""),
        max(dates, default=_EPOCH),
        window_path(name),
        "xdnawatch",
        told,
        bool(changes) and all(one.sample for one in changes),
    )


def _change(date: datetime, one: ChangeRecord) -> FeedEntry:
    where = one.first_tag or (f"{one.window}, {one.probability:.0%}" if one.window else "")
    return FeedEntry(
        f"change {one.slug}",
        f"{one.title} ({', '.join(filter(None, (one.state, where)))})",
        date,
        change_path(one),
        one.author_name or one.author_email,
        one.rule,
        one.sample,
    )


def _run(one: RunRecord) -> FeedEntry:
    kernel = one.kernel.label if one.kernel else one.requested
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(one.outcomes.items()))
    simulated = " (simulated NPU)" if one.machine.simulated else ""
    return FeedEntry(
        f"run {one.id}",
        f"{kernel} on {one.machine.name}{simulated}: {one.verdict or one.state}",
        one.ended_at or one.started_at,
        run_path(one.id),
        one.machine.name,
        "; ".join(filter(None, (f"suite {one.suite}", counts, one.reason))),
    )


def _around(catalogue: Catalogue) -> Iterator[FeedEntry]:
    """New CVE records, steps of the names that firmware is asked for by, and releases of user space."""
    around = catalogue.around
    for cve in around.cves:
        if cve.published is not None:
            told = "; ".join(f"{check.place}: {check.verdict}" for check in cve.checks)
            title = f"{cve.name}: {cve.title} ({cve.verdict})"
            yield FeedEntry(
                f"cve {cve.name}", title, cve.published, "cves/index.html", "kernel CVE records",
                told or "no commit of it is known", cve.sample,
            )  # fmt: skip
    named = {one.path for one in around.firmware}
    for step in around.steps:
        if step.path in named:
            where = step.tag or "no release yet"
            version = f" to {step.version}" if step.version else ""
            key = f"firmware {step.path} {step.what} {step.version} {where} {step.date:%Y-%m-%d}"
            yield FeedEntry(
                key, f"{step.path} {step.what}{version} in {where}", step.date, "firmware/index.html",
                "firmware tree", f"{step.what}{version}, {where}", step.sample,
            )  # fmt: skip
    for release in around.userspace:
        if release.date is not None:
            lacks = [f"{one} does not answer {len(names)} names" for one, names in release.lacks if names]
            driver = f", driver {release.driver_version}" if release.driver_version else ""
            yield FeedEntry(
                f"userspace {release.tree} {release.name} {release.commit}",
                f"{release.tree} {release.name}{driver}",
                release.date,
                "firmware/index.html",
                release.tree,
                "; ".join((f"{release.kind} {release.commit[:12]}", *lacks)),
                release.sample,
            )


def _last(one: ChangeRecord) -> datetime | None:
    """The newest date of what is told about a change: posted, committed, tagged, in any tree."""
    dates = [one.first_posted, one.last_posted]
    for match in one.matches:
        dates.append(match.commit.commit_date)
        dates += [landing.date for landing in match.commit.landings]
    return max((date for date in dates if date is not None), default=None)


def _latest(entries: Iterable[FeedEntry]) -> tuple[FeedEntry, ...]:
    return tuple(sorted(entries, key=lambda one: (one.updated, one.key), reverse=True)[:MOST])


def _id(key: str) -> str:
    return f"urn:uuid:{uuid.uuid5(_NAMES, key.encode('utf-8', 'replace').decode())}"


def _stamp(date: datetime) -> str:
    return date.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _text(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text
