"""Keep a machine's kernel log from its first line to its last, while other things happen on the machine.

A thread streams /dev/kmsg through the shell into ``kernel.log`` ("<3>[   12.345678] text", as ``dmesg -r``
prints). Records are told apart by their sequence number, so a stream that had to start again (the ring was
overrun) repeats none. A machine that dies ends the stream; its last words are then on the serial console.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.untrusted import clean
from lab.machine import LabError, Shell

SIZE_LIMIT = 64 << 20  # bytes of kernel.log; what comes after is counted only
STOP_TIMEOUT = 30.0  # seconds for the stream to end once it was told to; a loaded machine is slow
LOST_TIMEOUT = 1.0  # seconds for a stream from a machine that is gone
# "6,339,5140900,-;text": facility and level, sequence, microseconds, flags
# (the kernel's Documentation/ABI/testing/dev-kmsg)
RECORD = re.compile(rb"^(\d{1,10}),(\d{1,20}),(\d{1,20}),[^;]*;(.*)$", re.DOTALL)
# The kernel writes unprintable bytes and the backslash as \xNN (kernel/printk/printk.c, msg_print_ext_body).
ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")

# Reads until END is run, and writes down who is to be told. Nothing in it happens by the clock: a simulated
# machine pays 20 ms for each process. cat ends by itself (EPIPE) when the ring was overrun: it is started
# again. Without the right to read /dev/kmsg, sudo without a password is tried. Status 124: the longest time
# is over; 141, a broken pipe: nobody listens any more; 143: it was ended. Half a second lets what was said
# just before come through.
SCRIPT = """
stop=$1
if [ -e "$stop" ]; then rm -f "$stop"; exit 0; fi
root=
if ! (: </dev/kmsg) 2>/dev/null; then
  sudo -n true 2>/dev/null || exit 1
  root="sudo -n"
fi
child=
trap 'sleep 0.5; $root kill $child 2>/dev/null; rm -f "$stop"; exit 0' TERM
echo $$ >"$stop"
while :; do
  $root timeout "$2" cat /dev/kmsg & child=$!
  wait $child
  case $? in 124 | 141 | 143) break ;; esac
  sleep 0.2
done
rm -f "$stop"
"""
END = """
if read -r reader <"$1"; then kill "$reader"; else : >"$1"; fi 2>/dev/null
"""


@dataclass(frozen=True)
class Captured:
    """How the capture ended. ``problem`` is None when the log is whole."""

    lines: int
    dropped: int
    problem: str | None


class KernelLogCapture:
    """One capture, from ``start`` to ``stop``."""

    def __init__(self, shell: Shell, file: Path, stop_file: str, *, longest: float) -> None:
        """``stop_file``: a path on the machine that does not exist; ``longest``: seconds it may last."""
        self._shell = shell
        self._file = file
        self._stop_file = stop_file
        self._longest = longest
        self._last_sequence = -1
        self._lines = 0
        self._size = 0
        self._dropped = 0
        self._problem: str | None = None
        self._handle: IO[bytes] | None = None
        self._thread = threading.Thread(target=self._stream, name="kernel-log", daemon=True)

    def start(self) -> None:
        """Begin. Raises OSError when the file cannot be written."""
        self._handle = self._file.open("ab")
        self._thread.start()

    def stop(self, *, reachable: bool) -> Captured:
        """End the capture; ``reachable``: the machine still answers, so that it can be told."""
        if reachable:
            try:
                self._shell.run(["sh", "-c", END, "end", self._stop_file], timeout=STOP_TIMEOUT)
            except LabError as error:
                self._problem = self._problem or str(error)
        self._thread.join(STOP_TIMEOUT if reachable else LOST_TIMEOUT)
        if self._thread.is_alive():  # it ends with the session, and closes its file then
            self._problem = self._problem or "the stream did not end"
        elif self._lines == 0:
            self._problem = self._problem or "the kernel log could not be read"
        problem = None if self._problem is None else clean(self._problem, 500)
        return Captured(self._lines, self._dropped, problem)

    def _stream(self) -> None:
        try:
            self._shell.stream(
                ["sh", "-c", SCRIPT, "kernel-log", self._stop_file, str(int(self._longest))],
                timeout=self._longest,
                silence=self._longest,
                on_line=self._take,
            )
        except (LabError, OSError) as error:
            self._problem = str(error)
        finally:
            if self._handle is not None:
                self._handle.close()

    def _take(self, raw: bytes) -> None:
        formatted = format_record(raw)
        handle = self._handle
        if formatted is None or handle is None:
            return
        sequence, line = formatted
        if sequence <= self._last_sequence:
            return
        if self._last_sequence >= 0 and sequence > self._last_sequence + 1:
            self._dropped += sequence - self._last_sequence - 1
        self._last_sequence = sequence
        self._lines += 1
        if self._size + len(line) > SIZE_LIMIT:
            self._dropped += 1
            return
        self._size += len(line)
        handle.write(line)
        handle.flush()


def format_record(raw: bytes) -> tuple[int, bytes] | None:
    """One /dev/kmsg record -> (sequence, line or lines of kernel.log); None for its dictionary lines."""
    match = RECORD.match(raw)
    if match is None:
        return None
    level = int(match[1]) & 7
    microseconds = int(match[3])
    prefix = b"<%d>[%5d.%06d] " % (level, microseconds // 1_000_000, microseconds % 1_000_000)
    text = ESCAPED.sub(_unescaped, match[4])
    return int(match[2]), b"".join(prefix + part + b"\n" for part in text.split(b"\n"))


def _unescaped(match: re.Match[bytes]) -> bytes:
    """The byte itself; other control characters stay escaped, so that the file can be shown on a terminal."""
    byte = bytes([int(match[1], 16)])
    return byte if byte in b"\t\n\\" or byte >= b"\x80" else match[0]
