"""What surrounds the kernel: CVE records against the branches, firmware, the out-of-tree driver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from reports.around_records import CveRecord, TwinRecord
from reports.catalogue import Catalogue, branch_path
from reports.marks import CHECKS, NEEDS, TWINS, check_mark, need_mark, twin_mark
from reports.page import Page
from reports.pages.parts import Data, brief_change, mark_data
from reports.verdicts import LANDED


def around_pages(catalogue: Catalogue) -> Iterator[Page]:
    """cves/index.html, firmware/index.html, twin/index.html."""
    yield _cves(catalogue)
    yield _firmware(catalogue)
    yield _twin(catalogue)


def cve_data(catalogue: Catalogue, cve: CveRecord) -> Data:
    """A record with the change that mends it and its checks, those that differ first."""
    change = catalogue.changes.get(cve.change) if cve.change is not None else None
    order = list(CHECKS)
    checks = sorted(cve.checks, key=lambda c: order.index(c.verdict) if c.verdict in order else len(order))
    return {
        "name": cve.name,
        "state": cve.state,
        "title": cve.title,
        "published": cve.published,
        "severity": cve.severity,
        "verdict": mark_data(check_mark(cve.verdict)),
        "change": brief_change(change) if change else None,
        "rule": cve.rule,
        "score": cve.score,
        "sample": cve.sample,
        "checks": [
            {
                "place": check.place,
                "page": branch_path(check.place) if check.place in catalogue.branches else None,
                "says": check.says,
                "found": check.found,
                "verdict": mark_data(check_mark(check.verdict)),
                "why": check.why,
            }
            for check in checks
        ],
    }


def twin_data(catalogue: Catalogue, twin: TwinRecord) -> Data:
    """A commit of an out-of-tree driver with the change it is upstream."""
    change = catalogue.changes.get(twin.change) if twin.change is not None else None
    return {
        "tree": twin.tree,
        "sha": twin.sha,
        "title": twin.title,
        "author": twin.author,
        "date": twin.date,
        "status": mark_data(twin_mark(twin.status)),
        "change": brief_change(change) if change else None,
        "rule": twin.rule,
        "score": twin.score,
        "evidence": twin.evidence,
        "first": twin.first,
        "days": twin.days,
        "sample": twin.sample,
    }


def _cves(catalogue: Catalogue) -> Page:
    found = [cve_data(catalogue, cve) for cve in catalogue.around.cves]
    order = list(CHECKS)
    found.sort(
        key=lambda row: order.index(row["verdict"]["word"]) if row["verdict"]["word"] in order else len(order)
    )
    return Page(
        path="cves/index.html",
        kind="cves",
        title="CVE records",
        section="cves",
        data={"cves": found},
        sample=any(row["sample"] for row in found),
    )


def _firmware(catalogue: Catalogue) -> Page:
    order = list(NEEDS)
    needs = sorted(
        catalogue.around.firmware,
        key=lambda one: order.index(one.verdict) if one.verdict in order else len(order),
    )
    return Page(
        path="firmware/index.html",
        kind="firmware",
        title="Firmware",
        section="firmware",
        data={
            "needs": [
                {
                    "path": one.path,
                    "device": one.device,
                    "generations": list(one.generations),
                    "first_kernel": one.first_kernel,
                    "last_kernel": one.last_kernel,
                    "version": one.version,
                    "since": one.since,
                    "since_date": one.since_date,
                    "verdict": mark_data(need_mark(one.verdict)),
                    "why": one.why,
                    "sample": one.sample,
                }
                for one in needs
            ],
            "steps": [
                {
                    "path": step.path,
                    "what": step.what,
                    "version": step.version,
                    "tag": step.tag,
                    "date": step.date,
                }
                for step in catalogue.around.steps
            ],
            "userspace": [
                {
                    "tree": one.tree,
                    "name": one.name,
                    "kind": one.kind,
                    "commit": one.commit,
                    "date": one.date,
                    "version": one.version,
                    "driver_version": one.driver_version,
                    "pins": list(one.pins),
                    "answered_by": [kernel for kernel, lacks in one.lacks if not lacks],
                    "lacks": [
                        {"kernel": kernel, "names": list(lacks)} for kernel, lacks in one.lacks if lacks
                    ],
                }
                for one in catalogue.around.userspace
            ],
        },
        sample=any(
            (
                *(one.sample for one in needs),
                *(step.sample for step in catalogue.around.steps),
                *(one.sample for one in catalogue.around.userspace),
            )
        ),
    )


def _twin(catalogue: Catalogue) -> Page:
    twins = catalogue.around.twins
    counts = Counter(twin.status for twin in twins)
    order = [*TWINS, *(status for status in counts if status not in TWINS)]
    paired = {twin.change for twin in twins}
    worlds = {twin.sample for twin in twins}
    lacking = [
        change
        for change in catalogue.snapshot.changes
        if change.state in LANDED and change.sample in worlds and change.id not in paired
    ]
    return Page(
        path="twin/index.html",
        kind="twin",
        title="The out-of-tree driver",
        section="twin",
        data={
            "trees": sorted({twin.tree for twin in twins}),
            "groups": [
                {
                    "status": mark_data(twin_mark(status)),
                    "common": _common([twin for twin in twins if twin.status == status]),
                    "commits": [twin_data(catalogue, twin) for twin in twins if twin.status == status],
                }
                for status in order
                if counts[status]
            ],
            "lacking": [brief_change(change) for change in lacking],
        },
        sample=any(twin.sample for twin in twins),
    )


def _common(twins: Sequence[TwinRecord]) -> Data | None:
    """The reason, where all of several commits have the same."""
    reasons = {(twin.rule, twin.score, twin.evidence) for twin in twins}
    if len(twins) < 2 or len(reasons) > 1:
        return None
    rule, score, evidence = reasons.pop()
    return {"rule": rule, "score": score, "evidence": evidence}
