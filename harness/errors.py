"""What can go wrong in the harness itself. Each text names the cause and the next step."""

from __future__ import annotations

from typing import ClassVar


class HarnessError(Exception):
    """The harness could not do its work; nothing was learned about the kernel."""

    exit_code: ClassVar[int] = 3


class JournalError(HarnessError):
    """A journal cannot be written or read."""


class SuiteError(HarnessError):
    """A suite cannot be loaded."""

    exit_code: ClassVar[int] = 2


class SignatureError(HarnessError):
    """The table of log signatures is wrong."""
