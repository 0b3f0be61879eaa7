"""What surrounds the changes, derived at the end of a sync: CVE records, firmware, user space. Calls only."""

from __future__ import annotations

from datetime import datetime

from db.database import Database
from tracker.cves.answers import derive_checks
from tracker.firmware.answers import derive_needs
from tracker.userspace.answers import derive_fits


def derive_around(database: Database, now: datetime) -> None:
    """Compute it all anew from what is stored. Doing it twice changes nothing."""
    derive_checks(database, now)
    with database.engine.begin() as connection:
        derive_needs(connection)
        derive_fits(connection)
