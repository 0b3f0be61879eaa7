"""GET_INFO: what the driver tells about array, firmware, clocks, power and contexts."""

from __future__ import annotations

import ctypes
import os
from itertools import pairwise

import pytest

from harness.suite import guard, uapi
from harness.suite.device import Context, Device
from harness.suite.tests.conftest import AfterProbe, Attempt, Expect, Record

COLUMNS = {"npu1": 5, "npu4": 8, "npu5": 8, "npu6": 8}
CONTEXTS = {"npu1": 6, "npu4": 16, "npu5": 16, "npu6": 16}


def test_aie_version(device: Device, record: Record) -> None:
    """The array's version: 1.x on NPU1, 2.x on the AIE2P ones, the same each time."""
    version = device.info(uapi.Info.AIE_VERSION, uapi.QueryAieVersion())
    record("version", f"{version.major}.{version.minor}")
    again = device.info(uapi.Info.AIE_VERSION, uapi.QueryAieVersion())
    assert bytes(version) == bytes(again)
    assert version.major in (1, 2)


def test_aie_metadata(metadata: uapi.QueryAieMetadata, pci: guard.PciDevice, record: Record) -> None:
    """Rows are shim + memory + core rows; columns are the generation's."""
    record("columns", metadata.cols)
    record("rows", metadata.rows)
    record("column_bytes", metadata.col_size)
    parts = metadata.core.row_count + metadata.mem.row_count + metadata.shim.row_count
    assert metadata.rows == parts
    # firmware may give fewer columns than the silicon has: 4 of 5 on Phoenix
    assert 1 <= metadata.cols <= COLUMNS[pci.generation]
    assert metadata.col_size > 0


def test_aie_metadata_rows_do_not_overlap(metadata: uapi.QueryAieMetadata) -> None:
    """Shim, memory and core rows follow each other without a gap."""
    spans = sorted(
        (tile.row_start, tile.row_start + tile.row_count)
        for tile in (metadata.shim, metadata.mem, metadata.core)
    )
    assert spans[0][0] == 0
    assert all(first[1] == second[0] for first, second in pairwise(spans))


def test_aie_metadata_version_agrees(device: Device, metadata: uapi.QueryAieMetadata) -> None:
    """The version inside the metadata is the one of QUERY_AIE_VERSION."""
    version = device.info(uapi.Info.AIE_VERSION, uapi.QueryAieVersion())
    assert bytes(version) == bytes(metadata.version)


def test_aie_metadata_pads_are_zero(metadata: uapi.QueryAieMetadata) -> None:
    """No kernel memory leaks through the padding."""
    for tile in (metadata.core, metadata.mem, metadata.shim):
        assert list(tile.pad) == [0, 0, 0]


def test_firmware_version(device: Device, record: Record) -> None:
    """The firmware has a version."""
    version = device.info(uapi.Info.FIRMWARE_VERSION, uapi.QueryFirmwareVersion())
    record("firmware", f"{version.major}.{version.minor}.{version.patch}.{version.build}")
    assert any(bytes(version))


def test_clock_metadata(device: Device, record: Record) -> None:
    """Two clocks with their names and a frequency a real part can have."""
    clocks = device.info(uapi.Info.CLOCK_METADATA, uapi.QueryClockMetadata())
    for key, clock in (("mp_npu_mhz", clocks.mp_npu_clock), ("h_mhz", clocks.h_clock)):
        record(key, clock.freq_mhz)
        assert 0 < clock.freq_mhz < 10000
        assert clock.pad == 0
    assert clocks.mp_npu_clock.name == b"MP-NPU Clock"
    assert clocks.h_clock.name == b"H Clock"


def test_power_mode(device: Device, record: Record) -> None:
    """The power mode is one of the five, its padding zero."""
    mode = device.info(uapi.Info.POWER_MODE, uapi.GetPowerMode())
    record("mode", mode.power_mode)
    assert mode.power_mode in list(uapi.PowerMode)
    assert not any(mode.pad)


def test_resource_info(
    device: Device, attempt: Attempt, expect: Expect, pci: guard.PciDevice, record: Record
) -> None:
    """Limits and use of the device: contexts as the generation allows, none in use by us."""
    resources = uapi.GetResourceInfo()
    assert attempt(lambda: device.info(uapi.Info.RESOURCE_INFO, resources)) == expect("resource-info")
    if expect("resource-info") != "ok":
        return
    for name in ("npu_clk_max", "npu_task_max", "npu_tops_curr", "npu_task_curr"):
        record(name, getattr(resources, name))
    assert resources.npu_task_max == CONTEXTS[pci.generation]
    assert resources.npu_task_curr <= resources.npu_task_max
    assert 0 < resources.npu_clk_max < 10000


@pytest.mark.first
@pytest.mark.suspect(
    "npu_tops_max is 0 from probe until the first change of the power level, 6.19 to 7.3.4 on NPU1 and NPU4: "
    "the table of levels is read before the number of columns is known"
)
def test_tops_known_after_probe(after_probe: AfterProbe, expect: Expect, record: Record) -> None:
    """npu_tops_max is the device's rating and known as soon as the driver has probed.

    Asked before everything else, as any change of the power level, a sleep included, hides the defect until
    the next probe: a device that slept is probed again where that is allowed.
    """
    if expect("resource-info") != "ok":
        pytest.skip("no QUERY_RESOURCE_INFO on this kernel")
    record("probed_again", after_probe.again)
    if after_probe.resources is None:
        pytest.skip(after_probe.reason)
    resources = after_probe.resources
    record("npu_tops_max", resources.npu_tops_max)
    record("npu_tops_curr", resources.npu_tops_curr)
    assert resources.npu_tops_max > 0


def test_resource_info_counts_contexts(device: Device, bare_context: Context, expect: Expect) -> None:
    """A context raises npu_task_curr by one for as long as it lives."""
    if expect("resource-info") != "ok":
        pytest.skip("no QUERY_RESOURCE_INFO on this kernel")
    assert bare_context.handle
    during = device.info(uapi.Info.RESOURCE_INFO, uapi.GetResourceInfo()).npu_task_curr
    assert during >= 1


def test_telemetry(device: Device, attempt: Attempt, expect: Expect, record: Record) -> None:
    """Telemetry: a header, a context map as long as the device's context limit, then firmware data."""
    block = ctypes.create_string_buffer(uapi.PAGE)
    head = uapi.TelemetryHeader.from_buffer(block)
    head.type = 1
    got = attempt(lambda: device.info_at(uapi.Info.TELEMETRY, ctypes.addressof(block), len(block)))
    assert got == expect("telemetry")
    if got == "ok":
        record("version", f"{head.major}.{head.minor}")
        record("map_elements", head.map_num_elements)
        assert 0 < head.map_num_elements <= 64


def test_sensors(device: Device, attempt: Attempt, expect: Expect, record: Record) -> None:
    """Sensors need the platform's PMF: without it the errno of 7.1 and later is ENODEV or EOPNOTSUPP."""
    sensors = (uapi.QuerySensor * 16)()
    size = ctypes.sizeof(sensors)
    left: list[int] = []
    got = attempt(lambda: left.append(device.info_at(uapi.Info.SENSORS, ctypes.addressof(sensors), size)))
    allowed = expect("sensors")
    assert isinstance(allowed, tuple)
    assert got in allowed
    if got == "ok":
        record("labels", [sensor.label.decode("ascii", "replace") for sensor in sensors if sensor.label])
        assert sensors[0].label


@pytest.mark.parametrize(
    "param", [uapi.Info.FORCE_PREEMPT, uapi.Info.FRAME_BOUNDARY_PREEMPT], ids=["force", "frame-boundary"]
)
def test_preempt_state(device: Device, param: int, attempt: Attempt, expect: Expect, record: Record) -> None:
    """Preemption switches are readable and 0 or 1."""
    state = uapi.AttributeState(state=0xEE)
    got = attempt(lambda: device.info(param, state))
    assert got == expect("preempt")
    if got == "ok":
        record("state", state.state)
        assert state.state in (0, 1)


def test_hw_contexts(device: Device, bare_context: Context, record: Record) -> None:
    """The old list of contexts (GET_INFO) has ours with our pid."""
    entries = (uapi.QueryHwctx * 32)()
    size = ctypes.sizeof(entries)
    argument = uapi.GetInfo(param=uapi.Info.HW_CONTEXTS, buffer_size=size, buffer=ctypes.addressof(entries))
    device.ioctl(uapi.GET_INFO, argument)
    ours = [entry for entry in entries if entry.pid == os.getpid()]
    record("buffer_size_after", argument.buffer_size)
    assert bare_context.handle in [entry.context_id for entry in ours]


def test_hw_contexts_without_any(own: Device) -> None:
    """The old list of contexts can be asked for when this client has none."""
    entries = (uapi.QueryHwctx * 4)()
    own.info_at(uapi.Info.HW_CONTEXTS, ctypes.addressof(entries), ctypes.sizeof(entries))


def _status(device: Device, room: int) -> tuple[uapi.QueryAieStatus, bytes]:
    block = ctypes.create_string_buffer(room)
    status = uapi.QueryAieStatus(buffer=ctypes.addressof(block), buffer_size=room)
    device.info(uapi.Info.AIE_STATUS, status)
    return status, block.raw


def test_aie_status(
    device: Device, metadata: uapi.QueryAieMetadata, bare_context: Context, record: Record
) -> None:
    """The columns' status fits a buffer of columns times bytes of a column."""
    assert bare_context.handle
    status, _data = _status(device, metadata.cols * metadata.col_size)
    record("columns_filled", status.cols_filled)
    assert status.cols_filled < 1 << metadata.cols


def test_aie_status_small_buffer(device: Device, bare_context: Context, attempt: Attempt) -> None:
    """A buffer smaller than the status is refused, or filled as far as it goes and no further."""
    assert bare_context.handle
    block = ctypes.create_string_buffer(b"\xee" * 64, 64)
    status = uapi.QueryAieStatus(buffer=ctypes.addressof(block), buffer_size=16)
    got = attempt(lambda: device.info(uapi.Info.AIE_STATUS, status))
    assert got in ("ok", "EINVAL")
    assert block.raw[16:] == b"\xee" * 48


def test_aie_status_big_buffer(
    device: Device, metadata: uapi.QueryAieMetadata, bare_context: Context, attempt: Attempt, expect: Expect
) -> None:
    """A buffer larger than needed is accepted since 7.1."""
    assert bare_context.handle
    room = metadata.cols * metadata.col_size + uapi.PAGE
    assert attempt(lambda: _status(device, room)) == expect("aie-status-big-buffer")


def test_queries_do_not_disturb_each_other(device: Device) -> None:
    """Two hundred mixed queries keep answering the same."""
    first = bytes(device.metadata())
    for _turn in range(100):
        device.info(uapi.Info.FIRMWARE_VERSION, uapi.QueryFirmwareVersion())
        assert bytes(device.metadata()) == first
