"""What became of a boot that gave no shell: pure rules over the serial log and QEMU's end."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lab.machine import BootError
from lab.virtual.qmp import QmpEvent

#: ``Kernel panic - not syncing: Attempted to kill init!`` (kernel/panic.c)
PANIC = re.compile(r"Kernel panic - not syncing: ?(?P<reason>[^\r\n]{0,300})")
#: The kernel's first line on any console (init/version-timestamp.c).
KERNEL_SPEAKS = re.compile(r"Linux version \d")


def panic_reason(serial: str) -> str | None:
    """The text of the first panic in a serial log; None when there is none."""
    match = PANIC.search(serial)
    return match["reason"].strip() or "no reason given" if match else None


def boot_failure(
    serial: str, *, status: int | None, events: Sequence[QmpEvent], said: str, waited: float
) -> BootError:
    """The error for a boot without a shell.

    ``status`` is QEMU's exit status, None while it runs (the wait of ``waited`` seconds is over); ``said`` is
    what QEMU wrote on standard error.
    """
    reason = panic_reason(serial)
    if reason is not None:
        return BootError("panic", f"the kernel panicked while booting: {reason}")
    if status is not None:
        how = next((str(e.data.get("reason", "")) for e in reversed(events) if e.name == "SHUTDOWN"), "")
        text = f"QEMU ended with status {status} before the guest had a shell"
        return BootError("early-exit", ": ".join(part for part in (text, how, said.strip()[-300:]) if part))
    if not KERNEL_SPEAKS.search(serial):
        return BootError("no-boot", f"no line from the kernel within {waited:.0f} s")
    last = next((line.strip() for line in reversed(serial.splitlines()) if line.strip()), "")
    return BootError(
        "hang", f"the kernel started but gave no shell within {waited:.0f} s; last line: {last[:200]}"
    )
