"""Kernel-log lines -> findings: known signatures, and the kernel's own reports of trouble (pure).

Two kinds of finding come out. A *line* is named by the table of ``harness.signatures``; lines of one kind
that follow each other at once are one finding. A *block* is what the kernel prints around a WARN, BUG, Oops,
panic, lockdep, stall or hung task; it is kept with its text and named more exactly when a line inside it is
in the table. Tests are told apart by the marks that the suite writes into the log
(``harness.suite.contract``), else by time windows. Nothing is judged here.

Input is hostile: lines may be long, endless or binary. Memory stays bounded whatever comes in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO

from harness.signatures import Signature
from harness.untrusted import clean

LINE_LIMIT = 2_000  # characters of a line that are looked at
BLOCK_LINES = 80
FOLD_LINES = 20  # lines of one kind so near each other, and
FOLD_SECONDS = 1.0  # so soon after the first, are one finding
ECHO_LINES = 20  # after the end of a report, in which its registers may be repeated
TEXT_LIMIT = 6_000  # characters of a finding's text
FINDINGS_LIMIT = 400  # of one log
SAME_LIMIT = 40  # findings of one signature during one test
READY = "driver-ready"  # the signature of a driver that came up
LASTING = frozenset({"ok", "probe-fail", "load-fail"})  # severities that describe how the driver came up
LINES_LIMIT = 5_000_000  # of one log

# "<3>[   12.345678] text": level and time as the console and our kernel.log write them; the caller's thread
# ("[T123]", CONFIG_PRINTK_CALLER) may follow the time.
PREFIX = re.compile(r"^(?:<(?P<level>\d{1,3})>)?\[\s*(?P<time>\d{1,10}\.\d{6})\](?:\[\s*[TC]\d+\])?\s?")
# "[Tue Feb 10 10:42:10 2026] text": dmesg -T
WALL_PREFIX = re.compile(r"^\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d [\d:]{8} \d{4}\]\s?")
# "xdnawatch: <nonce> start <test>": the suite's own mark
MARK = re.compile(r"xdnawatch: (?P<nonce>\S+) (?P<word>start|finish) (?P<test>\S+)")
# The end of a report: "---[ end trace 0000000000000000 ]---", "---[ end Kernel panic ..."
BLOCK_END = re.compile(r"---\[ end (?:trace|Kernel panic)")
# Names that tie a report to this driver rather than to something else in the kernel.
DRIVER = re.compile(r"\bamdxdna|\bxdna_|\baie[24]_|\[amdxdna\]")
# A driver's error that no signature knows.
DRIVER_ERROR = re.compile(r"amdxdna.*\*ERROR\*")


@dataclass(frozen=True)
class Report:
    """One way the kernel announces trouble (kernel/panic.c, lib/bug.c, kernel/locking/lockdep.c, ...)."""

    id: str
    klass: str
    severity: str
    pattern: re.Pattern[str]


REPORTS = tuple(
    Report(name, klass, severity, re.compile(regex))
    for name, klass, severity, regex in (
        ("panic", "oops", "panic", r"Kernel panic - not syncing"),
        ("sanitizer", "oops", "crash", r"BUG: K(ASAN|MSAN|CSAN|FENCE): "),
        ("bug", "oops", "crash", r"kernel BUG at "),
        (
            "oops",
            "oops",
            "crash",
            r"\bOops: |BUG: unable to handle|BUG: kernel NULL pointer|general protection fault|"
            r"invalid opcode: ",
        ),
        ("lockup", "hang", "crash", r"BUG: soft lockup|hard LOCKUP|BUG: workqueue lockup"),
        ("rcu-stall", "hang", "crash", r"rcu: INFO: rcu_\w+ (self-)?detected (expedited )?stalls?"),
        ("hung-task", "hang", "crash", r"INFO: task .{1,80} blocked for more than \d+ seconds"),
        (
            "lockdep",
            "oops",
            "warning",
            r"WARNING: (possible .{1,40} (locking|lock) |.{1,60} lock.{0,20} detected|suspicious RCU usage|"
            r"inconsistent lock state|bad unlock balance)|DEBUG_LOCKS_WARN_ON|BUG: MAX_LOCKDEP",
        ),
        (
            "kernel-bug",
            "oops",
            "crash",
            r"BUG: (sleeping function|scheduling while atomic|Bad |spinlock|held lock)|"
            r"list_(add|del) corruption|refcount_t: |"
            # mm/slub.c with slub_debug, mm/page_poison.c with page_poison
            r"\bBUG \S+ \(.{1,80}\): |pagealloc: (single bit error|memory corruption)",
        ),
        ("ubsan", "oops", "warning", r"UBSAN: "),
        ("warn", "oops", "warning", r"WARNING: (CPU: \d+ PID: \d+ |\S+:\d+ at )"),
        ("out-of-memory", "resource", "warning", r"Out of memory: Killed process"),
    )
)

# A cheap look that nearly every line of a log fails.
INTERESTING = re.compile(
    r"xdna|aie[24]_|BUG|WARNING|Oops|panic|LOCKUP|lockup|rcu: INFO|INFO: task|UBSAN|KASAN|fault|IO_PAGE|DMAR|"
    r"corruption|refcount_t|invalid opcode|Out of memory|IOCTL failed|iommu|mbox|smu|PSP|firmware|RIP:|PASID|"
    r"DEBUG_LOCKS|end trace|end Kernel|workqueue|Fatal error|TDR|Event ID|event ID|CMA|hypervisor|Load|"
    r"pagealloc"
)


@dataclass(frozen=True)
class LogLine:
    """One line without its prefix. ``time`` is seconds since boot by the kernel's clock, None if unknown."""

    text: str
    time: float | None = None
    level: int | None = None


@dataclass(frozen=True)
class LogFinding:
    """One classified event. ``driver``: it names this driver."""

    log: str
    line: int  # 1-based
    signature: str
    klass: str
    severity: str
    text: str
    time: float | None = None
    test: str | None = None
    environment: bool = False
    driver: bool = False


@dataclass(frozen=True)
class Window:
    """The span of a test on the kernel's clock, in seconds since boot."""

    test: str
    begin: float
    end: float


@dataclass(frozen=True)
class Scan:
    """Everything found in one log. ``dropped`` findings were over a limit."""

    findings: tuple[LogFinding, ...]
    lines: int
    dropped: int = 0
    marked: bool = False  # the suite's marks were seen


def bounded_lines(handle: IO[bytes], limit: int = LINE_LIMIT * 4) -> Iterator[bytes]:
    """The lines of a binary file, each cut at ``limit`` bytes, whatever their length."""
    while True:
        piece = handle.readline(limit)
        if not piece:
            return
        yield piece
        while piece and not piece.endswith(b"\n"):
            piece = handle.readline(limit)


def parse_line(raw: bytes) -> LogLine:
    """One line of a kernel log or a serial console, cleaned and cut."""
    text = clean(raw[: LINE_LIMIT * 4].decode("utf-8", "replace").rstrip("\r\n"), LINE_LIMIT)
    match = PREFIX.match(text)
    if match:
        level = match["level"]
        return LogLine(text[match.end() :], float(match["time"]), int(level) & 7 if level else None)
    return LogLine(WALL_PREFIX.sub("", text))


def scan(
    lines: Iterable[bytes],
    log: str,
    signatures: Sequence[Signature],
    *,
    nonce: str | None = None,
    windows: Sequence[Window] = (),
    since: float | None = None,
) -> Scan:
    """Classify the lines of one log; ``log`` is the name findings carry.

    ``nonce``: only marks with it are believed. ``windows``: used where the log has no mark. ``since``: what
    the kernel stamped earlier is not the run's, except how the driver came up the last time (it explains what
    follows).
    """
    scanner = _Scanner(log, signatures, nonce)
    number = 0
    for number, raw in enumerate(lines, 1):
        if number > LINES_LIMIT:
            scanner.dropped += 1
            break
        scanner.take(number, parse_line(raw))
    scanner.close_block()
    findings = scanner.findings if since is None else list(_from(scanner.findings, since))
    if not scanner.marked and windows:
        findings = [replace(finding, test=test_at(windows, finding.time)) for finding in findings]
    return Scan(tuple(findings), number, scanner.dropped, scanner.marked)


def _from(findings: Sequence[LogFinding], since: float) -> Iterator[LogFinding]:
    """The findings of a run that began at ``since``: of how the driver came up before, only the last time.

    A probe that failed and was mended (the firmware installed, the driver loaded again) explains nothing.
    """
    before = [at for at, one in enumerate(findings) if one.time is not None and one.time < since]
    ready = max((at for at in before if findings[at].signature == READY), default=-1)
    for at, finding in enumerate(findings):
        if finding.time is None or finding.time >= since or (finding.severity in LASTING and at >= ready):
            yield finding


def unfinished_test(lines: Iterable[bytes], nonce: str) -> str | None:
    """The test that runs by the suite's last mark in a log; None behind a ``finish`` or without marks."""
    running: str | None = None
    for raw in lines:
        mark = MARK.search(parse_line(raw).text) if b"xdnawatch: " in raw else None
        if mark and mark["nonce"] == nonce:
            running = mark["test"] if mark["word"] == "start" else None
    return running


def only_new(findings: Iterable[LogFinding], known: Iterable[LogFinding]) -> tuple[LogFinding, ...]:
    """Findings of a second log (the serial console) that the first (kernel.log) does not have."""
    have = {(finding.signature, finding.time) for finding in known}
    return tuple(
        finding
        for finding in findings
        if finding.time is None or (finding.signature, finding.time) not in have
    )


class _Scanner:
    """The state of one pass: which test runs, which block is open, how much room is left."""

    def __init__(self, log: str, signatures: Sequence[Signature], nonce: str | None) -> None:
        self.findings: list[LogFinding] = []
        self.dropped = 0
        self.marked = False
        self._log = log
        self._signatures = signatures
        self._nonce = nonce
        self._test: str | None = None
        self._block: list[str] = []
        self._head: LogFinding | None = None
        self._number = 0
        self._closed = -ECHO_LINES  # the line that ended the last block
        self._seen: dict[tuple[str, str | None], int] = {}
        self._last: dict[str, tuple[int, int]] = {}  # signature -> its last finding, and that one's last line

    def take(self, number: int, line: LogLine) -> None:
        """One more line."""
        self._number = number
        mark = MARK.search(line.text) if "xdnawatch: " in line.text else None
        if mark and (self._nonce is None or mark["nonce"] == self._nonce):
            self.close_block()
            self.marked = True
            self._test = mark["test"] if mark["word"] == "start" else None
            return
        if not INTERESTING.search(line.text):
            self._extend(line.text)
            return
        report = next((known for known in REPORTS if known.pattern.search(line.text)), None)
        if report is not None:
            # An Oops inside the block of a WARN is a block of its own; "Oops" after "BUG:" is the same one.
            if self._head is not None and _same_event(self._head.signature, report.id):
                self._extend(line.text)
                return
            self.close_block()
            self._head = LogFinding(
                self._log, number, report.id, report.klass, report.severity, "", line.time, self._test
            )
            self._block = [line.text]
            return
        named = next((known for known in self._signatures if known.pattern.search(line.text)), None)
        if self._head is not None:
            if named is not None and (named.klass, named.severity) == ("oops", self._head.severity):
                self._head = replace(self._head, signature=named.id)
            elif named is not None and named.klass != "oops":
                self._add(self._of(number, line, named))
            self._extend(line.text)
        elif named is not None:
            # The registers of a fault are printed once more after its end: no second event.
            if named.klass != "oops" or number - self._closed > ECHO_LINES:
                self._add(self._of(number, line, named))
        elif DRIVER_ERROR.search(line.text):
            self._add(
                LogFinding(
                    self._log, number, "driver-error", "driver", "info", line.text, line.time, self._test,
                    driver=True,
                )
            )  # fmt: skip

    def close_block(self) -> None:
        """Keep the open block, if any."""
        if self._head is not None:
            text = "\n".join(self._block)
            named = bool(DRIVER.search(text))
            self._add(replace(self._head, text=clean(text, TEXT_LIMIT), driver=named))
            self._closed = self._number
        self._head = None
        self._block = []

    def _extend(self, text: str) -> None:
        if self._head is None:
            return
        self._block.append(text)
        if len(self._block) >= BLOCK_LINES or BLOCK_END.search(text):
            self.close_block()

    def _of(self, number: int, line: LogLine, known: Signature) -> LogFinding:
        return LogFinding(
            self._log, number, known.id, known.klass, known.severity, line.text, line.time, self._test,
            environment=known.environment, driver=bool(DRIVER.search(line.text)),
        )  # fmt: skip

    def _fold(self, finding: LogFinding) -> bool:
        """Whether a line only goes on with what an earlier finding began (a report of many lines)."""
        at = self._last.get(finding.signature)
        if at is None:
            return False
        first, line = at
        began = self.findings[first]
        near = (
            finding.line - line <= FOLD_LINES and (finding.time or 0.0) - (began.time or 0.0) < FOLD_SECONDS
        )
        if began.test != finding.test or not near or len(began.text) + len(finding.text) >= TEXT_LIMIT:
            return False
        self.findings[first] = replace(began, text=f"{began.text}\n{finding.text}")
        self._last[finding.signature] = (first, finding.line)
        return True

    def _add(self, finding: LogFinding) -> None:
        if finding.klass != "oops" and self._fold(finding):
            return
        key = (finding.signature, finding.test)
        self._seen[key] = self._seen.get(key, 0) + 1
        crash = finding.severity in ("panic", "crash")
        room = FINDINGS_LIMIT * 2 if crash else FINDINGS_LIMIT  # a flood must not push a crash out
        if self._seen[key] > SAME_LIMIT or len(self.findings) >= room:
            self.dropped += 1
            return
        self._last[finding.signature] = (len(self.findings), finding.line)
        self.findings.append(finding)


def _same_event(open_block: str, report: str) -> bool:
    """Whether a report line belongs to the block that is open: one fault is announced by several lines."""
    if open_block == report:
        return report not in ("warn", "lockdep", "ubsan", "hung-task")
    return report == "oops" and open_block in ("bug", "sanitizer")


def test_at(windows: Sequence[Window], time: float | None) -> str | None:
    if time is None:
        return None
    return next((window.test for window in windows if window.begin <= time <= window.end), None)
