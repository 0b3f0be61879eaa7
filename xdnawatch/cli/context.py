"""What every command needs: settings, folders, the database, and one way to speak.

Data goes to standard output, everything else (progress, notes, errors) to standard error, so that
``xdnawatch ... --json | jq`` always works.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from db.database import Database
from xdnawatch.settings import Settings

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the answer as JSON on standard output.")]


@dataclass
class AppContext:
    """One invocation of the program."""

    settings: Settings
    quiet: bool = False
    out: Console = field(default_factory=lambda: Console(highlight=False))
    err: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    @property
    def data(self) -> Path:
        """Runs, clones, the default database."""
        return self.settings.paths.data

    @property
    def cache(self) -> Path:
        """Downloads and what is made from them; may be deleted at any time."""
        return self.settings.paths.cache

    @cached_property
    def database(self) -> Database:
        """The database, brought to the newest schema."""
        database = Database(self.settings.database_url)
        database.migrate()
        return database

    def note(self, text: str) -> None:
        """One line for a person, on standard error. ``text`` is printed as it is, never as markup."""
        if not self.quiet:
            self.err.print(text, markup=False, soft_wrap=True)

    def emit(self, answer: Any) -> None:
        """An answer for a program, on standard output."""
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False, default=str))

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A progress bar on standard error; it draws nothing when that is no terminal or --quiet."""
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.err,
            transient=True,
            disable=self.quiet or not self.err.is_terminal,
        )
        with bar:
            yield bar


def current(context: typer.Context) -> AppContext:
    """The invocation's context, made by the root command."""
    found = context.find_object(AppContext)
    assert found is not None, "the root command makes the AppContext"
    return found
