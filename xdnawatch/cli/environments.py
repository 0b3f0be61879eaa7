"""`xdnawatch matrix environments`: broken on purpose, looked at by doctor and run, named rightly or not."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from harness.breakage import HEALTHY, Seen, boots, chosen
from harness.breakage_report import key_of, plain, put_into, seen_of, table, wrong
from harness.broken_guest import GENERATION, go_through, presence_suite
from harness.kernels.debian import stock_kernel
from lab.virtual.kernels import numbers_of
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.cli.lab import open_store
from xdnawatch.cli.run import plain_table, print_table
from xdnawatch.errors import ExitCode, UsageError

RECORD = "environment-matrix.jsonl"
"""One line for each look that was made, newest last."""


def register(app: typer.Typer) -> None:
    """Add the command to `xdnawatch matrix`."""
    app.command("environments")(environments)


def environments(
    context: typer.Context,
    version: Annotated[list[str], typer.Option("--kernel", help="A kernel to boot, e.g. 7.3.4; repeatable.")],
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only the environments of this name; repeatable.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Look again at those that were looked at.")] = False,
    write: Annotated[
        Path | None, typer.Option("--write", help="Put the table into this page, between its marks.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Break a guest in each known way, let `doctor` and `run` look at it over SSH, and judge what they say.

    As few boots as possible; killed or stopped, the same command goes on where it was. Exit code 1: one was
    named wrongly, or blamed on the kernel.
    """
    app = current(context)
    try:
        rows = chosen(only or ())
        if write is not None:
            put_into(write.read_text("utf-8"), "")  # a page without marks is said before anything boots
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    known = {} if again else remembered(app)
    looks: list[Seen] = []
    with open_store(app) as store:
        for name in version:
            candidate = stock_kernel(store, name)
            release = numbers_of(candidate.version)
            for boot in boots(rows, release):
                left = tuple(row for row in boot.rows if key_of(row, candidate.version) not in known)
                if left:
                    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
                    folder = app.data / "environments" / f"{candidate.version}-{stamp}"
                    rest = replace(boot, rows=left)
                    for seen in go_through(
                        store, candidate, rest, presence_suite(), folder, on_note=app.note
                    ):
                        remember(app, seen)
                        known[key_of(seen.row, seen.kernel)] = seen
                        if seen.row is HEALTHY and not seen.right:
                            looks.append(seen)
                looks += [known[key_of(row, candidate.version)] for row in boot.rows]
    if write is not None:
        words = " ".join(f"--kernel {name}" for name in version)
        section = table(
            looks,
            {seen.kernel: numbers_of(seen.kernel) for seen in looks},
            command=f"xdnawatch matrix environments {words} --write {write}",
            machine=f"virtual {GENERATION}",
            date=datetime.now(UTC).date().isoformat(),
        )
        write.write_text(put_into(write.read_text("utf-8"), section), "utf-8")
    if as_json:
        app.emit([plain(seen) for seen in looks])
    else:
        show(app, looks)
    raise typer.Exit(ExitCode.FINE if all(seen.right for seen in looks) else ExitCode.SUBJECT_FAILED)


def remembered(app: AppContext) -> dict[str, Seen]:
    """Every right look by its key. What was named wrongly is looked at again, for a better rule may judge it.

    Lines that were cut off or are of other rows are left out.
    """
    path = app.data / RECORD
    found: dict[str, Seen] = {}
    if path.is_file():
        for line in path.read_text("utf-8", "replace").splitlines():
            try:
                facts = json.loads(line)
                seen = seen_of(facts)
                if seen.right:
                    found[str(facts["key"])] = seen
                else:
                    found.pop(str(facts["key"]), None)
            except (ValueError, TypeError, KeyError, StopIteration):
                continue
    return found


def remember(app: AppContext, seen: Seen) -> None:
    """Add a look; one write, so that two commands at once do not mix their lines."""
    app.data.mkdir(parents=True, exist_ok=True)
    handle = os.open(app.data / RECORD, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        os.write(handle, (json.dumps(plain(seen)) + "\n").encode())
    finally:
        os.close(handle)


def show(app: AppContext, looks: Sequence[Seen]) -> None:
    """The table for a person, then what is wrong."""
    shown = plain_table("kernel", "environment", "doctor", "run", "seconds", "what doctor said")
    for seen in looks:
        shown.add_row(
            escape(seen.kernel),
            seen.row.name,
            ("" if seen.doctor_right else "WRONG: ") + f"{seen.row.point} {seen.state}",
            ("" if seen.run_right else "WRONG: ") + seen.verdict,
            f"{sum(seen.seconds):.0f}",
            escape(seen.said[:120]),
        )
    print_table(app, shown)
    for sentence in wrong(looks):
        app.out.print(f"[red]{escape(sentence)}[/]", soft_wrap=True)
