"""What a patch touches, from its diff alone: user interface, parameters, firmware, PCI ids and more. Pure.

It answers what a lab has to test and a packager to look at; whether the change is right it does not say.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from tracker.uapi_diff import Hunk, UapiChange, compare_uapi, worst

MAX_LINES = 400_000  # of a diff
_HEADER = re.compile(r"^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@ ?(.*)$")
# "module_param(force_iova, bool, 0600);", "module_param_named(x, y, int, 0)", also over two lines.
_PARAMETER = re.compile(r"\bmodule_param(?:_named|_cb|_string|_array|_unsafe)?\s*\(\s*(\w+)")
_FIRMWARE = re.compile(r"\bMODULE_FIRMWARE\s*\(\s*([^)]+?)\s*\)")
# "PCI_DEVICE(PCI_VENDOR_ID_AMD, 0x17f0)", "PCI_VDEVICE(AMD, 0x1502)", "PCI_DEVICE_DATA(AMD, X, &y)".
_PCI = re.compile(r"\bPCI_(?:V?DEVICE|DEVICE_DATA|DEVICE_SUB)\s*\(\s*(\w+)\s*,\s*(\w+)")
# "#define PCI_DEV_ID_NPU9 0x17f9" and "{ 0x17f0, 0x10, &dev_npu4_info }" (device, revision).
_PCI_DEFINE = re.compile(r"^#\s*define\s+(PCI_(?:DEV|DEVICE)_ID_\w+|PCI_DEVICE_ID\w*)\s+(0x[0-9a-fA-F]+)")
_PCI_TABLE = re.compile(r"^\s*\{\s*(0x[0-9a-fA-F]{4})\s*,\s*(0x[0-9a-fA-F]{1,2})\s*,\s*&\w+\s*\}")
_KCONFIG = re.compile(r"^\s*(?:menu)?config\s+(\w+)")
_KCONFIG_LINE = re.compile(r"^\s+(depends on|select|imply|default)\s+(.+)$")
_TRACE = re.compile(r"\b(?:TRACE_EVENT(?:_CONDITION)?|DECLARE_EVENT_CLASS)\s*\(\s*(\w+)")
_TRACE_NAMED = re.compile(r"\bDEFINE_EVENT(?:_PRINT|_CONDITION)?\s*\(\s*\w+\s*,\s*(\w+)")


@dataclass(frozen=True)
class Named:
    """A thing that the patch adds, removes or changes. ``kind``: parameter, firmware, pci-id, kconfig,
    documentation or tracepoint."""

    kind: str
    name: str
    what: str
    file: str


@dataclass(frozen=True)
class Touches:
    """Everything the patch touches that others rely on. ``verdict`` is about the user interface only."""

    uapi: tuple[UapiChange, ...]
    named: tuple[Named, ...]

    @property
    def verdict(self) -> str:
        """none, compatible, check or breaking."""
        return worst(one.verdict for one in self.uapi)

    @classmethod
    def of_json(cls, uapi: list[dict[str, str]], named: list[dict[str, str]]) -> Touches:
        """The reverse of `to_json`."""
        return cls(tuple(UapiChange(**one) for one in uapi), tuple(Named(**one) for one in named))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "verdict": self.verdict,
            "uapi": [asdict(one) for one in self.uapi],
            "named": [asdict(one) for one in self.named],
        }


def touches(diff: str) -> Touches:
    """Read a diff in git's form. Never fails: what is cut short counts as far as it goes."""
    files: dict[str, list[Hunk]] = {}
    for hunk in read_hunks(diff):
        files.setdefault(hunk.path, []).append(hunk)
    uapi: list[UapiChange] = []
    named: list[Named] = []
    for path, hunks in files.items():
        if "include/uapi/" in path:
            uapi += compare_uapi(hunks)
        removed = [line[1:] for hunk in hunks for line in hunk.lines if line[:1] == "-"]
        added = [line[1:] for hunk in hunks for line in hunk.lines if line[:1] == "+"]
        before, after = _names(path, removed), _names(path, added)
        for kind, name in [*after, *(one for one in before if one not in after)]:
            what = {(True, True): "changed", (True, False): "removed", (False, True): "added"}[
                (kind, name) in before, (kind, name) in after
            ]
            if what != "changed" or before[kind, name] != after[kind, name]:  # else it was only moved
                named.append(Named(kind, name, what, path))
        if path.startswith("Documentation/"):
            named.append(Named("documentation", path, "changed", path))
    return Touches(tuple(uapi), tuple(named))


def _names(path: str, lines: list[str]) -> dict[tuple[str, str], str]:
    """(kind, name) -> the text it was found in."""
    found: dict[tuple[str, str], str] = {}
    text = "\n".join(lines)
    for kind, expression in (
        ("parameter", _PARAMETER),
        ("firmware", _FIRMWARE),
        ("tracepoint", _TRACE),
        ("tracepoint", _TRACE_NAMED),
    ):
        for one in expression.finditer(text):
            end = text.find("\n", one.end())
            found[kind, one[1].strip('"')] = text[one.start() : end if end >= 0 else len(text)]
    for one in _PCI.finditer(text):
        found["pci-id", f"{one[1]} {one[2]}"] = one[0]
    for line in lines:
        if (define := _PCI_DEFINE.match(line)) is not None:
            found["pci-id", define[1]] = define[2]
        elif (entry := _PCI_TABLE.match(line)) is not None:
            found["pci-id", f"{entry[1]} revision {entry[2]}"] = line.strip()
        elif path.rsplit("/", 1)[-1].startswith("Kconfig"):
            if (symbol := _KCONFIG.match(line)) is not None:
                found["kconfig", symbol[1]] = line
            elif (rule := _KCONFIG_LINE.match(line)) is not None:
                found["kconfig", f"{rule[1]} {rule[2].strip()}"] = line
    return found


def read_hunks(diff: str) -> list[Hunk]:
    """The hunks of a diff with their headings. Text around them is ignored."""
    found: list[Hunk] = []
    old = new = ""
    lines = diff.split("\n", MAX_LINES)[:MAX_LINES]
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        if line.startswith("--- "):
            old = _path(line)
        elif line.startswith("+++ "):
            new = _path(line)
        elif (header := _HEADER.match(line)) is not None and (old or new):
            start, before, after = position, int(header[1] or 1), int(header[2] or 1)
            while position < len(lines) and (before > 0 or after > 0):
                sign = lines[position][:1]
                if sign not in (" ", "+", "-", "\\", ""):
                    break
                before -= sign in (" ", "-", "")
                after -= sign in (" ", "+", "")
                position += 1
            path = new if new and new != "/dev/null" else old
            found.append(Hunk(path, header[3], tuple(lines[start:position])))
    return found


def _path(line: str) -> str:
    name = line[4:].rstrip("\r").split("\t")[0]
    return name[2:] if name[:2] in ("a/", "b/") else name
