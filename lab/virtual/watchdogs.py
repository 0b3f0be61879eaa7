"""Hardware watchdogs that a virtual machine can have, so that a guest that hangs resets itself.

A machine has none unless its settings name one: arming it costs a Python start in the guest (half a second
under emulation), and QEMU can be ended from outside anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.machine import LabError


@dataclass(frozen=True)
class WatchdogCard:
    """``arguments`` for QEMU; ``modules`` that the guest loads by name, in this order."""

    name: str
    arguments: tuple[str, ...]
    modules: tuple[str, ...]


CARDS = {card.name: card for card in (WatchdogCard("i6300esb", ("-device", "i6300esb"), ("i6300esb",)),)}


def card(name: str) -> WatchdogCard:
    """The watchdog of this name; LabError names those there are."""
    if name not in CARDS:
        raise LabError(f"no watchdog {name!r}; there are {', '.join(sorted(CARDS))}")
    return CARDS[name]
