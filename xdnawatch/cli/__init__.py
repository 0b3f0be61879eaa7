"""The command line: `xdnawatch`.

Each room has one module here with its commands; this one puts them together and turns errors into one
sentence and an exit code.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from xdnawatch.cli.context import AppContext
from xdnawatch.errors import ExitCode, exit_code_for, sentence_for
from xdnawatch.settings import load_settings

# Which module of this package brings which command. A module is imported when its command is asked for:
# `xdnawatch track` does not wait for QEMU's code, nor a completion for SQLAlchemy.
COMMANDS = {
    "track": "track",
    "run": "run",
    "runs": "run",
    "infer": "infer",
    "nightly": "nightly",
    "matrix": "matrix",
    "bisect": "bisect",
    "compare": "publish",
    "publish": "publish",
    "doctor": "doctor",
    "lab": "lab",
    "demo": "demo",
}


class RoomGroup(TyperGroup):
    """The root command: its commands come from the modules of the rooms."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of a day's work."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the module and take the command from it."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"xdnawatch.cli.{COMMANDS[cmd_name]}")
        part = typer.Typer()
        if hasattr(module, "register"):
            module.register(part)
        else:
            part.add_typer(module.app, name=cmd_name)
        part.callback()(lambda: None)  # keeps a lone command from becoming the whole program
        group = typer.main.get_command(part)
        assert isinstance(group, TyperGroup)
        return group.get_command(ctx, cmd_name)


app = typer.Typer(
    name="xdnawatch",
    cls=RoomGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 fine, 1 the subject failed (a regression, a failed test), 2 usage or "
    "configuration, 3 infrastructure (machine, network, disk). Manual: docs/ in the source tree.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xdnawatch {importlib.metadata.version('xdnawatch')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            envvar="XDNAWATCH_CONFIG",
            help="The settings file. Default: ./xdnawatch.toml, then the user's configuration folder.",
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database", envvar="XDNAWATCH_DATABASE", help="Any SQLAlchemy URL; overrides the settings."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")] = False,
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Which kernel release carries an amdxdna patch, and what did that kernel do to the NPU?

    [bold]track[/bold] follows mailing lists and git and maps each patch to its release window.
    [bold]run[/bold] boots a kernel on a machine (a laptop over SSH, or the virtual NPU in QEMU), runs the
    ioctl suite and judges it. [bold]bisect[/bold] finds the commit that broke a test.
    [bold]publish[/bold] writes it all as a static site.
    """
    context.obj = AppContext(settings=load_settings(config, database_url=database), quiet=quiet)


def main() -> None:
    """Entry point of the `xdnawatch` program."""
    try:
        # Typer itself ends the program for a usage error (2), --help (0) and Ctrl-C (130).
        app(prog_name="xdnawatch")
    except BrokenPipeError:
        # The reader of our output left (`| head`): not an error. Keep the interpreter from flushing again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.FINE)
    except Exception as error:
        code = exit_code_for(error)
        if code is None:
            raise
        _say(f"error: {sentence_for(error)}")
        sys.exit(code)


def _say(text: str) -> None:
    typer.echo(f"xdnawatch: {text}", err=True)
