"""The SSH shell against a real sshd on loopback, with keys, config and known hosts of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.inventory import resolve
from lab.machine import BootRequest, LabError, ShellLostError, ShellTimeoutError, Timeouts
from lab.packages.store import PackageStore
from lab.pipes import TooMuchOutputError
from lab.settings import MachineSettings
from lab.shell import SshShell, SshTarget

pytestmark = pytest.mark.server


@dataclass
class Sshd:
    """A running server: how to reach it, and its process."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    user: str = pwd.getpwuid(os.getuid()).pw_name

    @property
    def options(self) -> tuple[str, ...]:
        return ("-F", str(self.folder / "config"))

    def target(self) -> SshTarget:
        return SshTarget(f"{self.user}@127.0.0.1", self.options, 5.0)

    def connections(self) -> list[int]:
        """The server's children, one or two for each connection."""
        listing = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listing.split()]

    def drop(self) -> None:
        """Break every connection."""
        for pid in self.connections():
            os.kill(pid, 9)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    program = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None or shutil.which("ssh") is None:
        pytest.skip("no sshd or no ssh on this machine (openssh-server, openssh-client)")
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "id"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True, timeout=30
        )
    shutil.copyfile(folder / "id.pub", folder / "authorized")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
    )
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "config").write_text(
        f"Host *\n  Port {port}\n  IdentityFile {folder}/id\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known\n  StrictHostKeyChecking yes\n"
        "Host minipc\n  HostName 127.0.0.1\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True) if os.getuid() == 0 else None
    process = subprocess.Popen(
        [program, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield Sshd(port, folder, process)
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.fixture
def shell(sshd: Sshd) -> Iterator[SshShell]:
    with SshShell(sshd.target()) as opened:
        opened.connect()
        yield opened


def test_a_command_gives_status_output_and_takes_input_and_odd_words(shell: SshShell) -> None:
    done = shell.run(
        ["sh", "-c", "cat; echo $1 >&2; exit 3", "x", "a 'b' $HOME;"], timeout=20, stdin=b"in\0\xff"
    )
    assert (done.status, done.stdout, done.stderr) == (3, b"in\0\xff", b"a 'b' $HOME;\n")
    assert shell.run(["sh", "-c", "exit 255"], timeout=20).status == 254  # 255 is ssh's own


def test_much_goes_both_ways_without_blocking(shell: SshShell) -> None:
    data = os.urandom(3 << 20)
    assert shell.run(["cat"], timeout=60, stdin=data).stdout == data


def test_output_is_bounded(shell: SshShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.shell.OUTPUT_LIMIT", 100_000)
    begin = time.monotonic()
    with pytest.raises(TooMuchOutputError):
        shell.run(["yes"], timeout=60)
    assert time.monotonic() - begin < 20


def test_a_command_that_does_not_end_is_a_timeout(shell: SshShell) -> None:
    begin = time.monotonic()
    with pytest.raises(ShellTimeoutError, match="sleep"):
        shell.run(["sleep", "60"], timeout=0.5)
    assert time.monotonic() - begin < 30
    assert shell.run(["echo", "still there"], timeout=20).text == "still there\n"


def test_lines_come_as_they_are_said(shell: SshShell) -> None:
    seen: list[tuple[bytes, float]] = []
    begin = time.monotonic()
    status = shell.stream(
        ["sh", "-c", "echo one; sleep 0.6; printf 'two\\nlast'; exit 4"],
        timeout=30,
        silence=20,
        on_line=lambda line: seen.append((line, time.monotonic() - begin)),
    )
    assert status == 4
    assert [line for line, _ in seen] == [b"one", b"two", b"last"]
    assert seen[1][1] - seen[0][1] > 0.4


def test_silence_and_the_whole_have_their_own_limits(shell: SshShell) -> None:
    seen: list[bytes] = []
    with pytest.raises(ShellTimeoutError, match="silent"):
        shell.stream(["sh", "-c", "echo a; sleep 60"], timeout=30, silence=4, on_line=seen.append)
    with pytest.raises(ShellTimeoutError, match="no end"):
        shell.stream(
            ["sh", "-c", "while :; do echo b; sleep 0.1; done"], timeout=6, silence=5, on_line=seen.append
        )
    assert {b"a", b"b"} == set(seen)


def test_an_endless_line_is_handed_over_in_pieces(shell: SshShell) -> None:
    sizes: list[int] = []
    shell.stream(
        ["head", "-c", str(5 << 20), "/dev/zero"],
        timeout=30,
        silence=20,
        on_line=lambda line: sizes.append(len(line)),
    )
    assert sum(sizes) == 5 << 20
    assert max(sizes) < 2 << 20


def test_files_go_there_and_come_back(shell: SshShell, tmp_path: Path) -> None:
    folder = str(tmp_path / "it's a folder")
    shell.put({"a.py": b"x = 1\n", "sub/b": bytes(range(256))}, folder)
    assert shell.read(f"{folder}/sub/b") == bytes(range(256))
    assert shell.read(f"{folder}/a.py", limit=3) == b"x ="
    with pytest.raises(LabError, match="cannot read"):
        shell.read(f"{folder}/none")
    with pytest.raises(LabError, match="not a path below"):
        shell.put({"../up": b""}, folder)


def test_a_machine_that_goes_away_is_lost_not_hung(sshd: Sshd, shell: SshShell) -> None:
    with pytest.raises(ShellLostError):  # and not the ShellTimeoutError of a wait to its end
        shell.stream(
            ["sh", "-c", "echo up; sleep 90"], timeout=60, silence=60, on_line=lambda _line: sshd.drop()
        )
    assert not shell.connected()
    # the next command makes its own connection
    assert shell.run(["echo", "back"], timeout=20).text == "back\n"


def test_commands_share_one_connection(sshd: Sshd, shell: SshShell) -> None:
    before = sshd.connections()
    for _ in range(5):
        shell.run(["true"], timeout=20)
    assert sshd.connections() == before


@pytest.mark.parametrize("wrong", ["host key", "key", "port"])
def test_a_refused_connection_says_what_ssh_says(sshd: Sshd, wrong: str) -> None:
    config = (sshd.folder / "config").read_text()
    if wrong == "host key":
        (sshd.folder / "known").write_text(f"[127.0.0.1]:{sshd.port} {(sshd.folder / 'id.pub').read_text()}")
    elif wrong == "key":
        (sshd.folder / "authorized").write_text("")
    else:
        (sshd.folder / "config").write_text(config.replace(str(sshd.port), "9"))
    words = {"host key": "Host key verification failed", "key": "Permission denied", "port": "refused"}[wrong]
    with SshShell(sshd.target()) as shell:
        with pytest.raises(ShellLostError, match=words):
            shell.connect()
        with pytest.raises(ShellLostError, match=words):
            shell.run(["true"], timeout=20)


def test_a_machine_of_the_settings_is_reached_by_its_alias(sshd: Sshd, tmp_path: Path) -> None:
    settings = MachineSettings(name="lap", ssh="minipc", ssh_config=sshd.folder / "config")
    machine = resolve("lap", [settings], PackageStore(tmp_path))
    request = BootRequest(None, "n", tmp_path, timeouts=Timeouts(connect=5.0))
    with machine.boot(request) as session:
        assert session.shell.run(["echo", "here"], timeout=20).text == "here\n"
        assert session.alive()
        assert not session.nonce_expected
        assert session.boot_facts() == {"destination": "minipc"}
        sshd.drop()
        deadline = time.monotonic() + 5
        while session.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not session.alive()


def test_nothing_stays_behind(sshd: Sshd) -> None:
    with SshShell(sshd.target()) as shell:
        shell.connect()
        folder = shell._socket.parent
    deadline = time.monotonic() + 5
    while sshd.connections() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sshd.connections() == []
    assert not folder.exists()
