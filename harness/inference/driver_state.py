"""The driver's own word on the NPU: sysfs and ioctls, read on the machine, to compare user space with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.inference.commands import Ran
from harness.inference.metrics import Missing
from harness.inference.printed import items_of, number, object_of, word_of

#: xrt-smi's names of power modes by the driver's numbers (include/uapi/drm/amdxdna_accel.h, 6.14 to 7.3).
POWER_MODES = ("default", "powersaver", "balanced", "performance", "turbo")


@dataclass(frozen=True)
class DriverState:
    """What the driver says; None and "" where it does not. ``missing`` says why there is no usable NPU."""

    missing: tuple[str, ...] = ()
    bdf: str = ""
    generation: str = ""
    device: int | None = None  # PCI ids
    revision: int | None = None
    node: str = ""
    vbnv: str = ""  # sysfs: the name of the NPU
    fw_version: str = ""  # sysfs
    firmware: str = ""  # ioctl
    driver_version: tuple[int, ...] = ()
    columns: int | None = None
    rows: int | None = None
    power_mode: str = ""
    clocks: tuple[tuple[str, int], ...] = ()  # name, MHz
    force_preemption: bool | None = None
    contexts: int | None = None
    uid: int = -1
    kernel: str = ""  # uname -r
    machine: str = ""  # uname -m
    boot_id: str = ""
    python: str = ""
    time: float = 0.0  # UNIX time UTC by the machine's clock

    @property
    def root(self) -> bool:
        """Whether the suite runs as root there."""
        return self.uid == 0

    @property
    def obstacle(self) -> Missing | None:
        """What keeps any program from using the NPU."""
        if self.missing:
            return Missing(
                self.missing[0], "run `xdnawatch run` on this machine for the causes and next steps"
            )
        if not self.node:
            return Missing("there is no NPU device node", "look for amdxdna in dmesg on the machine")
        return None


def parse_state(ran: Ran) -> DriverState:
    """The answer to a Look; one that is none says so in ``missing``."""
    answer = ran.state
    if not answer:
        return DriverState(missing=(f"the driver could not be asked: {ran.problem or 'no answer'}",))
    sysfs = object_of(answer.get("sysfs"))
    mode = _whole(answer.get("power_mode"))
    version = answer.get("driver_version")
    return DriverState(
        tuple(word_of(item.get("message"), 500) for item in items_of(answer.get("missing"), 20)),
        word_of(answer.get("bdf"), 20),
        word_of(answer.get("generation"), 20),
        _whole(answer.get("device")),
        _whole(answer.get("revision")),
        word_of(answer.get("node"), 100),
        word_of(sysfs.get("vbnv")),
        word_of(sysfs.get("fw_version"), 60),
        word_of(answer.get("firmware"), 60),
        tuple(part for part in version[:3] if isinstance(part, int)) if isinstance(version, list) else (),
        _whole(answer.get("columns")),
        _whole(answer.get("rows")),
        POWER_MODES[mode] if mode is not None and mode < len(POWER_MODES) else "",
        tuple(
            (word_of(clock.get("name"), 20), mhz)
            for clock in items_of(answer.get("clocks"), 4)
            if (mhz := _whole(clock.get("mhz"))) is not None
        ),
        None if answer.get("force_preemption") is None else bool(_whole(answer["force_preemption"])),
        _whole(answer.get("contexts")),
        -1 if (uid := _whole(answer.get("uid"))) is None else uid,
        word_of(answer.get("kernel")),
        word_of(answer.get("machine"), 40),
        word_of(answer.get("boot_id"), 60),
        word_of(answer.get("python"), 40),
        number(answer.get("time")) or 0.0,
    )


def _whole(value: Any) -> int | None:
    found = number(value)
    return int(found) if found is not None and found >= 0 else None
