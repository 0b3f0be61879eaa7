"""What the driver's own sources say of one version of it: firmware names, version, user interface. Pure.

Read by expressions, not compiled: what a macro builds is not seen. The names are amdxdna's habits (7.3 and
amd/xdna-driver): ``MODULE_FIRMWARE("...")``, ``.fw_path = "dir/"`` with a list ``npu_fw[]``, and
``AMDXDNA_DRIVER_MAJOR``/``_MINOR``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_SOURCE = 4 * 1024 * 1024  # bytes of one source file
MAX_NAMES = 5000
_DECLARED = re.compile(r'\bMODULE_FIRMWARE\s*\(\s*"([\w./-]{1,200})"\s*\)')
# ".fw_path = "amdnpu/17f0_10/npu.sbin"," up to 6.19; a folder since 7.0.
_PATH = re.compile(r'\.fw_path\s*=\s*"([\w./-]{1,200})"')
# "static char *npu_fw[] = { "npu_7.sbin", "npu.sbin" };"
_LIST = re.compile(r"\b\w*fw\w*\s*\[\s*\]\s*=\s*\{([^{}]{1,2000})\}")
_STRING = re.compile(r'"([\w.-]{1,100}\.s?bin)"')
_GENERATION = re.compile(r"(?:^|/)(npu\d+[a-z]?)_regs\.c$")
_VERSION = re.compile(r"^#\s*define\s+\w+_DRIVER_(MAJOR|MINOR)\s+(\d{1,6})\b", re.MULTILINE)
# Constants of a header: members of an enum on lines of their own, and macros.
_CONSTANT = re.compile(r"^\s*([A-Z][A-Z0-9_]{3,80})\s*(?:=[^,\n]*)?,?\s*(?:/\*.*)?$", re.MULTILINE)
_MACRO = re.compile(r"^#\s*define\s+([A-Z][A-Z0-9_]{3,80})\b", re.MULTILINE)
# What user space names of it: "DRM_IOCTL_AMDXDNA_GET_INFO", "DRM_AMDXDNA_QUERY_SENSORS".
_USED = re.compile(r"\bDRM_(?:IOCTL_)?AMDXDNA_[A-Z0-9_]{2,60}\b")


@dataclass(frozen=True)
class SourceFacts:
    """``firmware``: declared names. ``loads``: (generation, name its code asks for). ``uapi``: constants."""

    firmware: tuple[str, ...] = ()
    loads: tuple[tuple[str, str], ...] = ()
    version: str | None = None
    uapi: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing was found: these are not the driver's sources."""
        return not (self.firmware or self.loads or self.version or self.uapi)


@dataclass(frozen=True)
class FileFacts:
    """The same of one file, not yet put together. ``folders`` are fw_path values with their generation."""

    declared: tuple[str, ...] = ()
    folders: tuple[tuple[str, str], ...] = ()
    names: tuple[str, ...] = ()
    major: str | None = None
    minor: str | None = None
    uapi: tuple[str, ...] = ()


def read_file(path: str, text: str) -> FileFacts:
    """One source file or header. Never fails."""
    if "include/uapi/" in path:
        found = [*_CONSTANT.findall(text), *_MACRO.findall(text)]
        return FileFacts(uapi=_some(name for name in found if not name.endswith("_H_")))
    generation = _GENERATION.search(path)
    numbers = dict(_VERSION.findall(text))
    names = [name for block in _LIST.findall(text) for name in _STRING.findall(block)]
    return FileFacts(
        declared=_some(_DECLARED.findall(text)),
        folders=tuple((generation[1] if generation else "", value) for value in _PATH.findall(text)[:50]),
        names=_some(names),
        major=numbers.get("MAJOR"),
        minor=numbers.get("MINOR"),
    )


def put_together(files: Iterable[FileFacts]) -> SourceFacts:
    """What one version of the driver says as a whole."""
    every = list(files)
    names = _some(name for one in every for name in one.names)
    loads = []
    for one in every:
        for generation, value in one.folders:
            wanted = [f"{value}{name}" for name in names] if value.endswith("/") else [value]
            loads += [(generation, name) for name in wanted]
    major = next((one.major for one in every if one.major is not None), None)
    minor = next((one.minor for one in every if one.minor is not None), None)
    return SourceFacts(
        firmware=tuple(sorted({name for one in every for name in one.declared})),
        loads=tuple(sorted(set(loads))),
        version=f"{major or 0}.{minor}" if minor is not None else None,
        uapi=tuple(sorted({name for one in every for name in one.uapi})),
    )


def used_names(text: str) -> frozenset[str]:
    """The names of the driver's interface that a source of user space uses."""
    return frozenset(_USED.findall(text))


def _some(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))[:MAX_NAMES]
