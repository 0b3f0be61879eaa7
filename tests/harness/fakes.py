"""A machine in memory that behaves as it is told: it boots, talks, hangs, panics, lies."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.log_capture import END
from harness.suite_stream import ShippedSuite
from lab.machine import BootRequest, Candidate, Completed, Session, ShellLostError, ShellSilentError

RELEASE = "7.3.4+deb13-amd64"
TESTS = ("test_a.py::test_one", "test_a.py::test_two", "test_a.py::test_three")


def candidate(**changes: Any) -> Candidate:
    """A kernel that exists nowhere."""
    facts: dict[str, Any] = {
        "release": RELEASE,
        "version": "7.3.4",
        "origin": "debian",
        "vmlinuz": Path("vmlinuz"),
        "modules": Path("modules"),
    }
    return Candidate(**{**facts, **changes})


def healthy_report(nonce: str, boot_id: str = "boot-1", **parts: Any) -> dict[str, Any]:
    """What harness.examine says on a machine where everything is right; ``parts`` replace whole parts."""
    report: dict[str, Any] = {
        "kernel": {
            "release": RELEASE,
            "build": "#1 SMP",
            "architecture": "x86_64",
            "boot_id": boot_id,
            "command_line": f"console=ttyS0 xdnawatch.nonce={nonce}",
            "build_id": "b3997c9b",
            "tainted": "0",
            "uptime": 6.5,
            "time": 1_800_000_006.5,
        },
        "module": {
            "loaded": True,
            "builtin": False,
            "srcversion": "ABC",
            "version": None,
            "taint": "",
            "build_id": "184a3b80",
            "parameters": {"force_iova": "Y"},
            "path": f"/lib/modules/{RELEASE}/kernel/drivers/accel/amdxdna/amdxdna.ko.xz",
        },
        "npus": [
            {
                "address": "0000:00:08.0",
                "device": "0x17f0",
                "revision": "0x10",
                "driver": "amdxdna",
                "iommu_group": True,
                "iommu_domain": "DMA-FQ",
                "firmware": "1.1.2.64",
                "name": "NPU Strix",
                "type": "0",
            }
        ],
        "nodes": [{"path": "/dev/accel/accel0", "mode": "0o660", "group": "render", "allowed": True}],
        "user": {
            "uid": 0,
            "name": "root",
            "home": "/root",
            "groups": ["root"],
            "memlock_soft": -1,
            "memlock_hard": -1,
        },
        "firmware": [{"path": "/lib/firmware/amdnpu/17f0_10/npu_7.sbin", "size": 4096, "sha256": "ab" * 32}],
        "iommu": {"units": ["dmar0"]},
        "xrt": {"core": None, "npu": None},
        "power": {"source": "mains", "profile": None, "governor": None},
        "secure_boot": None,
        "machine": {"product": "Fake", "bios": "1", "processor": "none", "system": "test", "lockdown": None},
        "python": {"version": "3.13.5", "executable": "/usr/bin/python3", "pytest": "9.2.0"},
        "kernel_log": "direct",
        "errors": {},
    }
    return {**report, **parts}


# What the suite does in one session: bytes are lines of its output, an exception is raised, an int is its
# status.
Play = Callable[["FakeShell", Sequence[str]], Iterator[bytes | Exception | int]]


def event(name: str, number: int, **fields: Any) -> bytes:
    """One line of the suite."""
    return json.dumps({"event": name, "n": number, "t": number / 10, **fields}).encode()


def collected(tests: Sequence[str] = TESTS) -> bytes:
    """The suite's list of tests."""
    rows = [{"id": test, "title": f"about {test}", "markers": [], "suspect": None} for test in tests]
    return event("collected", 1, tests=rows, deselected=0, more=False)


def result(test: str, outcome: str = "passed", **fields: Any) -> bytes:
    """The end of one test."""
    return event("result", 3, id=test, outcome=outcome, when="call", duration=0.01, **fields)


def all_pass(_shell: FakeShell, tests: Sequence[str]) -> Iterator[bytes | Exception | int]:
    """A suite without a fault."""
    yield event("begin", 0, schema=1, time=1_800_000_008.0, nonce="", kernel=RELEASE)
    if not tests:
        yield collected()
    for test in tests or TESTS:
        yield event("start", 2, id=test)
        yield result(test)
    yield event("end", 9, status=0, passed=3, failed=0, skipped=0, error=0, duration=1.0)
    yield 0


@dataclass
class FakeShell:
    """A shell on the fake machine. ``dead``: no command is answered any more."""

    machine: FakeMachine
    nonce: str
    boot: int
    dead: bool = False
    killed: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)
    files: dict[str, bytes] = field(default_factory=dict)
    commands: list[tuple[str, ...]] = field(default_factory=list)

    def run(self, argv: Sequence[str], *, timeout: float, stdin: bytes | None = None) -> Completed:
        self.commands.append(tuple(argv))
        if self.dead:
            raise ShellLostError("fake: connection lost")
        if argv[:2] == ["python3", "-I"]:
            assert stdin is not None, "the examination is sent as text"
            report = self.machine.report(self.nonce, self.boot)
            return Completed(0, json.dumps(report).encode(), b"") if isinstance(report, dict) else report
        if END in argv:
            self.stopped.set()
        if argv[0] == "sh" and "kill -9" in argv[2]:
            self.killed = True
            status = 0 if self.machine.obeys else 1
            boot_id = "another-boot" if self.machine.reboots else f"boot-{self.boot}"
            return Completed(status, f"{boot_id}\n".encode(), b"")
        return Completed(0, b"", b"")

    def stream(
        self, argv: Sequence[str], *, timeout: float, silence: float, on_line: Callable[[bytes], None]
    ) -> int:
        self.commands.append(tuple(argv))
        if argv[3] == "kernel-log":
            for line in self.machine.kernel_lines:
                on_line(line)
            while not self.stopped.wait(0.01):
                if self.dead:
                    raise ShellLostError("fake: connection lost")
            return 0
        play = self.machine.plays[min(self.machine.sessions, len(self.machine.plays)) - 1]
        self.machine.sessions += 1
        names = argv[list(argv).index("fake-suite") + 1 :]
        for item in play(self, names):
            if isinstance(item, Exception):
                self.dead = self.dead or isinstance(item, ShellLostError)
                raise item
            if isinstance(item, int):
                return item
            on_line(item)
        raise AssertionError("a play ends with a status or an exception")

    def put(self, files: Mapping[str, bytes], folder: str) -> None:
        if self.dead:
            raise ShellLostError("fake: connection lost")
        self.files |= {f"{folder}/{name}": data for name, data in files.items()}

    def read(self, path: str, *, limit: int = 1 << 20) -> bytes:
        return self.machine.standard_error


class FakeSession:
    """A booted fake machine."""

    def __init__(self, shell: FakeShell, machine: FakeMachine) -> None:
        self.shell = shell
        self.nonce_expected = machine.boots_candidates
        self.logs: Mapping[str, Path] = {"serial.log": machine.console} if machine.console else {}
        self._machine = machine

    def alive(self) -> bool:
        return not self.shell.dead

    def boot_facts(self) -> Mapping[str, str]:
        return {"accelerator": "fake", "device_model": "1.0", "seconds_boot": str(self.shell.boot)}

    def bytecode(self, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        return {}


@dataclass
class FakeMachine:
    """A machine whose whole behaviour is given. ``plays``: one for each session; the last repeats."""

    plays: list[Play] = field(default_factory=lambda: [all_pass])
    boot_errors: dict[int, Exception] = field(default_factory=dict)  # boot number -> what happens instead
    kernel_lines: list[bytes] = field(default_factory=lambda: [b"6,1,1000,-;Linux version 7.3.4"])
    serial: bytes = b""
    parts: dict[str, Any] = field(default_factory=dict)  # parts of the report that differ
    answer: Completed | None = None  # instead of the report
    standard_error: bytes = b""
    obeys: bool = True  # a suite that hangs can be killed
    reboots: bool = False  # it comes back by itself, under another boot id
    boots_candidates: bool = True
    name: str = "fake"
    kind: str = "virtual"
    generation: str | None = "npu4"
    simulated: bool = True
    boots: int = 0
    console: Path | None = None
    sessions: int = 1
    shells: list[FakeShell] = field(default_factory=list)

    def report(self, nonce: str, boot: int) -> dict[str, Any] | Completed:
        return self.answer or healthy_report(nonce, f"boot-{boot}", **self.parts)

    @contextmanager
    def boot(self, request: BootRequest) -> Iterator[Session]:
        self.boots += 1
        self.console = request.folder / "serial.log"
        self.console.write_bytes(self.serial.replace(b"NONCE", request.nonce.encode()))
        if self.boots in self.boot_errors:
            raise self.boot_errors[self.boots]
        shell = FakeShell(self, request.nonce, self.boots)
        self.shells.append(shell)
        try:
            yield FakeSession(shell, self)
        finally:
            shell.dead = True


def fake_suite() -> ShippedSuite:
    """A suite of three tests that exist in the fake machine only."""
    return ShippedSuite(
        "ioctl", "digest", {"suite.py": b"pass\n"}, lambda root, nonce, tests: (("fake-suite", *tests), {})
    )


def silent_for(seconds: int) -> ShellSilentError:
    """What a shell raises when the suite says nothing for that long."""
    return ShellSilentError(f"sh: silent for {seconds} s")
