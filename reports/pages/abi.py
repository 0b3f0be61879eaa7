"""What changes touch that others rely on: the user interface with a verdict, parameters, firmware, ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reports.answer_records import TouchedRecord
from reports.catalogue import Catalogue, window_path
from reports.marks import ABI, abi_mark, state_mark
from reports.page import Page
from reports.pages.parts import Data, brief_change, mark_data
from reports.records import ChangeRecord

# The tracker's words for what a patch names, as a reader calls it; in the order of the page.
KINDS = {
    "parameter": "module parameter",
    "firmware": "firmware file",
    "pci-id": "PCI id",
    "kconfig": "Kconfig",
    "tracepoint": "tracepoint",
    "documentation": "documentation",
}
# A change that never landed and is given up is no news for those who use the interface.
GIVEN_UP = ("dropped", "superseded")


def abi_page(catalogue: Catalogue) -> Page:
    """abi/index.html: by release, the newest first; what no release has yet stands before them."""
    windows: list[str | None] = [None, *catalogue.windows]
    homeless = [c for c in catalogue.snapshot.changes if not c.window and c.state not in GIVEN_UP]
    releases = []
    for window in windows:
        changes = homeless if window is None else catalogue.changes_by_window.get(window, ())
        found = _release(catalogue, changes)
        if found["interface"] or found["named"]:
            releases.append({"window": window, "page": window_path(window) if window else None, **found})
    shown = [row for release in releases for row in release["interface"]]
    counts = Counter(row["verdict"]["word"] for row in shown)
    return Page(
        path="abi/index.html",
        kind="abi",
        title="User interface, parameters, firmware",
        section="abi",
        data={
            "counts": [{"verdict": mark_data(mark), "count": counts[word]} for word, mark in ABI.items()],
            "read": len(catalogue.answers.touched),
            "changes": len(catalogue.snapshot.changes),
            "releases": releases,
        },
        sample=any(row["sample"] for row in shown)
        or any(row["sample"] for release in releases for row in release["named"]),
    )


def _release(catalogue: Catalogue, changes: Sequence[ChangeRecord]) -> Data:
    rank = list(ABI)
    interface: list[Data] = []
    named: list[Data] = []
    for change in changes:
        touched = catalogue.answers.touched.get(change.id)
        if touched is None:
            continue
        about = {**brief_change(change), "state": mark_data(state_mark(change.state))}
        data = touched_data(touched)
        if data["uapi"]:
            interface.append({**about, **data})
        if data["named"]:
            named.append({**about, "named": data["named"]})
    interface.sort(
        key=lambda row: rank.index(row["verdict"]["word"]) if row["verdict"]["word"] in rank else 0
    )
    return {"interface": interface, "named": named}


def touched_data(touched: TouchedRecord) -> Data:
    """What one change touches. ``named`` is grouped by kind."""
    groups: dict[str, list[Data]] = {}
    for one in touched.named:
        groups.setdefault(str(one.get("kind") or ""), []).append(
            {name: str(one.get(name) or "") for name in ("name", "what", "file")}
        )
    order = list(KINDS)
    return {
        "verdict": mark_data(abi_mark(touched.verdict)),
        "source": touched.source,
        "uapi": [
            {
                **{name: str(one.get(name) or "") for name in ("kind", "name", "what", "file", "reason")},
                "verdict": mark_data(abi_mark(str(one.get("verdict") or ""))),
            }
            for one in touched.uapi
        ],
        "named": [
            {"kind": kind, "words": KINDS.get(kind, kind), "things": things}
            for kind, things in sorted(
                groups.items(), key=lambda g: order.index(g[0]) if g[0] in order else len(order)
            )
        ],
    }
