"""Which firmware files a kernel's driver asks for, and which of them a machine has (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Firmware folder by device id and revision (drivers/accel/amdxdna/npu*_regs.c; npu6 uses npu4's folder).
FOLDERS = {
    ("0x1502", "0x00"): "1502_00",
    ("0x17f0", "0x10"): "17f0_10",
    ("0x17f0", "0x11"): "17f0_11",
    ("0x17f0", "0x20"): "17f0_10",
}
FIRST_WITH_NPU_7 = (7, 0)  # asks for npu_7.sbin before npu.sbin; earlier kernels take protocol 6 only
# "npu_7.sbin", "npu.sbin.zst": what the firmware loader finds (CONFIG_FW_LOADER_COMPRESS); no ".zst.zst"
LOADABLE = re.compile(r"^(?P<name>npu(?:_7)?\.sbin)(?:\.xz|\.zst)?$")


@dataclass(frozen=True)
class Firmware:
    """``folder`` is None for a device whose driver loads none. ``have`` lies in it, ``fit`` is asked for."""

    folder: str | None
    have: tuple[str, ...] = ()
    fit: tuple[str, ...] = ()


def firmware_for(
    npu: Mapping[str, Any], files: Iterable[Mapping[str, Any]], kernel: tuple[int, ...]
) -> Firmware:
    """What harness.examine's ``files`` are worth to this NPU on this kernel, npu_7.sbin first."""
    folder = FOLDERS.get((str(npu.get("device")), str(npu.get("revision"))))
    if folder is None:
        return Firmware(None)
    have = sorted(str(file.get("path")) for file in files if f"/amdnpu/{folder}/" in str(file.get("path")))
    names = ("npu_7.sbin", "npu.sbin") if kernel >= FIRST_WITH_NPU_7 else ("npu.sbin",)
    loadable = [(path, LOADABLE.match(path.rpartition("/")[2])) for path in have]
    fit = tuple(path for name in names for path, match in loadable if match and match["name"] == name)
    return Firmware(folder, tuple(have), fit)
