"""Releases of user space and how they fit kernels. Pure rules.

A release is a tag with a version in its name, or a branch that is named by a version (amd/xdna-driver makes
"1.9", no tags). What it needs are the names of the kernel's interface that its shim uses; what a kernel
offers is told by the table (tracker/data/interface.json, with the release that *answers* a name, not the one
that first defines it) and, for names that the table has not, by the header of that kernel. A name that is
used may have a fallback: a lack says where to look, not that it fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from tracker.calendar import window_key
from tracker.text import storable

# "2.21.75", "202610.2.23.244", "v1.2", "202520.2.20.0_Petalinux".
_TAG = re.compile(r"^v?\d{1,6}(?:\.\d{1,6}){1,4}(?:[_-][A-Za-z][\w.-]{0,40})?$")
_BRANCH = re.compile(r"^v?\d{1,4}(?:\.\d{1,4}){1,3}$")
# settings.cmake of XRT: "set(XRT_VERSION_MAJOR 2)".
_CMAKE = re.compile(r"^\s*set\(XRT_VERSION_(RELEASE|MAJOR|MINOR)\s+(\d{1,6})\)", re.MULTILINE)


@dataclass(frozen=True)
class Interface:
    """What the releases of the kernel offer. ``since``: name -> release, None when no release answers it."""

    kernels: Mapping[str, str]  # release -> version of the driver
    since: Mapping[str, str | None]


@dataclass(frozen=True)
class Fit:
    """One release of user space and one of the kernel. ``verdict``: whole, lacks or unknown."""

    kernel: str
    verdict: str
    lacks: tuple[str, ...]
    why: str


def load_interface() -> Interface:
    """The table that the project ships."""
    raw = json.loads(files("tracker").joinpath("data/interface.json").read_text("utf-8"))
    return Interface(raw["kernels"], raw["since"])


def is_release(name: str, *, branch: bool) -> bool:
    """Whether a tag or branch is a release by its name."""
    return bool((_BRANCH if branch else _TAG).match(name))


def fits(used: Iterable[str], interface: Interface, headers: Mapping[str, frozenset[str]]) -> list[Fit]:
    """The fit with every known release of the kernel, the oldest first.

    ``used``: names that the user space uses; ``headers``: release -> constants of its header, where followed.
    """
    wanted = sorted(set(used))
    answer = []
    for kernel in sorted({*interface.kernels, *headers}, key=window_key):
        version = interface.kernels.get(kernel)
        driver = f"driver {version}; " if version else ""
        if not wanted:
            answer.append(
                Fit(kernel, "unknown", (), f"{driver}it uses no name of the interface that is seen")
            )
            continue
        lacks = tuple(one for one in wanted if not _offered(one, kernel, interface, headers))
        verdict = "lacks" if lacks else "whole"
        told = f"{len(wanted) - len(lacks)} of {len(wanted)} names of the interface are answered"
        answer.append(Fit(kernel, verdict, lacks, f"{driver}{told}"))
    return answer


def build_version(path: str, text: str) -> str | None:
    """The version that a release's build files tell: tools/info.json, or XRT's settings.cmake."""
    if path.endswith(".json"):
        told = _json(text).get("xrt")
        version = told.get("version") if isinstance(told, dict) else None
        return storable(str(version))[:60] if version else None
    numbers = dict(_CMAKE.findall(text))
    parts = [numbers[key] for key in ("RELEASE", "MAJOR", "MINOR") if key in numbers]
    return ".".join(parts) or None


def listed_firmware(text: str) -> dict[str, str]:
    """Name -> version of the "firmwares" list in tools/info.json (before it had a WHENCE)."""
    listed = _json(text).get("firmwares")
    found: dict[str, str] = {}
    for one in listed[:200] if isinstance(listed, list) else ():
        if isinstance(one, dict) and one.get("pci_device_id") and one.get("version"):
            folder = f"{one['pci_device_id']}_{one.get('pci_revision_id', '00')}"
            name = storable(f"amdnpu/{folder}/{one.get('fw_name') or 'npu.sbin'}")[:200]
            found[name] = storable(str(one["version"]))[:60]
    return found


def _offered(name: str, kernel: str, interface: Interface, headers: Mapping[str, frozenset[str]]) -> bool:
    if name in interface.since:
        since = interface.since[name]
        return since is not None and window_key(since) <= window_key(kernel)
    return name in headers.get(kernel, frozenset())


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
