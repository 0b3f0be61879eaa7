"""How long work tells that it goes on, without knowing who shows it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One step at a time: ``start`` names it, ``advance`` counts it, ``finish`` closes it."""

    def start(self, what: str, total: int | None = None) -> None:
        """A step begins; ``total`` when it is known."""
        ...

    def advance(self, count: int = 1) -> None:
        """``count`` more were done."""
        ...

    def finish(self, text: str) -> None:
        """The step has ended; ``text`` is one line for people."""
        ...


class Silent:
    """Shows nothing."""

    def start(self, what: str, total: int | None = None) -> None:
        """Nothing."""

    def advance(self, count: int = 1) -> None:
        """Nothing."""

    def finish(self, text: str) -> None:
        """Nothing."""
