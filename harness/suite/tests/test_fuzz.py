"""Random programs of driver calls, ``--fuzz SECONDS --seed N``: none may hurt kernel, device or others.

What hurts is made as small as it can be and printed as a program to run again (``harness.suite.fuzz``). Each
program runs in a process of its own. Its seed and turn are in the kernel log before it runs: a machine that
died left the program that killed it in its last lines, and ``python3 -m harness.suite.fuzz --seed S
--turn T`` makes it again.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.suite import fuzz, guard, kmsg, packets, uapi
from harness.suite.child import answer_of
from harness.suite.device import Device
from harness.suite.tests.conftest import KERNEL_LOG, Record

PROGRAM_TIME = 20.0  # seconds; thirty calls, each bounded by the driver's own 5
SLICE = 20.0  # seconds of one test
TURNS = 1000  # at most in one slice, so that each turn has one number
HEALTH_EVERY = 4  # a heap costs more than most programs
FINDINGS_LIMIT = 2  # of one slice
SHRINK_LIMIT = 40  # runs
# Warnings with a page of their own in docs/defects: found again in every session, and so no news.
KNOWN = re.compile(r"mm/slub\.c|amdxdna_drm_sync_bo_ioctl|handle_mm_fault|amdxdna_gem\.c:\d+")
# Addresses and numbers differ between two occurrences of one finding.
VARYING = re.compile(r"0x[0-9a-f]+|\d+")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Slices: whoever follows the events hears of each, and a machine that dies loses one."""
    if "part" in metafunc.fixturenames:
        wanted = float(metafunc.config.getoption("--fuzz"))
        metafunc.parametrize("part", range(max(1, math.ceil(wanted / SLICE))))


@pytest.mark.fuzz
@pytest.mark.logs(".")  # judged here, program by program
@pytest.mark.limit(SLICE + 120)
@pytest.mark.usefixtures("program", "power_kept")
def test_fuzz(request: pytest.FixtureRequest, node: str, record: Record, part: int) -> None:
    """No program warns, oopses, hangs, leaves contexts behind or makes the device deaf."""
    fuzz_slice(request, node, record, part, queues=False)


@pytest.mark.fuzz
@pytest.mark.host_queue
@pytest.mark.logs(".")
@pytest.mark.limit(SLICE + 120)
@pytest.mark.usefixtures("program")
def test_fuzz_queues(request: pytest.FixtureRequest, node: str, record: Record, part: int) -> None:
    """The same on AIE4, with host queues, packets and doorbells."""
    fuzz_slice(request, node, record, part, queues=True)


def fuzz_slice(request: pytest.FixtureRequest, node: str, record: Record, part: int, *, queues: bool) -> None:
    """Programs for SLICE seconds; fails with what they did and the smallest program that does it."""
    seconds = min(SLICE, float(request.config.getoption("--fuzz")) - part * SLICE)
    seed = int(request.config.getoption("--seed"))
    judge = Judge(node, request.config.stash[KERNEL_LOG], healthy_queue if queues else healthy)
    found: dict[str, str] = {}
    turn, until = part * TURNS, time.monotonic() + seconds
    while time.monotonic() < until and len(found) < FINDINGS_LIMIT:
        program = fuzz.generate(seed, turn, queues=queues)
        mark(f"xdnawatch: fuzz seed {seed} turn {turn}")
        wrong = judge.complaint(program)
        if wrong and alike(wrong) not in found:
            if judge.deaf:
                small: Sequence[fuzz.Step] = program
            else:
                small = fuzz.shrink(program, functools.partial(judge.again, wrong), SHRINK_LIMIT)
            found[alike(wrong)] = f"seed {seed} turn {turn}: {wrong}\n{fuzz.text_of(small)}"
        turn += 1
        if judge.deaf:
            break
    record("programs", turn - part * TURNS)
    record("findings", sorted(found))
    assert not found, "\n".join(found.values())


class Judge:
    """Runs programs and says what was wrong afterwards, in one line."""

    def __init__(self, node: str, log: kmsg.KernelLog | None, health: Callable[[str], str]) -> None:
        self.node = node
        self.health = health
        self.log = log
        self.deaf = False
        self.quiet = 0  # programs without damage; each HEALTH_EVERY-th is followed by another client

    def complaint(self, program: Sequence[fuzz.Step]) -> str:
        """What a program did to the machine, or nothing."""
        guard.arm_warnings()
        if self.log:
            self.log.lines()
        answer = answer_of(lambda: fuzz.run(program, self.node), PROGRAM_TIME)
        damage = [
            text for text in kmsg.damage(self.log.lines() if self.log else []) if not KNOWN.search(text)
        ]
        if damage:
            return damage[0][:300]
        if not isinstance(answer, list):
            return str(answer)
        self.quiet += 1
        health = (
            answer_of(lambda: self.health(self.node), PROGRAM_TIME) if self.quiet % HEALTH_EVERY == 0 else ""
        )
        if health != "":
            self.deaf = True
            return f"the device is deaf afterwards: {health}"
        return ""

    def again(self, wrong: str, program: Sequence[fuzz.Step]) -> bool:
        """Whether a program does the same wrong."""
        return not self.deaf and alike(self.complaint(program)) == alike(wrong)


def alike(text: str) -> str:
    """A complaint without what differs from time to time."""
    return VARYING.sub("#", text)


def healthy(node: str) -> str:
    """Whether another client gets its command done; else what it got instead."""
    with Device(node) as device:
        heap = device.heap()
        unit = device.buffer(uapi.Bo.DEV, 32768)
        context = device.create_context(tiles=device.metadata().core.row_count)
        device.configure(context, [unit.handle])
        state = device.run(context, device.buffer(uapi.Bo.CMD, uapi.PAGE), packets.start_cu())
        device.destroy_context(context)
        mine = [entry for entry in device.contexts() if entry.pid not in (os.getpid(), os.getppid())]
        if mine:
            return f"{len(mine)} contexts of processes that ended"
        return "" if state == uapi.Command.COMPLETED and heap.size else f"a command in state {state}"


def healthy_queue(node: str) -> str:
    """Whether another client gets a context with a host queue; else what it got instead."""
    program = [fuzz.Step("queue", (32, 1, 4)), fuzz.Step("destroy", (0,))]
    ended = fuzz.run(program, node)
    return "" if ended == ["ok", "ok"] else f"a queue ended with {ended[0]}, its destruction with {ended[1]}"


def mark(text: str) -> None:
    """A line in the kernel log, which outlives the machine on its console."""
    with contextlib.suppress(OSError):
        Path("/dev/kmsg").write_text(f"<5>{text}\n", "ascii")
