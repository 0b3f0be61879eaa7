"""Commands and files on a machine through the system's own ``ssh`` client.

The client is the user's: their config, agent, keys and known hosts apply unless ``options`` say otherwise. A
connection that dies is noticed by ServerAlive messages within about ALIVE_INTERVAL * ALIVE_COUNT seconds.
"""

from __future__ import annotations

import io
import shlex
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import TracebackType

from lab.leash import LeashedProcess
from lab.machine import Completed, LabError, ShellLostError, ShellTimeoutError
from lab.pipes import exchange, lines
from lab.workfolder import work_folder

ALIVE_INTERVAL = 5  # seconds between keep-alive messages
ALIVE_COUNT = 4
#: ssh's own status for "the connection failed"; a remote command that ends so reads as REMOTE_255.
SSH_FAILED = 255
REMOTE_255 = 254
MASTER_TIMEOUT = 15.0  # seconds until the shared connection stands
PUT_TIMEOUT = 120.0  # seconds for one batch of files
READ_TIMEOUT = 30.0
OUTPUT_LIMIT = 64 << 20  # bytes that one command may say
STDERR_KEPT = 1 << 16


@dataclass(frozen=True)
class SshTarget:
    """Whom to connect to. ``options`` are words for the ssh command line ("-p", "2222", "-o", "...")."""

    destination: str
    options: tuple[str, ...] = ()
    connect_timeout: float = 10.0


class SshShell:
    """A lab.machine.Shell. One shared connection carries all commands while it lives."""

    def __init__(self, target: SshTarget, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: what timeouts are measured by, in seconds."""
        if target.destination.startswith("-"):
            raise LabError(f"{target.destination!r} is not an ssh destination like me@minipc")
        self.target = target
        self._clock = clock
        self._folder = ExitStack()
        self._socket = self._folder.enter_context(work_folder()) / "m"
        self._master: LeashedProcess | None = None

    def _base(self) -> list[str]:
        return [
            "ssh",
            *self.target.options,
            *("-o", "BatchMode=yes"),
            *("-o", f"ConnectTimeout={max(1, round(self.target.connect_timeout))}"),
            *("-o", f"ServerAliveInterval={ALIVE_INTERVAL}"),
            *("-o", f"ServerAliveCountMax={ALIVE_COUNT}"),
            *("-o", "LogLevel=ERROR"),
            *("-o", f"ControlPath={self._socket}"),
        ]

    def connect(self, *, timeout: float = MASTER_TIMEOUT) -> None:
        """Open the shared connection. ShellLostError when it cannot be made, with what ssh says."""
        self._end_master()
        with tempfile.TemporaryFile() as stderr:
            self._master = LeashedProcess(
                [*self._base(), "-o", "ControlMaster=yes", "-o", "ControlPersist=no", "-N", "-T", "--",
                 self.target.destination],
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )  # fmt: skip
            deadline = self._clock() + timeout
            while self._clock() < deadline:
                if self._socket.exists():
                    return
                if self._master.poll() is not None:
                    break
                time.sleep(0.02)
            self._end_master()
            stderr.seek(0)
            said = _last_line(stderr.read(STDERR_KEPT)) or f"no connection within {timeout:.0f} s"
        raise ShellLostError(f"ssh {self.target.destination}: {said}")

    def _end_master(self) -> None:
        if self._master is not None:
            self._master.end()
            self._master = None
        self._socket.unlink(missing_ok=True)

    def _lost(self, stderr: bytes) -> ShellLostError:
        """What to raise when ssh failed. The shared connection is not trusted any more: a client can hear of
        the loss before the process that holds the connection has ended, and the next command must not wait
        for a connection that is about to go."""
        self._end_master()
        return ShellLostError(f"ssh {self.target.destination}: {_last_line(stderr) or 'connection lost'}")

    def connected(self) -> bool:
        """Whether the shared connection stands."""
        return self._master is not None and self._master.poll() is None

    def close(self) -> None:
        """End the shared connection."""
        self._end_master()
        self._folder.close()

    def __enter__(self) -> SshShell:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def command(self, argv: Sequence[str], *, terminal: bool = False) -> list[str]:
        """The local command line that runs ``argv`` there; an empty ``argv`` is a login shell."""
        words = [
            *self._base(),
            "-o",
            "ControlMaster=no",
            "-tt" if terminal else "-T",
            "--",
            self.target.destination,
        ]
        if argv:
            words.append(f"{shlex.join(argv)}; s=$?; [ $s = {SSH_FAILED} ] && s={REMOTE_255}; exit $s")
        return words

    def run(self, argv: Sequence[str], *, timeout: float, stdin: bytes | None = None) -> Completed:
        """Run one command to its end. A remote status of 255 reads as 254, as 255 is ssh's own."""
        try:
            process = subprocess.Popen(
                self.command(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except FileNotFoundError as error:
            raise LabError("there is no ssh client on this machine: install openssh-client") from error
        begin = self._clock()
        with process:
            try:
                out, err = exchange(
                    process,
                    stdin or b"",
                    timeout=timeout,
                    limit=OUTPUT_LIMIT,
                    name=argv[0],
                    clock=self._clock,
                )
                status = process.wait(max(1.0, begin + timeout - self._clock()))
            except subprocess.TimeoutExpired as error:
                raise ShellTimeoutError(f"{argv[0]}: no end within {timeout:.0f} s") from error
            finally:
                process.kill()
        if status == SSH_FAILED:
            raise self._lost(err)
        return Completed(status, out, err)

    def stream(
        self, argv: Sequence[str], *, timeout: float, silence: float, on_line: Callable[[bytes], None]
    ) -> int:
        """Run a command and hand over its lines (without newline) as they come; returns its status.

        Standard error is not handed over; redirect it in the command where it matters.
        """
        deadline = self._clock() + timeout
        with (
            tempfile.TemporaryFile() as stderr,
            LeashedProcess(self.command(argv), stdout=subprocess.PIPE, stderr=stderr) as process,
        ):
            if process.stdout is None:
                raise LabError("no pipe from ssh")
            for line in lines(
                process.stdout.fileno(), timeout=timeout, silence=silence, name=argv[0], clock=self._clock
            ):
                on_line(line)
            status = process.wait(max(0.0, deadline - self._clock()) + 1.0)
            if status is None:
                raise ShellTimeoutError(f"{argv[0]}: no end within {timeout:.0f} s")
            if status >= SSH_FAILED:
                stderr.seek(0)
                raise self._lost(stderr.read(STDERR_KEPT))
            return status

    def put(self, files: Mapping[str, bytes], folder: str) -> None:
        """Write files below ``folder`` in one go, as a tar stream."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in files.items():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts:
                    raise LabError(f"{name!r} is not a path below the folder")
                entry = tarfile.TarInfo(str(path))
                entry.size = len(content)
                entry.mode = 0o644
                entry.mtime = int(time.time())
                tar.addfile(entry, io.BytesIO(content))
        target = shlex.quote(folder)
        done = self.run(
            ["sh", "-c", f"mkdir -p {target} && tar -xf - -C {target}"],
            timeout=PUT_TIMEOUT,
            stdin=buffer.getvalue(),
        )
        if done.status != 0:
            raise LabError(
                f"cannot write below {folder} on {self.target.destination}: {_last_line(done.stderr)}"
            )

    def read(self, path: str, *, limit: int = 1 << 20) -> bytes:
        """The first ``limit`` bytes of a file."""
        done = self.run(["head", "-c", str(limit), path], timeout=READ_TIMEOUT)
        if done.status != 0:
            raise LabError(f"cannot read {path} on {self.target.destination}: {_last_line(done.stderr)}")
        return done.stdout


def _last_line(text: bytes) -> str:
    """The last line that ssh or a tool said, shortened, with control characters escaped."""
    lines = [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in lines[-1][:300]) if lines else ""
