"""Suites that a run can work through; their events as they come -> the journal, and what is still to be run.

A suite is run in one of two ways: files are put on the machine and a command there says the events
(``ShippedSuite``), or the host drives programs through the machine's shell and says them itself
(harness.inference). The shape of the events is harness.suite.contract's either way. They come from a machine
that may be broken: a line that is no event is counted and dropped, strings are bounded and cleaned, and a
flood is cut off.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from harness.errors import HarnessError
from harness.journal import SuiteEvent
from harness.results import TESTS_LIMIT, collected_tests
from harness.suite import contract
from harness.untrusted import clean, clean_values
from lab.machine import Compile, LabError, Shell, uncompiled

EVENTS_LIMIT = 4 * TESTS_LIMIT
SUITE = "ioctl"
ID_LIMIT = 500  # characters of a test's id


class FloodError(HarnessError):
    """The suite says more than a suite can have to say."""


@dataclass(frozen=True)
class Sitting:
    """One boot's machine under a suite. ``root``: a folder there that is the suite's own, whether or not it
    exists yet; ``timeout`` for the whole suite and ``silence`` between two events, in seconds; ``bytecode``
    as of lab.machine.Session."""

    shell: Shell
    root: str
    nonce: str
    timeout: float
    silence: float
    bytecode: Compile = uncompiled


class Suite(Protocol):
    """Tests to run on a machine."""

    @property
    def name(self) -> str:
        """As stored; "[...]" at its end says that a part was chosen."""

    @property
    def digest(self) -> str:
        """Of the suite's files: equal digest, comparable runs."""

    @property
    def unneeded(self) -> frozenset[str]:
        """Problems of an environment (their ids) that do not concern this suite."""

    def run(
        self, sitting: Sitting, tests: Sequence[str], on_line: Callable[[bytes], None]
    ) -> tuple[int, str]:
        """Run ``tests`` (none: all of the suite), each event as one line to ``on_line``.

        Returns pytest's exit status (contract.command) and what was said about a status that is no verdict.
        Raises ShellLostError when the machine is gone, ShellTimeoutError when the suite took too long.
        """


# Starts a suite so that it can be found and ended: its process id and its standard error are kept.
START_SCRIPT = 'root=$1; shift; echo $$ >"$root/pid"; exec "$@" 2>"$root/stderr"'
SIGNALLED = 128  # a shell's status above it: the command was killed by a signal


@dataclass(frozen=True)
class ShippedSuite:
    """A suite that runs on the machine. ``command(root, nonce, tests)``: no tests means all of them.

    The command comes with files that it needs besides ``files`` (a long list of tests: ssh servers bound
    the length of a command; dropbear at 9000 characters).
    """

    name: str
    digest: str
    files: Mapping[str, bytes]
    command: Callable[[str, str, Sequence[str]], tuple[Sequence[str], Mapping[str, bytes]]]
    unneeded: frozenset[str] = frozenset()

    def run(
        self, sitting: Sitting, tests: Sequence[str], on_line: Callable[[bytes], None]
    ) -> tuple[int, str]:
        """See Suite."""
        words, files = self.command(sitting.root, sitting.nonce, tests)
        sitting.shell.put({**self.files, **sitting.bytecode(self.files), **files}, sitting.root)
        status = sitting.shell.stream(
            ("sh", "-c", START_SCRIPT, "suite", sitting.root, *words),
            timeout=sitting.timeout,
            silence=sitting.silence,
            on_line=on_line,
        )
        return status, _standard_error(sitting) if 1 < status < SIGNALLED else ""


def _standard_error(sitting: Sitting) -> str:
    try:
        data = sitting.shell.read(f"{sitting.root}/stderr", limit=65536)
    except LabError:
        return ""
    return clean(data.decode("utf-8", "replace").strip()[-2000:], 2000)


def ioctl_suite(
    select: str | None = None,
    *,
    pm: bool = True,
    crash: bool = False,
    stress: bool = False,
    fuzz: float = 0.0,
    seed: int | None = None,
    shard: tuple[int, int] | None = None,
) -> ShippedSuite:
    """The project's own suite; ``select`` is an expression as pytest's -k takes it, the others contract's.

    ``shard`` (i, n): only the ith of n parts, 1 <= i <= n (harness.suite.shard).
    """
    chosen = {"crash": crash, "stress": stress, "fuzz": bool(fuzz)}

    def command(root: str, nonce: str, tests: Sequence[str]) -> tuple[Sequence[str], Mapping[str, bytes]]:
        asked = contract.command(
            root, nonce, tests=tests, pm=pm, crash=crash, stress=stress, fuzz=fuzz, seed=seed
        )
        words = list(asked)
        listed: dict[str, bytes] = {}
        if tests:  # pytest reads arguments, one a line, from a file named with @ (since 8.2)
            listed["tests.txt"] = "\n".join(words[-len(tests) :]).encode()
            words[-len(tests) :] = [f"@{root}/tests.txt"]
        elif shard:  # tests that are named are of this part already
            words += ["-p", "harness.suite.shard", f"--shard={shard[0]}/{shard[1]}"]
        return (*words, *(("-k", select) if select else ())), listed

    files = contract.files()
    # A part of the suite has a name of its own: its verdict says nothing about the whole.
    parts = "".join(f"+{part}" for part, wanted in chosen.items() if wanted)
    parts += f"+part {shard[0]} of {shard[1]}" if shard else ""
    part = ", ".join([*([clean(select, 100)] if select else []), *([] if pm else ["without pm"])])
    name = SUITE + parts + (f"[{part}]" if part else "")
    return ShippedSuite(name, digest_of(files), files, command)


def digest_of(files: Mapping[str, bytes]) -> str:
    """A digest of names and contents, independent of order."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return total.hexdigest()[:16]


class SuiteStream:
    """Takes lines of one or more sessions of the same suite and knows which tests remain."""

    def __init__(self, append: Callable[[SuiteEvent], None]) -> None:
        self.boot = 1
        self.running: str | None = None
        self.collected: dict[str, None] = {}
        self.strangers = 0  # lines that were no events
        self._done: set[str] = set()
        self._append = append
        self._count = 0

    def on_line(self, raw: bytes) -> None:
        """One line of the suite's standard output. Raises FloodError past the limit."""
        event = parse_event(raw)
        if event is None:
            self.strangers += 1
            return
        self._count += 1
        if self._count > EVENTS_LIMIT:
            raise FloodError(
                f"the suite sent more than {EVENTS_LIMIT} events; it is broken, look at its files"
            )
        name = event["event"]
        if name == "collected":
            for row in collected_tests(event):
                if len(self.collected) < TESTS_LIMIT:
                    self.collected.setdefault(str(row.get("id")))
        elif name == "start":
            self.running = str(event.get("id"))
        elif name == "result":
            self._done.add(str(event.get("id")))
            self.running = None
        self._append(SuiteEvent(boot=self.boot, event=event))

    def give_up_running(self) -> str | None:
        """The test in flight is not tried again; its name, None when there was none."""
        guilty, self.running = self.running, None
        if guilty is not None:
            self._done.add(guilty)
        return guilty

    def give_up_unheard(self, test: str | None) -> None:
        """A test that began, as the console tells, before a machine that died could say so here.

        It is noted as started and not tried again; nothing happens when another is known to run.
        """
        if test is None or self.running is not None or test in self._done or test not in self.collected:
            return
        self._append(SuiteEvent(boot=self.boot, event={"event": "start", "id": test, "told_by": "console"}))
        self._done.add(test)

    def remaining(self) -> tuple[str, ...]:
        """Collected tests without a result that are worth a try, in order."""
        return tuple(test for test in self.collected if test not in self._done)


def parse_event(raw: bytes) -> dict[str, Any] | None:
    """An event with every string cleaned and bounded, or None for a line that is none."""
    if len(raw) > contract.LINE_LIMIT or not raw.startswith(b"{"):
        return None
    try:
        event = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or event.get("event") not in contract.EVENTS:
        return None
    cleaned = clean_values(event, 4 * contract.LINE_LIMIT, text=contract.TEXT_LIMIT + 100)
    if "id" in cleaned:
        cleaned["id"] = clean(str(cleaned["id"]), ID_LIMIT)
    return cleaned if cleaned.get("event") in contract.EVENTS else None
