"""SET_STATE: power modes and preemption switches, set, read back, refused."""

from __future__ import annotations

import ctypes

import pytest

from harness.suite import uapi
from harness.suite.device import Context, Device
from harness.suite.tests.conftest import Attempt, Expect, Record, Refuse

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("power_kept")]
NOWHERE = 0x10


def _resources(device: Device, record: Record, expect: Expect, when: str) -> uapi.GetResourceInfo | None:
    if expect("resource-info") != "ok":
        return None
    resources = device.info(uapi.Info.RESOURCE_INFO, uapi.GetResourceInfo())
    record(f"tops_max_{when}", resources.npu_tops_max)
    record(f"tops_curr_{when}", resources.npu_tops_curr)
    return resources


@pytest.mark.parametrize("mode", [uapi.PowerMode.HIGH, uapi.PowerMode.TURBO], ids=["high", "turbo"])
def test_power_mode_is_read_back(
    device: Device, mode: uapi.PowerMode, record: Record, expect: Expect
) -> None:
    """The mode that was set is the mode that is read, and clocks run at their maximum in it."""
    device.set_power_mode(mode)
    assert device.power_mode() == mode
    clocks = device.info(uapi.Info.CLOCK_METADATA, uapi.QueryClockMetadata())
    record("h_mhz", clocks.h_clock.freq_mhz)
    resources = _resources(device, record, expect, "then")
    if resources:
        assert resources.npu_tops_max > 0
        assert resources.npu_tops_curr > 0


@pytest.mark.suspect("npu_tops_curr exceeds npu_tops_max on NPU1 at full clock: 15 of 10, 7.3.4")
def test_tops_within_maximum(device: Device, record: Record, expect: Expect) -> None:
    """At full clock the device does what it is rated for, not more."""
    device.set_power_mode(uapi.PowerMode.HIGH)
    resources = _resources(device, record, expect, "then")
    if resources is None:
        pytest.skip("no QUERY_RESOURCE_INFO on this kernel")
    assert resources.npu_tops_curr <= resources.npu_tops_max


def test_power_default_after_high(device: Device, record: Record, expect: Expect) -> None:
    """Back from HIGH the mode is DEFAULT; what the clocks do then is measured, it differs by release."""
    device.set_power_mode(uapi.PowerMode.HIGH)
    device.set_power_mode(uapi.PowerMode.DEFAULT)
    assert device.power_mode() == uapi.PowerMode.DEFAULT
    clocks = device.info(uapi.Info.CLOCK_METADATA, uapi.QueryClockMetadata())
    record("h_mhz", clocks.h_clock.freq_mhz)
    _resources(device, record, expect, "then")


@pytest.mark.parametrize("mode", [uapi.PowerMode.LOW, uapi.PowerMode.MEDIUM], ids=["low", "medium"])
def test_power_low_and_medium(
    device: Device, mode: uapi.PowerMode, attempt: Attempt, expect: Expect, record: Record
) -> None:
    """LOW and MEDIUM are accepted since 7.2 and refused before."""
    before = device.power_mode()
    got = attempt(lambda: device.set_power_mode(mode))
    assert got == expect("power-low-medium")
    assert device.power_mode() == (mode if got == "ok" else before)
    clocks = device.info(uapi.Info.CLOCK_METADATA, uapi.QueryClockMetadata())
    record("h_mhz", clocks.h_clock.freq_mhz)


def test_power_mode_twice(device: Device) -> None:
    """Setting the mode that is set changes nothing."""
    device.set_power_mode(uapi.PowerMode.HIGH)
    device.set_power_mode(uapi.PowerMode.HIGH)
    assert device.power_mode() == uapi.PowerMode.HIGH


def test_turbo_needs_an_idle_device(device: Device, bare_context: Context, attempt: Attempt) -> None:
    """TURBO while a context exists is EINVAL and the mode stays."""
    assert bare_context.handle
    before = device.power_mode()
    assert attempt(lambda: device.set_power_mode(uapi.PowerMode.TURBO)) == "EINVAL"
    assert device.power_mode() == before


SWITCHES = {
    "force": (uapi.State.FORCE_PREEMPT, uapi.Info.FORCE_PREEMPT),
    "frame-boundary": (uapi.State.FRAME_BOUNDARY_PREEMPT, uapi.Info.FRAME_BOUNDARY_PREEMPT),
}


@pytest.mark.parametrize("name", sorted(SWITCHES))
def test_preempt_switch(device: Device, name: str, attempt: Attempt, expect: Expect) -> None:
    """A preemption switch is set, read back, and put back."""
    state, info = SWITCHES[name]
    if expect("preempt") != "ok":
        assert attempt(lambda: device.set_state(state, uapi.AttributeState(state=1))) == "EOPNOTSUPP"
        return
    before = device.info(info, uapi.AttributeState()).state
    if attempt(lambda: device.set_state(state, uapi.AttributeState(state=1 - before))) == "ok":
        assert device.info(info, uapi.AttributeState()).state == 1 - before
        device.set_state(state, uapi.AttributeState(state=before))
    assert device.info(info, uapi.AttributeState()).state == before


@pytest.mark.negative
@pytest.mark.parametrize("name", sorted(SWITCHES))
@pytest.mark.parametrize("bad", ["value", "pad"])
def test_preempt_switch_refused(
    device: Device, name: str, bad: str, attempt: Attempt, expect: Expect
) -> None:
    """A switch is 0 or 1 with zero padding."""
    if expect("preempt") != "ok":
        pytest.skip("no preemption switches on this kernel")
    payload = (
        uapi.AttributeState(state=2) if bad == "value" else uapi.AttributeState(pad=(1, 0, 0, 0, 0, 0, 0))
    )
    assert attempt(lambda: device.set_state(SWITCHES[name][0], payload)) == "EINVAL"


@pytest.mark.negative
@pytest.mark.parametrize("mode", [5, 77, 255])
def test_power_mode_out_of_range(device: Device, mode: int, attempt: Attempt) -> None:
    """There are five modes."""
    before = device.power_mode()
    assert attempt(lambda: device.set_power_mode(mode)) == "EINVAL"
    assert device.power_mode() == before


@pytest.mark.negative
def test_power_mode_padding(device: Device, attempt: Attempt) -> None:
    """Padding must be zero."""
    payload = uapi.SetPowerMode(power_mode=uapi.PowerMode.HIGH, pad=(0, 0, 0, 0, 0, 0, 9))
    assert attempt(lambda: device.set_state(uapi.State.POWER_MODE, payload)) == "EINVAL"


@pytest.mark.negative
@pytest.mark.parametrize(
    "param",
    [uapi.State.WRITE_AIE_MEM, uapi.State.WRITE_AIE_REG, 77, 0xFFFFFFFF],
    ids=["1", "2", "77", "4294967295"],
)
def test_unknown_parameter(refuse: Refuse, param: int) -> None:
    """A parameter that the main line never had is EOPNOTSUPP (WRITE_AIE_MEM and _REG are names only)."""
    payload = uapi.SetPowerMode()
    argument = uapi.SetState(param=param, buffer_size=8, buffer=ctypes.addressof(payload))
    refuse("EOPNOTSUPP", uapi.SET_STATE, argument)


@pytest.mark.negative
@pytest.mark.parametrize("param", [uapi.State.POWER_MODE, uapi.State.FORCE_PREEMPT], ids=["power", "preempt"])
def test_bad_address(refuse: Refuse, param: int, expect: Expect) -> None:
    """A payload outside the process is EFAULT."""
    if param != uapi.State.POWER_MODE and expect("preempt") != "ok":
        pytest.skip("no preemption switches on this kernel")
    refuse("EFAULT", uapi.SET_STATE, uapi.SetState(param=param, buffer_size=8, buffer=NOWHERE))
