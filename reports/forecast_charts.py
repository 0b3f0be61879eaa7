"""Pictures of forecasts: coming tags as ranges of days, and what was said against what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import sqrt

from markupsafe import Markup

from reports.svg import element, picture, titled

ROW = 20
LEFT = 74.0
WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Range:
    """A tag and the days in which it is expected (ISO dates, both included)."""

    name: str
    earliest: str
    likely: str
    latest: str
    probability: float


def ranges(label: str, today: str, rows: Sequence[Range], width: float = 362) -> Markup:
    """One row a tag on an axis of days: a bar from the first to the last day, a mark on the likely one."""
    begin = date.fromisoformat(today)
    end = max(date.fromisoformat(row.latest) for row in rows)
    days = max((end - begin).days, 1) + 2
    top, unit = 22.0, (width - LEFT - 48) / days
    height = top + len(rows) * ROW + 4

    def x(day: date) -> float:
        return LEFT + max((day - begin).days, 0) * unit

    parts: list[Markup] = []
    month = date(begin.year + begin.month // 12, begin.month % 12 + 1, 1)
    parts.append(element("text", "today", x=LEFT, y=12, text_anchor="middle", class_="tick"))
    parts.append(element("path", d=f"M{LEFT} {top - 4}V{height - 2:.0f}", class_="axis"))
    while month <= end:
        at = x(month)
        parts.append(element("path", d=f"M{at:.1f} {top - 4}V{height - 2:.0f}", class_="stem"))
        if at - LEFT > 40:
            parts.append(element("text", f"{month:%Y-%m}", x=at, y=12, text_anchor="middle", class_="tick"))
        month = date(month.year + month.month // 12, month.month % 12 + 1, 1)
    for at, row in enumerate(rows):
        first, likely, last = (date.fromisoformat(d) for d in (row.earliest, row.likely, row.latest))
        y = top + at * ROW
        release = "-rc" not in row.name
        words = f"{row.earliest} to {row.latest}" if first != last else row.earliest
        parts.append(
            titled(
                f"{row.name}: {words}, {row.probability:.0%}",
                element("text", row.name, x=LEFT - 10, y=y + 12, text_anchor="end"),
                element(
                    "rect",
                    x=x(first),
                    y=y + 4,
                    width=max((last - first).days * unit, 0) + 5,
                    height=9,
                    rx=2,
                    class_="span release" if release else "span",
                ),
                element("circle", cx=x(likely) + 2.5, cy=y + 8.5, r=3, class_="dot"),
                element("text", f"{likely:%m-%d}", x=x(last) + 12, y=y + 12, class_="tick"),
            )
        )
    return picture(width, height, label, *parts)


def reliability(label: str, points: Sequence[tuple[float, float, int]], side: float = 150) -> Markup:
    """Said (across) against happened (up), a circle a bin whose area grows with its forecasts.

    On the diagonal the probabilities are honest; above it more came true than was promised.
    """
    pad, top, bottom = 40.0, 12.0, 20.0
    most = max((count for _, _, count in points), default=1) or 1

    def place(share: float) -> float:
        return min(max(share, 0.0), 1.0) * side

    parts = [
        element("path", d=f"M{pad} {top}V{top + side}H{pad + side}", class_="axis"),
        element("path", d=f"M{pad} {top + side}L{pad + side} {top}", class_="stem diagonal"),
    ]
    for share in (0.0, 0.5, 1.0):
        words = f"{share:.0%}"
        parts += [
            element(
                "text", words, x=pad + place(share), y=top + side + 15, text_anchor="middle", class_="tick"
            ),
            element(
                "text", words, x=pad - 5, y=top + 4 + side - place(share), text_anchor="end", class_="tick"
            ),
        ]
    for said, happened, count in points:
        parts.append(
            titled(
                f"said {said:.1%}, happened {happened:.1%}, {count} forecasts",
                element(
                    "circle",
                    cx=pad + place(said),
                    cy=top + side - place(happened),
                    r=3 + 7 * sqrt(count / most),
                    class_="bubble",
                ),
            )
        )
    return picture(pad + side + 20, top + side + bottom, label, *parts)
