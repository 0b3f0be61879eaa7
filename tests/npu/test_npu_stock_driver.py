"""Debian's unmodified driver on the model: it works, sleeps, is reset, unplugged and plugged in again."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.suite import contract
from lab.machine import BootRequest, Candidate, Session
from lab.packages.store import PackageStore
from lab.virtual.kernels import cached_kernels
from lab.virtual.machine import VirtualMachine

pytestmark = [pytest.mark.qemu, pytest.mark.slow, pytest.mark.timeout(300)]

VERSION = "7.3.4"
ROOT = "/root/npu-test"
WARNING = re.compile(r"WARNING: |BUG: |DMAR: \[")
# The driver leaves its own IOMMU domain in place until the last client closes (amdxdna_iommu.c of 7.3: a
# managed action of the DRM device), but a device that is unplugged leaves its group at once.
KNOWN_WARNING = "__iommu_group_free_device"
ANSWER = 60.0  # seconds for one command in the guest, on a busy host without KVM

# Runs in the guest on the suite's own ioctl layer; each step prints one word that the test compares.
PRELUDE = """
    import os, struct, subprocess, sys, time
    from pathlib import Path
    from harness.suite import guard, packets, uapi
    from harness.suite.device import Device, error_name

    PCI = next(Path("/sys/bus/pci/drivers/amdxdna").glob("0000:*"))
    ADDRESS = PCI.name
    LENGTH = 4096
    LEFT = struct.pack("<1024I", *range(1024))
    RIGHT = struct.pack("<1024I", *(0xFFFFFFFF - 3 * n for n in range(1024)))

    def node():
        return "/dev/accel/" + sorted(os.listdir("/dev/accel"))[-1]

    class Client:
        def __init__(self):
            self.device = Device(node())
            self.heap = self.device.heap()
            self.unit = self.device.buffer(uapi.Bo.DEV, 4096)
            self.context = self.device.create_context(tiles=self.device.metadata().core.row_count)
            self.device.configure(self.context, [self.unit.handle])
            self.command = self.device.buffer(uapi.Bo.CMD, 4096)
            self.buffers = [self.device.buffer(uapi.Bo.SHARE, LENGTH) for _ in range(3)]

        def compute(self, operation, count):
            used = self.buffers[:1] + self.buffers[2:] if count == 2 else self.buffers
            self.buffers[0].memory.write(LEFT)
            self.buffers[1].memory.write(RIGHT)
            self.buffers[2].memory.write(bytes(LENGTH))
            kernel = struct.pack("<4sHHII", b"XDNW", 1, operation, LENGTH, 0)
            self.heap.memory.write(kernel, self.unit.address - self.heap.address)
            words = [w for b in used for w in (b.address & 0xFFFFFFFF, b.address >> 32)]
            state = self.device.run(
                self.context, self.command, packets.start_npu(self.unit.address, 16, words),
                [b.handle for b in used],
            )
            return state, self.buffers[2].memory.read(LENGTH)

        def works(self):
            copied = self.compute(1, 2) == (4, LEFT)
            total = struct.pack("<1024I", *((n + 0xFFFFFFFF - 3 * n) & 0xFFFFFFFF for n in range(1024)))
            return copied and self.compute(3, 3) == (4, total)

    def say(name, value):
        print(name, value, flush=True)
"""


def newest(lab_cache: Path) -> tuple[PackageStore, Candidate]:
    """The kernel of this module from the cache alone."""
    for candidate in cached_kernels(lab_cache):
        if candidate.version == VERSION:
            return PackageStore(lab_cache, "http://127.0.0.1:9/the-cache-must-do"), candidate
    pytest.skip(f"kernel {VERSION} is not unpacked in {lab_cache} (`xdnawatch lab fetch {VERSION}`)")


class Guest:
    """A booted machine and what its device saw."""

    def __init__(self, session: Session) -> None:
        self.session = session
        session.shell.put(contract.files(), ROOT)

    def run(self, script: str) -> dict[str, str]:
        """Run a script after the prelude; the words it said."""
        text = textwrap.dedent(PRELUDE) + textwrap.dedent(script)
        self.session.shell.put({"script.py": text.encode()}, ROOT)
        done = self.session.shell.run(
            ["env", f"PYTHONPATH={ROOT}", "python3", f"{ROOT}/script.py"], timeout=ANSWER
        )
        assert done.status == 0, f"{done.text}\n{done.stderr.decode(errors='replace')}\n{self.log()}"
        return dict(line.split(" ", 1) for line in done.text.splitlines())

    def log(self) -> str:
        """The driver's and the kernel's complaints."""
        return self.session.shell.run(
            ["sh", "-c", "dmesg | grep -E 'amdxdna|WARNING: |BUG: |DMAR: .DMA' | tail -60"], timeout=ANSWER
        ).text

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The model's trace so far."""
        lines = self.session.logs["device.jsonl"].read_text().splitlines()
        found = [json.loads(line) for line in lines if line.endswith("}")]
        return [event for event in found if event["event"] == kind]

    def is_clean(self) -> bool:
        """No kernel warning but a known one, no gap, no misuse of ring or memory."""
        warned = [line for line in self.log().splitlines() if WARNING.search(line)]
        assert not [line for line in warned if KNOWN_WARNING not in line], self.log()
        assert warned or self.session.shell.read("/proc/sys/kernel/tainted") == b"0\n", self.log()
        return not any(self.events(kind) for kind in ("model-gap", "ring-error", "dma-error", "bad-request"))


@pytest.fixture
def guest(lab_cache: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Guest]:
    store, candidate = newest(lab_cache)
    generation, _, memory = request.param.partition(" ")
    machine = VirtualMachine(f"virtual-{generation}", generation, store, shared_memory=not memory)
    with machine.boot(BootRequest(candidate, "stock-driver", tmp_path / "boot")) as session:
        yield Guest(session)


@pytest.mark.parametrize("guest", ["npu1", "npu4"], indirect=True)
def test_the_stock_driver_computes_sleeps_and_survives_reset_and_unplugging(guest: Guest) -> None:
    said = guest.run(
        """
        client = Client()
        say("works", client.works())

        # Every device is suspended and resumed under the living context (pm_test=devices, s2idle).
        Path("/sys/power/pm_test").write_text("devices")
        Path("/sys/power/state").write_text("freeze")
        Path("/sys/power/pm_test").write_text("none")
        say("works-after-sleep", client.works())

        # Unplugged with the node open: what was open fails, plugged in it is a new device.
        (PCI / "remove").write_text("1")
        try:
            client.device.metadata()
            say("unplugged", "answers")
        except OSError as error:
            say("unplugged", error_name(error))
        client.device.close()
        Path("/sys/bus/pci/rescan").write_text("1")
        deadline = time.monotonic() + 10
        while not os.listdir("/dev/accel") and time.monotonic() < deadline:
            time.sleep(0.1)
        client = Client()
        say("works-after-plugging-in", client.works())
        client.device.close()

        # Function-level reset of the idle device, then a new probe.
        driver = Path("/sys/bus/pci/drivers/amdxdna")
        (driver / "unbind").write_text(ADDRESS)
        Path(f"/sys/bus/pci/devices/{ADDRESS}/reset").write_text("1")
        (driver / "bind").write_text(ADDRESS)
        client = Client()
        say("works-after-reset", client.works())
        client.device.close()
        """
    )
    assert said == {
        "works": "True",
        "works-after-sleep": "True",
        "unplugged": "ENODEV",
        "works-after-plugging-in": "True",
        "works-after-reset": "True",
    }
    names = [event["name"] for event in guest.events("message") if event["direction"] == "request"]
    assert names.count("SUSPEND") >= 2, "the firmware was told to sleep"
    assert guest.events("reset"), "the reset reached the device"
    work = [work for event in guest.events("command") for work in event["work"]]
    assert work == ["copy", "add"] * 4
    assert guest.is_clean()


@pytest.mark.parametrize("guest", ["npu3vf"], indirect=True)
def test_the_stock_driver_takes_commands_by_host_queue_and_waits_for_them(guest: Guest) -> None:
    said = guest.run(
        """
        from harness.suite.tests.test_host_queue import INPUT, LENGTH, OUTPUT, HostQueue

        def copies():
            with Device(node()) as device:
                queue = HostQueue(device, device.metadata().core.row_count)
                queue.work.memory.write(bytes(range(256)) * (LENGTH // 256), INPUT)
                number = queue.submit()
                queue.ring()
                queue.wait(number)
                same = queue.work.memory.read(LENGTH, OUTPUT) == queue.work.memory.read(LENGTH, INPUT)
                queue.close()
                return same

        say("copies", copies())
        driver = Path("/sys/bus/pci/drivers/amdxdna")
        (driver / "unbind").write_text(ADDRESS)
        Path(f"/sys/bus/pci/devices/{ADDRESS}/reset").write_text("1")
        (driver / "bind").write_text(ADDRESS)
        say("copies-after-reset", copies())
        """
    )
    assert said == {"copies": "True", "copies-after-reset": "True"}
    assert guest.events("reset")
    assert [event["work"] for event in guest.events("command")] == [["copy"], ["copy"]]
    assert guest.is_clean()


@pytest.mark.parametrize("guest", ["npu4 private-memory"], indirect=True)
def test_the_stock_driver_works_where_the_model_reaches_memory_by_messages(guest: Guest) -> None:
    """No window has a file: code, arguments and data travel as DMA_READ and DMA_WRITE messages."""
    said = guest.run(
        """
        client = Client()
        say("works", client.works())
        client.device.close()
        """
    )
    assert said == {"works": "True"}
    assert [work for event in guest.events("command") for work in event["work"]] == ["copy", "add"]
    assert guest.is_clean()
