"""Pictures of judgements as inline SVG: grid, spark strip, value line, life of a change, bisection strip.

Colours come from the style sheet by tone, so that light and dark are the page's affair; each tone also
has a shape. Geometry is in CSS pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from reports.marks import Tone
from reports.printable import one_line
from reports.svg import element, linked, picture, titled

CELL = 15  # side of a square of a grid or a strip
GAP = 2
MAX_MARKED = 2_000  # rectangles of one picture
LETTER = 7.1  # mean width of a letter at 12 px, for room only


@dataclass(frozen=True)
class Cell:
    """One square: tone, what it says, where it leads."""

    tone: Tone
    title: str
    href: str | None = None


def _shape(tone: Tone, x: float, y: float, side: float = CELL) -> Markup:
    """The square of a tone with its sign: a tick, a cross, a bar, a ring or a dot (sprite of base.html)."""
    return element("use", href=f"#c-{tone}", x=x, y=y, width=side, height=side)


def _placed(cell: Cell, x: float, y: float) -> Markup:
    shape = titled(cell.title, _shape(cell.tone, x, y))
    return linked(cell.href, shape) if cell.href else shape


def grid(
    label: str,
    rows: Sequence[tuple[str, str | None]],
    columns: Sequence[tuple[str, str | None]],
    cells: Mapping[tuple[int, int], Cell],
) -> Markup:
    """Rows and columns are (text, link); ``cells`` by (row, column). Missing cells stay empty."""
    left = max((len(one_line(text, 48)) for text, _ in rows), default=0) * LETTER + 10
    top = min(max((len(one_line(text, 24)) for text, _ in columns), default=0) * LETTER * 0.78 + 14, 140)
    step = CELL + GAP
    parts: list[Markup] = []
    for at, (text, href) in enumerate(columns):
        x = left + at * step + CELL * 0.7
        words = element(
            "text", one_line(text, 24), x=0, y=0, transform=f"translate({x:.1f} {top - 6:.1f}) rotate(-52)"
        )
        parts.append(linked(href, words) if href else words)
    for row, (text, href) in enumerate(rows):
        y = top + row * step
        words = element("text", one_line(text, 48), x=left - 8, y=y + 11.5, text_anchor="end")
        parts.append(linked(href, words) if href else words)
        for column in range(len(columns)):
            cell = cells.get((row, column))
            if cell is not None:
                parts.append(_placed(cell, left + column * step, y))
    width = left + len(columns) * step + top * 0.8
    return picture(width, top + len(rows) * step + 2, label, *parts)


def strip(label: str, cells: Sequence[Cell]) -> Markup:
    """A row of squares in time, the newest at the right."""
    step = CELL + GAP
    return picture(
        max(len(cells) * step, step),
        CELL,
        label,
        *(_placed(cell, at * step, 0) for at, cell in enumerate(cells)),
        class_="chart strip",
    )


def value_line(label: str, points: Sequence[tuple[float, str]], width: float = 220) -> Markup:
    """A step line of (value, title); steps, since nothing is known between two kernels."""
    height, pad = 36.0, 5.0
    values = [value for value, _ in points]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = (width - 2 * pad) / max(len(points) - 1, 1)

    def y(value: float) -> float:
        return height / 2 if high == low else height - pad - (value - low) / span * (height - 2 * pad)

    path = f"M{pad:.1f} {y(values[0]):.1f}"
    for at, value in enumerate(values[1:], 1):
        path += f"H{pad + at * step:.1f}V{y(value):.1f}"
    dots = [
        titled(title, element("circle", cx=pad + at * step, cy=y(value), r=2.6, class_="dot"))
        for at, (value, title) in enumerate(points)
    ]
    return picture(width, height, label, element("path", d=path, class_="line"), *dots, class_="chart spark")


@dataclass(frozen=True)
class Event:
    """A moment in a change's life. ``major`` events have their words under the line."""

    when: datetime
    words: str
    tone: Tone
    title: str


def timeline(label: str, events: Sequence[Event], width: float = 860) -> Markup:
    """Events on a line that is true to time; words that would overlap go one row deeper."""
    ordered = sorted(events, key=lambda e: e.when)
    first, last = ordered[0].when, ordered[-1].when
    span = (last - first).total_seconds() or 1.0
    pad, line_y, rows = 12.0, 16.0, [0.0] * 6
    parts = [element("path", d=f"M{pad} {line_y}H{width - pad}", class_="axis")]
    deepest = 0
    for event in ordered:
        x = pad + (event.when - first).total_seconds() / span * (width - 2 * pad)
        text = f"{event.words} {event.when:%Y-%m-%d}"
        room = len(text) * LETTER * 0.94
        late = x + room > width
        start = max(x + 5 - room, 0) if late else max(x - 5, 0)
        row = next((n for n, used in enumerate(rows) if used <= start), len(rows) - 1)
        rows[row] = start + room + 10
        deepest = max(deepest, row)
        y = line_y + 24 + row * 17
        parts.append(element("path", d=f"M{x:.1f} {line_y}V{y - 11:.1f}", class_="stem"))
        parts.append(
            titled(
                event.title,
                element("circle", cx=x, cy=line_y, r=5, class_=f"event {event.tone}"),
                element(
                    "text", text, x=x + 5 if late else start, y=y, text_anchor="end" if late else "start"
                ),
            )
        )
    return picture(width, line_y + 34 + deepest * 17, label, *parts)


def candidate_strip(
    label: str,
    total: int,
    steps: Sequence[tuple[int, Tone, str]],
    left: Sequence[int],
    culprit: int | None,
    width: float = 860,
) -> Markup:
    """A bisection: ``total`` candidates, oldest at the left; steps (position, tone, title) by turn.

    ``left``: positions that may still be, or are, the culprit.
    """
    pad, y, height = 10.0, 34.0, 74.0
    unit = (width - 2 * pad) / max(total, 1)

    def middle(position: int) -> float:
        return pad + (position + 0.5) * unit

    parts = [element("rect", x=pad, y=y - 4, width=width - 2 * pad, height=8, class_="cell none")]
    parts += [
        element("rect", x=pad + p * unit, y=y - 4, width=max(unit, 1.5), height=8, class_="cell suspect")
        for p in left[:MAX_MARKED]
    ]
    for turn, (position, tone, title) in enumerate(steps, 1):
        x = middle(position)
        side = 11.0
        parts.append(
            titled(
                f"Step {turn}: {title}",
                element("path", d=f"M{x:.1f} {y - 14}V{y + 8}", class_="stem"),
                _shape(tone, x - side / 2, y - 24, side),
                element("text", str(turn), x=x, y=y + 22 + (turn % 2) * 11, text_anchor="middle"),
            )
        )
    if culprit is not None:
        x = middle(culprit)
        parts.append(
            titled("The culprit", element("path", d=f"M{x:.1f} {y - 4}l-5 -9h10z", class_="event bad"))
        )
    return picture(width, height, label, *parts)


def phases_bar(label: str, phases: Sequence[tuple[str, float]], width: float = 760) -> Markup:
    """Where the seconds of a run went: one bar, a part a phase, words under parts that have room."""
    total = sum(seconds for _, seconds in phases) or 1.0
    parts, x = [], 0.0
    for at, (name, seconds) in enumerate(phases):
        room = seconds / total * width
        words = f"{name} {seconds:.1f} s"
        text = [element("text", words, x=x + 1, y=34)] if len(words) * LETTER * 0.9 < room else []
        bar = element("rect", x=x, y=2, width=max(room - 1.5, 0.5), height=14, class_=f"phase p{at % 4}")
        parts.append(titled(words, bar, *text))
        x += room
    return picture(width, 40, label, *parts)
