"""Random programs of driver calls: made from a seed, run, judged from outside, made small.

A program is a list of steps; a step names one call and gives plain numbers, so that a program can be printed,
kept and run again: ``python3 -m harness.suite.fuzz --node /dev/accel/accel0 < program.json``. Handles are not
numbers but positions: 3 is the third buffer the program made so far, modulo their count, so that leaving
steps out leaves the others meaningful. This module knows nothing of pytest and judges nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.suite import drm, packets, uapi
from harness.suite.device import Buffer, Context, Device, anonymous, error_name
from harness.suite.device import Mapping as Memory

STEPS = 30  # of one program
WAIT = 0.3  # seconds a program waits for one command
MAPPED_LIMIT = 1 << 20  # bytes of a buffer that are mapped
EDGES = (
    0,
    1,
    2,
    4,
    7,
    8,
    63,
    64,
    144,
    255,
    4095,
    4096,
    4097,
    65536,
    1 << 20,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
WIDE = (*EDGES, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 4096, (1 << 64) - 1)
SIZES = (0, 1, 4095, 4096, 8192, 65536, 1 << 20, 4 << 20, 1 << 40, (1 << 64) - 1)


@dataclass(frozen=True)
class Step:
    """One call: its name in CALLS and its numbers, each below 2^64."""

    call: str
    numbers: tuple[int, ...]


@dataclass
class World:
    """What a running program has made so far."""

    device: Device
    node: str
    others: list[Device] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    contexts: list[Context] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    sequences: list[tuple[Context, int]] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)

    def buffer(self, number: int) -> int:
        """A handle: mostly one that exists or existed, else the number itself."""
        return self.buffers[number % len(self.buffers)].handle if self.buffers and number < 256 else number

    def context(self, number: int) -> Context:
        """A context that exists or existed, else one made up."""
        made_up = Context(number & 0xFFFFFFFF, 0)
        return self.contexts[number % len(self.contexts)] if self.contexts and number < 256 else made_up


def _room(size: int) -> int:
    memory = anonymous(max(uapi.PAGE, min(size, 1 << 16)))
    _ROOMS.append(memory)
    return memory.address


_ROOMS: list[Memory] = []  # kept while the process lives: the kernel writes there


def _heap(world: World, *_numbers: int) -> None:
    world.buffers.append(world.device.heap())


def _create(world: World, kind: int, size: int) -> None:
    handle = world.device.create_bo(kind, size)
    world.buffers.append(Buffer(handle, size, kind, 0, None))


def _wrap(world: World, size: int, count: int, stated: int) -> None:
    memory = anonymous(16 * uapi.PAGE)
    world.memories.append(memory)
    entries = b"".join(bytes(uapi.VaEntry(vaddr=memory.address, len=size)) for _turn in range(min(count, 8)))
    block = ctypes.create_string_buffer(bytes(uapi.VaTable(num_entries=count & 0xFFFFFFFF)) + entries)
    handle = world.device.create_bo(uapi.Bo.SHARE, stated, vaddr=ctypes.addressof(block))
    world.buffers.append(Buffer(handle, size, uapi.Bo.SHARE, 0, None))


def _map(world: World, number: int, size: int, offset: int) -> None:
    info = world.device.bo_info(world.buffer(number) & 0xFFFFFFFF)
    world.memories.append(world.device.map_at(info.map_offset + offset % (1 << 40), size))


def _write(world: World, number: int, byte: int) -> None:
    if world.memories:
        memory = world.memories[number % len(world.memories)]
        memory.write(bytes([byte & 0xFF]) * min(memory.size, 64))


def _free(world: World, number: int) -> None:
    world.device.ioctl(drm.GEM_CLOSE, drm.GemClose(handle=world.buffer(number) & 0xFFFFFFFF))


def _sync(world: World, number: int, direction: int, offset: int, size: int) -> None:
    world.device.sync(
        world.buffer(number) & 0xFFFFFFFF, size, offset=offset, direction=direction & 0xFFFFFFFF
    )


def _export(world: World, number: int) -> None:
    world.descriptors.append(world.device.export(world.buffer(number) & 0xFFFFFFFF))


def _adopt(world: World, number: int, other: int) -> None:
    if world.descriptors:
        into = world.others[other % len(world.others)] if world.others and other & 1 else world.device
        handle = into.adopt(world.descriptors[number % len(world.descriptors)])
        if into is world.device:
            world.buffers.append(Buffer(handle, uapi.PAGE, uapi.Bo.SHARE, 0, None))


def _table_of_descriptor(world: World, number: int, stated: int) -> None:
    if world.descriptors:
        table = uapi.VaTable(dmabuf_fd=world.descriptors[number % len(world.descriptors)])
        handle = world.device.create_bo(uapi.Bo.SHARE, stated, vaddr=ctypes.addressof(table))
        world.buffers.append(Buffer(handle, uapi.PAGE, uapi.Bo.SHARE, 0, None))


def _open(world: World, *_numbers: int) -> None:
    if len(world.others) < 4:
        world.others.append(Device(world.node))


def _close(world: World, *_numbers: int) -> None:
    if world.others:
        world.others.pop().close()


def _context(world: World, tiles: int, priority: int, *qos: int) -> None:
    names = ("gops", "fps", "dma_bandwidth", "latency", "frame_exec_time")
    words = {name: value & 0xFFFFFFFF for name, value in zip(names, qos, strict=True)}
    made = world.device.create_context(tiles=tiles & 0xFFFFFFFF, priority=priority & 0xFFFFFFFF, **words)
    world.contexts.append(made)


def _destroy(world: World, number: int) -> None:
    world.device.ioctl(uapi.DESTROY_HWCTX, uapi.DestroyHwctx(handle=world.context(number).handle))


def _configure(world: World, number: int, unit: int, count: int) -> None:
    world.device.configure(world.context(number), [world.buffer(unit) & 0xFFFFFFFF] * (count % 40))


def _debug(world: World, number: int, kind: int, buffer: int) -> None:
    argument = uapi.ConfigHwctx(
        handle=world.context(number).handle, param_type=kind & 0xFFFFFFFF, param_val=world.buffer(buffer)
    )
    world.device.ioctl(uapi.CONFIG_HWCTX, argument)


def _execute(world: World, number: int, opcode: int, count: int, mask: int, arguments: int) -> None:
    context = world.context(number)
    command = world.device.buffer(uapi.Bo.CMD, uapi.PAGE)
    world.buffers.append(command)
    links = [world.buffer(index) & 0xFFFFFFFF for index in range(arguments % 6)]
    if opcode % 32 == uapi.Opcode.CHAIN:
        words = packets.chain(links, count=count % 64 if count & 1 else None)
    else:
        words = [packets.header(opcode, count), mask & 0xFFFFFFFF, 1, 2, 3, 4, 5, 6]
    command.memory.words(words)
    world.sequences.append((context, world.device.execute(context, command, sorted(set(links)))))


def _wait(world: World, number: int) -> None:
    if world.sequences:
        context, sequence = world.sequences[number % len(world.sequences)]
        world.device.wait(context, sequence, WAIT)


def _info(world: World, parameter: int, size: int, bad: int) -> None:
    address = 16 if bad % 8 == 0 else _room(size)
    world.device.info_at(
        parameter & 0xFFFFFFFF, address, min(size, 1 << 16) if bad % 8 else size & 0xFFFFFFFF
    )


def _array(world: World, parameter: int, element: int, count: int, bad: int) -> None:
    element, count = element & 0xFFFFFFFF, count & 0xFFFFFFFF
    address = 16 if bad % 8 == 0 else _room(element * count)
    if bad % 8 and element * count > 1 << 16:
        count = max(1, (1 << 16) // max(element, 1))
    argument = uapi.GetArray(
        param=parameter & 0xFFFFFFFF, element_size=element, num_element=count, buffer=address
    )
    world.device.ioctl(uapi.GET_ARRAY, argument)


def _state(world: World, parameter: int, value: int) -> None:
    block = ctypes.create_string_buffer((value & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little"))
    argument = uapi.SetState(param=parameter & 0xFFFFFFFF, buffer_size=8, buffer=ctypes.addressof(block))
    world.device.ioctl(uapi.SET_STATE, argument)


Choice = tuple[int, ...]
KIND: Choice = (1, 1, 1, 3, 3, 3, 4, 0, 5)
QOS: Choice = (*[0] * 24, 1, 60, 0x7FFFFFFF, 0xFFFFFFFF)  # most wishes that can be met ask for nothing
PLACE: Choice = (*range(12), 0x7FFF0000)
# call -> (weight, what each of its numbers is chosen from)
CALLS: Mapping[str, tuple[Callable[..., None], float, tuple[Choice, ...]]] = {
    "heap": (_heap, 0.4, ()),
    "create": (_create, 6, (KIND, SIZES)),
    "wrap": (_wrap, 2, ((4096, 8192, 65536, 4095, 1 << 44), (1, 2, 8, 9, 1000), (4096, 0, 1 << 20))),
    "map": (_map, 4, (PLACE, (4096, 8192, 65536, 1 << 20), (0, 0, 0, 4096, 1 << 30))),
    "write": (_write, 3, (PLACE, (0, 0xFF, 0x55))),
    "free": (_free, 3, (PLACE,)),
    "sync": (_sync, 3, (PLACE, (0, 1, 2), WIDE, WIDE)),
    "export": (_export, 2, (PLACE,)),
    "adopt": (_adopt, 2, (PLACE, (0, 1, 2, 3))),
    "adopt-by-table": (_table_of_descriptor, 1, (PLACE, SIZES)),
    "open": (_open, 1, ()),
    "close": (_close, 1, ()),
    "context": (
        _context,
        5,
        ((4, 4, 4, 8, 16, 0, 3, 0xFFFFFFFF), (0x200, 0x100, 0, 0xFFFFFFFF), *[QOS] * 5),
    ),
    "destroy": (_destroy, 3, (PLACE,)),
    "configure": (_configure, 5, (PLACE, PLACE, (1, 1, 1, 2, 32, 33, 0))),
    "debug": (_debug, 2, (PLACE, (1, 2, 1, 2, 3), PLACE)),
    "execute": (
        _execute,
        8,
        (PLACE, (0, 0, 0, 19, 19, 20, 21, 22, 7), (3, 3, 7, 0, 1, 2047), (1, 1, 2, 0), PLACE),
    ),
    "wait": (_wait, 4, (PLACE,)),
    "info": (_info, 4, (tuple(range(15)), EDGES, EDGES)),
    "array": (_array, 3, (tuple(range(8)), EDGES, EDGES, EDGES)),
    "state": (_state, 1, (tuple(range(6)), (*range(6), 0x100, 1 << 63))),
}


def generate(seed: int, turn: int) -> list[Step]:
    """Program number ``turn`` of a seed: the same for ever, as long as CALLS stays as it is."""
    choose = random.Random(f"{seed}/{turn}")
    names = list(CALLS)
    weights = [CALLS[name][1] for name in names]
    drawn = choose.choices(names, weights, k=STEPS)
    if choose.random() < 0.8:  # most programs begin as programs do
        drawn[:4] = ["heap", "create", "context", "configure"]
    return [Step(name, tuple(choose.choice(options) for options in CALLS[name][2])) for name in drawn]


def run(program: Sequence[Step], node: str) -> list[str]:
    """Run every step; how each ended: "ok" or the errno's name. Closing the node gives everything back."""
    ended: list[str] = []
    with Device(node) as device:
        world = World(device, node)
        for step in program:
            try:
                CALLS[step.call][0](world, *step.numbers)
                ended.append("ok")
            except OSError as error:
                ended.append(error_name(error))
            except (IndexError, ValueError) as error:
                ended.append(type(error).__name__)  # a mapping that is gone, a word that does not fit
    for descriptor in world.descriptors:
        os.close(descriptor)
    for other in world.others:
        other.close()
    return ended


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
    options = parser.parse_args()
    program = (
        generate(options.seed, options.turn) if options.seed is not None else program_of(sys.stdin.read())
    )
    rows = zip(program, run(program, options.node), strict=True) if Path(options.node).exists() else ()
    sys.stdout.write(
        "".join(f"{step.call} {step.numbers} {ended}\n" for step, ended in rows) or text_of(program)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
