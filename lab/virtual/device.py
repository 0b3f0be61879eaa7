"""The virtual NPU's process: started before QEMU, which connects to its socket."""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.leash import LeashedProcess
from lab.machine import Fault, LabError

READY_TIMEOUT = 20.0  # seconds until the process listens
FAULT_WORD = re.compile(r"^[A-Za-z0-9_.:*-]+$")


def fault_argument(fault: Fault) -> str:
    """``Fault("drop-reply", {"opcode": "0x18"})`` -> ``drop-reply:opcode=0x18``."""
    for word in (fault.name, *fault.parameters, *fault.parameters.values()):
        if not FAULT_WORD.match(word):
            raise LabError(f"{word!r} cannot be part of a fault")
    parameters = ",".join(f"{key}={value}" for key, value in fault.parameters.items())
    return f"{fault.name}:{parameters}" if parameters else fault.name


class VirtualDevice:
    """A running ``python -m lab.npu``. ``facts`` is the line with which it said that it listens."""

    def __init__(
        self,
        generation: str,
        socket: Path,
        trace: Path,
        log: Path,
        *,
        protocol: str | None,
        faults: tuple[Fault, ...],
    ) -> None:
        command = [sys.executable, "-P", "-m", "lab.npu", "--generation", generation]
        command += ["--socket", str(socket), "--trace", str(trace)]
        if protocol is not None:
            command += ["--protocol", protocol]
        for fault in faults:
            command += ["--fault", fault_argument(fault)]
        self._log = log
        with log.open("ab") as stderr:
            self._process = LeashedProcess(command, stdout=subprocess.PIPE, stderr=stderr)
        try:
            self.facts: Mapping[str, Any] = self._ready()
        except BaseException:
            self._process.end()
            raise

    def _ready(self) -> Mapping[str, Any]:
        pipe = self._process.stdout
        deadline = time.monotonic() + READY_TIMEOUT
        while pipe is not None and (left := deadline - time.monotonic()) > 0:
            if not select.select([pipe], [], [], left)[0]:
                break
            line = pipe.readline()
            if not line:
                break
            try:
                facts = json.loads(line)
            except ValueError:
                continue
            if isinstance(facts, dict) and facts.get("ready"):
                return facts
        said = self._log.read_text("utf-8", "replace").strip()[-500:]
        raise LabError(f"the virtual NPU did not start: {said or 'it said nothing'}")

    @property
    def process(self) -> LeashedProcess:
        """The model's process."""
        return self._process

    def alive(self) -> bool:
        """Whether the process still runs; it leaves by itself when QEMU leaves."""
        return self._process.poll() is None

    def end(self) -> None:
        """End the process."""
        self._process.end()
