"""``python -m lab.npu``: the virtual NPU as a process of its own.

Prints one JSON line when a client may connect, serves clients until SIGTERM or until its parent dies.
Exit codes: 0 ended as asked, 2 wrong arguments, 3 the socket or the trace cannot be made.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from lab.npu import MODEL_VERSION
from lab.npu.device import Device
from lab.npu.faults import FAULTS, FaultError, FaultPlan, PlannedFault, parse_fault, parse_protocol
from lab.npu.generations import GENERATIONS, generation_named
from lab.npu.timers import Timers
from lab.npu.trace import SCHEMA, Trace
from lab.npu.vfio_user import Server, ServerError

PR_SET_PDEATHSIG = 1
MAX_DELAY_MS = 60_000.0


def _fault(text: str) -> PlannedFault:
    try:
        return parse_fault(text)
    except FaultError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _protocol(text: str) -> tuple[int, int]:
    try:
        return parse_protocol(text)
    except FaultError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _delay(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    try:
        first = float(low)
        last = float(high or low)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 0-5") from error
    if not 0 <= first <= last <= MAX_DELAY_MS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rising range within 0..{MAX_DELAY_MS:.0f}")
    return first / 1000, last / 1000


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.npu", description="A virtual AMD NPU over vfio-user."
    )
    parser.add_argument("--list-faults", action="store_true", help="print the faults as JSON and end")
    parser.add_argument("--generation", choices=sorted(GENERATIONS))
    parser.add_argument("--socket", type=Path, help="where QEMU connects")
    parser.add_argument("--trace", type=Path, help="JSON lines of what happened; a new file each time")
    parser.add_argument("--protocol", type=_protocol, help="firmware protocol, such as 6.24")
    parser.add_argument("--fault", type=_fault, action="append", default=[], metavar="NAME[:KEY=VALUE,...]")
    parser.add_argument("--seed", type=int, default=0, help="makes random delays repeatable")
    parser.add_argument("--delay-ms", type=_delay, default=(0.0, 0.0), metavar="A-B")
    return parser


def fault_table() -> list[dict[str, object]]:
    """The faults as plain data."""
    return [
        {
            "name": kind.name,
            "does": kind.does,
            "finding": kind.finding,
            "once": kind.once,
            "parameters": [
                {"name": one.name, "type": one.type, "default": one.default, "meaning": one.meaning}
                for one in kind.parameters
            ],
        }
        for kind in FAULTS.values()
    ]


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when the parent ends; raise it now when it already has.

    Linux ties this to the parent's thread that started us, not to its process (prctl(2)).
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parent = os.getppid()
    parser = arguments()
    options = parser.parse_args(argv)
    if options.list_faults:
        sys.stdout.write(json.dumps(fault_table(), indent=1) + "\n")
        return 0
    if options.generation is None or options.socket is None:
        parser.error("--generation and --socket are needed")
    generation = generation_named(options.generation, options.protocol)
    with ExitStack() as stack:
        stream: IO[str] | None = None
        if options.trace is not None:
            try:
                stream = stack.enter_context(options.trace.open("w", encoding="utf-8"))
            except OSError as error:
                sys.stderr.write(f"cannot write the trace: {error}\n")
                return 3
        trace, timers = Trace(stream), Timers()
        faults = FaultPlan(options.fault, trace)
        device = Device(
            generation,
            trace=trace,
            faults=faults,
            timers=timers,
            delay=options.delay_ms,
            seed=options.seed,
        )
        server = Server(options.socket, device, trace, timers)
        try:
            server.listen()
        except ServerError as error:
            sys.stderr.write(f"{error}\n")
            return 3
        signal.signal(signal.SIGTERM, lambda _number, _frame: server.stop())
        signal.signal(signal.SIGINT, lambda _number, _frame: server.stop())
        die_with_parent(parent)
        trace.event(
            "start",
            schema=SCHEMA,
            monotonic=time.monotonic(),  # the host's clock, so that a reader can place events among its own
            model=MODEL_VERSION,
            generation=generation.name,
            protocol=f"{generation.protocol[0]}.{generation.protocol[1]}",
            faults=[fault.kind.name for fault in options.fault],
            seed=options.seed,
            delay_ms=[round(part * 1000) for part in options.delay_ms],
        )
        ready = {"ready": True, "generation": generation.name, "model": MODEL_VERSION}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        server.serve()
        trace.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
