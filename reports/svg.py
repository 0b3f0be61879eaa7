"""The few SVG elements that charts are made of. Every attribute and every text is escaped."""

from __future__ import annotations

from markupsafe import Markup, escape

from reports.printable import visible

Attribute = str | int | float


def element(name: str, *children: Markup | str, **attributes: Attribute) -> Markup:
    """``element("rect", x=1, class_="good")``. ``class_`` is class; underscores become hyphens."""
    words = [Markup("<{}").format(name)]
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        words.append(Markup(' {}="{}"').format(attribute, _number(value)))
    inner = Markup("").join(c if isinstance(c, Markup) else escape(visible(c, 400)) for c in children)
    return Markup("").join([*words, Markup(">"), inner, Markup("</{}>").format(name)])


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


def _number(value: Attribute) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
