"""The few SVG elements that charts are made of. Every attribute and every text is escaped."""

from __future__ import annotations

from functools import cache

from markupsafe import Markup, escape

from reports.printable import visible

Attribute = str | int | float


def element(name: str, *children: Markup | str, **attributes: Attribute) -> Markup:
    """``element("rect", x=1, class_="good")``. ``class_`` is class; underscores become hyphens.

    Names are this room's own words; values and texts may be anybody's.
    """
    words = "".join(f' {_name(key)}="{_value(value)}"' for key, value in attributes.items())
    inner = "".join(c if isinstance(c, Markup) else escape(visible(c, 400)) for c in children)
    return Markup(f"<{name}{words}>{inner}</{name}>")  # noqa: S704 - each part was escaped just above


@cache
def _name(key: str) -> str:
    return str(escape(key.rstrip("_").replace("_", "-")))


def picture(
    width: float, height: float, label: str, *children: Markup, class_: str = "chart", fixed: bool = True
) -> Markup:
    """The ``<svg>`` itself, named by ``label`` for those who cannot see it.

    ``fixed``: shown at its natural size (the page scrolls it); otherwise it shrinks to its container.
    """
    return element(
        "svg",
        *children,
        class_=class_ if fixed else f"{class_} fluid",
        viewBox=f"0 0 {_number(width)} {_number(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=visible(label, 400),
    )


def titled(title: str, *children: Markup) -> Markup:
    """A group with a tooltip, which is also what a screen reader says."""
    return element("g", element("title", title), *children)


def linked(href: str, *children: Markup) -> Markup:
    """A link inside a picture. ``href`` is one of our own relative paths."""
    return element("a", *children, href=href)


def _value(value: Attribute) -> str:
    return escape(visible(value, 400)) if isinstance(value, str) else _number(value)


def _number(value: int | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
