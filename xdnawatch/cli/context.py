"""What every command needs: settings, folders, the database, and one way to speak.

Data goes to standard output, everything else (progress, notes, errors) to standard error, so that
``xdnawatch ... --json | jq`` always works. Each library is imported where it is first used: ``--help`` needs
none of them, and a command without a database need not wait for SQLAlchemy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from db.database import Database
    from xdnawatch.settings import Settings

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the answer as JSON on standard output.")]


@dataclass
class AppContext:
    """One invocation of the program."""

    config: Path | None = None  # the settings file that was named
    database_url: str | None = None  # instead of the settings' own
    quiet: bool = False

    @cached_property
    def settings(self) -> Settings:
        """xdnawatch.toml, checked whole. Raises SettingsError."""
        from xdnawatch.settings import load_settings

        return load_settings(self.config, database_url=self.database_url)

    @cached_property
    def out(self) -> Console:
        """Standard output."""
        from rich.console import Console

        return Console(highlight=False)

    @cached_property
    def err(self) -> Console:
        """Standard error."""
        from rich.console import Console

        return Console(stderr=True, highlight=False)

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
        from db.database import Database

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
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

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
    """The invocation's context, made by the root command. Raises SettingsError, before any work is done."""
    found = context.find_object(AppContext)
    assert found is not None, "the root command makes the AppContext"
    _ = found.settings
    return found
