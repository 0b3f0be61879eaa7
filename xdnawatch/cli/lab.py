"""`xdnawatch lab`: what the virtual machine is made of, which machines there are, and a shell on one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from harness.kernels.debian import stock_kernel
from harness.kernels.named import named_kernel
from lab.inventory import resolve
from lab.machine import BootRequest, Candidate, Fault
from lab.packages.store import PackageStore
from lab.settings import known_machines
from lab.shell import SshShell
from lab.virtual.extras import layer_image
from lab.virtual.guest import GuestImage, guest_image
from lab.virtual.kernels import available, cached_kernels
from lab.virtual.layers import LAYERS, layer
from lab.virtual.modules import modules_archive
from lab.virtual.qemu_install import Qemu, find_qemu
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.errors import UsageError

#: The two kernels on either side of the change to force_iova: what `fetch` brings when none is named.
DEFAULT_KERNELS = ("7.0.13", "7.3.4")

KernelOption = Annotated[
    list[str] | None,
    typer.Option("--kernel", "-k", help="A Debian kernel's version, e.g. 7.3.4 or 7.3-rc7; repeatable."),
]
ExperimentalFlag = Annotated[bool, typer.Option("--experimental", help="Also look into Debian experimental.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `xdnawatch lab`."""
    for command in (fetch, kernels, machines, shell):
        app.command()(command)


class DownloadBars:
    """A bar for each file that is being downloaded; safe to call from the download threads."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """See lab.packages.download.Progress."""
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(escape(name[:60]), total=total)
            task = self._tasks[name]
            self._progress.update(task, completed=done, total=total, visible=total is None or done < total)


@contextmanager
def open_store(context: AppContext) -> Iterator[PackageStore]:
    """The package cache of the settings, with progress bars on standard error while the block runs."""
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        console=context.err,
        transient=True,
        disable=context.quiet or not context.err.is_terminal,
    )
    with bars:
        yield PackageStore(context.cache, context.settings.debian.mirror, progress=DownloadBars(bars))


def fetch(
    context: typer.Context,
    kernels: KernelOption = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", help=f"An optional part of the guest ({', '.join(LAYERS)}); repeatable."),
    ] = None,
    experimental: ExperimentalFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Download and prepare all that a boot needs: QEMU, the guest image, kernels. Resumes when
    interrupted.
    """
    session = current(context)
    with open_store(session) as store:
        program, image, candidates = prepare(
            session, store, kernels or DEFAULT_KERNELS, experimental=experimental
        )
        for name in layers or ():
            session.note(f"guest layer {name}: {layer_image(store, layer(name)).archive}")
    if as_json:
        session.emit(
            {
                "qemu": {"version": program.version, "private": program.private},
                "guest": {"digest": image.digest, "path": image.base},
                "kernels": [_kernel_row(candidate) for candidate in candidates],
            }
        )


def prepare(
    session: AppContext, store: PackageStore, versions: Iterable[str], *, experimental: bool = False
) -> tuple[Qemu, GuestImage, list[Candidate]]:
    """Bring what a boot of these kernels needs into the cache; a line for each part."""
    program = find_qemu(store)
    session.note(f"QEMU {program.version}: {program.command[0]}")
    image = guest_image(store)
    session.note(f"guest image {image.digest}: {image.base}")
    candidates = []
    for version in versions:
        candidate = stock_kernel(store, version, experimental=experimental)
        modules_archive(store, candidate)
        session.note(f"kernel {candidate.version}: {candidate.modules}{_unchecked(candidate)}")
        candidates.append(candidate)
    return program, image, candidates


def _unchecked(candidate: Candidate) -> str:
    """What could not be verified, in brackets; empty when all was."""
    names = candidate.detail.get("unchecked")
    signature = candidate.detail.get("index_signature")
    doubts = [f"no longer in the index, so not compared with its checksums: {names}"] if names else []
    doubts += [f"the index's signature was not verified: {signature}"] if signature else []
    return f" ({'; '.join(doubts)})" if doubts else ""


def _kernel_row(candidate: Candidate) -> dict[str, str]:
    row = {"version": candidate.version, "release": candidate.release, "vmlinuz": str(candidate.vmlinuz)}
    return row | {"modules": str(candidate.modules)} | dict(candidate.detail)


def kernels(
    context: typer.Context, experimental: ExperimentalFlag = False, as_json: JsonFlag = False
) -> None:
    """List the Debian kernels that can be booted, and which of them are in the cache."""
    session = current(context)
    with open_store(session) as store:
        ready = {candidate.release for candidate in cached_kernels(store.cache)}
        offered = available(store, experimental=experimental)
    rows = [
        {"version": k.version, "release": k.release, "suite": k.suite, "cached": k.release in ready}
        for k in offered
    ]
    listed = {k.release for k in offered}
    rows += [
        {"version": c.version, "release": c.release, "suite": c.detail.get("suite", ""), "cached": True}
        for c in cached_kernels(session.cache)
        if c.release not in listed
    ]
    if as_json:
        session.emit(rows)
        return
    table = Table("version", "release", "suite", "in the cache")
    for row in rows:
        words = [escape(str(row[key])) for key in ("version", "release", "suite")]
        table.add_row(*words, "yes" if row["cached"] else "")
    session.out.print(table)


def machines(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List the machines: those of xdnawatch.toml, then the built-in virtual ones."""
    session = current(context)
    rows = [
        {
            "name": machine.name,
            "kind": "virtual" if machine.virtual else "ssh",
            "target": machine.virtual or machine.ssh,
        }
        for machine in known_machines(session.settings.machine)
    ]
    if as_json:
        session.emit(rows)
        return
    table = Table("name", "kind", "NPU or destination")
    for row in rows:
        table.add_row(escape(str(row["name"])), str(row["kind"]), escape(str(row["target"])))
    session.out.print(table)


def parse_fault(text: str) -> Fault:
    """``drop-reply:opcode=0x18,count=1`` -> Fault; UsageError for another form."""
    name, _, rest = text.partition(":")
    pairs = [part.partition("=") for part in rest.split(",") if part]
    if not name or any(not key or not mark for key, mark, _ in pairs):
        raise UsageError(f"{text!r} is not a fault like NAME or NAME:key=value,key=value")
    return Fault(name, {key: value for key, _, value in pairs})


def shell(
    context: typer.Context,
    machine: Annotated[str, typer.Argument(help="A machine's name, or user@host.")],
    version: Annotated[
        str | None,
        typer.Option("--kernel", "-k", help="The kernel to boot: a version, or a path (virtual machines)."),
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option("--fault", help="A fault for the virtual NPU: NAME[:key=value,...].")
    ] = None,
) -> None:
    """Boot a machine and open an interactive shell on it; the machine ends with the shell."""
    session = current(context)
    faults = tuple(parse_fault(text) for text in fault or ())
    with open_store(session) as store:
        target = resolve(machine, session.settings.machine, store)
        candidate = None
        if target.boots_candidates:
            candidate = named_kernel(store, version or DEFAULT_KERNELS[-1])
        elif version is not None:
            raise UsageError(f"{target.name} runs what it runs: leave out --kernel")
    with tempfile.TemporaryDirectory(prefix="xdnw-shell-") as folder:
        request = BootRequest(candidate, uuid.uuid4().hex[:12], Path(folder), faults, progress=session.note)
        with target.boot(request) as booted:
            assert isinstance(booted.shell, SshShell), "every machine of this lab is reached by ssh"
            session.note("type exit to end" + (f"; serial log: {folder}/serial.log" if candidate else ""))
            status = subprocess.run(
                booted.shell.command([], terminal=sys.stdin.isatty()), check=False
            ).returncode
    raise typer.Exit(status if status < 128 else 3)
