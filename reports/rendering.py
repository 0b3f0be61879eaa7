"""Page -> bytes: HTML by Jinja with escaping on, and the JSON twin of the same data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from reports.page import FORMAT, Page
from reports.printable import one_line, visible
from reports.slugs import slug

STYLE_SHEET = "static/style.css"
_PACKAGE = files("reports")


class Renderer:
    """Turns pages into bytes. ``version`` is the program's, for footers and twins."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.code = _code_digest()
        self.environment = Environment(
            loader=PackageLoader("reports"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_finalize,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.filters.update(
            moment=_moment,
            day=_day,
            seconds=_seconds,
            bytes=_bytes,
            percent=_percent,
            figure=_figure,
            line=one_line,
            breakable=_breakable,
            anchor=slug,
        )

    def digest(self, page: Page) -> str:
        """Of everything the page's bytes depend on, but the time: its data, this code, the version."""
        facts = json.dumps(
            [self.code, self.version, self._head(page), page.data], default=_plain, separators=(",", ":")
        )
        return hashlib.sha256(facts.encode("ascii")).hexdigest()

    def html(self, page: Page, generated: datetime) -> bytes:
        """The page as UTF-8."""
        template = self.environment.get_template(f"{page.kind}.html")
        text = template.render(
            page=page,
            data=page.data,
            charts=page.charts(),
            root=page.root,
            style=STYLE_SHEET,
            twin=page.twin.rpartition("/")[2],
            generated=generated,
            version=self.version,
        )
        return text.encode("utf-8", "replace")

    def twin(self, page: Page, generated: datetime) -> bytes:
        """The JSON twin: ASCII, so that no character of hostile input can be mistaken by a reader."""
        whole = {**self._head(page), "generated": generated, "generator": f"xdnawatch {self.version}"}
        return json.dumps({**whole, "data": page.data}, default=_plain).encode("ascii") + b"\n"

    def _head(self, page: Page) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": page.kind,
            "title": page.title,
            "page": page.path,
            "sample": page.sample,
            "simulated": page.simulated,
        }


def twin_json(data: Mapping[str, Any]) -> str:
    """Page data as JSON text: datetimes as RFC 3339 in UTC."""
    return json.dumps(data, default=_plain)


def style_sheet() -> bytes:
    """The one style sheet."""
    return (_PACKAGE / "static" / "style.css").read_bytes()


def _code_digest() -> str:
    """Of every module, template and style of this room: a page is written anew when its maker changed."""
    digest = hashlib.sha256()
    for entry in _walk(_PACKAGE):
        digest.update(entry.name.encode())
        digest.update(entry.read_bytes())
    return digest.hexdigest()


def _walk(folder: Traversable) -> list[Traversable]:
    found: list[Traversable] = []
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.is_dir() and entry.name != "__pycache__":
            found.extend(_walk(entry))
        elif entry.name.endswith((".py", ".html", ".css")):
            found.append(entry)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return _stamp(value)
    raise TypeError(f"{type(value).__name__} has no place in a page's data")


def _stamp(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _finalize(value: Any) -> Any:
    """Every text that a template shows passes here: unsafe characters become visible (printable.py)."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def _time(value: datetime | None, text: str) -> Markup:
    if value is None:
        return Markup('<span class="none">—</span>')
    return Markup('<time datetime="{}">{}</time>').format(_stamp(value), text)


def _moment(value: datetime | None) -> Markup:
    return _time(value, f"{value.astimezone(UTC):%Y-%m-%d %H:%M}" if value else "")


def _day(value: datetime | None) -> Markup:
    return _time(value, f"{value.astimezone(UTC):%Y-%m-%d}" if value else "")


def _seconds(value: float | None) -> str:
    if value is None:
        return "—"
    if value < 0.0005:
        return "0"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 600 else f"{value / 60:.0f} min"


def _figure(value: float | None) -> str:
    """A measured number as people read it: six digits, a dash where there is none."""
    return "—" if value is None else f"{value:.6g}"


def _bytes(value: int) -> str:
    return f"{value} B" if value < 1024 else f"{value / 1024:.0f} KiB"


def _breakable(text: str) -> Markup:
    """A dotted name that may be broken after its dots, slashes and underscores."""
    parts = re.split(r"(?<=[./_])", visible(text, 200))
    return Markup("<wbr>").join(escape(part) for part in parts)


def _percent(value: float) -> Markup:
    if value >= 0.9995:
        return escape("100 %")
    return escape(f"{value * 100:.0f} %" if value < 0.985 else f"{value * 100:.1f} %")
