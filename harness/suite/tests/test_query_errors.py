"""GET_INFO refused: unknown parameters, bad memory, small buffers."""

from __future__ import annotations

import ctypes
import mmap

import pytest

from harness.suite import uapi
from harness.suite.device import Device, anonymous
from harness.suite.tests.conftest import Attempt, Expect, Refuse

pytestmark = pytest.mark.negative
NOWHERE = 0x10  # an address no process maps

PLAIN = {
    "metadata": (uapi.Info.AIE_METADATA, uapi.QueryAieMetadata),
    "version": (uapi.Info.AIE_VERSION, uapi.QueryAieVersion),
    "clocks": (uapi.Info.CLOCK_METADATA, uapi.QueryClockMetadata),
    "firmware": (uapi.Info.FIRMWARE_VERSION, uapi.QueryFirmwareVersion),
    "power-mode": (uapi.Info.POWER_MODE, uapi.GetPowerMode),
}


@pytest.mark.parametrize("param", [6, 7, 99, 0x7FFFFFFF, 0xFFFFFFFF])
def test_unknown_parameter(refuse: Refuse, param: int) -> None:
    """A parameter that no release has is EOPNOTSUPP."""
    block = ctypes.create_string_buffer(64)
    argument = uapi.GetInfo(param=param, buffer_size=64, buffer=ctypes.addressof(block))
    refuse("EOPNOTSUPP", uapi.GET_INFO, argument)
    assert not any(block.raw)


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_bad_address(refuse: Refuse, name: str) -> None:
    """An address outside the process is EFAULT."""
    param, structure = PLAIN[name]
    size = ctypes.sizeof(structure)
    refuse("EFAULT", uapi.GET_INFO, uapi.GetInfo(param=param, buffer_size=size, buffer=NOWHERE))


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_short_buffer_is_truncated(device: Device, name: str, expect: Expect) -> None:
    """A buffer shorter than the structure gets its beginning, and not one byte more."""
    assert expect("short-info-buffer") == "truncated"
    param, structure = PLAIN[name]
    whole = bytes(device.info(param, structure()))
    block = ctypes.create_string_buffer(b"\xee" * len(whole), len(whole))
    device.info_at(param, ctypes.addressof(block), 4)
    assert block.raw == whole[:4] + b"\xee" * (len(whole) - 4)


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_long_buffer_is_not_overrun(device: Device, name: str) -> None:
    """A buffer longer than the structure keeps its tail."""
    param, structure = PLAIN[name]
    size = ctypes.sizeof(structure)
    block = ctypes.create_string_buffer(b"\xee" * (size + 64), size + 64)
    device.info_at(param, ctypes.addressof(block), size + 64)
    assert block.raw[size:] == b"\xee" * 64
    assert block.raw[:size] == bytes(device.info(param, structure()))


def test_empty_buffer(device: Device, expect: Expect) -> None:
    """A buffer of no bytes is accepted and nothing is written."""
    assert expect("short-info-buffer") == "truncated"
    block = ctypes.create_string_buffer(b"\xee" * 8, 8)
    device.info_at(uapi.Info.AIE_VERSION, ctypes.addressof(block), 0)
    assert block.raw == b"\xee" * 8


def test_read_only_memory(refuse: Refuse) -> None:
    """Memory that cannot be written is EFAULT."""
    page = anonymous(uapi.PAGE)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect(ctypes.c_void_p(page.address), ctypes.c_size_t(page.size), mmap.PROT_READ)
    argument = uapi.GetInfo(param=uapi.Info.AIE_VERSION, buffer_size=8, buffer=page.address)
    refuse("EFAULT", uapi.GET_INFO, argument)
    page.close()


def test_aie_status_bad_header(refuse: Refuse) -> None:
    """AIE_STATUS whose request cannot be read is EFAULT."""
    argument = uapi.GetInfo(param=uapi.Info.AIE_STATUS, buffer_size=16, buffer=NOWHERE)
    refuse("EFAULT", uapi.GET_INFO, argument)


def test_aie_status_bad_buffer(device: Device, refuse: Refuse, metadata: uapi.QueryAieMetadata) -> None:
    """AIE_STATUS into memory outside the process is EFAULT when there is anything to write."""
    status = uapi.QueryAieStatus(buffer=NOWHERE, buffer_size=metadata.cols * metadata.col_size)
    argument = uapi.GetInfo(param=uapi.Info.AIE_STATUS, buffer_size=16, buffer=ctypes.addressof(status))
    refuse("EFAULT", uapi.GET_INFO, argument, on=device)
    assert status.cols_filled == 0


def test_telemetry_small_buffer(refuse: Refuse, expect: Expect) -> None:
    """Telemetry without room for header and map is EINVAL."""
    if expect("telemetry") != "ok":
        pytest.skip("no telemetry on this kernel")
    head = uapi.TelemetryHeader(type=1)
    argument = uapi.GetInfo(
        param=uapi.Info.TELEMETRY, buffer_size=ctypes.sizeof(head), buffer=ctypes.addressof(head)
    )
    refuse("EINVAL", uapi.GET_INFO, argument)


def test_telemetry_bad_address(refuse: Refuse, expect: Expect) -> None:
    """Telemetry at an address outside the process is EFAULT."""
    if expect("telemetry") != "ok":
        pytest.skip("no telemetry on this kernel")
    refuse(
        "EFAULT",
        uapi.GET_INFO,
        uapi.GetInfo(param=uapi.Info.TELEMETRY, buffer_size=uapi.PAGE, buffer=NOWHERE),
    )


def test_resource_info_bad_address(refuse: Refuse, expect: Expect) -> None:
    """RESOURCE_INFO at an address outside the process is EFAULT."""
    if expect("resource-info") != "ok":
        pytest.skip("no QUERY_RESOURCE_INFO on this kernel")
    refuse(
        "EFAULT", uapi.GET_INFO, uapi.GetInfo(param=uapi.Info.RESOURCE_INFO, buffer_size=40, buffer=NOWHERE)
    )


@pytest.mark.suspect("HW_CONTEXTS answers success although it could not write the list: EFAULT is lost")
def test_hw_contexts_bad_address(device: Device, bare_context: object, attempt: Attempt) -> None:
    """HW_CONTEXTS with a context to report and nowhere to put it is EFAULT."""
    assert bare_context
    assert attempt(lambda: device.info_at(uapi.Info.HW_CONTEXTS, NOWHERE, 640)) == "EFAULT"


def test_kernel_address_is_refused(refuse: Refuse) -> None:
    """An address of the kernel's half is EFAULT."""
    argument = uapi.GetInfo(param=uapi.Info.AIE_VERSION, buffer_size=8, buffer=0xFFFF888000000000)
    refuse("EFAULT", uapi.GET_INFO, argument)
