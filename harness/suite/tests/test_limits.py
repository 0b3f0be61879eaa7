"""Where the driver's resources end: heap, buffers, clients."""

from __future__ import annotations

import pytest

from harness.suite import guard, uapi
from harness.suite.device import Buffer, Device
from harness.suite.tests.conftest import Attempt, Expect, Record


def test_heap_is_used_up(device: Device, heap: Buffer, attempt: Attempt, record: Record) -> None:
    """DEV buffers of 4 MiB fill the heap, the next one is refused, and all can be given back."""
    made: list[int] = []
    size = 4 << 20

    def fill() -> None:
        while len(made) <= heap.size // size:
            made.append(device.create_bo(uapi.Bo.DEV, size))

    got = attempt(fill)
    for handle in made:
        device.free(handle)
    record("buffers", len(made))
    assert got in ("EAGAIN", "ENOSPC", "EINVAL")
    assert 1 <= len(made) <= heap.size // size
    device.free(device.create_bo(uapi.Bo.DEV, size))


def test_five_hundred_buffers(device: Device) -> None:
    """Five hundred buffers exist together."""
    handles = [device.create_bo(uapi.Bo.SHARE, uapi.PAGE) for _turn in range(500)]
    for handle in handles:
        device.free(handle)
    assert len(set(handles)) == 500


def test_large_buffer(device: Device, record: Record) -> None:
    """Sixteen mebibytes of ordinary memory are mapped and hold what is written at both ends."""
    buffer = device.buffer(uapi.Bo.SHARE, 16 << 20)
    for offset in (0, buffer.size - 8):
        buffer.memory.write(b"0123abcd", offset)
        assert buffer.memory.read(8, offset) == b"0123abcd"
    record("size", buffer.size)
    device.free(buffer)


def test_thirty_clients(node: str) -> None:
    """Thirty clients of one process are open together and all answered."""
    clients = [Device(node) for _turn in range(30)]
    versions = {client.version() for client in clients}
    for client in clients:
        client.close()
    assert len(versions) == 1


@pytest.mark.slow
def test_heap_grows(
    device: Device, heap: Buffer, pci: guard.PciDevice, attempt: Attempt, expect: Expect, own: Device
) -> None:
    """A second heap chunk is taken where the heap may grow (7.2 and later, not on NPU1)."""
    assert heap.size
    assert device.fd >= 0
    if expect("second-heap") != "ok":
        pytest.skip(f"the heap cannot grow on this kernel and {pci.generation}")
    own.create_bo(uapi.Bo.DEV_HEAP, uapi.HEAP_CHUNK)  # not mapped: that would take seconds when simulated
    assert attempt(lambda: own.create_bo(uapi.Bo.DEV_HEAP, uapi.HEAP_CHUNK)) == "ok"
