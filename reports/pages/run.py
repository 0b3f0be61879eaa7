"""A run: verdict, proof of the boot, environment, results with failures first, findings, log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from markupsafe import Markup

from reports.catalogue import Catalogue, compare_path, log_path, path_of_test, run_path
from reports.charts import phases_bar
from reports.compare import essence, plural
from reports.logs import LOG_NAMES, Log, excerpt, log_lines, read_log
from reports.marks import SUSPECTED, outcome_mark, standing_mark
from reports.measured import metric_changes
from reports.page import Page
from reports.pages.parts import Data, change_data, expectation_data, mark_data, metric_data, run_data
from reports.records import FindingRecord, ResultRecord, RunRecord
from reports.values import flatten, gist, shown
from reports.verdicts import FAILING, entered_between, provoked, tone_in

MAX_SUSPECTS = 60
MAX_FINDINGS = 300
MAX_PLACES = 12
NEWS = ("new failure", "fixed", "newly skipped", "missing", "still failing")
# Facts that prove which kernel was booted; shown apart from the rest of the environment.
PROOF_WORDS = ("boot_id", "nonce", "cmdline", "command_line", "uname", "build_id", "proof")
_RANK = {"incomplete": 0, "error": 1, "failed": 2, "not-run": 3, "skipped": 5, "passed": 6}


def run_pages(catalogue: Catalogue, run: RunRecord, folder: Path) -> Iterator[Page]:
    """runs/<id>.html, and runs/<id>/<log>.html for each log in the run's ``folder``."""
    logs = [log for name in LOG_NAMES if (log := read_log(folder, name)) is not None]
    yield _run_page(catalogue, run, logs)
    for log in logs:
        yield _log_page(run, log)


def _run_page(catalogue: Catalogue, run: RunRecord, logs: Sequence[Log]) -> Page:
    judgement = catalogue.judgements[run.id]
    baseline = judgement.baseline
    facts = flatten(run.environment)
    outcomes = run.outcome_of
    proofs = [name for name in facts if any(word in name.lower() for word in PROOF_WORDS)]
    suspects = (
        entered_between(catalogue.snapshot.changes, baseline.kernel, run.kernel)
        if judgement.regressed and baseline and baseline.kernel and run.kernel
        else ()
    )
    return Page(
        path=run_path(run.id),
        kind="run",
        title=f"{run.kernel.label if run.kernel else run.requested} on {run.machine.name}",
        section="runs",
        data={
            **run_data(run),
            "ended": run.ended_at,
            "boot_id": run.boot_id,
            "build_id": run.kernel.build_id if run.kernel else None,
            "suite_digest": run.suite_digest,
            "proof": [
                {"name": name, "value": shown(value)}
                for name, value in (flatten(run.kernel.detail).items() if run.kernel else ())
            ]
            + [{"name": name, "value": shown(facts[name])} for name in proofs],
            "environment_digest": run.environment_digest,
            "environment": [
                {"name": name, "value": shown(value)} for name, value in facts.items() if name not in proofs
            ],
            "phases": [
                {"name": str(name), "seconds": float(value)}
                for name, value in run.seconds.items()
                if isinstance(value, int | float)
            ],
            "baseline": run_data(baseline) if baseline else None,
            "compare": compare_path(baseline, run) if baseline else None,
            "has_compare": _has_compare(catalogue, baseline, run),
            "news": [
                {
                    "word": word,
                    "words": plural(len(tests), word),
                    "tone": standing_mark(word).tone,
                    "tests": [{"test": test, "page": path_of_test(test)} for test in tests],
                }
                for word in NEWS
                if (tests := judgement.tests(word))
            ],
            "suspects": [change_data(change) for change in suspects[:MAX_SUSPECTS]],
            "suspect_count": len(suspects),
            "metrics": [
                metric_data(change)
                for change in metric_changes(
                    catalogue.side(baseline).all if baseline else (), catalogue.side(run).all
                )
                if change.after is not None
            ],
            "files": _files(run, judgement.standings, catalogue.flaky(run)),
            "findings": _findings(catalogue, run, logs),
            "finding_count": len(run.findings),
            "excerpts": _excerpts(run, outcomes, logs),
            "logs": [
                {
                    "name": log.name,
                    "page": log_path(run.id, log.name),
                    "size": log.size,
                    "lines": len(log.lines),
                }
                for log in logs
            ],
        },
        charts=partial(_charts, run),
        sample=any(change.sample for change in suspects[:MAX_SUSPECTS]),
        simulated=run.machine.simulated,
    )


def _charts(run: RunRecord) -> Mapping[str, Markup]:
    phases = [
        (str(name), float(value))
        for name, value in run.seconds.items()
        if isinstance(value, int | float) and name != "total" and value > 0
    ]
    return {"phases": phases_bar("Seconds by phase", phases)} if phases else {}


def _has_compare(catalogue: Catalogue, baseline: RunRecord | None, run: RunRecord) -> bool:
    return any(a is baseline and b is run for a, b in catalogue.neighbours)


def _files(run: RunRecord, standings: Mapping[str, str], flaky: frozenset[str]) -> list[Data]:
    """Results grouped by test file, files with failures first, failures first in each."""
    groups: dict[str, list[ResultRecord]] = {}
    for result in run.results:
        groups.setdefault(result.test.partition("::")[0], []).append(result)
    found = []
    for file, results in groups.items():
        suspected = sum(outcome_mark(r.outcome, r.suspect) is SUSPECTED for r in results)
        failed = sum(r.outcome in FAILING for r in results) - suspected
        passed = sum(r.outcome == "passed" for r in results)
        found.append(
            {
                "file": file,
                "failed": failed,
                "passed": passed,
                "suspected": suspected,
                "other": len(results) - failed - suspected - passed,
                "results": [
                    _result(r, standings.get(r.test, ""), r.test in flaky)
                    for r in sorted(results, key=lambda r: _RANK.get(r.outcome, 4))
                ],
            }
        )
    return sorted(found, key=lambda group: (not group["failed"], not group["suspected"]))


def _result(result: ResultRecord, word: str, flaky: bool) -> Data:
    return {
        "test": result.test,
        "name": result.test.partition("::")[2] or result.test,
        "page": path_of_test(result.test),
        "title": result.title,
        "outcome": mark_data(outcome_mark(result.outcome, result.suspect)),
        "standing": mark_data(standing_mark("flaky" if flaky else word)) if word or flaky else None,
        "seconds": result.seconds,
        "message": result.message,
        "gist": gist(result.message),
        "suspect": result.suspect,
        "expectations": [expectation_data(expectation) for expectation in result.expectations],
        "metrics": [metric.as_json() | {"name": metric.name} for metric in result.metrics],
        "recorded": [{"name": name, "value": shown(value)} for name, value in flatten(result.facts).items()],
    }


def _findings(catalogue: Catalogue, run: RunRecord, logs: Sequence[Log]) -> list[Data]:
    """Findings that say the same as one entry with its places, the loud ones first."""
    groups: dict[tuple[str, str, str], list[FindingRecord]] = {}
    for finding in run.findings:
        key = (finding.signature, essence(finding), tone_in(finding, run.outcome_of))
        groups.setdefault(key, []).append(finding)
    rank = {"bad": 0, "doubt": 1}
    ordered = sorted(groups.items(), key=lambda g: (rank.get(g[0][2], 2), g[1][0].log, g[1][0].line))
    return [_finding(catalogue, run, same, logs) for _, same in ordered[:MAX_FINDINGS]]


def _finding(
    catalogue: Catalogue, run: RunRecord, same: Sequence[FindingRecord], logs: Sequence[Log]
) -> Data:
    first = same[0]
    return {
        "signature": first.signature,
        "class": first.klass,
        "severity": first.severity,
        "tone": tone_in(first, run.outcome_of),
        "provoked": provoked(first, run.outcome_of),
        "text": first.text,
        "environment_fault": first.environment_fault,
        "times": len(same),
        "places": [_place(catalogue, run, finding, logs) for finding in same[:MAX_PLACES]],
    }


def _place(catalogue: Catalogue, run: RunRecord, finding: FindingRecord, logs: Sequence[Log]) -> Data:
    shown_log = next((log for log in logs if log.name == finding.log), None)
    known = shown_log is not None and 1 <= finding.line <= len(shown_log.lines)
    return {
        "log": finding.log,
        "line": finding.line,
        "log_page": log_path(run.id, finding.log) if known else None,
        "test": finding.test,
        "test_page": path_of_test(finding.test) if finding.test in catalogue.known_tests else None,
    }


def _excerpts(run: RunRecord, outcomes: Mapping[str, str], logs: Sequence[Log]) -> list[Data]:
    found = []
    for log in logs:
        marked = [
            (f.line, f.signature)
            for f in run.findings
            if f.log == log.name and tone_in(f, outcomes) != "calm"
        ]
        if not marked and log.name != "kernel.log":
            continue
        lines = excerpt(log, marked)
        found.append(
            {
                "log": log.name,
                "page": log_path(run.id, log.name),
                "around_findings": bool(marked),
                "lines": [
                    {"number": e.number, "text": e.text, "signature": e.signature, "gap": e.gap}
                    for e in lines
                ],
            }
        )
    return found


def _log_page(run: RunRecord, log: Log) -> Page:
    outcomes = run.outcome_of
    marks = {f.line: f for f in run.findings if f.log == log.name}
    return Page(
        path=log_path(run.id, log.name),
        kind="log",
        title=f"{log.name} of {run.kernel.label if run.kernel else run.requested} on {run.machine.name}",
        section="runs",
        data={
            "run": run_data(run),
            "log": log.name,
            "size": log.size,
            "left_out": log.left_out,
            "findings": [
                {"line": f.line, "signature": f.signature, "tone": tone_in(f, outcomes)}
                for line, f in sorted(marks.items())
                if 1 <= line <= len(log.lines)
            ],
            "lines": list(log.lines),
        },
        charts=lambda: {"lines": log_lines(log.lines, {n: tone_in(f, outcomes) for n, f in marks.items()})},
        simulated=run.machine.simulated,
    )
