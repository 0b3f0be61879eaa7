"""A command for compute unit 35 is run on unit 3.

A START_CU names its unit in up to four masks of 32 bits. The driver takes the place within the mask for the
unit's number, whichever mask it was.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import mmap
import os
import struct
import sys
import time

CHUNK = 64 << 20  # bytes of a heap chunk
STATES = {1: "NEW", 4: "COMPLETED", 5: "ERROR", 6: "ABORT", 8: "TIMEOUT"}
SLOTS = 1 << 18  # bytes at the heap's beginning in which the driver's own buffers lie


def call(fd: int, number: int, layout: str, *values: int, direction: int = 3) -> tuple[int, ...]:
    """One DRM ioctl; its argument as the kernel left it. OSError with the kernel's errno."""
    data = bytearray(struct.pack("<" + layout, *values))
    fcntl.ioctl(fd, direction << 30 | len(data) << 16 | ord("d") << 8 | number, data)
    return struct.unpack("<" + layout, data)


def create_bo(fd: int, kind: int, size: int, vaddr: int = 0) -> int:
    """AMDXDNA_CREATE_BO: 1 shared memory, 2 heap, 3 in the heap, 4 command. The handle."""
    return call(fd, 0x43, "QQQII", 0, vaddr, size, kind, 0)[4]


def map_offset(fd: int, handle: int) -> int:
    """AMDXDNA_GET_BO_INFO: where mmap(2) finds a buffer."""
    return call(fd, 0x44, "QQIIQQQ", 0, 0, handle, 0, 0, 0, 0)[4]


def map_heap(fd: int, handle: int) -> int:
    """Map a heap chunk where the driver wants it: aligned to its 64 MiB. The place."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    room = libc.mmap(None, 2 * CHUNK, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, -1, 0)
    place = (int(room) + CHUNK - 1) & ~(CHUNK - 1)
    fixed = mmap.MAP_SHARED | 0x10
    got = libc.mmap(place, CHUNK, mmap.PROT_READ | mmap.PROT_WRITE, fixed, fd, map_offset(fd, handle))
    if got != place:
        raise OSError(ctypes.get_errno(), "the heap could not be mapped")
    return place


def create_context(fd: int) -> tuple[int, int]:
    """AMDXDNA_CREATE_HWCTX over one column of four tiles: (handle, sync object)."""
    qos = ctypes.create_string_buffer(struct.pack("<6I", 0, 0, 0, 0, 0, 0x200))
    argument = (0, 0, ctypes.addressof(qos), 0, 0, 2048, 4, 0x10000, 0, 0, 0)
    answer = call(fd, 0x40, "QQQ8I", *argument)
    return answer[9], answer[10]


def configure(fd: int, context: int, unit: int) -> None:
    """AMDXDNA_CONFIG_HWCTX: one compute unit, its code in the heap buffer ``unit``."""
    data = struct.pack("<H6xI4x", 1, unit)
    block = ctypes.create_string_buffer(data, len(data))
    call(fd, 0x42, "IIQII", context, 0, ctypes.addressof(block), len(data), 0)


def command(fd: int, *words: int) -> tuple[int, mmap.mmap]:
    """A command buffer with these words: (handle, memory)."""
    handle = create_bo(fd, 4, mmap.PAGESIZE)
    memory = mmap.mmap(fd, mmap.PAGESIZE, offset=map_offset(fd, handle))
    memory[: 4 * len(words)] = struct.pack(f"<{len(words)}I", *words)
    return handle, memory


def execute(fd: int, context: int, handle: int) -> int:
    """AMDXDNA_EXEC_CMD: the sequence number to wait for."""
    return call(fd, 0x46, "QQIIQQIIQ", 0, 0, context, 0, handle, 0, 1, 0, 0)[8]


def wait(fd: int, syncobj: int, sequence: int, seconds: float) -> None:
    """Wait on the context's time line. OSError(ETIME) when the command does not end."""
    handle, point = ctypes.c_uint32(syncobj), ctypes.c_uint64(sequence)
    until = time.monotonic_ns() + int(seconds * 1e9)
    pointers = ctypes.addressof(handle), ctypes.addressof(point)
    call(fd, 0xCA, "QQq4IQ", *pointers, until, 1, 2, 0, 0, 0)


def state(memory: mmap.mmap) -> str:
    """The state the driver left in a command's header."""
    number = int(struct.unpack("<I", memory[:4])[0]) & 0xF
    return STATES.get(number, str(number))


def show(node: str) -> str:
    """Compare what the driver makes of a command for unit 3 and of one for unit 35."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    place = map_heap(fd, create_bo(fd, 2, CHUNK))
    context, syncobj = create_context(fd)
    configure(fd, context, create_bo(fd, 3, mmap.PAGESIZE))

    def sent(*words: int) -> bytes:
        """The words that the driver wrote into its own buffer for the firmware."""
        before = ctypes.string_at(place, SLOTS)
        handle, memory = command(fd, *words)
        try:
            wait(fd, syncobj, execute(fd, context, handle), 10)
        except OSError as error:
            print("refused:", error)
            return b""
        after = ctypes.string_at(place, SLOTS)
        changed = [at for at in range(0, SLOTS, 64) if before[at : at + 64] != after[at : at + 64]]
        print("state", state(memory), "written at", [hex(at) for at in changed])
        if state(memory) != "COMPLETED" or not changed:
            return b""
        return b"".join(after[at : at + 64] for at in changed)

    low = sent(1 | 4 << 12, 1 << 3, 0x55AA, 0x33CC, 0x77)
    high = sent(1 | 5 << 12 | 1 << 10, 0, 1 << 3, 0x55AA, 0x33CC, 0x77)
    if not low or low != high:
        return ""
    return "the firmware is sent the same for unit 35 as for unit 3, and the command completes"


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    options = parser.parse_args()
    print("runs two commands for compute units that were not configured")
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
