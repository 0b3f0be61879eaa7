"""Firmware names: what kernels ask for against what the firmware tree has had, and since when. Pure rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tracker.calendar import Version, parse_tag

VERDICTS = ("fits", "late", "never", "withdrawn", "unasked", "unknown")
# "amdnpu/17f0_10/npu.sbin": PCI device and revision name the folder.
_FOLDER = re.compile(r"/([0-9a-f]{4})_([0-9a-f]{2})/")


@dataclass(frozen=True)
class Kernel:
    """One tagged kernel. ``declared``: MODULE_FIRMWARE names; ``loads``: (generation, name)."""

    tag: str
    date: datetime | None
    declared: frozenset[str]
    loads: frozenset[tuple[str, str]]

    @property
    def version(self) -> Version:
        """Of its tag."""
        found = parse_tag(self.tag)
        assert found is not None
        return found


@dataclass(frozen=True)
class Known:
    """One step of a name in the firmware tree. ``tag`` None: in no release yet."""

    path: str
    what: str
    file: str | None
    version: str | None
    tag: str | None
    date: datetime  # of the release, else of the commit


@dataclass(frozen=True)
class Need:
    """The answer for one name."""

    path: str
    device: str | None
    generations: tuple[str, ...]
    first_kernel: str | None
    first_kernel_date: datetime | None
    last_kernel: str | None
    file: str | None
    version: str | None
    since: str | None
    since_date: datetime | None
    verdict: str
    why: str


def needs(kernels: Sequence[Kernel], history: Sequence[Known], *, followed: bool) -> list[Need]:
    """Every name that a kernel asks for or the tree has.

    ``history`` is in time's order; ``followed``: whether a firmware tree is read at all.
    """
    ordered = sorted(kernels, key=lambda one: one.version)
    asked = {name for one in ordered for name in one.declared}
    asked |= {name for one in ordered for _, name in one.loads}
    aliases = {one.path for one in history}
    targets = {one.file for one in history if one.file != one.path}  # reached by links: no names to ask for
    wanted = sorted(asked | (aliases - targets))
    return [
        _need(path, ordered, [one for one in history if one.path == path], followed=followed)
        for path in wanted
    ]


def device_of(path: str) -> str | None:
    """The PCI device that a folder's name names."""
    found = _FOLDER.search(path)
    return f"0x{found[1]} revision 0x{found[2]}" if found else None


def _need(path: str, kernels: list[Kernel], history: list[Known], *, followed: bool) -> Need:
    asking = [one for one in kernels if path in one.declared or any(path == name for _, name in one.loads)]
    generations = sorted({generation for one in asking for generation, name in one.loads if name == path})
    first = _first(asking)
    added = next((one for one in history if one.what == "added"), None)
    last = history[-1] if history else None
    verdict, why = _verdict(first, asking, kernels, added, last, followed=followed)
    notes = [why, *_habits(path, asking), *_moves(history)]
    return Need(
        path,
        device_of(path),
        tuple(generations),
        first.tag if first else None,
        first.date if first else None,
        asking[-1].tag if asking else None,
        last.file if last else None,
        last.version if last else None,
        added.tag if added else None,
        added.date if added else None,
        verdict,
        "; ".join(notes),
    )


def _first(asking: list[Kernel]) -> Kernel | None:
    """The first kernel that asks: a release before a candidate of the same release."""
    finals = [one for one in asking if one.version.final]
    if not finals or (asking and finals[0].version.window != asking[0].version.window):
        return asking[0] if asking else None
    return finals[0]


def _verdict(
    first: Kernel | None,
    asking: list[Kernel],
    kernels: list[Kernel],
    added: Known | None,
    last: Known | None,
    *,
    followed: bool,
) -> tuple[str, str]:
    if first is None:
        return "unasked", "no followed kernel asks for it" if kernels else "no kernel is followed"
    if not followed:
        return "unknown", "no firmware tree is followed"
    if added is None or last is None:
        return "never", f"asked for since {first.tag}, in no firmware release"
    if last.what == "removed" and asking[-1] is kernels[-1]:
        return (
            "withdrawn",
            f"{asking[-1].tag} asks for it, the firmware tree took it out in {last.tag or 'no release yet'}",
        )
    where = added.tag or "the tree, no release yet"
    if first.date is None:
        return "unknown", f"the date of {first.tag} is not known"
    gap = added.date - first.date
    if added.tag is None or gap > timedelta(0):
        days = f"{gap.days} days after {first.tag}" if gap > timedelta(0) else f"asked for since {first.tag}"
        return "late", f"in {where}, {days}"
    return "fits", f"in {where}, {-gap.days} days before {first.tag}"


def _habits(path: str, asking: list[Kernel]) -> list[str]:
    """Where declaration and code of the newest asking kernel do not say the same."""
    if not asking:
        return []
    newest = asking[-1]
    loaded = {name for _, name in newest.loads}
    if loaded and path in newest.declared and path not in loaded:
        return [f"declared in {newest.tag}, its code asks for it nowhere"]
    if path in loaded and path not in newest.declared:
        return [f"loaded in {newest.tag}, not declared by MODULE_FIRMWARE"]
    return []


def _moves(history: list[Known]) -> list[str]:
    """Changes of the version behind one name, as "1.0.0.63 to 1.1.2.64 in 20260221"."""
    found = []
    before: str | None = None
    for one in history:
        if one.what == "changed" and before is not None and one.version is not None and one.version != before:
            found.append(f"{before} to {one.version} in {one.tag or 'no release yet'}")
        before = one.version
    return [f"version {', '.join(found[-3:])}"] if found else []
