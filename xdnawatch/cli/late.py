"""Commands that are known before they are imported.

A list of commands, for ``--help`` or for the shell's completion, needs a name and a line of each. A command
that is gone into needs its module, and with it SQLAlchemy or QEMU's code. So a group is made of a table, and
imports a module when its command is gone into.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True)
class Late:
    """A command of ``module`` (of this package), or the group of ``commands``. ``line`` is plain text.

    Each module has ``register(app)``, which adds its commands to a Typer application.
    """

    line: str
    module: str = ""
    commands: Mapping[str, Late] | None = None
    epilog: str | None = None


Table = Mapping[str, Late]


class LateGroup(TyperGroup):
    """A group whose commands are imported when they are gone into."""

    table: ClassVar[Table] = {}

    def __init__(self, *, table: Table | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._table = self.table if table is None else table
        # In the order of the table: that of a day's work.
        self.commands = {name: _listed(name, late) for name, late in self._table.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """What is gone into is the command itself, not the line that stands for it in a list."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, found if name is None else imported(name, self._table[name]), rest


def imported(name: str, late: Late) -> Any:
    """The command itself."""
    if late.commands is not None:
        return LateGroup(
            table=late.commands, name=name, help=late.line, epilog=late.epilog, no_args_is_help=True
        )
    module = importlib.import_module(f"xdnawatch.cli.{late.module}")
    part = typer.Typer()
    module.register(part)
    part.callback()(lambda: None)  # keeps a lone command from becoming the whole program
    group = typer.main.get_command(part)
    assert isinstance(group, TyperGroup)
    return group.commands[name]


def _listed(name: str, late: Late) -> TyperCommand:
    return TyperCommand(name, help=late.line.replace("[", r"\["))
