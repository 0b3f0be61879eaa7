"""A running server in a thread, and clients for it."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import pytest

from lab.npu.device import Device
from lab.npu.faults import FaultPlan, parse_fault
from lab.npu.generations import generation_named
from lab.npu.timers import Timers
from lab.npu.trace import Trace
from lab.npu.vfio_user import Server
from tests.npu.served import Lab, Serve


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """``serve(generation, *faults, protocol=..., delay=...)`` starts a server; all are ended afterwards."""
    running: list[tuple[Server, threading.Thread, Lab]] = []

    def start(
        name: str = "npu4",
        *faults: str,
        protocol: tuple[int, int] | None = None,
        delay: tuple[float, float] = (0.0, 0.0),
        seed: int = 0,
    ) -> Lab:
        generation = generation_named(name, protocol)
        stream = io.StringIO()
        trace, timers = Trace(stream), Timers()
        plan = FaultPlan([parse_fault(text) for text in faults], trace)
        device = Device(generation, trace=trace, faults=plan, timers=timers, delay=delay, seed=seed)
        path = tmp_path_factory.mktemp("npu") / "s"
        server = Server(path, device, trace, timers)
        server.listen()
        thread = threading.Thread(target=server.serve)
        thread.start()
        lab = Lab(path, generation, device, stream)
        running.append((server, thread, lab))
        return lab

    yield start
    for server, thread, lab in running:
        for client in lab.clients:
            client.close()
        server.stop()
        thread.join(10)
        assert not thread.is_alive(), "the server did not end"
