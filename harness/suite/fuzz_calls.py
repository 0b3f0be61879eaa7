"""What the fuzzer's programs may call: one function a call, and the numbers each is given.

Handles are positions in what the program made so far, so that a call can name a thing that exists, is gone or
never was. A call raises what the kernel answered and judges nothing.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.suite import drm, packets, uapi
from harness.suite.device import Buffer, Context, Device, anonymous
from harness.suite.device import Mapping as Memory

WAIT = 0.3  # seconds a program waits for one command
PACKETS = 0x100  # offset of the first packet in a host queue's buffer
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
class Queue:
    """A context with a host queue (AIE4): its handle, the queue's memory, its doorbell's offset and page."""

    handle: int
    memory: Buffer
    offset: int
    doorbell: list[Memory]


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
    queues: list[Queue] = field(default_factory=list)

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


def _unmap(world: World, number: int) -> None:
    if world.memories:
        world.memories[number % len(world.memories)].close()


def _map_descriptor(world: World, number: int, size: int, offset: int) -> None:
    if world.descriptors:
        descriptor = world.descriptors[number % len(world.descriptors)]
        with mmap.mmap(descriptor, size, offset=offset) as memory:
            memory[:1] = b"x"


def _wrap_mapped(world: World, number: int, count: int) -> None:
    """A buffer over the memory of another one, or over what was unmapped."""
    if world.memories:
        memory = world.memories[number % len(world.memories)]
        entry = bytes(uapi.VaEntry(vaddr=memory.address, len=uapi.PAGE))
        block = ctypes.create_string_buffer(bytes(uapi.VaTable(num_entries=count)) + entry * count)
        handle = world.device.create_bo(uapi.Bo.SHARE, uapi.PAGE, vaddr=ctypes.addressof(block))
        world.buffers.append(Buffer(handle, uapi.PAGE, uapi.Bo.SHARE, 0, None))


def _signal(world: World, number: int, call: int, point: int) -> None:
    """Meddle with a context's sync object: destroy, reset, signal, or signal a point of its time line."""
    handle = ctypes.c_uint32(world.context(number).syncobj)
    points = ctypes.c_uint64(point)
    if call % 4 == 0:
        world.device.ioctl(drm.SYNCOBJ_DESTROY, drm.SyncobjDestroy(handle=handle.value))
    elif call % 4 == 3:
        argument = drm.SyncobjTimelineArray(
            handles=ctypes.addressof(handle), points=ctypes.addressof(points), count_handles=1
        )
        world.device.ioctl(drm.SYNCOBJ_TIMELINE_SIGNAL, argument)
    else:
        several = drm.SyncobjArray(handles=ctypes.addressof(handle), count_handles=1)
        world.device.ioctl(drm.SYNCOBJ_RESET if call % 4 == 1 else drm.SYNCOBJ_SIGNAL, several)


def _wait_command(world: World, number: int, milliseconds: int, sequence: int) -> None:
    handle = world.queues[number % len(world.queues)].handle if world.queues else number & 0xFFFFFFFF
    world.device.ioctl(
        uapi.WAIT_CMD, uapi.WaitCmd(hwctx=handle, timeout=milliseconds & 0xFFFFFFFF, seq=sequence)
    )


def _queue(world: World, capacity: int, version: int, tiles: int) -> None:
    memory = world.device.buffer(uapi.Bo.SHARE, uapi.PAGE)
    world.buffers.append(memory)
    header = struct.pack(
        "<QHHIQQ", 0, version & 0xFFFF, 0, capacity & 0xFFFFFFFF, 0, memory.address + PACKETS
    )
    memory.memory.write(header)
    wish = uapi.QosInfo(priority=uapi.Priority.NORMAL)
    argument = uapi.CreateHwctx(
        qos_p=ctypes.addressof(wish), umq_bo=memory.handle, max_opc=2048, num_tiles=tiles & 0xFFFFFFFF
    )
    world.device.ioctl(uapi.CREATE_HWCTX, argument)
    world.queues.append(Queue(int(argument.handle), memory, int(argument.umq_doorbell), []))
    world.contexts.append(Context(int(argument.handle), int(argument.syncobj_handle)))


def _packet(world: World, number: int, opcode: int, size: int, write: int) -> None:
    if world.queues:
        memory = world.queues[number % len(world.queues)].memory
        packet = struct.pack("<HBBHBBQ", 0, opcode & 0xFF, 0, size & 0xFFFF, 0, write & 1, memory.address)
        memory.memory.write(packet.ljust(64, b"\0"), PACKETS)
        memory.memory.write(struct.pack("<Q", write & 0xFFFFFFFFFFFFFFFF), 16)


def _ring(world: World, number: int, value: int) -> None:
    if world.queues:
        queue = world.queues[number % len(world.queues)]
        if not queue.doorbell:
            queue.doorbell.append(world.device.map_at(queue.offset, uapi.PAGE))
        queue.doorbell[0].write(struct.pack("<I", value & 0xFFFFFFFF))


def _pause(_world: World, *_numbers: int) -> None:
    """The steps that follow run in a thread: ``fuzz.run`` sees to it."""


Choice = tuple[int, ...]
KIND: Choice = (1, 1, 1, 3, 3, 3, 4, 0, 5)
QOS: Choice = (*[0] * 24, 1, 60, 0x7FFFFFFF, 0xFFFFFFFF)  # most wishes that can be met ask for nothing
PLACE: Choice = (*range(12), 0x7FFF0000)


@dataclass(frozen=True)
class Call:
    """A call: its work, how often it is drawn, what its numbers are chosen from, and where it makes sense."""

    work: Callable[..., None]
    weight: float
    numbers: tuple[Choice, ...]
    where: str = ""  # "heap": not on AIE4, "queues": only there


CALLS: Mapping[str, Call] = {
    "heap": Call(_heap, 0.4, (), "heap"),
    "create": Call(_create, 6, (KIND, SIZES)),
    "wrap": Call(_wrap, 2, ((4096, 8192, 65536, 4095, 1 << 44), (1, 2, 8, 9, 1000), (4096, 0, 1 << 20))),
    "wrap-mapped": Call(_wrap_mapped, 1, (PLACE, (1, 2))),
    "map": Call(_map, 4, (PLACE, (4096, 8192, 65536, 1 << 20), (0, 0, 0, 4096, 1 << 30))),
    "map-descriptor": Call(_map_descriptor, 1, (PLACE, (4096, 8192, 1 << 20), (0, 4096))),
    "unmap": Call(_unmap, 1.5, (PLACE,)),
    "write": Call(_write, 3, (PLACE, (0, 0xFF, 0x55))),
    "free": Call(_free, 3, (PLACE,)),
    "sync": Call(_sync, 3, (PLACE, (0, 1, 2), WIDE, WIDE)),
    "export": Call(_export, 2, (PLACE,)),
    "adopt": Call(_adopt, 2, (PLACE, (0, 1, 2, 3))),
    "adopt-by-table": Call(_table_of_descriptor, 1, (PLACE, SIZES)),
    "open": Call(_open, 1, ()),
    "close": Call(_close, 1, ()),
    "context": Call(
        _context,
        5,
        ((4, 4, 4, 8, 16, 0, 3, 0xFFFFFFFF), (0x200, 0x100, 0, 0xFFFFFFFF), *[QOS] * 5),
        "heap",
    ),
    "destroy": Call(_destroy, 3, (PLACE,)),
    "configure": Call(_configure, 5, (PLACE, PLACE, (1, 1, 1, 2, 32, 33, 0)), "heap"),
    "debug": Call(_debug, 2, (PLACE, (1, 2, 1, 2, 3), PLACE), "heap"),
    "execute": Call(
        _execute,
        8,
        (PLACE, (0, 0, 0, 19, 19, 20, 21, 22, 7), (3, 3, 7, 0, 1, 2047), (1, 1, 2, 0), PLACE),
    ),
    "wait": Call(_wait, 4, (PLACE,), "heap"),
    "signal": Call(_signal, 1, (PLACE, (0, 1, 2, 3), (0, 1, 2, 1 << 32, (1 << 64) - 1)), "heap"),
    "queue": Call(_queue, 4, ((32, 32, 1, 0, 33, 1 << 31), (1, 1, 1, 0), (4, 4, 8, 0, 0xFFFFFFFF)), "queues"),
    "packet": Call(_packet, 6, (PLACE, (1, 1, 0, 255), (24, 24, 0, 48, 0xFFFF), (1, 2, 0, 33)), "queues"),
    "ring": Call(_ring, 5, (PLACE, (1, 0, 0xFFFFFFFF)), "queues"),
    "queue-wait": Call(_wait_command, 4, (PLACE, (1, 20, 100), (0, 1, 32, (1 << 64) - 1)), "queues"),
    "info": Call(_info, 4, (tuple(range(15)), EDGES, EDGES)),
    "array": Call(_array, 3, (tuple(range(8)), EDGES, EDGES, EDGES)),
    "state": Call(_state, 1, (tuple(range(6)), (*range(6), 0x100, 1 << 63))),
    "beside": Call(_pause, 2, ((2, 4, 8),)),
}
