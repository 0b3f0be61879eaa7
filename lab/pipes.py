"""Reading from a child's pipes with deadlines and bounds: what comes through them is hostile."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator

from lab.machine import LabError, ShellSilentError, ShellTimeoutError

CHUNK = 1 << 16
LONGEST_LINE = 1 << 20  # bytes; a longer line is handed over in pieces


class TooMuchOutputError(LabError):
    """A command said more than we are willing to hold."""


def lines(
    handle: int, *, timeout: float, silence: float, name: str, clock: Callable[[], float] = time.monotonic
) -> Iterator[bytes]:
    """Lines from a pipe, without newline, until its end.

    ShellTimeoutError after ``timeout`` seconds in all, ShellSilentError after ``silence`` seconds without a
    byte, both by ``clock``.
    """
    heard = clock()
    deadline = heard + timeout
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(handle, selectors.EVENT_READ)
        while True:
            now = clock()
            if now >= deadline:
                raise ShellTimeoutError(f"{name}: no end within {timeout:.0f} s")
            if now >= heard + silence:
                raise ShellSilentError(f"{name}: silent for {silence:.0f} s")
            if not selector.select(min(deadline, heard + silence) - now):
                continue
            heard = clock()
            chunk = os.read(handle, CHUNK)
            if not chunk:
                break
            *complete, pending = (pending + chunk).split(b"\n")
            yield from complete
            if len(pending) > LONGEST_LINE:
                yield pending
                pending = b""
    if pending:
        yield pending


def exchange(
    process: subprocess.Popen[bytes],
    stdin: bytes,
    *,
    timeout: float,
    limit: int,
    name: str,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[bytes, bytes]:
    """Feed ``stdin`` to a child with three pipes and gather what it says, until it closes both ends.

    ShellTimeoutError after ``timeout`` seconds of ``clock``; TooMuchOutputError beyond ``limit`` bytes. In
    both cases the caller kills the child.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = clock() + timeout
    gathered: dict[int, list[bytes]] = {process.stdout.fileno(): [], process.stderr.fileno(): []}
    size = 0
    rest = memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        for handle in gathered:
            selector.register(handle, selectors.EVENT_READ)
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin.fileno(), selectors.EVENT_WRITE)
        feeding, open_ends = True, len(gathered)
        while open_ends:
            left = deadline - clock()
            if left <= 0:
                raise ShellTimeoutError(f"{name}: no end within {timeout:.0f} s")
            for key, _events in selector.select(left):
                if feeding and key.fd == process.stdin.fileno():
                    try:
                        rest = rest[os.write(key.fd, rest[:CHUNK]) :]
                    except BrokenPipeError:
                        rest = rest[:0]
                    if not rest:
                        selector.unregister(key.fd)
                        process.stdin.close()
                        feeding = False
                    continue
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fd)
                    open_ends -= 1
                    continue
                size += len(chunk)
                if size > limit:
                    raise TooMuchOutputError(f"{name}: more than {limit} bytes of output")
                gathered[key.fd].append(chunk)
    out, err = (b"".join(chunks) for chunks in gathered.values())
    return out, err
