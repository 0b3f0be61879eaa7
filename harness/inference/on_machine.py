"""Runs on the machine: one program with bounds on time and output, its files, and the NPU watched meanwhile.

The host gives it one JSON document on standard input and reads one JSON line (the shapes are in
``harness.inference.commands``). It needs Python >= 3.9's standard library; the watching needs the ioctl
suite's modules in PYTHONPATH and is left out without them. A program runs in a session of its own and is
ended with all its children when its time is over.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

WATCH_EVERY = 0.1  # seconds between two looks at the contexts
ENDING = 5.0  # seconds for a killed program to go away


def found(candidates: list[str]) -> str | None:
    """The first program that is there: a name is looked up in PATH."""
    for name in candidates:
        path = shutil.which(os.path.expandvars(str(Path(name).expanduser())) if "/" in name else name)
        if path:
            return path
    return None


class Watch(threading.Thread):
    """Follows the counters of all contexts that the driver shows to this user."""

    def __init__(self, node: str) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.done = threading.Event()
        self.first: dict[str, tuple[int, int]] = {}
        self.last: dict[str, tuple[int, int]] = {}
        self.looks = 0
        self.problem: str | None = None

    def run(self) -> None:
        """Look until told to stop; one last look after that."""
        try:
            from harness.suite.device import Device

            with Device(self.node) as device:
                while True:
                    over = self.done.is_set()
                    for entry in device.contexts():
                        key = f"{entry.pid}:{entry.context_id}"
                        counters = (int(entry.command_submissions), int(entry.command_completions))
                        if self.looks == 0:
                            self.first[key] = counters
                        self.last[key] = counters
                    self.looks += 1
                    if over:
                        return
                    self.done.wait(WATCH_EVERY)
        except (ImportError, OSError) as error:
            self.problem = str(error)[:300]

    def told(self) -> dict[str, Any]:
        """Commands of contexts that moved since the first look. A short-lived context may be missed."""
        moved = {key: value for key, value in self.last.items() if value != self.first.get(key)}
        submitted = sum(value[0] - self.first.get(key, (0, 0))[0] for key, value in moved.items())
        completed = sum(value[1] - self.first.get(key, (0, 0))[1] for key, value in moved.items())
        return {
            "contexts": len(moved),
            "submissions": submitted,
            "completions": completed,
            "looks": self.looks,
            "problem": self.problem,
        }


def run_one(job: dict[str, Any], limit: int) -> dict[str, Any]:
    """One program; what became of it."""
    program = found(job["programs"])
    answer: dict[str, Any] = {"program": program, "status": None, "timed_out": False, "seconds": 0.0}
    if program is None:
        return answer
    for place in job.get("remove", ()):  # an old file must not be taken for an answer
        with contextlib.suppress(OSError):
            Path(place).unlink()
    watch = Watch(job["watch"]) if job.get("watch") else None
    if watch:
        watch.start()
        while watch.looks == 0 and watch.is_alive():
            time.sleep(0.01)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.monotonic()
        try:
            process = subprocess.Popen(
                [program, *job["arguments"]],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                cwd=job.get("folder"),
                env={**os.environ, **environment(program), **job.get("environment", {})},
                start_new_session=True,
            )
        except OSError as error:
            return {**answer, "problem": str(error)[:300]}
        answer.update(wait(process, job, (out, err), limit))
        answer["seconds"] = time.monotonic() - begin
        answer["stdout"], answer["stderr"] = content(out, limit), content(err, limit)
    if watch:
        watch.done.set()
        watch.join(ENDING)
        answer["watch"] = watch.told()
    answer["files"] = {}
    for place in job.get("read", ()):
        with contextlib.suppress(OSError), Path(place).open("rb") as handle:
            answer["files"][place] = content(handle, limit)
    return answer


def look(request: dict[str, Any]) -> dict[str, Any]:
    """The driver's state now; a failure is part of the answer."""
    try:
        from harness.inference.programs.driver_state import state

        return {"state": state(request.get("node"))}
    except Exception as error:  # noqa: BLE001 - an odd machine is told of, whatever is odd about it
        return {"problem": f"{type(error).__name__}: {error}"[:300]}


def environment(program: str) -> dict[str, str]:
    """AMD's own packages live under /opt/xilinx/xrt and need to be told so."""
    for folder in Path(os.path.realpath(program)).parents:
        if folder.name == "xrt" and (folder / "setup.sh").exists():
            libraries = [str(folder / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
            return {
                "XILINX_XRT": str(folder),
                "LD_LIBRARY_PATH": ":".join(part for part in libraries if part),
            }
    return {}


def wait(
    process: subprocess.Popen[bytes], job: dict[str, Any], outputs: tuple[IO[bytes], ...], limit: int
) -> dict[str, Any]:
    """Feed it, wait for its end; end it at its time or when it has written far more than is kept."""
    deadline = time.monotonic() + job["timeout"]

    def feed() -> None:
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.write(job.get("stdin", "").encode())
                process.stdin.close()

    threading.Thread(target=feed, daemon=True).start()
    flooded = False
    timed_out = False
    while True:
        try:
            process.wait(0.05)
            break
        except subprocess.TimeoutExpired:
            flooded = any(os.fstat(file.fileno()).st_size > 16 * limit for file in outputs)
            timed_out = time.monotonic() > deadline
            if flooded or timed_out:
                break
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)  # also what it left behind
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(ENDING)
    return {"status": process.returncode, "timed_out": timed_out, "flooded": flooded}


def content(handle: IO[bytes], limit: int) -> str:
    """The first and, of a long file, the last part, base64."""
    handle.seek(0, os.SEEK_END)
    size = handle.tell()
    handle.seek(0)
    if size <= limit:
        return base64.b64encode(handle.read(limit)).decode("ascii")
    head = handle.read(limit // 2)
    handle.seek(size - limit // 2)
    return base64.b64encode(head + b"\n[...]\n" + handle.read(limit // 2)).decode("ascii")


def main() -> None:
    """Do the jobs of standard input in order."""
    request = json.load(sys.stdin)
    answers = [
        look(job["look"]) if "look" in job else run_one(job, request["limit"]) for job in request["jobs"]
    ]
    sys.stdout.write(json.dumps({"answers": answers}) + "\n")


if __name__ == "__main__":
    main()
