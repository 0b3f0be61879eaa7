"""The device falls asleep and wakes up: runtime suspend after five idle seconds, resume on the next call."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.suite import contract, guard, packets, uapi
from harness.suite.device import Buffer, Context, Device
from harness.suite.tests.conftest import Expect, Record

pytestmark = [pytest.mark.pm, pytest.mark.slow, pytest.mark.limit(40)]
DELAY = 5.0  # seconds: the driver's own
SLEEP_TIMEOUT = 20.0  # seconds: four times the driver's delay
SHORT_DELAY = 500  # milliseconds: a simulated device need not be waited for

Asleep = Callable[[], float]


@pytest.fixture
def short_rehearsal() -> Iterator[None]:
    """A simulated machine resumes at once from a rehearsed sleep: the kernel spins for five seconds there."""
    delay = Path("/sys/module/suspend/parameters/pm_test_delay")
    shorter = guard.virtual() and os.access(delay, os.W_OK)
    before = delay.read_text("ascii") if shorter else ""
    if shorter:
        delay.write_text("0", "ascii")
    yield
    if shorter:
        delay.write_text(before, "ascii")


@pytest.fixture
def hasty(pci: guard.PciDevice) -> Iterator[None]:
    """A simulated device falls asleep sooner than its driver asks for: how it sleeps is the same."""
    delay = Path(f"/sys/bus/pci/devices/{pci.address}/power/autosuspend_delay_ms")
    before = delay.read_text("ascii")
    shorter = guard.virtual() and os.access(delay, os.W_OK)
    if shorter:
        delay.write_text(str(SHORT_DELAY), "ascii")
    yield
    if shorter:
        delay.write_text(before, "ascii")


def _status(pci: guard.PciDevice) -> str:
    return Path(f"/sys/bus/pci/devices/{pci.address}/power/runtime_status").read_text("ascii").strip()


def _wait_asleep(pci: guard.PciDevice) -> float:
    began = time.monotonic()
    while _status(pci) != "suspended":
        assert time.monotonic() - began < SLEEP_TIMEOUT, "the device does not fall asleep"
        time.sleep(0.1)
    return time.monotonic() - began


@pytest.fixture
def asleep(pci: guard.PciDevice, expect: Expect) -> Asleep:
    """Wait until the device sleeps: the seconds it took."""
    if expect("sleep-under-a-client") != "asleep":
        pytest.skip("an open client keeps the device awake on this kernel")
    return lambda: _wait_asleep(pci)


def test_sleeps_when_idle(device: Device, pci: guard.PciDevice, expect: Expect, record: Record) -> None:
    """After the last call the device sleeps within its delay, though a client is open (6.19 and later).

    The next query wakes it.
    """
    version = bytes(device.info(uapi.Info.FIRMWARE_VERSION, uapi.QueryFirmwareVersion()))
    if expect("sleep-under-a-client") == "awake":
        time.sleep(1.5 * DELAY)
        assert _status(pci) == "active"
        return
    record("seconds_to_sleep", round(_wait_asleep(pci), 1))
    began = time.monotonic()
    assert bytes(device.info(uapi.Info.FIRMWARE_VERSION, uapi.QueryFirmwareVersion())) == version
    record("wake_milliseconds", round((time.monotonic() - began) * 1000, 1))


@pytest.mark.usefixtures("hasty")
def test_telemetry_after_sleep(device: Device, asleep: Asleep, expect: Expect) -> None:
    """The firmware itself answers after waking up, not only the driver's memory of it."""
    if expect("telemetry") != "ok":
        pytest.skip("no telemetry on this kernel")
    asleep()
    block = ctypes.create_string_buffer(uapi.PAGE)
    uapi.TelemetryHeader.from_buffer(block).type = 1
    device.info_at(uapi.Info.TELEMETRY, ctypes.addressof(block), len(block))
    assert uapi.TelemetryHeader.from_buffer(block).map_num_elements > 0


@pytest.mark.root
@pytest.mark.usefixtures("short_rehearsal")
def test_system_sleep_with_a_live_context(
    device: Device, context: Context, command: Buffer, record: Record
) -> None:
    """All devices are suspended and resumed (pm_test=devices, s2idle) under a live context, which goes on."""
    rehearsal, state = Path("/sys/power/pm_test"), Path("/sys/power/state")
    if not rehearsal.exists() or "freeze" not in state.read_text("ascii"):
        pytest.skip(contract.ENVIRONMENT_PREFIX + "pm: no /sys/power/pm_test (CONFIG_PM_DEBUG) or no s2idle")
    assert device.run(context, command, packets.start_cu()) == uapi.Command.COMPLETED
    rehearsal.write_text("devices", "ascii")
    began = time.monotonic()
    try:
        state.write_text("freeze", "ascii")
    finally:
        rehearsal.write_text("none", "ascii")
    record("seconds", round(time.monotonic() - began, 1))
    assert device.run(context, command, packets.start_cu()) == uapi.Command.COMPLETED


@pytest.mark.usefixtures("hasty")
def test_command_after_sleep(
    device: Device, context: Context, command: Buffer, asleep: Asleep, record: Record
) -> None:
    """A context that slept with the device takes commands again."""
    assert device.run(context, command, packets.start_cu()) == uapi.Command.COMPLETED
    record("seconds_to_sleep", round(asleep(), 1))
    began = time.monotonic()
    assert device.run(context, command, packets.start_cu()) == uapi.Command.COMPLETED
    record("milliseconds", round((time.monotonic() - began) * 1000, 1))


@pytest.mark.usefixtures("program", "hasty")
def test_context_destroyed_while_asleep(
    device: Device, heap: Buffer, tiles: int, unit: Buffer, asleep: Asleep
) -> None:
    """A context is destroyed while the device sleeps (once a crash: 8363c0286333)."""
    assert heap.size
    context = device.create_context(tiles=tiles)
    device.configure(context, [unit.handle])
    asleep()
    device.destroy_context(context)


@pytest.mark.usefixtures("hasty")
@pytest.mark.root
def test_power_mode_survives_sleep(device: Device, asleep: Asleep) -> None:
    """The power mode survives; turbo once stopped the device from sleeping (fdb65acfe655)."""
    before = device.power_mode()
    device.set_power_mode(uapi.PowerMode.TURBO)
    try:
        asleep()
        assert device.power_mode() == uapi.PowerMode.TURBO
    finally:
        device.set_power_mode(before)


@pytest.mark.usefixtures("hasty")
def test_client_closed_while_asleep(node: str, tiles: int, asleep: Asleep) -> None:
    """A client with a context is closed while the device sleeps."""
    with Device(node) as client:
        client.heap()
        client.create_context(tiles=tiles)
        asleep()
