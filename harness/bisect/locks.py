"""Two locks: the database's single writer, for moments; a campaign's leader, for as long as it runs."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy.orm import Session

from db.database import Database, WriterBusyError
from harness.errors import HarnessError

#: Longest wait for another command that writes, in seconds; a campaign lasts long and writes rarely.
WRITER_WAIT = 60.0
WRITER_POLL = 0.2


class CampaignBusyError(HarnessError):
    """Another process takes this campaign's steps."""


@contextmanager
def writing(database: Database, wait: float = WRITER_WAIT) -> Iterator[Session]:
    """One transaction under the single-writer lock, which is held for that long only.

    Raises WriterBusyError when another command writes for longer than ``wait`` seconds.
    """
    deadline = time.monotonic() + wait
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(database.writer("bisect"))
                break
            except WriterBusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(WRITER_POLL)
        with database.session() as session, session.begin():
            yield session


@contextmanager
def leading(folder: Path, campaign_id: str) -> Iterator[None]:
    """Be the only process that takes this campaign's steps; the lock dies with the process.

    Raises CampaignBusyError when another one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{campaign_id}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CampaignBusyError(
                f"another process is at work on campaign {campaign_id}; "
                f"`xdnawatch bisect show {campaign_id}` tells how far it is"
            ) from error
        yield
