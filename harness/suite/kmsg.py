"""What the kernel said while a test ran, and what of it means damage."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

RECORD_LIMIT = 8192  # bytes of one /dev/kmsg record, as the kernel bounds them
RECORDS_LIMIT = 2000  # a test that logs more is a storm; the rest is counted, not kept

# Matches a line like "WARNING: CPU: 0 PID: 1 at drivers/...", "BUG: kernel NULL pointer dereference", or with
# slub_debug and page_poison, "BUG kmalloc-64 (Not tainted): Poison overwritten".
DAMAGE = re.compile(
    r"WARNING: |BUG: |BUG at |Oops: |Kernel panic|general protection fault|KASAN: |KCSAN: |UBSAN: "
    r"|INFO: task .* blocked for more than|possible circular locking|possible recursive locking"
    r"|soft lockup|rcu: INFO: |refcount_t: |workqueue: WQ_MEM_RECLAIM|IO_PAGE_FAULT|DMAR: \[DMA "
    r"|list_del corruption|BUG \S+ \(.{1,80}\): |pagealloc: (?:single bit error|memory corruption)"
)
# Matches a line like "[drm] *ERROR* TDR timeout detected": the device or its channel was lost.
TROUBLE = re.compile(
    r"TDR timeout detected|Channel in bad state|Wait for completion timeout|firmware is not alive"
    r"|Device isn't making progress"
)


@dataclass(frozen=True)
class Line:
    """One record: syslog level 0..7 and its text."""

    level: int
    text: str


class KernelLog:
    """Follows /dev/kmsg from the moment of opening. OSError when it may not be read (not root)."""

    def __init__(self, path: str = "/dev/kmsg") -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)

    def lines(self) -> list[Line]:
        """The records since the last call. Records the kernel overwrote are skipped."""
        found: list[Line] = []
        while len(found) < RECORDS_LIMIT:
            try:
                record = os.read(self._fd, RECORD_LIMIT)
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue  # overwritten before we read it; the next read goes on behind the gap
            if not record:
                break
            found.append(line(record))
        else:
            os.lseek(self._fd, 0, os.SEEK_END)
        return found

    def close(self) -> None:
        """Stop following."""
        os.close(self._fd)


def line(record: bytes) -> Line:
    """One /dev/kmsg record: ``prefix,sequence,time,flags;text`` and continuation lines that are left out."""
    head, _, text = record.partition(b";")
    number = head.split(b",", 1)[0]
    level = int(number) & 7 if number.isdigit() else 7
    return Line(level, text.split(b"\n", 1)[0].decode("utf-8", "replace"))


def damage(lines: list[Line]) -> list[str]:
    """The lines that no test may cause: warnings, oopses, lost channels, faults of the IOMMU."""
    return [entry.text for entry in lines if DAMAGE.search(entry.text) or TROUBLE.search(entry.text)]
