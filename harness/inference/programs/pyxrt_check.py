"""Runs on the machine: XRT's Python module does one thing with the NPU and says what came of it, as JSON.

The argument is {"what": "version"|"device"|"buffer"|"test-kernels"|"kernel", "bdf": str, ...}; the last
line is the answer.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from harness.inference.programs.driver_state import own_commands

SIZES = (4096, 4096 + 64, 1 << 20)  # bytes: a page, a page and a bit, many pages
MAGIC = int.from_bytes(b"XDNW", "little")  # of the virtual NPU's test kernels (lab.npu.kernels)
TEST_VERSION = 1
TRANSACTION_OPCODE = 3  # mlir-aie's convention for instruction streams


def pattern(size: int, seed: int) -> bytes:
    """Bytes that repeat nowhere near."""
    blocks = [hashlib.sha256(f"{seed}:{block}".encode()).digest() for block in range(size // 32 + 1)]
    return b"".join(blocks)[:size]


def opened(pyxrt: Any, bdf: str) -> Any:
    """The device at an address."""
    for index in range(pyxrt.enumerate_devices()):
        device = pyxrt.device(index)
        if device.get_info(pyxrt.xrt_info_device.bdf).lower() == bdf.lower():
            return device
    raise RuntimeError(f"pyxrt lists {pyxrt.enumerate_devices()} devices, none at {bdf}")


def device_facts(pyxrt: Any, bdf: str) -> dict[str, Any]:
    """What XRT says of the device."""
    device = opened(pyxrt, bdf)
    facts = pyxrt.xrt_info_device
    return {"bdf": device.get_info(facts.bdf), "name": device.get_info(facts.name)}


def buffers(pyxrt: Any, bdf: str) -> dict[str, Any]:
    """Write, hand to the device, take back, compare with what the buffer's mapping shows."""
    device = opened(pyxrt, bdf)
    direction = pyxrt.xclBOSyncDirection
    wrong = []
    for seed, size in enumerate(SIZES):
        data = pattern(size, seed)
        buffer = pyxrt.bo(device, size, pyxrt.bo.flags.host_only, 0)
        buffer.write(data, 0)
        buffer.sync(direction.XCL_BO_SYNC_BO_TO_DEVICE, size, 0)
        buffer.sync(direction.XCL_BO_SYNC_BO_FROM_DEVICE, size, 0)
        back = content(buffer, size)
        if back != data:
            wrong.append({"size": size, "first": first_difference(data, back)})
    return {"sizes": list(SIZES), "wrong": wrong}


def content(buffer: Any, size: int) -> bytes:
    """The first bytes of a buffer by its mapping: bo.read() would need numpy."""
    return bytes(memoryview(buffer.map()).cast("B")[:size])


def kernel(pyxrt: Any, bdf: str, request: dict[str, Any]) -> dict[str, Any]:
    """Run a compiled kernel once and compare its output, byte for byte."""
    device = opened(pyxrt, bdf)
    direction = pyxrt.xclBOSyncDirection
    binary = pyxrt.xclbin(request["xclbin"])
    device.register_xclbin(binary)
    context = pyxrt.hw_context(device, binary.get_uuid())
    entry = pyxrt.kernel(context, request["kernel"])
    instructions = Path(request["instructions"]).read_bytes()
    expected = Path(request["expected"]).read_bytes()
    held = [
        (Path(place).read_bytes(), pyxrt.bo.flags.host_only, index + 3)
        for index, place in enumerate(request["inputs"])
    ]
    held.append((bytes(len(expected)), pyxrt.bo.flags.host_only, len(held) + 3))
    arguments = []
    for data, flags, argument in [(instructions, pyxrt.bo.flags.cacheable, 1), *held]:
        buffer = pyxrt.bo(device, len(data), flags, entry.group_id(argument))
        buffer.write(data, 0)
        buffer.sync(direction.XCL_BO_SYNC_BO_TO_DEVICE, len(data), 0)
        arguments.append(buffer)
    begin = time.perf_counter()
    run = entry(TRANSACTION_OPCODE, arguments[0], len(instructions) // 4, *arguments[1:])
    state = run.wait(int(request["wait_ms"]))
    seconds = time.perf_counter() - begin
    output = arguments[-1]
    output.sync(direction.XCL_BO_SYNC_BO_FROM_DEVICE, len(expected), 0)
    back = content(output, len(expected))
    return {
        "state": str(state).rpartition(".")[2],
        "seconds": seconds,
        "bytes": len(expected),
        "first": first_difference(expected, back),
        "driver": own_commands(request["node"]),
    }


def words(data: bytes) -> tuple[int, ...]:
    """Little-endian words of 32 bits."""
    return struct.unpack(f"<{len(data) // 4}I", data)


def test_kernels(pyxrt: Any, bdf: str, request: dict[str, Any]) -> dict[str, Any]:
    """Every test kernel of the virtual NPU through XRT: contexts, commands, buffers, and the right data."""
    if not Path(request["xclbin"]).exists():
        return {"no_test_kernels": request["xclbin"]}
    parameter = Path("/sys/module/amdxdna/parameters/force_iova")
    if not parameter.exists() or parameter.read_text().strip() != "Y":
        return {"shared_addresses": True}
    device = opened(pyxrt, bdf)
    direction = pyxrt.xclBOSyncDirection
    binary = pyxrt.xclbin(request["xclbin"])
    device.register_xclbin(binary)
    context = pyxrt.hw_context(device, binary.get_uuid())
    entry = pyxrt.kernel(context, request["kernel"])
    length = request["length"]
    first, second = pattern(length, 1), pattern(length, 2)
    buffers = []
    for index, data in enumerate((first, second, bytes(length))):
        buffer = pyxrt.bo(device, length, pyxrt.bo.flags.host_only, entry.group_id(4 + index))
        buffer.write(data, 0)
        buffer.sync(direction.XCL_BO_SYNC_BO_TO_DEVICE, length, 0)
        buffers.append(buffer)
    left, right, output = buffers
    total = struct.pack(
        f"<{length // 4}I",
        *((a + b) & 0xFFFFFFFF for a, b in zip(words(first), words(second), strict=True)),
    )
    checksum = struct.pack("<II", zlib.crc32(first), length)
    plan = (  # name, operation, value, arguments, expected start of the output
        ("copy", 1, 0, (left, output, output), first),
        ("fill", 2, 0x12345678, (output, output, output), struct.pack("<I", 0x12345678) * (length // 4)),
        ("add", 3, 0, (left, right, output), total),
        ("checksum", 4, 0, (left, output, output), checksum),
    )
    done = {}
    for name, operation, value, arguments, expected in plan:
        output.write(bytes(length), 0)
        output.sync(direction.XCL_BO_SYNC_BO_TO_DEVICE, length, 0)
        begin = time.perf_counter()
        run = entry(MAGIC, TEST_VERSION | operation << 16, length, value, *arguments)
        state = run.wait(int(request["wait_ms"]))
        seconds = time.perf_counter() - begin
        output.sync(direction.XCL_BO_SYNC_BO_FROM_DEVICE, length, 0)
        done[name] = {
            "state": str(state).rpartition(".")[2],
            "seconds": seconds,
            "first": first_difference(expected, content(output, length)[: len(expected)]),
        }
    return {"kernels": done, "bytes": length, "driver": own_commands(request["node"])}


def first_difference(expected: bytes, seen: bytes) -> int | None:
    """Where two strings of bytes part, None when they are equal."""
    if expected == seen:
        return None
    pairs = enumerate(zip(expected, seen, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(expected), len(seen)))


def main() -> None:
    """Do what is asked; any failure is part of the answer."""
    request = json.loads(sys.argv[1])
    answer: dict[str, Any] = {}
    try:
        pyxrt = importlib.import_module("pyxrt")
    except ImportError as error:
        answer["absent"] = str(error)[:300]
    else:
        answer["module"] = str(getattr(pyxrt, "__file__", ""))
        try:
            if request["what"] == "device":
                answer |= device_facts(pyxrt, request["bdf"])
            elif request["what"] == "buffer":
                answer |= buffers(pyxrt, request["bdf"])
            elif request["what"] == "test-kernels":
                answer |= test_kernels(pyxrt, request["bdf"], request)
            elif request["what"] == "kernel":
                answer |= kernel(pyxrt, request["bdf"], request)
        except Exception as error:  # noqa: BLE001 - whatever XRT raises is the answer of this test
            answer["error"] = f"{type(error).__name__}: {error}"[:500]
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


main()
