"""What comes next: the coming tags with their ranges, the changes on their way, how good forecasts were."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from markupsafe import Markup

from reports.answer_records import ComingRecord, DatesRecord, Milestone
from reports.catalogue import Catalogue, window_path
from reports.forecast_charts import Range, ranges, reliability
from reports.marks import state_mark
from reports.page import Page
from reports.pages.parts import Data, brief_change, mark_data, waits_of
from reports.records import ChangeRecord
from reports.versions import sort_key

ON_THEIR_WAY = ("landed", "queued", "applied")
ON_THE_LIST = ("posted", "reviewed", "changes-requested")


def coming_page(catalogue: Catalogue) -> Page:
    """next/index.html."""
    dates = catalogue.answers.dates
    rows = on_their_way(catalogue)
    backtest = _backtest(catalogue)
    return Page(
        path="next/index.html",
        kind="next",
        title="What comes next",
        section="next",
        data={
            "dates": dates_data(dates) if dates is not None else None,
            "windows": [
                {
                    "window": window,
                    "page": window_path(window) if window else None,
                    "changes": [row for row in rows if row["window"] == window],
                }
                for window in sorted(
                    {row["window"] for row in rows}, key=lambda w: (w is None, sort_key(w or ""))
                )
            ],
            "blocked": blocked(catalogue),
            "backtest": backtest,
        },
        charts=partial(_charts, dates, backtest),
        sample=any(row["sample"] for row in (*rows, *blocked(catalogue))),
    )


def on_their_way(catalogue: Catalogue) -> list[Data]:
    """Changes that a maintainer has and no release: with their release, when, and how sure."""
    found = []
    for change in catalogue.snapshot.changes:
        coming = catalogue.answers.coming.get(change.id)
        if coming is None or change.state not in ON_THEIR_WAY:
            continue
        found.append({**brief_change(change), **coming_data(change, coming)})
    return sorted(found, key=lambda row: (-row["probability"], row["title"].lower()))


def blocked(catalogue: Catalogue) -> list[Data]:
    """Changes on the list that wait for other work, as mails say."""
    found = []
    for change in catalogue.snapshot.changes:
        waits = [one for one in waits_of(change) if one["state"] != "fulfilled"]
        if waits and change.state in ON_THE_LIST:
            found.append(
                {**brief_change(change), "state": mark_data(state_mark(change.state)), "waits": waits}
            )
    return sorted(found, key=lambda row: row["title"].lower())


def coming_data(change: ChangeRecord, coming: ComingRecord) -> Data:
    """When one change is expected."""
    return {
        "state": mark_data(state_mark(change.state)),
        "author": change.author_name,
        "probability": change.probability,
        "rule": change.rule,
        "expected_tag": milestone_data(coming.first),
        "expected_release": milestone_data(coming.release),
    }


def milestone_data(stone: Milestone | None) -> Data | None:
    """A coming tag; days are ISO dates, both ends included."""
    if stone is None:
        return None
    return {
        "name": stone.name,
        "earliest": stone.earliest,
        "likely": stone.likely,
        "latest": stone.latest,
        "probability": stone.probability,
    }


def dates_data(dates: DatesRecord) -> Data:
    """The cycle: what is newest, what comes, as of which day."""
    return {
        "today": dates.today,
        "window": dates.window,
        "newest": dates.newest,
        "newest_days": sorted(set(dates.newest_days)),
        "stale": dates.stale,
        "rc8": dates.rc8,
        "next_is_final": dates.next_is_final,
        "following": [milestone_data(stone) for stone in dates.following],
    }


def _backtest(catalogue: Catalogue) -> Data | None:
    """The stored scores of past forecasts, as far as they are of the known shape."""
    stored = catalogue.answers.backtest
    if stored is None:
        return None
    return {
        "made": catalogue.answers.backtest_at,
        "first": str(stored.get("first") or ""),
        "last": str(stored.get("last") or ""),
        "dates": [
            {
                "target": str(one.get("target") or ""),
                **{
                    name: _number(one.get(name))
                    for name in ("days", "rate", "width", "peer_rate", "peer_width", "events", "event_hits")
                },
            }
            for one in _list(stored.get("dates"))
        ],
        "windows": [
            {
                "family": str(one.get("family") or ""),
                **{name: _number(one.get(name)) for name in ("cases", "hits", "named", "named_hits")},
            }
            for one in _list(stored.get("windows"))
        ],
        "misses": _number(stored.get("misses")),
        "calibrations": [
            {
                "name": name,
                "what": str(one.get("what") or name),
                "count": _number(one.get("count")),
                "brier": _number(one.get("brier")),
                "base": _number(one.get("base")),
                "table": [
                    {key: _number(row.get(key)) for key in ("low", "high", "count", "said", "happened")}
                    for row in _list(one.get("table"))
                ],
            }
            for name in ("inside", "right", "rc8")
            if isinstance(one := stored.get(name), Mapping)
        ],
    }


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _charts(dates: DatesRecord | None, backtest: Data | None) -> Mapping[str, Markup]:
    found: dict[str, Markup] = {}
    if dates is not None and dates.following:
        found["tags"] = ranges(
            "The coming tags with the days in which each is expected",
            dates.today,
            [Range(s.name, s.earliest, s.likely, s.latest, s.probability) for s in dates.following],
        )
    for one in backtest["calibrations"] if backtest else ():
        found[one["name"]] = reliability(
            f"Said and happened: {one['what']}",
            [(row["said"], row["happened"], int(row["count"])) for row in one["table"]],
        )
    return found
