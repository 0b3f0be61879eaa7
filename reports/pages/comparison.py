"""Two runs side by side: what differs in results, values and log, and what the environment explains."""

from __future__ import annotations

from collections.abc import Mapping

from reports.catalogue import MAIN_SUITE, Catalogue, compare_path, path_of_test
from reports.compare import LABELS, QUIET_LABELS, Comparison, Difference, compare, plural
from reports.marks import Tone
from reports.page import Page
from reports.pages.parts import Data, any_simulated, change_data, metric_data, run_data
from reports.records import RunRecord
from reports.verdicts import entered_between

MAX_CHANGES = 80

TONES: dict[str, Tone] = {
    "new failure": "bad",
    "new finding": "bad",
    "failing, unknown before": "bad",
    "not run": "doubt",
    "newly skipped": "doubt",
    "value changed": "busy",
    "fixed": "good",
    "finding gone": "good",
    "no longer skipped": "good",
}


def comparison_page(catalogue: Catalogue, before: RunRecord, after: RunRecord) -> Page:
    """compare/<machine>/<kernel>..<kernel>.html, or compare/machines/<kernel>/<machine>..<machine>.html."""
    found = compare(catalogue.side(before), catalogue.side(after))
    data = comparison_data(catalogue, found)
    return Page(
        path=compare_path(before, after),
        kind="compare",
        title=comparison_title(before, after),
        section="compare",
        data=data,
        sample=any(change["sample"] for change in data["changes"]),
        simulated=any_simulated((before, after)),
    )


def comparison_title(before: RunRecord, after: RunRecord) -> str:
    """ "7.0.13 → 7.3.4 on virtual-npu4", or "virtual-npu1 and virtual-npu4 under 7.3.4"."""
    old = before.kernel.label if before.kernel else before.requested
    new = after.kernel.label if after.kernel else after.requested
    suite = "" if after.suite_family == MAIN_SUITE else f", {after.suite_family} suite"
    if before.machine.id == after.machine.id:
        return f"{old} → {new} on {after.machine.name}{suite}"
    return f"{before.machine.name} and {after.machine.name} under {new}{suite}"


def comparison_data(catalogue: Catalogue, found: Comparison) -> Data:
    """A comparison as JSON: also the answer of ``xdnawatch compare --json``."""
    before, after = found.before, found.after
    changes = (
        entered_between(catalogue.snapshot.changes, before.kernel, after.kernel)
        if before.kernel and after.kernel and before.machine.id == after.machine.id
        else ()
    )
    return {
        "title": comparison_title(before, after),
        "headline": found.headline,
        "regressed": found.regressed,
        "same_machine": before.machine.id == after.machine.id,
        "before": run_data(before),
        "after": run_data(after),
        "caveats": list(found.caveats),
        "counts": counts_data(found.counts),
        "equal_results": found.equal_results,
        "equal_values": found.equal_values,
        "groups": [
            {
                "label": label,
                "tone": TONES.get(label, "calm"),
                "quiet": label in QUIET_LABELS,
                "differences": [_difference(d) for d in found.differences if d.label == label],
            }
            for label in LABELS
            if any(d.label == label for d in found.differences)
        ],
        "metrics": [metric_data(change) for change in found.metrics],
        "environment": [
            {"name": f.name, "before": f.before, "after": f.after, "iommu": f.iommu}
            for f in found.environment
        ],
        "changes": [change_data(change) for change in changes[:MAX_CHANGES]],
        "change_count": len(changes),
    }


def counts_data(counts: Mapping[str, int]) -> list[Data]:
    """Label -> how many, with the words and the tone they are shown in."""
    return [
        {"label": label, "count": count, "words": plural(count, label), "tone": TONES.get(label, "calm")}
        for label, count in counts.items()
    ]


def _difference(difference: Difference) -> Data:
    return {
        "kind": difference.kind,
        "subject": difference.subject,
        "page": None if difference.kind == "finding" else path_of_test(difference.subject),
        "detail": difference.detail,
        "before": difference.before,
        "after": difference.after,
        "note": difference.note,
        "sure": difference.sure,
    }
