"""A device behind a running server, as the tests use it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.npu.device import Device
from lab.npu.generations import Generation
from tests.npu.fake_client import FakeClient, FakeDriver


@dataclass
class Lab:
    """A served device: ``events`` is its trace so far."""

    path: Path
    generation: Generation
    device: Device
    stream: io.StringIO
    clients: list[FakeClient] = field(default_factory=list)

    def client(self, **capabilities: int) -> FakeClient:
        """A client that has said hello; the fixture closes it."""
        client = FakeClient(self.path)
        self.clients.append(client)
        client.hello(**capabilities)
        return client

    def driver(self) -> FakeDriver:
        return FakeDriver(self.client(), self.generation)

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [event for event in found if not kinds or event["event"] in kinds]


Serve = Callable[..., Lab]
