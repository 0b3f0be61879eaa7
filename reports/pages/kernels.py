"""Which kernel has what: each line of kernels, and what each of its versions brought or lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.answer_records import KnownKernelRecord
from reports.catalogue import Catalogue, branch_path, line_path
from reports.marks import state_mark
from reports.page import Page
from reports.pages.parts import Data, brief_change, mark_data

KINDS = ("mainline", "stable", "distribution")


def kernel_pages(catalogue: Catalogue) -> Iterator[Page]:
    """kernels/index.html, and kernels/<line>.html for each line."""
    lines = sorted(catalogue.kernel_lines.values(), key=_order)
    for line in lines:
        yield _line_page(catalogue, line)
    yield Page(
        path="kernels/index.html",
        kind="kernels",
        title="Kernels and what they carry",
        section="kernels",
        data={"lines": [_line_data(catalogue, line) for line in lines]},
        sample=any(line[-1].sample for line in lines),
    )


def _order(line: Sequence[KnownKernelRecord]) -> tuple[int, float, str]:
    newest = line[-1]
    kind = KINDS.index(newest.kind) if newest.kind in KINDS else len(KINDS)
    return (kind, -newest.date.timestamp() if newest.date else 0.0, newest.line)


def _line_data(catalogue: Catalogue, line: Sequence[KnownKernelRecord]) -> Data:
    newest = line[-1]
    news = next((one for one in reversed(line) if one.added or one.removed), None)
    return {
        "line": newest.line,
        "kind": newest.kind,
        "page": line_path(newest.line),
        "sample": newest.sample,
        "versions": len(line),
        "newest": _kernel(newest),
        "last_news": _kernel_news(catalogue, news) if news else None,
    }


def _line_page(catalogue: Catalogue, line: Sequence[KnownKernelRecord]) -> Page:
    newest = line[-1]
    return Page(
        path=line_path(newest.line),
        kind="kernel-line",
        title=f"Kernels of {newest.line}",
        section="kernels",
        data={
            **_line_data(catalogue, line),
            "branch_page": branch_path(newest.line) if newest.line in catalogue.branches else None,
            "kernels": _grouped(catalogue, line),
        },
        sample=newest.sample,
    )


def _grouped(catalogue: Catalogue, line: Sequence[KnownKernelRecord]) -> list[Data]:
    """Newest first; versions that brought nothing stand together: {"quiet": [...]} or a kernel with news."""
    found: list[Data] = []
    for at, kernel in enumerate(line):
        if at and not kernel.added and not kernel.removed:
            if not found[-1]["quiet"]:
                found.append({"quiet": []})
            found[-1]["quiet"].append(_kernel(kernel))
        else:
            found.append({"quiet": None, "first": at == 0, **_kernel_news(catalogue, kernel)})
    return found[::-1]


def _kernel(kernel: KnownKernelRecord) -> Data:
    return {
        "version": kernel.version,
        "upstream": kernel.upstream,
        "date": kernel.date,
        "carried": kernel.carried,
        "unknown": kernel.unknown,
    }


def _kernel_news(catalogue: Catalogue, kernel: KnownKernelRecord) -> Data:
    return {
        **_kernel(kernel),
        "added": _changes(catalogue, kernel.added),
        "removed": _changes(catalogue, kernel.removed),
    }


def _changes(catalogue: Catalogue, ids: Sequence[int]) -> list[Data]:
    changes = [catalogue.changes[key] for key in ids if key in catalogue.changes]
    return [
        {**brief_change(change), "state": mark_data(state_mark(change.state))}
        for change in sorted(changes, key=lambda one: one.title.lower())
    ]
