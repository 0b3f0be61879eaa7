"""The time line of a context: a sync object whose points are its commands' numbers, to be waited for."""

from __future__ import annotations

import ctypes
import os
import select
import time

import pytest

from harness.suite import drm, packets, uapi
from harness.suite.device import Buffer, Context, Device
from harness.suite.tests.conftest import Attempt

NEVER = 1 << 40  # a point no test reaches


def _reached(device: Device, syncobj: int) -> int:
    """The last point that was signalled."""
    handle, point = ctypes.c_uint32(syncobj), ctypes.c_uint64()
    device.ioctl(
        drm.SYNCOBJ_QUERY,
        drm.SyncobjTimelineArray(
            handles=ctypes.addressof(handle), points=ctypes.addressof(point), count_handles=1
        ),
    )
    return int(point.value)


def _wait(device: Device, points: list[tuple[int, int]], flags: int, seconds: float) -> int:
    """Wait for points of sync objects (handle, point); the index of the first that was signalled."""
    handles = (ctypes.c_uint32 * len(points))(*(handle for handle, _point in points))
    numbers = (ctypes.c_uint64 * len(points))(*(point for _handle, point in points))
    argument = drm.SyncobjTimelineWait(
        handles=ctypes.addressof(handles),
        points=ctypes.addressof(numbers),
        timeout_nsec=time.monotonic_ns() + int(seconds * 1e9),
        count_handles=len(points),
        flags=flags,
    )
    device.ioctl(drm.SYNCOBJ_TIMELINE_WAIT, argument)
    return int(argument.first_signaled)


def _three(device: Device, context: Context, command: Buffer) -> list[int]:
    command.memory.words(packets.start_cu())
    return [device.execute(context, command) for _turn in range(3)]


def test_last_point_is_the_last_command(device: Device, context: Context, command: Buffer) -> None:
    """The time line stands at the number of the newest finished command."""
    numbers = _three(device, context, command)
    device.wait(context, numbers[-1])
    assert _reached(device, context.syncobj) == numbers[-1]


def test_all_and_any(device: Device, context: Context, command: Buffer, attempt: Attempt) -> None:
    """All of several points are waited for, or any of them: the one that comes is named."""
    numbers = _three(device, context, command)
    line = context.syncobj
    _wait(device, [(line, number) for number in numbers], drm.WAIT_ALL | drm.WAIT_FOR_SUBMIT, 5.0)
    assert _wait(device, [(line, NEVER), (line, numbers[0])], drm.WAIT_FOR_SUBMIT, 5.0) == 1
    every = [(line, numbers[0]), (line, NEVER)]
    late = attempt(lambda: _wait(device, every, drm.WAIT_ALL | drm.WAIT_FOR_SUBMIT, 0.02))
    assert late == "ETIME"


def test_point_not_submitted_is_refused(device: Device, context: Context, attempt: Attempt) -> None:
    """Without waiting for its submission a point that nobody submitted is EINVAL."""
    assert attempt(lambda: _wait(device, [(context.syncobj, NEVER)], 0, 0.02)) == "EINVAL"


def test_time_line_in_another_client(device: Device, own: Device, context: Context, command: Buffer) -> None:
    """A time line handed to another client as a descriptor shows the same points there."""
    argument = drm.SyncobjHandle(handle=context.syncobj, fd=-1)
    device.ioctl(drm.SYNCOBJ_HANDLE_TO_FD, argument)
    descriptor = int(argument.fd)
    try:
        argument = drm.SyncobjHandle(fd=descriptor)
        own.ioctl(drm.SYNCOBJ_FD_TO_HANDLE, argument)
    finally:
        os.close(descriptor)
    there = int(argument.handle)
    numbers = _three(device, context, command)
    assert _wait(own, [(there, numbers[-1])], drm.WAIT_FOR_SUBMIT, 5.0) == 0
    assert _reached(own, there) == numbers[-1]
    own.ioctl(drm.SYNCOBJ_DESTROY, drm.SyncobjDestroy(handle=there))


def test_time_line_outlives_its_context(
    program: None, device: Device, heap: Buffer, unit: Buffer, tiles: int, command: Buffer
) -> None:
    """After the context is gone its time line still says what was finished."""
    assert program is None
    assert heap.size
    context = device.create_context(tiles=tiles)
    device.configure(context, [unit.handle])
    numbers = _three(device, context, command)
    device.wait(context, numbers[-1])
    device.ioctl(uapi.DESTROY_HWCTX, uapi.DestroyHwctx(handle=context.handle))
    assert _reached(device, context.syncobj) == numbers[-1]
    device.ioctl(drm.SYNCOBJ_DESTROY, drm.SyncobjDestroy(handle=context.syncobj))


def test_point_rings_an_event(device: Device, context: Context, command: Buffer) -> None:
    """A point that is reached makes an eventfd readable (DRM core, 6.6 and later)."""
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        command.memory.words(packets.start_cu())
        number = device.execute(context, command)
        device.ioctl(drm.SYNCOBJ_EVENTFD, drm.SyncobjEventfd(handle=context.syncobj, point=number, fd=event))
        ready, _, _ = select.select([event], [], [], 5.0)
        assert ready == [event]
        assert os.eventfd_read(event) == 1
    finally:
        os.close(event)


@pytest.mark.negative
def test_destroyed_time_line_is_unknown(device: Device, heap: Buffer, tiles: int, attempt: Attempt) -> None:
    """A sync object that was destroyed is waited for no more: ENOENT."""
    assert heap.size
    context = device.create_context(tiles=tiles)
    device.destroy_context(context)
    assert attempt(lambda: _wait(device, [(context.syncobj, 1)], 0, 0.02)) == "ENOENT"
