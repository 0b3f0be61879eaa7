"""What can go wrong at the tracker's edges, as types. Each text names the cause and the next step."""

from __future__ import annotations


class TrackerError(Exception):
    """The tracker cannot do what was asked. ``exit_code``: infrastructure, unless a subclass knows better."""

    exit_code = 3


class SourceError(TrackerError):
    """One source of mail or commits cannot be read; the others go on."""


class NotARepositoryError(SourceError):
    """A path or URL that is no git repository."""


class GitError(TrackerError):
    """A git command failed; the text carries what git said."""


class NoSuchChangeError(TrackerError):
    """No change has that slug, commit, message id or title."""

    exit_code = 2
