"""Processes of a test: a local ssh server, the program itself, and who descends from whom."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

USER = pwd.getpwuid(os.getuid()).pw_name


@contextmanager
def local_sshd(folder: Path) -> Iterator[Path]:
    """A server on loopback that lets us in with a key of its own; the path of an ssh_config to reach it.

    Its python3 is the one that runs the tests, so that pytest is there.
    """
    program = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None or shutil.which("ssh") is None:
        pytest.skip("no sshd or no ssh on this machine (openssh-server, openssh-client)")
    folder.mkdir(mode=0o700)
    for name in ("host", "id"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True, timeout=30
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/id.pub\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        f"SetEnv PATH={path} HOME={folder}\n"
    )
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "config").write_text(
        f"Host *\n  Port {port}\n  IdentityFile {folder}/id\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known\n  StrictHostKeyChecking yes\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([program, "-D", "-f", str(folder / "sshd_config")], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: _listens(port), 10, "the ssh server listens")
        yield folder / "config"
    finally:
        server.terminate()
        server.wait(10)


def program(folder: Path, *words: str) -> list[str]:
    """The command line of the program with the settings of a test's folder."""
    return [sys.executable, "-m", "xdnawatch", "--config", str(folder / "xdnawatch.toml"), *words]


def answer(folder: Path, *words: str, timeout: float = 120) -> tuple[int, Any, str]:
    """Exit code, parsed JSON of standard output (None if empty), standard error."""
    done = subprocess.run(
        program(folder, *words), capture_output=True, text=True, timeout=timeout, check=False
    )
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None, done.stderr


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something is so; fail with its name when it does not come about."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def descendants(pid: int) -> set[int]:
    """Every process below ``pid`` now."""
    found: set[int] = set()
    todo = [pid]
    while todo:
        for path in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            try:
                children = {int(word) for word in path.read_text().split()}
            except OSError:
                continue
            todo += children - found
            found |= children
    return found


def running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
