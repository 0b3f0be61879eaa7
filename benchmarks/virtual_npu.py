"""What the virtual NPU costs: messages a second through its server, firmware and command round trips.

    python benchmarks/virtual_npu.py --generation npu4 --count 5000

The model runs as a process of its own, as under QEMU; the client is the tests' own, in this process. Run it
from the project's folder. A round trip is what the driver would wait, without the guest's own time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the client lives among the tests

from lab.npu.generations import GENERATIONS, generation_named
from tests.npu.fake_client import FakeClient, FakeDriver, GuestRam

HEAP, HEAP_BUS = 0x4000000, 0x10000000  # the firmware's address of a heap; where the guest's memory lies
PAGE = 4096
VERSION, MAP_HOST_BUFFER, CHAIN = 0x108, 0x106, 0x18


def timed(name: str, count: int, work: Callable[[int], object]) -> None:
    """Do ``work`` so often and print the rate, the median and the slow end in milliseconds."""
    spent = []
    begin = time.perf_counter()
    for number in range(count):
        start = time.perf_counter()
        work(number)
        spent.append(time.perf_counter() - start)
    rate = count / (time.perf_counter() - begin)
    cuts = statistics.quantiles(spent, n=100)
    print(f"{name:<34}{count:>8}{rate:>12.0f}{1000 * cuts[49]:>12.3f}{1000 * cuts[98]:>12.3f}")


def measure(socket: Path, generation: str, count: int) -> None:
    """Every measurement on one client."""
    with FakeClient(socket) as client:
        client.hello()
        driver = FakeDriver(client, generation_named(generation, None))
        bar = driver.layout.register_bar
        print(f"{'what':<34}{'times':>8}{'a second':>12}{'median ms':>12}{'p99 ms':>12}")
        timed("register read", count, lambda _n: client.read(bar, 0, 4))
        timed("register write", count, lambda _n: client.write(bar, 0xC0, bytes(4)))
        ram = GuestRam(4 * PAGE)
        place = HEAP_BUS << 4
        timed("DMA_MAP of a page", count, lambda n: client.map_file(ram.fd, place + n * PAGE, PAGE))
        timed("DMA_UNMAP of a page", count, lambda n: client.unmap(place + n * PAGE, PAGE))
        management = driver.boot()
        timed("firmware message", count // 5, lambda _n: management.call(VERSION, "<I", 0))
        client.map_file(ram.fd, HEAP_BUS, 4 * PAGE)
        context, ring = driver.create_context(management)
        management.call(MAP_HOST_BUFFER, "<IQQ", context, HEAP_BUS, 64 << 20)
        ram.bytes[0x100:0x110] = struct.pack("<4sHHII", b"XDNW", 1, 2, 4, 0x11223344)
        slot = struct.pack("<IQQQIIIIII", 2, HEAP + 0x100, 0, 0, 16, 0, 0, 0, 0, 2)
        ram.bytes[: len(slot) + 8] = slot + struct.pack("<II", HEAP + 0x2000, 0)
        timed(
            "command (chain of one, fills)",
            count // 5,
            lambda _n: ring.call(CHAIN, "<IIQII", 0, 0, HEAP, 60, 1),
        )
        assert bytes(ram.bytes[0x2000:0x2004]) == bytes.fromhex("44332211"), "the command did its work"
        ram.close()


def main() -> None:
    """Start the model and measure it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--generation", default="npu4", choices=sorted(set(GENERATIONS) - {"npu3vf"}))
    parser.add_argument("--count", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xdnw-bench-") as folder:
        socket = Path(folder) / "npu.sock"
        words = ["--generation", options.generation, "--socket", str(socket), "--trace", f"{folder}/trace"]
        with subprocess.Popen([sys.executable, "-m", "lab.npu", *words], stdout=subprocess.PIPE) as model:
            assert model.stdout is not None
            facts = json.loads(model.stdout.readline())
            print(f"{facts['generation']}, device model {facts['model']}")
            measure(socket, options.generation, options.count)
            model.terminate()


if __name__ == "__main__":
    main()
