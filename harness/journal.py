"""The journal of a run: append-only JSON lines, written as things happen, the truth for everything later.

A run folder holds ``journal.jsonl`` and the logs beside it (``kernel.log``, ``serial.log``,
``device.jsonl``). Whoever writes the journal holds an exclusive flock on it, so another process can tell a
run that goes on from one that was killed: the lock dies with its process. Results, findings and verdicts
are pure functions of the folder (``results``, ``kernel_log``, ``verdict``); this module decides none.

Schema: ``SCHEMA`` rises when a record's meaning changes or a required field appears. New kinds and new
optional fields do not raise it; a reader skips kinds it does not know and counts them. Times ``t`` are
seconds of the host's monotonic clock since the run started.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from harness.errors import JournalError

SCHEMA = 1
FILE_NAME = "journal.jsonl"

LINE_LIMIT = 1 << 20  # bytes of one line; longer ones are damage
SIZE_LIMIT = 256 << 20  # bytes of a journal that are read
SYNC_EVERY = 5.0  # seconds between fsyncs of ordinary records: a power cut loses at most that much


class Record(BaseModel):
    """One line. Unknown fields are ignored: they are newer than this reader."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    t: float = 0.0


class RunStarted(Record):
    """The first line. ``clock`` is the host's time.monotonic() at t = 0, to place device events."""

    kind: Literal["run-started"] = "run-started"
    schema_version: int = SCHEMA
    run: str
    started_at: AwareDatetime
    clock: float
    machine: str
    machine_kind: str
    generation: str | None = None
    simulated: bool
    requested: str  # what the user asked for: "7.3.4", "running"
    release: str | None = None  # the candidate's uname -r; None: whatever runs
    version: str | None = None
    origin: str = "running"
    module_build_id: str | None = None
    candidate: dict[str, str] = Field(default_factory=dict)
    suite: str
    suite_digest: str
    nonce: str
    faults: tuple[dict[str, Any], ...] = ()  # [{"name": ..., "parameters": {...}}], injected on purpose
    process: int = 0


class PhaseStarted(Record):
    """The run entered a phase (boot, prove, suite, collect; again for every boot); it lasts to the next."""

    kind: Literal["phase"] = "phase"
    phase: str
    boot: int = 1


class Booted(Record):
    """A shell answered. ``facts`` is what the lab chose: accelerator, IOMMU mode, device model ..."""

    kind: Literal["booted"] = "booted"
    boot: int
    nonce_expected: bool
    facts: dict[str, str] = Field(default_factory=dict)


class BootFailed(Record):
    """The candidate did not come up: panic, hang, no-boot or early-exit."""

    kind: Literal["boot-failed"] = "boot-failed"
    boot: int
    how: str
    message: str


class Proof(Record):
    """One proof that the machine runs what was asked. ``expected`` None: nothing to compare with, noted."""

    kind: Literal["proof"] = "proof"
    boot: int
    name: str
    expected: str | None
    seen: str | None
    holds: bool


class EnvironmentRecord(Record):
    """What the result depends on (harness.environment), with its digest and named problems."""

    kind: Literal["environment"] = "environment"
    boot: int
    digest: str
    facts: dict[str, Any]
    problems: tuple[dict[str, Any], ...] = ()
    uptime: float | None = None  # seconds of the machine at that moment: older log lines are not the run's
    machine_time: float | None = None  # UNIX time by the machine's clock at that moment


class WatchdogRecord(Record):
    """A hardware watchdog was found: whether it was armed around the suite, and what it said."""

    kind: Literal["watchdog"] = "watchdog"
    boot: int
    armed: bool
    detail: str


class SuiteEvent(Record):
    """One event of the suite as harness.suite.contract describes it, bounded and cleaned."""

    kind: Literal["suite"] = "suite"
    boot: int
    event: dict[str, Any]


class SuiteStopped(Record):
    """The suite's command ended: exit, silence, timeout, lost (the machine went away)."""

    kind: Literal["suite-stopped"] = "suite-stopped"
    boot: int
    how: Literal["exit", "silence", "timeout", "lost"]
    status: int | None = None
    message: str = ""


class MachineLost(Record):
    """The machine stopped answering after it had booted."""

    kind: Literal["machine-lost"] = "machine-lost"
    boot: int
    message: str


class LogStopped(Record):
    """The kernel log's stream ended; ``problem`` says why it is not whole, None when it is."""

    kind: Literal["log-stopped"] = "log-stopped"
    boot: int
    lines: int
    dropped: int = 0
    problem: str | None = None


class Trouble(Record):
    """The laboratory or the harness failed: nothing of this is the kernel's."""

    kind: Literal["trouble"] = "trouble"
    where: str
    message: str


class RunEnded(Record):
    """The last line of every run that was not killed. ``interrupted``: a person stopped it."""

    kind: Literal["run-ended"] = "run-ended"
    ended_at: AwareDatetime
    interrupted: bool = False


AnyRecord = Annotated[
    RunStarted
    | PhaseStarted
    | Booted
    | BootFailed
    | Proof
    | EnvironmentRecord
    | WatchdogRecord
    | SuiteEvent
    | SuiteStopped
    | MachineLost
    | LogStopped
    | Trouble
    | RunEnded,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[AnyRecord] = TypeAdapter(AnyRecord)
_AT_ONCE = (RunStarted, PhaseStarted, BootFailed, MachineLost, Trouble, RunEnded)  # fsynced when written


@dataclass(frozen=True)
class Damage:
    """A line that could not be read: 1-based number and reason."""

    line: int
    reason: str


@dataclass(frozen=True)
class Journal:
    """A journal as read. ``truncated``: the last line was cut, as a kill or a full disk leaves it."""

    header: RunStarted
    records: tuple[AnyRecord, ...]  # in order, the header first
    truncated: bool = False
    damage: tuple[Damage, ...] = ()
    unknown: int = 0  # lines of a kind newer than this reader

    @property
    def ended(self) -> RunEnded | None:
        """The last record of a run that was not killed."""
        last = self.records[-1]
        return last if isinstance(last, RunEnded) else None


class JournalWriter:
    """Writes one journal and holds its lock. ``on_record`` sees each record after it was written."""

    def __init__(
        self, folder: Path, header: RunStarted, on_record: Callable[[AnyRecord], None] = lambda _record: None
    ) -> None:
        """Make the journal of ``folder``; it appears whole (locked, with its header) or not at all."""
        self.folder = folder
        self._on_record = on_record
        self._began = header.clock
        self._synced = time.monotonic()
        final = folder / FILE_NAME
        hidden = folder / f".{FILE_NAME}.new"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if final.exists():
                raise JournalError(f"{final} exists: a run folder is used once; choose another")
            self._descriptor = os.open(
                hidden, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644
            )
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            self._write(header)
            os.fsync(self._descriptor)
            hidden.rename(final)
        except OSError as error:
            raise JournalError(_disk_sentence(final, error)) from error
        on_record(header)

    def append(self, record: AnyRecord) -> None:
        """Write one record with the time it has now. Raises JournalError when the disk refuses."""
        stamped = record.model_copy(update={"t": round(time.monotonic() - self._began, 6)})
        try:
            self._write(stamped)
            now = time.monotonic()
            if isinstance(stamped, _AT_ONCE) or now - self._synced > SYNC_EVERY:
                os.fsync(self._descriptor)
                self._synced = now
        except OSError as error:
            raise JournalError(_disk_sentence(self.folder / FILE_NAME, error)) from error
        self._on_record(stamped)

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._descriptor)

    def _write(self, record: AnyRecord) -> None:
        data = memoryview(record.model_dump_json().encode("utf-8") + b"\n")
        while data:
            data = data[os.write(self._descriptor, data) :]


def read(folder: Path) -> Journal:
    """The journal of a run folder, whatever state it is in.

    A cut last line is normal (``truncated``); other bad lines are kept as ``damage``.
    Raises JournalError when there is no journal, no header, or a newer schema.
    """
    path = folder / FILE_NAME
    try:
        with path.open("rb") as handle:
            data = handle.read(SIZE_LIMIT)
    except OSError as error:
        raise JournalError(f"{path}: no journal can be read there ({error.strerror})") from error
    lines = data.split(b"\n")
    tail = lines.pop()  # b"" after a whole last line
    records: list[AnyRecord] = []
    damage: list[Damage] = []
    unknown = 0
    for number, line in enumerate(lines, 1):
        try:
            record = _record(line)
        except ValueError as error:
            damage.append(Damage(number, str(error)))
            continue
        if record is None:
            unknown += 1
            continue
        if isinstance(record, RunStarted) and record.schema_version > SCHEMA:
            raise JournalError(
                f"{path} has schema {record.schema_version}, this program reads up to {SCHEMA}; "
                "read it with a newer xdnawatch"
            )
        records.append(record)
    if not records or not isinstance(records[0], RunStarted):
        raise JournalError(f"{path}: the first line is no header of a run; it cannot be judged")
    return Journal(records[0], tuple(records), bool(tail), tuple(damage), unknown)


def is_alive(folder: Path) -> bool:
    """Whether some process is still writing this journal (it holds the lock)."""
    try:
        descriptor = os.open(folder / FILE_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


def run_folders(runs: Path) -> list[Path]:
    """Every folder below ``runs`` that has a journal, oldest name first."""
    if not runs.is_dir():
        return []
    return sorted(path.parent for path in runs.glob(f"*/{FILE_NAME}"))


def new_run_id(now: datetime, token: str) -> str:
    """A sortable name, "20261123T143000-ab12cd"; ``token`` keeps two runs of one second apart."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S}-{token[:6]}"


def _record(line: bytes) -> AnyRecord | None:
    """One line as a record; None for a kind this reader does not know. Raises ValueError with a reason."""
    if len(line) > LINE_LIMIT:
        raise ValueError(f"a line of {len(line)} bytes")
    try:
        return _ADAPTER.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "union_tag_invalid":
            return None
        raise ValueError(f"{first['msg']} ({'.'.join(str(part) for part in first['loc'])})") from error


def _disk_sentence(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk is full, {path} could not be written; free some space and run again"
    return f"cannot write {path}: {error.strerror}; mend that and run again"
