"""Random programs of driver calls: made from a seed, run, judged from outside, made small.

A program is a list of steps; a step names one call and gives plain numbers, so that a program can be printed,
kept and run again: ``python3 -m harness.suite.fuzz --node /dev/accel/accel0 < program.json``. Handles are not
numbers but positions: 3 is the third buffer the program made so far, modulo their count, so that leaving
steps out leaves the others meaningful. This module knows nothing of pytest and judges nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.suite.device import Device, error_name
from harness.suite.fuzz_calls import CALLS, World

STEPS = 30  # of one program
BEGIN = {False: ["heap", "create", "context", "configure"], True: ["queue", "packet", "ring", "queue-wait"]}
BESIDE = "beside"  # the next few steps run in a thread of their own, on the same descriptor


@dataclass(frozen=True)
class Step:
    """One call: its name in CALLS and its numbers, each below 2^64."""

    call: str
    numbers: tuple[int, ...]


def generate(seed: int, turn: int, *, queues: bool = False) -> list[Step]:
    """Program number ``turn`` of a seed: the same for ever, as long as CALLS stays as it is.

    ``queues``: for a device with host queues (AIE4), which has no heap and takes no EXEC_CMD.
    """
    choose = random.Random(f"{seed}/{turn}")
    names = [name for name, call in CALLS.items() if call.where in ("", "queues" if queues else "heap")]
    drawn = choose.choices(names, [CALLS[name].weight for name in names], k=STEPS)
    if choose.random() < 0.8:  # most programs begin as programs do
        drawn[:4] = BEGIN[queues]
    return [Step(name, tuple(choose.choice(options) for options in CALLS[name].numbers)) for name in drawn]


def run(program: Sequence[Step], node: str) -> list[str]:
    """Run every step; how each ended: "ok" or the errno's name. Closing the node gives everything back."""
    ended = [""] * len(program)
    threads: list[threading.Thread] = []

    def walk(numbers: Sequence[int], world: World) -> None:
        for number in numbers:
            ended[number] = _outcome(program[number], world)

    with Device(node) as device:
        world, place = World(device, node), 0
        while place < len(program):
            step = program[place]
            aside = (
                range(place + 1, min(place + 1 + step.numbers[0], len(program)))
                if step.call == BESIDE
                else ()
            )
            walk([place], world)
            if aside:
                threads.append(threading.Thread(target=walk, args=(aside, world), daemon=True))
                threads[-1].start()
            place += 1 + len(aside)
        for thread in threads:
            thread.join()
    for descriptor in world.descriptors:
        os.close(descriptor)
    for other in world.others:
        other.close()
    return ended


def _outcome(step: Step, world: World) -> str:
    try:
        CALLS[step.call].work(world, *step.numbers)
    except OSError as error:
        return error_name(error)
    except (IndexError, ValueError) as error:
        return type(error).__name__  # a mapping that is gone, a word that does not fit
    return "ok"


def shrink(program: Sequence[Step], fails: Callable[[Sequence[Step]], bool], limit: int = 200) -> list[Step]:
    """A program that still fails and from which no single step can be left out (delta debugging).

    ``fails`` runs a candidate in a fresh process and says whether it fails the same way; it is asked at most
    ``limit`` times.
    """
    best, part, asked = list(program), max(1, len(program) // 2), 0
    while asked < limit:
        smaller = False
        start = 0
        while start < len(best) and asked < limit:
            candidate = best[:start] + best[start + part :]
            asked += 1
            if candidate and fails(candidate):
                best, smaller = candidate, True
            else:
                start += part
        if part == 1 and not smaller:
            break
        part = part if smaller and part == 1 else max(1, part // 2)
    return best


def text_of(program: Sequence[Step]) -> str:
    """A program as JSON, one step a line."""
    return "[\n" + ",\n".join("  " + json.dumps([step.call, *step.numbers]) for step in program) + "\n]"


def program_of(text: str) -> list[Step]:
    """The program in a text made by ``text_of``; ValueError for what is none."""
    rows = json.loads(text)
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and row and row[0] in CALLS for row in rows
    ):
        raise ValueError(f"a program is a list of [call, numbers...]; the calls are {', '.join(CALLS)}")
    return [Step(row[0], tuple(int(number) for number in row[1:])) for row in rows]


def main() -> int:
    """Run a program from standard input or from a seed and print how each step ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--turn", type=int, default=0)
    parser.add_argument("--queues", action="store_true", help="the program is for a device with host queues")
    options = parser.parse_args()
    program = (
        generate(options.seed, options.turn, queues=options.queues)
        if options.seed is not None
        else program_of(sys.stdin.read())
    )
    rows = zip(program, run(program, options.node), strict=True) if Path(options.node).exists() else ()
    sys.stdout.write(
        "".join(f"{step.call} {step.numbers} {ended}\n" for step, ended in rows) or text_of(program)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
