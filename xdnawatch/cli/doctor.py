"""`xdnawatch doctor`: why does the NPU not work here?"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.markup import escape

from harness.doctor import Checkup, examine
from harness.doctor_facts import Check, State
from harness.kernels.named import named_kernel
from lab.inventory import resolve
from lab.machine import BootRequest, Candidate, Fault, Machine, Session
from lab.physical.local import LocalMachine
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.cli.lab import open_store
from xdnawatch.cli.run import plain_table, planned_faults, print_table
from xdnawatch.errors import UsageError

LOCAL = "local"
LOOK_TIMEOUT = 60.0  # seconds for each of the two looks; an ioctl in vain takes the driver 5 s
STYLES = {State.OK: "green", State.WARN: "yellow", State.BAD: "red bold", State.SKIPPED: "dim"}


def register(app: typer.Typer) -> None:
    """Add the command of this module to the program."""
    app.command("doctor")(doctor_command)


def doctor_command(
    context: typer.Context,
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="[MACHINE]", help="user@host, a listed name or virtual-npu4 ...; default: this machine."
        ),
    ] = None,
    machine: Annotated[str | None, typer.Option("--machine", "-m", help="The same, as for `run`.")] = None,
    version: Annotated[
        str | None,
        typer.Option("--kernel", help="The kernel for a virtual machine to boot: 7.3.4, or a path."),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", help="Inject a fault into the virtual NPU: NAME[:key=value,...]."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say why the NPU does not work here: a checklist with the cause and the next step for each failure.

    It changes nothing, installs nothing and needs no root; as root it sees more (the kernel log). Exit
    code 0: nothing is bad; 3: something in the environment is; 2: wrong words.
    """
    app = current(context)
    if where is not None and machine is not None and where != machine:
        raise UsageError(f"two machines, {where} and {machine}: name one")
    with session(app, where or machine or LOCAL, version, planned_faults(fault or ())) as reached:
        checkup = examine(reached.shell, timeout=LOOK_TIMEOUT)
    if as_json:
        app.emit(checkup.as_json())
    else:
        show(app, checkup)
    raise typer.Exit(checkup.exit_code)


@contextmanager
def session(app: AppContext, name: str, version: str | None, faults: tuple[Fault, ...]) -> Iterator[Session]:
    """The machine, booted where it is virtual. UsageError when the words do not fit it."""
    target: Machine
    candidate: Candidate | None = None
    if name == LOCAL:
        target = LocalMachine()
    else:
        with open_store(app) as store:
            target = resolve(name, app.settings.machine, store)
            if target.boots_candidates:
                if version is None:
                    raise UsageError(
                        f"{target.name} boots what it is given: name a kernel, e.g. --kernel 7.3.4"
                    )
                candidate = named_kernel(store, version)
    if candidate is None and (version is not None or faults):
        raise UsageError(f"{target.name} is looked at as it runs: leave out --kernel and --fault")
    with TemporaryDirectory(prefix="xdnawatch-") as folder:
        request = BootRequest(candidate, secrets.token_hex(8), Path(folder), faults)
        with target.boot(replace(request, progress=app.note)) as reached:
            yield reached


def show(app: AppContext, checkup: Checkup) -> None:
    """The list for a person, then what to do first."""
    table = plain_table("point", "state", "what was found")
    for check in checkup.checks:
        style = STYLES[check.state]
        table.add_row(check.id, f"[{style}]{check.state}[/]", escape(check.said))
    print_table(app, table)
    for check in checkup.checks:
        if check.state is State.WARN:
            app.out.print(f"[yellow]{check.id}[/]: {escape(check.next_step)}", soft_wrap=True)
    bad = [check for check in checkup.checks if check.state is State.BAD]
    for check in bad:
        app.out.print(_sentence(check), soft_wrap=True)
    if checkup.cause is None:
        app.out.print("[green]the NPU can be used here[/]")
    elif len(bad) > 1:
        app.out.print(f"mend {checkup.cause.id} first: the others may follow from it")


def _sentence(check: Check) -> str:
    return f"[red bold]{check.id}[/]: {escape(check.cause)}. Next: {escape(check.next_step)}"
