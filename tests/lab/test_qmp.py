"""QEMU's control protocol against a fake QEMU."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.machine import LabError
from lab.virtual.qmp import Qmp

USERNET = (
    "Hub -1 (n0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
    "  TCP[HOST_FORWARD]  12       127.0.0.1 41873       10.0.2.15    22     0     0\r\n"
)


def fake_qemu(path: Path, answer: Callable[[dict[str, Any]], list[dict[str, Any]] | None]) -> None:
    """One connection; ``answer`` gives the messages for a request, None closes."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        channel, _ = listener.accept()
        with channel, listener, channel.makefile("rwb") as file:
            file.write(b'{"QMP": {"version": {}}}\n')
            file.flush()
            for line in file:
                replies = answer(json.loads(line))
                if replies is None:
                    return
                for reply in replies:
                    file.write(json.dumps(reply).encode() + b"\n")
                file.flush()

    threading.Thread(target=serve, daemon=True).start()


def test_events_between_replies_are_kept_in_order(tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> list[dict[str, Any]]:
        if request["execute"] == "human-monitor-command":
            assert request["arguments"] == {"command-line": "info usernet"}
            return [{"event": "RESET", "data": {"guest": True}}, {"return": USERNET}, {"event": "STOP"}]
        return [{"return": {}}]

    fake_qemu(tmp_path / "q", answer)
    qmp = Qmp(tmp_path / "q")
    assert qmp.forwarded_port() == 41873
    deadline = time.monotonic() + 5
    while len(qmp.events()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [(event.name, dict(event.data)) for event in qmp.events()] == [
        ("RESET", {"guest": True}),
        ("STOP", {}),
    ]
    qmp.close()


def test_a_refused_command_and_a_closed_socket_are_lab_errors(tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> list[dict[str, Any]] | None:
        if request["execute"] == "quit":
            return None
        if request["execute"] == "bad":
            return [{"error": {"class": "CommandNotFound", "desc": "no such command"}}]
        return [{"return": {}}]

    fake_qemu(tmp_path / "q", answer)
    qmp = Qmp(tmp_path / "q")
    with pytest.raises(LabError, match="no such command"):
        qmp.command("bad")
    with pytest.raises(LabError, match=r"it ended|gone"):
        qmp.command("quit")
    qmp.close()


def test_no_forward_is_named(tmp_path: Path) -> None:
    fake_qemu(tmp_path / "q", lambda _request: [{"return": "Hub -1 (n0):\r\n"}])
    qmp = Qmp(tmp_path / "q")
    with pytest.raises(LabError, match="no forwarded port"):
        qmp.forwarded_port()
    qmp.close()


def test_a_qemu_that_ended_is_not_waited_for(tmp_path: Path) -> None:
    """Its socket file stays behind and refuses."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "q"))
    listener.close()
    begin = time.monotonic()
    with pytest.raises(LabError, match="does not listen"):
        Qmp(tmp_path / "q", lambda: False)
    assert time.monotonic() - begin < 5
