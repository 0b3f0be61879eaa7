"""A page before it is text: its place, its template, its data. The JSON twin shows the same data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

# Of the JSON twins; docs/pages.md says when it changes.
FORMAT = 1


@dataclass(frozen=True)
class Page:
    """One page. ``data`` is JSON plus datetimes; ``charts`` draws it, for the page alone."""

    path: str  # relative to the site's root: "runs/20261123T143000-ab12cd.html"
    kind: str  # the template's name and the twin's "kind"
    title: str
    section: str  # which entry of the navigation is current
    data: Mapping[str, Any]
    charts: Callable[[], Mapping[str, Markup]] = dict  # drawn only when the page is written
    sample: bool = False
    simulated: bool = False

    @property
    def twin(self) -> str:
        """Path of the JSON twin."""
        return self.path.removesuffix(".html") + ".json"

    @property
    def root(self) -> str:
        """What leads from the page to the site's root: "", "../", "../../"."""
        return "../" * self.path.count("/")
