"""public-inbox v2 archives (public-inbox-v2-format): git repositories with one mail a commit, in file ``m``.

A location is one bare repository, a folder with ``git/0.git``, ``git/1.git`` ... (an inbox as
``public-inbox-clone`` makes it), or a folder of ``N.git``. The cursor holds one commit id an epoch, never
a date: committer dates in re-imported archives are off by weeks (facts tracking.md 2.6).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

from tracker.errors import NotARepositoryError, SourceError
from tracker.git.repository import Repository
from tracker.mail.mbox import KEEP_OF_OVERSIZED
from tracker.mail.message import MAX_MAIL
from tracker.mail.source import Cursor, RawMail


class InboxReader:
    """A public-inbox v2 archive on this machine."""

    def __init__(self, location: Path) -> None:
        self.location = location
        self._reached: Cursor | None = None

    def read(self, cursor: Cursor) -> Iterator[RawMail]:
        """New mails, epoch after epoch, in commit order. A commit that deletes (``d``) gives no mail."""
        epochs: dict[str, str] = dict(cursor.get("epochs", {}))
        for name, repository in self._epochs():
            head = repository.resolve("HEAD") or _only_branch(repository)
            if head is None:
                continue  # an epoch that was just made
            seen = epochs.get(name)
            if seen == head:
                continue
            wanted = [head]
            if (
                seen is not None
                and repository.resolve(seen) is not None
                and repository.is_ancestor(seen, head)
            ):
                wanted.append(f"^{seen}")
            # A cursor that is no ancestor means that history was rewritten (a purge): read it all again.
            any_mail = False
            for blob in repository.blobs(
                _mail_names(repository, wanted),
                limit=MAX_MAIL,
                start_bytes=KEEP_OF_OVERSIZED,
            ):
                commit = blob.name.split(":", 1)[0]
                epochs = {**epochs, name: commit}
                if blob.data is None:
                    continue
                any_mail = True
                yield RawMail(f"{name}:{commit}", blob.data, blob.size, {"epochs": epochs})
            if not any_mail and seen is None and not _is_empty_of_mail(repository, head):
                raise SourceError(
                    f"{repository.path} has no mail in it (no file 'm' in any commit);"
                    " is it a public-inbox v2 archive?"
                )
            epochs = {**epochs, name: head}
            self._reached = {"epochs": epochs}

    def end_cursor(self, cursor: Cursor) -> Cursor:
        """The heads that were read, also where the last commits only deleted mail."""
        return self._reached or cursor

    def fetch(self, location: str) -> bytes | None:
        """The mail of one commit."""
        name, _, commit = location.partition(":")
        for epoch, repository in self._epochs():
            if epoch == name:
                for blob in repository.blobs([f"{commit}:m"], limit=MAX_MAIL):
                    return blob.data
        return None

    def _epochs(self) -> list[tuple[str, Repository]]:
        """(epoch number, repository), oldest first. Raises NotARepositoryError."""
        for folder in (self.location / "git", self.location):
            numbered = (
                [
                    path
                    for path in folder.glob("*.git")
                    if path.name.removesuffix(".git").isdigit() and path.is_dir()
                ]
                if folder.is_dir()
                else []
            )
            if numbered:
                numbered.sort(key=lambda path: int(path.name.removesuffix(".git")))
                return [(path.name.removesuffix(".git"), Repository(path)) for path in numbered]
        if self.location.is_dir() and not any(self.location.iterdir()):
            raise NotARepositoryError(
                f"{self.location} is empty; fetch the archive first (public-inbox-clone)"
            )
        return [("0", Repository(self.location))]


def _mail_names(repository: Repository, wanted: list[str]) -> Generator[str, None, None]:
    """ "<commit>:m" of each wanted commit, oldest first."""
    commits = repository.rev_list(["--reverse"], stdin=wanted)
    try:
        for commit in commits:
            yield f"{commit}:m"
    finally:
        commits.close()


def _only_branch(repository: Repository) -> str | None:
    """HEAD of a bare archive may name a branch that does not exist; ``master`` and ``main`` are tried."""
    return repository.resolve("refs/heads/master") or repository.resolve("refs/heads/main")


def _is_empty_of_mail(repository: Repository, head: str) -> bool:
    """An archive of which every mail was deleted has ``d`` files."""
    return any(blob.data is not None for blob in repository.blobs([f"{head}:d"], limit=MAX_MAIL))
