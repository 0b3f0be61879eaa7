"""A machine that is reached by plain SSH and judged as it runs: nothing is installed or booted on it.

The user's own ssh configuration, agent and known hosts decide how it is reached; an unknown host key is
refused by ssh itself, and its text is what the error says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from lab.machine import BootRequest, LabError, Session, Shell
from lab.shell import SshShell, SshTarget


class SshMachine:
    """``destination`` is ``me@minipc`` or a Host of the user's ssh configuration."""

    kind = "ssh"
    simulated = False
    boots_candidates = False

    def __init__(
        self,
        name: str,
        destination: str,
        *,
        port: int | None = None,
        identity: Path | None = None,
        config: Path | None = None,
    ) -> None:
        self.name = name
        self.generation: str | None = None
        self.destination = destination
        options: list[str] = []
        if config is not None:
            options += ["-F", str(config)]
        if port is not None:
            options += ["-p", str(port)]
        if identity is not None:
            options += ["-i", str(identity), "-o", "IdentitiesOnly=yes"]
        self._options: tuple[str, ...] = tuple(options)

    @contextmanager
    def boot(self, request: BootRequest) -> Iterator[Session]:
        """Connect. LabError when asked for a kernel or for faults; ShellLostError when there is no
        connection.
        """
        if request.candidate is not None:
            raise LabError(
                f"{self.name} is judged on the kernel that it runs now; "
                f"it cannot be given {request.candidate.version}; leave out --kernel, or "
                "install the kernel there and reboot"
            )
        if request.faults:
            raise LabError(f"{self.name} is a real machine: faults can only be injected into a virtual NPU")
        target = SshTarget(self.destination, self._options, request.timeouts.connect)
        request.progress(f"connecting to {self.destination}")
        with SshShell(target) as shell:
            # ssh itself gives up after connect_timeout; the rest is for a slow login
            shell.connect(timeout=2 * request.timeouts.connect)
            yield SshSession(shell, self.destination)


class SshSession:
    """A connection to a running machine; see lab.machine.Session."""

    nonce_expected = False

    def __init__(self, shell: SshShell, destination: str) -> None:
        self.shell: Shell = shell
        self._shell = shell
        self.logs: Mapping[str, Path] = MappingProxyType({})
        self._destination = destination

    def alive(self) -> bool:
        """Whether the shared connection stands; it falls some 20 s after the machine stops answering."""
        return self._shell.connected()

    def boot_facts(self) -> Mapping[str, str]:
        """How the machine was reached."""
        return MappingProxyType({"destination": self._destination})

    def bytecode(self, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Its Python is not ours."""
        return {}
