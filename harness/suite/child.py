"""Do something as another user: fork, drop every right, run, send the answer back."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Sequence

from harness.suite.device import error_name

NOBODY = 65534
CHILD_TIMEOUT = 10.0  # seconds
END_TIMEOUT = 3.0  # seconds for a child to end after its answer or its killing
ANSWER_LIMIT = 65536  # bytes


class ChildError(Exception):
    """The child ended without an answer."""


def as_user(
    uid: int,
    work: Callable[[], object],
    before: Callable[[], object] | None = None,
    *,
    groups: Sequence[int] = (),
) -> object:
    """Run ``work`` in a child with uid and gid ``uid`` and no other ``groups``; its JSON-able result.

    ``before`` runs in the child while it still has the caller's rights. An OSError of ``work`` comes back as
    its errno's name. ChildError when the child dies or is silent for CHILD_TIMEOUT.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(uid, work, before, writing, groups)
    os.close(writing)
    try:
        return json.loads(_answer(pid, reading))
    finally:
        os.close(reading)


def _child(
    uid: int,
    work: Callable[[], object],
    before: Callable[[], object] | None,
    writing: int,
    groups: Sequence[int] = (),
) -> None:
    status = 1
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if before:
            before()
        if uid != os.getuid():
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
        os.write(writing, json.dumps(outcome(work)).encode()[:ANSWER_LIMIT])
        status = 0
    finally:
        os._exit(status)  # never back into pytest, whatever happened


def answer_of(work: Callable[[], object], seconds: float) -> object:
    """The result of ``work`` in a child with the caller's rights, or how it ended without.

    A child that cannot be killed, its threads asleep in the kernel for ever, is left after END_TIMEOUT.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(os.getuid(), work, lambda: os.dup2(2, 1), writing)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], seconds)
        data = os.read(reading, ANSWER_LIMIT) if ready else b""
    finally:
        os.close(reading)
    if not ready:
        os.kill(pid, signal.SIGKILL)
    ended = _reap(pid, END_TIMEOUT)
    if data:
        return json.loads(data)
    silent = f"the child was silent for {seconds:g} s" if not ready else f"the child ended with {ended}"
    return silent if ended is not None else f"{silent} and cannot be killed"


def _reap(pid: int, seconds: float) -> int | None:
    """The exit code of a child, None when it does not end in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


def outcome(work: Callable[[], object]) -> object:
    """The result of ``work``, or the name of the errno it met."""
    try:
        return work()
    except OSError as error:
        return error_name(error)


def _answer(pid: int, reading: int) -> bytes:
    deadline = time.monotonic() + CHILD_TIMEOUT
    data = b""
    while len(data) < ANSWER_LIMIT:
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise ChildError(f"the child was silent for {CHILD_TIMEOUT:g} s")
        piece = os.read(reading, ANSWER_LIMIT)
        if not piece:
            break
        data += piece
    _, status = os.waitpid(pid, 0)
    if status or not data:
        raise ChildError(f"the child ended with status {os.waitstatus_to_exitcode(status)} and no answer")
    return data
