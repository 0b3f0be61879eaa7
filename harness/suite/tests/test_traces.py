"""Tracepoints of the driver: they can be switched on, and tell of a command what happened."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.suite import contract, packets, uapi
from harness.suite.device import Buffer, Context, Device
from harness.suite.tests.conftest import Record

pytestmark = pytest.mark.root
PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))


@pytest.fixture
def events() -> Iterator[Path]:
    """The folder of the driver's events, all of them on; mounted for the test where it is not."""
    root = next((place for place in PLACES if (place / "events").is_dir()), None)
    if root is None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mount(b"tracefs", str(PLACES[0]).encode(), b"tracefs", ctypes.c_ulong(0), None)
        root = PLACES[0]
    if not (root / "events").is_dir():
        pytest.skip(contract.ENVIRONMENT_PREFIX + "tracefs: not mounted at /sys/kernel/tracing")
    folder = root / "events" / "amdxdna"
    assert folder.is_dir(), "the driver has no tracepoints"
    (root / "trace").write_text("", "ascii")
    (folder / "enable").write_text("1", "ascii")
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            (folder / "enable").write_text("0", "ascii")
            (root / "trace").write_text("", "ascii")


def _said(events: Path) -> list[str]:
    lines = (events.parent.parent / "trace").read_text("utf-8", "replace").splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_events_exist(events: Path, record: Record) -> None:
    """Each event has an id, a format and a switch."""
    names = sorted(path.name for path in events.iterdir() if path.is_dir())
    record("events", names)
    assert names
    for name in names:
        assert (events / name / "id").read_text("ascii").strip().isdigit()
        assert f"name: {name}" in (events / name / "format").read_text("ascii")
        assert (events / name / "enable").read_text("ascii").strip() == "1"


def test_a_command_is_traced(
    events: Path, device: Device, context: Context, command: Buffer, record: Record
) -> None:
    """A command leaves its job's events, from the submission to the signalled fence, and the mailbox's."""
    assert device.run(context, command, packets.start_cu()) == uapi.Command.COMPLETED
    said = _said(events)
    record("kinds", sorted({line.split(": ", 2)[1].split(":")[0] for line in said if ": " in line}))
    jobs = [line for line in said if " xdna_job: " in line]
    assert jobs, said[:5]
    assert any(" mbox_set_tail: " in line for line in said)


def test_nothing_is_traced_when_switched_off(
    events: Path, device: Device, context: Context, command: Buffer
) -> None:
    """With its events off the driver traces nothing."""
    (events / "enable").write_text("0", "ascii")
    (events.parent.parent / "trace").write_text("", "ascii")
    assert device.run(context, command, packets.start_cu()) == uapi.Command.COMPLETED
    assert [line for line in _said(events) if "xdna_job" in line or "mbox_" in line] == []
