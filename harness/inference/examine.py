"""``xrt-smi examine``: what it says of system and device, as JSON or as text, of any version.

Facts: XRT 2.17 to 2.26. JSON values are strings; an absent value is "N/A", "unknown" or an empty string; an
empty list is an empty string. No I/O here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from db.metrics import Metric
from harness.inference.printed import items_of, json_of, lines_of, number, object_of, word_of

DEVICES_LIMIT = 16
# matches "[0000:c7:00.1]  :  RyzenAI-npu1", "|[0000:00:08.0]  |NPU Strix  |aie2p         |6x8       |"
_DEVICE_LINE = re.compile(
    r"^\|?\[(?P<bdf>[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])\]\s*[:|]\s*(?P<rest>\S.*)$"
)
# matches "  NPU Firmware Version : 1.1.2.64", "Estimated Power          : 0.512 Watts"
_KEY_VALUE = re.compile(r"^\s{0,8}(?P<key>[A-Za-z][A-Za-z0-9 ()_-]{1,40}?)\s*:\s*(?P<value>.*)$")
# matches "0.512 Watts", "0.512 W"
_WATTS = re.compile(r"^(?P<value>\d{1,6}(?:\.\d{1,9})?)\s*(?:Watts?|W)?$", re.I)
BDF = re.compile(r"^[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]$")


@dataclass(frozen=True)
class ExaminedDevice:
    """One NPU. Empty strings and None where xrt-smi did not say."""

    bdf: str
    name: str
    firmware: str = ""
    architecture: str = ""  # aie2, aie2p
    topology: str = ""  # rows x columns: "6x8"
    ready: bool | None = None
    power_mode: str = ""
    columns: int | None = None
    estimated_power: float | None = None  # W
    contexts: int | None = None  # None: partitions were not reported
    complaints: tuple[str, ...] = ()  # what the driver refused to tell xrt-smi


@dataclass(frozen=True)
class Examined:
    """All that one call said. ``corrupted`` is the reason when it could not be read."""

    kernel: str = ""
    xrt: str = ""
    drivers: dict[str, str] = field(default_factory=dict)
    devices: tuple[ExaminedDevice, ...] = ()
    corrupted: str | None = None

    def device(self, bdf: str) -> ExaminedDevice | None:
        """The device at this PCI address; without an address the only one."""
        if not bdf:
            return self.devices[0] if len(self.devices) == 1 else None
        return next((device for device in self.devices if device.bdf.lower() == bdf.lower()), None)


def parse_json(data: bytes) -> Examined:
    """The file that ``-f JSON -o FILE`` writes, with any set of reports."""
    document = json_of(data)
    if not isinstance(document, dict):
        return Examined(corrupted="no JSON document")
    host = object_of(object_of(document.get("system")).get("host"))
    xrt = object_of(host.get("xrt"))
    drivers = {
        word_of(driver.get("name")): word_of(driver.get("version"))
        for driver in items_of(xrt.get("drivers"), DEVICES_LIMIT)
    }
    listed = {
        word_of(device.get("bdf")): device
        for device in items_of(host.get("devices"), DEVICES_LIMIT)
        if BDF.match(word_of(device.get("bdf")))
    }
    reported = {
        word_of(device.get("device_id")): device
        for device in items_of(document.get("devices"), DEVICES_LIMIT)
        if BDF.match(word_of(device.get("device_id")))
    }
    devices = tuple(
        _device(bdf, listed.get(bdf, {}), reported.get(bdf, {})) for bdf in {**listed, **reported}
    )
    return Examined(
        word_of(object_of(host.get("os")).get("release")),
        word_of(xrt.get("version")),
        {name: version for name, version in drivers.items() if name},
        devices,
        None if host or devices else "neither host nor devices in it",
    )


def _device(bdf: str, listed: dict[str, Any], reported: dict[str, Any]) -> ExaminedDevice:
    platform = next(iter(items_of(reported.get("platforms"), 1)), {})
    region = object_of(platform.get("static_region"))
    electrical = object_of(platform.get("electrical"))
    columns = number(region.get("total_columns"))
    watts = number(electrical.get("power_consumption_watts"))
    ready = word_of(listed.get("is_ready")).lower()
    return ExaminedDevice(
        bdf,
        word_of(listed.get("name")) or word_of(region.get("name")),
        word_of(listed.get("firmware_version")),
        word_of(listed.get("aie_architecture_version")),
        word_of(listed.get("aie_topology")),
        {"true": True, "false": False}.get(ready),
        word_of(object_of(platform.get("status")).get("power_mode")).lower(),
        int(columns) if columns is not None and 0 < columns < 1000 else None,
        watts if watts is not None and watts >= 0 else None,
        _contexts(reported.get("aie_partitions")),
        tuple(dict.fromkeys(word_of(text) for text in electrical.values() if "failed" in word_of(text))),
    )


def _contexts(partitions: Any) -> int | None:
    if not isinstance(partitions, dict):
        return None
    found = items_of(partitions.get("partitions"))
    return sum(len(items_of(partition.get("hw_contexts"))) for partition in found)


def parse_text(data: bytes) -> Examined:
    """What is printed: "Key : value" lines and a table or list of devices."""
    values: dict[str, str] = {}
    devices: dict[str, ExaminedDevice] = {}
    current = ""
    later: dict[str, dict[str, str]] = {}
    for line in lines_of(data):
        device = _DEVICE_LINE.match(line)
        if device:
            current = device["bdf"]
            cells = [*(cell.strip() for cell in device["rest"].strip("|").split("|")[:3]), "", "", ""]
            if current not in devices and len(devices) < DEVICES_LIMIT:
                devices[current] = ExaminedDevice(current, cells[0], "", cells[1], cells[2])
            continue
        pair = _KEY_VALUE.match(line)
        if pair and len(values) < 200:
            key, value = pair["key"].strip().lower(), word_of(pair["value"])
            values.setdefault(key, value)
            later.setdefault(current, {}).setdefault(key, value)
    firmware = values.get("npu firmware version") or values.get("firmware version", "")
    found = tuple(_with_report(device, firmware, later.get(bdf, {})) for bdf, device in devices.items())
    drivers = {
        key.removesuffix(" version"): value for key, value in values.items() if key in DRIVER_KEYS and value
    }
    return Examined(
        values.get("release", ""),
        values.get("version", "") if "os name" not in values else _xrt_version(data),
        drivers,
        found,
        None if values or found else "nothing in it",
    )


DRIVER_KEYS = ("amdxdna version", "virtio-pci version", "amdxdna", "xocl", "xclmgmt")


def _xrt_version(data: bytes) -> str:
    """The Version line of section XRT: the system section may have one of its own."""
    inside = False
    for line in lines_of(data):
        if line.strip() == "XRT":
            inside = True
        pair = _KEY_VALUE.match(line) if inside else None
        if pair and pair["key"].strip().lower() == "version":
            return word_of(pair["value"])
    return ""


def _with_report(device: ExaminedDevice, firmware: str, later: dict[str, str]) -> ExaminedDevice:
    watts = _WATTS.match(later.get("estimated power", ""))
    columns = number(later.get("total columns", ""))
    return ExaminedDevice(
        device.bdf,
        device.name,
        firmware,
        device.architecture,
        device.topology,
        None,
        later.get("power mode", "").lower(),
        int(columns) if columns is not None and 0 < columns < 1000 else None,
        float(watts["value"]) if watts else None,
    )


def metrics_of(device: ExaminedDevice) -> tuple[Metric, ...]:
    """What is measured: the estimated power, where the platform has the sensor."""
    if device.estimated_power is None:
        return ()
    return (Metric("estimated_power", device.estimated_power, "W", "lower"),)
