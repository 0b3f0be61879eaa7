"""A machine with an AIE4 cannot go to sleep: the driver answers a suspend with EOPNOTSUPP.

The kernel is asked to suspend the devices only (pm_test), waits five seconds and resumes them. Needs root,
AIE4 and 7.2 or later; without pm_test (CONFIG_PM_DEBUG) the program does not run.
"""

from __future__ import annotations

import argparse
import errno
import sys
from pathlib import Path

POWER = Path("/sys/power")


class NotHereError(Exception):
    """The device or the kernel cannot show this; the text says why."""


def show(node: str) -> str:
    """Suspend and resume the devices; nothing is opened but the node must be there."""
    if not Path(node).exists():
        raise NotHereError(f"there is no {node}")
    test = POWER / "pm_test"
    try:
        test.write_text("devices")
    except OSError as error:
        raise NotHereError(f"{test} cannot be written: {error}") from None
    try:
        (POWER / "state").write_text("freeze")
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
            return f"the devices cannot be suspended: {error}"
        raise
    finally:
        test.write_text("none")
    return ""


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    parser.add_argument("--yes", action="store_true", help="do it although it may take the kernel down")
    options = parser.parse_args()
    print("suspends all devices of this machine for five seconds")
    if not options.yes:
        print("not done: this can make the machine unusable; add --yes on one you can reset")
        return 2
    try:
        found = show(options.node)
    except NotHereError as reason:
        print("not run:", reason)
        return 2
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
