"""The command line: `xdnawatch`.

The modules beside this one bring the commands (see commands.py, which of them brings which); this one makes
the program of them and turns errors into one sentence and an exit code.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from xdnawatch.cli.commands import PROGRAM
from xdnawatch.cli.context import AppContext
from xdnawatch.cli.late import LateGroup
from xdnawatch.errors import ExitCode, exit_code_for, sentence_for


class Program(LateGroup):
    """The root command."""

    table = PROGRAM


app = typer.Typer(
    name="xdnawatch",
    cls=Program,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 fine, 1 the subject failed (a regression, a failed test), 2 usage or "
    "configuration, 3 infrastructure (machine, network, disk). Manual: docs/ in the source tree.",
)


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata  # 0.05 s that no other command needs to wait for

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
    context.obj = AppContext(config=config, database_url=database, quiet=quiet)


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
