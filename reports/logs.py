"""The logs of a run: read bounded, cut around findings. What is in them is hostile input."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from reports.printable import visible

# The files a run's folder may hold that are shown, in the folders of its boots (the first boot's files lie
# in the run's own). Names never come from outside.
MAX_BOOTS = 5
LOG_NAMES = tuple(
    f"{folder}{name}"
    for folder in ("", *(f"boot-{boot}/" for boot in range(2, MAX_BOOTS + 1)))
    for name in ("kernel.log", "serial.log", "device.jsonl")
)
MAX_BYTES = 4 << 20
MAX_LINES = 20_000
MAX_LINE = 1_000
# Lines of the excerpt around a finding, and of the whole excerpt.
BEFORE, AFTER, MAX_EXCERPT = 3, 8, 160


@dataclass(frozen=True)
class Log:
    """One log. ``size`` is the file's, in bytes; ``left_out`` says what the bounds cut off, if anything."""

    name: str
    size: int
    lines: tuple[str, ...]
    left_out: str = ""


@dataclass(frozen=True)
class ExcerptLine:
    """A line of an excerpt with its 1-based number; ``gap`` where lines before it were left out."""

    number: int
    text: str
    signature: str = ""
    gap: bool = False


def read_log(folder: Path, name: str) -> Log | None:
    """One of LOG_NAMES of a run's folder, decoded and bounded; None when it is absent or no plain file."""
    if name not in LOG_NAMES:
        raise ValueError(f"{name!r} is not a log that is shown")
    try:
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None  # deleted, never written, or a link: the page says that there is no log
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        return None
    with os.fdopen(handle, "rb") as file:
        raw = file.read(MAX_BYTES)
    lines = raw.decode("utf-8", "replace").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    left_out = ""
    if status.st_size > len(raw) or len(lines) > MAX_LINES:
        lines = lines[:MAX_LINES]
        left_out = f"only the first {len(lines)} lines of a file of {status.st_size} bytes are shown"
    return Log(name, status.st_size, tuple(_bounded(line) for line in lines), left_out)


def _bounded(line: str) -> str:
    line = line.removesuffix("\r")
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} … ({len(line) - MAX_LINE} more characters)"


def log_lines(lines: Sequence[str], marks: Mapping[int, str]) -> Markup:
    """A whole log as the inside of a <pre>: numbered, each line an anchor; ``marks``: line -> tone."""
    parts = []
    for number, line in enumerate(lines, 1):
        text = f'<a id="L{number}" href="#L{number}">{number}</a> {escape(visible(line))}'
        parts.append(f'<mark class="{escape(marks[number])}">{text}</mark>' if number in marks else text)
    return Markup("\n".join(parts))  # noqa: S704 - each part was escaped just above


def excerpt(log: Log, marked: Iterable[tuple[int, str]]) -> Sequence[ExcerptLine]:
    """The lines around the marked ones: (1-based line, signature). Without marks, the end of the log."""
    marks = {line: signature for line, signature in marked if 1 <= line <= len(log.lines)}
    if marks:
        wanted = sorted(
            {n for line in marks for n in range(line - BEFORE, line + AFTER + 1) if 1 <= n <= len(log.lines)}
        )
    else:
        wanted = list(range(max(1, len(log.lines) - 2 * AFTER), len(log.lines) + 1))
    found: list[ExcerptLine] = []
    previous = 0
    for number in wanted[:MAX_EXCERPT]:
        found.append(
            ExcerptLine(number, log.lines[number - 1], marks.get(number, ""), gap=number != previous + 1)
        )
        previous = number
    return found
