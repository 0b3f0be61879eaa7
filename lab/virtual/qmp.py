"""QEMU's control socket: a few commands and the events as witnesses (QEMU, docs/interop/qmp-spec.rst)."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.machine import LabError

CONNECT_TIMEOUT = 20.0  # seconds until QEMU listens
COMMAND_TIMEOUT = 20.0
LONGEST_MESSAGE = 1 << 20

#: ``TCP[HOST_FORWARD]  12       127.0.0.1 41873       10.0.2.15    22``
FORWARD = re.compile(r"^\s*TCP\[HOST_FORWARD\]\s+\S+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+22\b", re.M)


@dataclass(frozen=True)
class QmpEvent:
    """Something that happened to the machine: "SHUTDOWN", "RESET", "GUEST_PANICKED", "STOP", ..."""

    name: str
    data: Mapping[str, Any]


class Qmp:
    """A connection whose reader thread collects events until QEMU closes it."""

    def __init__(self, path: Path, running: Callable[[], bool] = lambda: True) -> None:
        """Connect; LabError when QEMU does not listen in time, or at once when ``running`` says it ended."""
        self._socket = _connect(path, running)
        self._replies: list[dict[str, Any]] = []
        self._events: list[QmpEvent] = []
        self._changed = threading.Condition()
        self._closed = False
        self._reader = threading.Thread(target=self._read, name="qmp", daemon=True)
        self._reader.start()
        try:
            self.command("qmp_capabilities")
        except LabError:
            self.close()
            raise

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._socket.makefile("rb") as file:
            while line := file.readline(LONGEST_MESSAGE):
                message = json.loads(line)
                with self._changed:
                    if "event" in message:
                        self._events.append(QmpEvent(str(message["event"]), message.get("data", {})))
                    elif "return" in message or "error" in message:
                        self._replies.append(message)
                    self._changed.notify_all()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def command(self, name: str, **arguments: str) -> Any:
        """Run one command and give what it returns. LabError when QEMU refuses, leaves or does not answer."""
        request: dict[str, Any] = {"execute": name}
        if arguments:
            request["arguments"] = arguments
        deadline = time.monotonic() + COMMAND_TIMEOUT
        with self._changed:
            self._replies.clear()
            try:
                self._socket.sendall(json.dumps(request).encode() + b"\n")
            except OSError as error:
                raise LabError(f"QEMU is gone: {error}") from error
            while not self._replies:
                left = deadline - time.monotonic()
                if self._closed or left <= 0:
                    raise LabError(f"QEMU did not answer {name}: {'it ended' if self._closed else 'timeout'}")
                self._changed.wait(left)
            reply = self._replies.pop(0)
        if "error" in reply:
            raise LabError(f"QEMU refused {name}: {reply['error'].get('desc')}")
        return reply["return"]

    def events(self) -> tuple[QmpEvent, ...]:
        """What has happened so far, in order."""
        with self._changed:
            return tuple(self._events)

    def forwarded_port(self) -> int:
        """The host port that QEMU chose for the guest's port 22 (it was asked for port 0, so no race)."""
        text = self.command("human-monitor-command", **{"command-line": "info usernet"})
        match = FORWARD.search(text)
        if match is None:
            raise LabError(f"QEMU names no forwarded port: {text!r}")
        return int(match[1])

    def close(self) -> None:
        """Leave; the machine goes on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._reader.join(2.0)


def _connect(path: Path, running: Callable[[], bool]) -> socket.socket:
    deadline = time.monotonic() + CONNECT_TIMEOUT
    while True:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            channel.connect(str(path))
        except OSError as error:
            channel.close()
            if time.monotonic() > deadline or not running():
                raise LabError(f"QEMU does not listen on its control socket: {error}") from error
            time.sleep(0.02)
        else:
            return channel
