"""Exit codes, and which error of which room becomes which."""

from __future__ import annotations

import errno
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError


class ExitCode(IntEnum):
    """What a command says to the shell (docs/architecture.md, promises)."""

    FINE = 0
    SUBJECT_FAILED = 1  # a regression, a failed test: the thing under test is at fault
    USAGE = 2  # the words or the configuration are at fault
    INFRASTRUCTURE = 3  # the machine, the network, the disk: nobody can judge
    INTERRUPTED = 130


class SettingsError(Exception):
    """The configuration cannot be used; the text names the file, the key and the mend."""

    exit_code = ExitCode.USAGE


class UsageError(Exception):
    """What was asked does not exist or does not fit; the text says what would."""

    exit_code = ExitCode.USAGE


def exit_code_for(error: Exception) -> ExitCode | None:
    """The exit code of an expected error, or None for a defect of ours (which keeps its traceback).

    An expected error of a room has an ``exit_code``: 3, or 2 where the user's words are at fault.
    """
    own = getattr(error, "exit_code", None)
    if isinstance(own, int):
        return ExitCode(own)
    if isinstance(error, OSError) or _is_of_the_database(error):
        return ExitCode.INFRASTRUCTURE
    return None


def sentence_for(error: Exception) -> str:
    """One line that names the cause and the next step."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" while writing {error.filename}" if error.filename else ""
        return f"the disk is full{where}; free some space and run the same command again, it resumes"
    if _is_of_the_database(error):
        cause = str(error.orig)
        if "disk is full" in cause or "disk I/O" in cause:
            return (
                f"the database could not be written ({cause}); free some space and run the same command again"
            )
        return f"the database refused: {cause}"
    if isinstance(error, OSError):
        return f"{error.strerror or error}{': ' + str(error.filename) if error.filename else ''}"
    return str(error)


def _is_of_the_database(error: Exception) -> TypeGuard[DBAPIError]:
    """Whether SQLAlchemy raised it. Where that library was never imported, it did not."""
    library = sys.modules.get("sqlalchemy.exc")
    return library is not None and isinstance(error, library.DBAPIError)
