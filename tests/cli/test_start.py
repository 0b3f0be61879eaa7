"""A command waits only for the libraries it uses; what lists commands waits for none of them.

Which modules were imported is looked at, not how long that took: a loaded machine changes only the second.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from xdnawatch.cli.commands import PROGRAM
from xdnawatch.cli.late import Late, Table, imported

DATABASE = ("sqlalchemy", "alembic")
NETWORK = ("httpx",)
PACKAGES = ("debian",)
PARSERS = ("bs4", "lxml", "rapidfuzz", "git", "jinja2")
EVERYTHING = (*DATABASE, *NETWORK, *PACKAGES, *PARSERS)

#: Runs the program as its entry point does, then says on standard error what it imported.
PROGRAM_THAT_TELLS = """
import sys
from xdnawatch.cli import main
try:
    main()
except SystemExit as end:
    print("exit", end.code, file=sys.stderr)
finally:
    print("imported", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def run(*words: str, cwd: Path, environment: Mapping[str, str] | None = None) -> tuple[str, set[str]]:
    """Standard output, and the names of the packages that the program imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM_THAT_TELLS, *words],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    ended, told = done.stderr.splitlines()[-2:]
    assert ended in ("exit 0", "exit None"), done.stderr
    return done.stdout, set(told.split()[1:])


def commands(table: Table, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Late]]:
    for name, late in table.items():
        if late.commands is None:
            yield (*path, name), late
        else:
            yield from commands(late.commands, (*path, name))


@pytest.mark.parametrize(
    ("words", "spared"),
    [
        (("--version",), (*EVERYTHING, "pydantic", "rich")),
        (("--help",), EVERYTHING),
        (("track", "--help"), EVERYTHING),
        (("lab", "--help"), EVERYTHING),
        (("matrix", "--help"), EVERYTHING),
        (("runs", "--help"), EVERYTHING),
        (("lab", "machines"), (*DATABASE, *NETWORK, *PARSERS)),
        (("run", "--help"), (*NETWORK, *PARSERS)),
        (("runs", "list"), (*NETWORK, *PARSERS)),
        (("track", "changes"), (*NETWORK, *PACKAGES, "bs4", "lxml", "jinja2")),
        (("track", "window"), (*NETWORK, *PACKAGES, "bs4", "lxml", "jinja2")),
    ],
    ids=" ".join,
)
def test_a_command_imports_only_what_it_uses(
    words: tuple[str, ...], spared: tuple[str, ...], tmp_path: Path
) -> None:
    _, found = run(*words, cwd=tmp_path)
    assert "typer" in found
    assert not found & set(spared)


def test_a_sync_of_a_mailbox_needs_neither_http_nor_html(tmp_path: Path) -> None:
    (tmp_path / "mails.mbox").write_bytes(b"")
    (tmp_path / "xdnawatch.toml").write_text(
        '[paths]\ndata = "data"\n[[source]]\nname = "mails"\nkind = "mbox"\nlocation = "mails.mbox"\n'
    )
    _, found = run("track", "sync", cwd=tmp_path)
    assert "sqlalchemy" in found
    assert not found & {"httpx", "bs4", "lxml", "debian", "jinja2"}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("xdnawatch ", ["track", "run", "nightly", "demo"]),
        ("xdnawatch track ", ["sync", "show", "where", "backtest"]),
        ("xdnawatch lab f", ["fetch"]),
    ],
)
def test_completion_of_a_command_imports_none(line: str, offered: list[str], tmp_path: Path) -> None:
    environment = {
        "_XDNAWATCH_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
    }
    text, found = run(cwd=tmp_path, environment=environment)
    assert set(offered) <= set(text.split())
    assert not found & set(EVERYTHING)


def test_completion_of_an_option_asks_the_command_itself(tmp_path: Path) -> None:
    environment = {
        "_XDNAWATCH_COMPLETE": "complete_bash",
        "COMP_WORDS": "xdnawatch track show --",
        "COMP_CWORD": "3",
    }
    text, _ = run(cwd=tmp_path, environment=environment)
    assert "--json" in text.split()


@pytest.mark.parametrize("path", [path for path, _ in commands(PROGRAM)], ids=" ".join)
def test_a_list_shows_the_first_line_of_the_commands_own_help(path: tuple[str, ...]) -> None:
    late = dict(commands(PROGRAM))[path]
    own = imported(path[-1], late).help.split("\n\n")[0].replace("\n", " ")
    assert late.line == own.replace(r"\[", "[")


def test_every_command_is_in_the_table() -> None:
    """A module that registers a command which the table does not name would never be asked for it."""
    listed = {(late.module, path[-1]) for path, late in commands(PROGRAM)}
    for name in {module for module, _ in listed}:
        part = typer.Typer()
        importlib.import_module(f"xdnawatch.cli.{name}").register(part)
        part.callback()(lambda: None)
        group = typer.main.get_command(part)
        assert isinstance(group, TyperGroup)
        assert {(name, command) for command in group.commands} <= listed
