"""This very machine as a lab.machine.Machine: commands run as child processes, without SSH.

It is judged as it runs; nothing is installed or booted on it.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from lab.leash import LeashedProcess
from lab.machine import BootRequest, Completed, LabError, Session, Shell, ShellTimeoutError
from lab.pipes import exchange, lines

OUTPUT_LIMIT = 64 << 20  # bytes that one command may say
NOT_FOUND = 127  # a shell's status for a command that does not exist


class LocalShell:
    """A lab.machine.Shell by subprocess. A missing program has status 127, as in a shell."""

    def run(self, argv: Sequence[str], *, timeout: float, stdin: bytes | None = None) -> Completed:
        """Run one command to its end; ShellTimeoutError after ``timeout`` seconds, the child is killed."""
        try:
            process = subprocess.Popen(
                list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            return Completed(NOT_FOUND, b"", f"{argv[0]}: {error.strerror}".encode())
        begin = time.monotonic()
        with process:
            try:
                out, err = exchange(process, stdin or b"", timeout=timeout, limit=OUTPUT_LIMIT, name=argv[0])
                status = process.wait(max(1.0, begin + timeout - time.monotonic()))
            except subprocess.TimeoutExpired as error:
                raise ShellTimeoutError(f"{argv[0]}: no end within {timeout:.0f} s") from error
            finally:
                process.kill()
        return Completed(status, out, err)

    def stream(
        self, argv: Sequence[str], *, timeout: float, silence: float, on_line: Callable[[bytes], None]
    ) -> int:
        """Run a command and hand over its lines as they come; returns its status.

        The child does not outlive this process, and is ended when it is silent or takes too long.
        """
        deadline = time.monotonic() + timeout
        with (
            tempfile.TemporaryFile() as stderr,
            LeashedProcess(list(argv), stdout=subprocess.PIPE, stderr=stderr) as process,
        ):
            if process.stdout is None:
                raise LabError("no pipe from the command")
            for line in lines(process.stdout.fileno(), timeout=timeout, silence=silence, name=argv[0]):
                on_line(line)
            status = process.wait(max(0.0, deadline - time.monotonic()) + 1.0)
            if status is None:
                raise ShellTimeoutError(f"{argv[0]}: no end within {timeout:.0f} s")
            return status

    def put(self, files: Mapping[str, bytes], folder: str) -> None:
        """Write files below ``folder``."""
        for name, content in files.items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise LabError(f"{name!r} is not a path below the folder")
            place = Path(folder) / path
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
            except OSError as error:
                raise LabError(f"cannot write {place}: {error.strerror}") from error

    def read(self, path: str, *, limit: int = 1 << 20) -> bytes:
        """The first ``limit`` bytes of a file."""
        try:
            with Path(path).open("rb") as handle:
                return handle.read(limit)
        except OSError as error:
            raise LabError(f"cannot read {path}: {error.strerror}") from error


class LocalMachine:
    """The machine that this program runs on."""

    name = "local"
    kind = "local"
    simulated = False
    boots_candidates = False

    def __init__(self) -> None:
        self.generation: str | None = None

    @contextmanager
    def boot(self, request: BootRequest) -> Iterator[Session]:
        """Nothing is booted; LabError when asked for a kernel or for faults."""
        if request.candidate is not None or request.faults:
            raise LabError("this machine is looked at as it runs: it takes no kernel and no faults")
        yield LocalSession()


class LocalSession:
    """See lab.machine.Session."""

    nonce_expected = False

    def __init__(self) -> None:
        self.shell: Shell = LocalShell()
        self.logs: Mapping[str, Path] = MappingProxyType({})

    def alive(self) -> bool:
        """We run on it."""
        return True

    def boot_facts(self) -> Mapping[str, str]:
        """Nothing was chosen."""
        return MappingProxyType({})

    def bytecode(self, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Its Python is not ours."""
        return {}
