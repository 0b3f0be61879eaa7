"""A whole mail archive -> its patches and "applied" mails, for measuring the rules. The edge of two studies.

Nothing is stored: `tracker.truth` and `tracker.link_study` work on what is given here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tracker.applied import parse_applied
from tracker.errors import SourceError
from tracker.mail.inbox import InboxReader
from tracker.mail.mbox import MboxReader
from tracker.mail.message import parse_mail
from tracker.mail.patch_mail import patch_mail
from tracker.mail.series import PatchMail
from tracker.mail.source import MailReader
from tracker.matching import Notice
from tracker.progress import Progress, Silent
from tracker.settings import DriverProfile

STEP = 500  # mails between two reports of progress


@dataclass
class ArchiveStudy:
    """What an archive holds. ``kinds``: message id -> kind of every mail."""

    patches: list[PatchMail] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)


def read_archive(path: Path, progress: Progress | None = None) -> ArchiveStudy:
    """Read an mbox (also .gz) or a public-inbox v2 archive, every patch of it, whatever the driver.

    Raises SourceError where there is none.
    """
    if not path.exists():
        raise SourceError(f"{path} is not there; give an mbox file or a public-inbox v2 archive")
    shown = progress or Silent()
    shown.start(f"reading {path.name}")
    reader: MailReader = InboxReader(path) if path.is_dir() else MboxReader(path)
    study, profile = ArchiveStudy(), DriverProfile()
    for number, item in enumerate(reader.read({}), 1):
        if number % STEP == 0:
            shown.advance(STEP)
        mail = parse_mail(item.raw)
        if mail.message_id in study.kinds:
            continue
        study.kinds[mail.message_id] = mail.kind
        head = mail.head
        if mail.kind in ("patch", "cover"):
            study.patches.append(
                patch_mail(
                    mail.message_id, head.subject, head.author, head.date, head.parents, mail.body, profile
                )
            )
        elif mail.kind == "applied":
            said = parse_applied(mail.body)
            if said.entries:
                study.notices.append(Notice(mail.message_id, head.date, head.parents, said))
    shown.finish(f"{len(study.kinds)} mails, {len(study.patches)} patches and cover letters")
    return study
