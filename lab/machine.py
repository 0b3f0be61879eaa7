"""The protocols a device under test satisfies, whatever it is made of.

A ``Machine`` is asked to ``boot`` a candidate once and hands back a ``Session``: a booted machine with a
shell, its logs, and an end. The harness knows nothing else about machines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol


class LabError(Exception):
    """The laboratory failed, not the kernel. The text names the cause and the next step."""

    exit_code: ClassVar[int] = 3  # infrastructure, unless a subclass knows better


class BootError(LabError):
    """The candidate did not come up. ``kind`` is one of: panic, hang, no-boot, early-exit."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class ShellLostError(LabError):
    """The connection to the machine broke: it died, hung or rebooted."""


class ShellTimeoutError(LabError):
    """A command ran past its named timeout."""


class ShellSilentError(ShellTimeoutError):
    """A streaming command said nothing for as long as it was allowed to."""


@dataclass(frozen=True)
class Timeouts:
    """Every wait of the lab by name, in seconds of the monotonic clock."""

    boot: float = 120.0  # power on to a shell that answers
    connect: float = 10.0  # one connection attempt
    command: float = 60.0  # one short command
    silence: float = 60.0  # no line from a streaming command
    shutdown: float = 10.0


@dataclass(frozen=True)
class Completed:
    """A command that ended by itself."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text; undecodable bytes are replaced."""
        return self.stdout.decode("utf-8", "replace")


class Shell(Protocol):
    """Commands and files on a booted machine. Every method may raise ShellLostError or ShellTimeoutError."""

    def run(self, argv: Sequence[str], *, timeout: float, stdin: bytes | None = None) -> Completed:
        """Run one command to its end. Arguments are quoted by the implementation."""
        ...

    def stream(
        self, argv: Sequence[str], *, timeout: float, silence: float, on_line: Callable[[bytes], None]
    ) -> int:
        """Run a command, hand each line of standard output to ``on_line`` as it comes, return its status.

        ``timeout`` bounds the whole, ``silence`` the wait for the next line.
        """
        ...

    def put(self, files: Mapping[str, bytes], folder: str) -> None:
        """Write files (relative path -> content) below ``folder``, which is made if needed."""
        ...

    def read(self, path: str, *, limit: int = 1 << 20) -> bytes:
        """The first ``limit`` bytes of a file; LabError when it cannot be read."""
        ...


@dataclass(frozen=True)
class Fault:
    """One fault to inject into a simulated device: a name of lab.npu.faults and its parameters."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A kernel on disk, ready to boot.

    ``module`` replaces the stock amdxdna.ko (path of an uncompressed .ko) for module-only candidates.
    """

    release: str  # uname -r it must show
    version: str  # "7.3.4"
    origin: str  # "debian", "module:<id>"
    vmlinuz: Path
    modules: Path  # the folder usr/lib/modules/<release>
    module: Path | None = None
    module_build_id: str | None = None  # GNU build id of ``module``, proof that it was loaded
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BootRequest:
    """What to boot and where its traces go."""

    candidate: Candidate | None  # None: judge whatever the machine runs now
    nonce: str  # appears in /proc/cmdline as xdnawatch.nonce=<nonce> when we control the command line
    folder: Path  # serial.log, device.jsonl, qemu.log are written here
    faults: tuple[Fault, ...] = ()
    timeouts: Timeouts = Timeouts()
    progress: Callable[[str], None] = lambda _text: None


Compile = Callable[[Mapping[str, bytes]], Mapping[str, bytes]]  # as Session.bytecode


def uncompiled(_files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """For a machine whose own Python the lab does not have."""
    return {}


class Session(Protocol):
    """A booted machine."""

    shell: Shell
    nonce_expected: bool  # False where the command line is not ours (plain SSH)
    logs: Mapping[str, Path]  # name ("serial.log", "device.jsonl") -> file being written

    def alive(self) -> bool:
        """Whether the machine still runs, as far as can be told without asking it."""
        ...

    def boot_facts(self) -> Mapping[str, str]:
        """What the lab chose for this boot: accelerator, IOMMU mode, command line, device model version."""
        ...

    def bytecode(self, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """What to lay beside Python ``files`` (place below one folder -> content) so that a slow machine
        need not compile them; nothing where the lab does not have the machine's own Python."""
        ...


class Machine(Protocol):
    """A device under test."""

    name: str
    kind: str  # "virtual", "ssh"
    generation: str | None  # "npu4" when known before boot
    simulated: bool
    boots_candidates: bool  # False: only what runs now can be judged

    def boot(self, request: BootRequest) -> AbstractContextManager[Session]:
        """Boot once; the session ends, and everything started for it, when the context closes.

        Raises BootError when the candidate does not come up, LabError when the lab is at fault.
        """
        ...
