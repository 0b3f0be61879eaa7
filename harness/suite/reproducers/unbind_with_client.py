"""With force_iova, a driver that was unbound while a client was open cannot be bound again.

Root only: writes to the driver's unbind and bind files.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def show(node: str) -> str:
    """Unbind and bind with an open client; then again without one."""
    driver = Path("/sys/bus/pci/drivers/amdxdna")
    address = next(path.name for path in driver.glob("0000:*"))
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    (driver / "unbind").write_text(address, "ascii")
    try:
        (driver / "bind").write_text(address, "ascii")
        found = ""
    except OSError as error:
        found = f"it cannot be bound while the old client lives: {error}"
    os.close(fd)
    if not (driver / address).exists():
        (driver / "bind").write_text(address, "ascii")
        print("bound again, once the client was closed")
    return found


def main() -> int:
    """Say what will be done, do it, say what came of it. 0 as it should be, 1 the defect, 2 not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/dev/accel/accel0")
    parser.add_argument("--yes", action="store_true", help="do it although it may take the kernel down")
    options = parser.parse_args()
    print("unbinds the driver under an open client and binds it again (root)")
    if not options.yes:
        print("not done: this can make the machine unusable; add --yes on one you can reset")
        return 2
    found = show(options.node)
    print("DEFECT: " + found if found else "as it should be", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
