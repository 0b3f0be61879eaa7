"""The virtual machine: QEMU, the virtual NPU and the guest, as one lab.machine.Machine."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType

from lab.leash import LeashedProcess
from lab.machine import BootRequest, Candidate, Compile, LabError, Session, Shell, ShellLostError
from lab.npu.generations import GENERATIONS
from lab.packages.store import PackageStore
from lab.shell import SshShell, SshTarget
from lab.virtual import extras, guest, qemu, watchdogs
from lab.virtual.accelerator import choose_accelerator
from lab.virtual.bytecode import bytecode
from lab.virtual.device import VirtualDevice
from lab.virtual.fair_clock import FairClock
from lab.virtual.iommu import IommuMode, iommu_mode
from lab.virtual.kernel_image import boot_image
from lab.virtual.kernels import numbers_of
from lab.virtual.layers import layer
from lab.virtual.modules import modules_archive
from lab.virtual.outcome import boot_failure, panic_reason
from lab.virtual.qemu_install import find_qemu
from lab.virtual.qmp import Qmp
from lab.workfolder import work_folder

POLL = 0.1  # seconds between looks at a guest that boots
ENDING = 1.0  # seconds between the loss of a connection and the end of QEMU that caused it
BANNER_TIMEOUT = 5.0  # seconds for "SSH-"; QEMU's network accepts a connection before the guest listens
DRIVER_TIMEOUT = 30.0  # seconds for modprobe amdxdna; a driver that hangs still gives a session
# Words for ssh: a guest that waits for its turn on this host is not gone; one that died takes QEMU with it.
PATIENCE = ("-o", "ServerAliveCountMax=24")
NONCE = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")


class VirtualMachine:
    """A machine of one NPU generation. ``simulated`` is True: it judges the driver, not silicon."""

    kind = "virtual"
    simulated = True
    boots_candidates = True

    def __init__(
        self,
        name: str,
        generation: str,
        store: PackageStore,
        *,
        protocol: str | None = None,
        append: str = "",
        layers: Sequence[str] = (),
        watchdog: str | None = None,
        shared_memory: bool = True,
    ) -> None:
        if generation not in GENERATIONS:
            raise LabError(f"no virtual NPU {generation!r}; there are {', '.join(GENERATIONS)}")
        self.name = name
        self.generation: str | None = generation
        self._model = generation
        self._store = store
        self._protocol = protocol
        self._append = append
        self._layers = tuple(layer(name) for name in layers)
        self._shared_memory = shared_memory
        self._watchdog = watchdogs.card(watchdog) if watchdog is not None else None

    @contextmanager
    def boot(self, request: BootRequest) -> Iterator[Session]:
        """Boot once; see lab.machine.Machine. BootError kinds: panic, hang, no-boot, early-exit."""
        candidate = request.candidate
        if candidate is None:
            raise LabError(f"{self.name} has no kernel of its own: name one to boot")
        if not NONCE.match(request.nonce):
            raise LabError(f"{request.nonce!r} cannot be a nonce on a kernel command line")
        try:
            request.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabError(f"cannot write traces: {error}") from error
        with ExitStack() as stack:
            work = stack.enter_context(work_folder())
            yield self._start(stack, work, request, candidate)

    def _start(
        self, stack: ExitStack, work: Path, request: BootRequest, candidate: Candidate
    ) -> VirtualSession:
        begin = time.monotonic()
        request.progress("preparing QEMU and the guest image")
        program = find_qemu(self._store)
        image = guest.guest_image(self._store)
        initramfs = work / "initramfs"
        card = self._watchdog
        further = card.modules if card else ()
        guest.write_initramfs(image.base, modules_archive(self._store, candidate, further), initramfs)
        layers = [extras.layer_image(self._store, layer) for layer in self._layers]
        extras.append_archives(initramfs, [layer.archive for layer in layers])
        iommu = iommu_mode(numbers_of(candidate.version))
        accelerator = choose_accelerator(self._store.cache, program, candidate, initramfs)
        line = command_line(iommu, request.nonce, self._append, further)
        logs = {
            name: request.folder / name for name in ("serial.log", "device.jsonl", "qemu.log", "device.log")
        }
        for path in logs.values():
            path.write_bytes(b"")
        device = VirtualDevice(
            self._model, work / "npu.sock", logs["device.jsonl"], logs["device.log"],
            protocol=self._protocol, faults=request.faults,
        )  # fmt: skip
        stack.callback(device.end)
        kernel = boot_image(candidate.vmlinuz, work / "vmlinux")
        layout = qemu.VmLayout(
            kernel, initramfs, line, logs["serial.log"], work / "qmp", work / "npu.sock", iommu,
            card.arguments if card else (), self._shared_memory,
        )  # fmt: skip
        prepared = time.monotonic()
        request.progress(f"booting {candidate.release} on {self.name} ({accelerator.name})")
        process = qemu.start(program, qemu.command(program, accelerator, layout), logs["qemu.log"])
        stack.callback(process.end)
        clock = FairClock(process, device.process)
        boot = Boot(process, logs, request.timeouts.boot, clock)
        control, port = boot.control(layout.qmp)
        stack.callback(control.close)
        for path in (initramfs, work / "vmlinux"):
            path.unlink(
                missing_ok=True
            )  # QEMU has read them before it answers; they need not outlive a kill -9
        boot.wait_banner(port)
        config = guest_ssh_config(work, port, image.keys)
        target = SshTarget("root@guest", ("-F", str(config), *PATIENCE), request.timeouts.connect)
        shell = stack.enter_context(SshShell(target, clock))
        loaded = boot.wait_driver(shell)
        facts = {
            "accelerator": accelerator.name,
            "iommu": iommu.name,
            "command_line": line,
            "qemu": program.version,
            "guest_image": image.digest,
            **({"guest_layers": ", ".join(layer.fact for layer in layers)} if layers else {}),
            **({"watchdog": card.name} if card else {}),
            "npu": self._model,
            "driver_loaded": "yes" if loaded else f"modprobe not finished after {DRIVER_TIMEOUT:.0f} s",
            "seconds_prepare": f"{prepared - begin:.2f}",
            "seconds_boot": f"{time.monotonic() - prepared:.2f}",
        }
        facts |= {f"device_{key}": str(value) for key, value in device.facts.items() if key != "ready"}
        facts |= {f"kernel_{key}": value for key, value in candidate.detail.items()}
        stack.callback(boot.leave, control, request.timeouts.shutdown)
        compiled = partial(bytecode, self._store.cache, image.tree)
        return VirtualSession(shell, process, control, logs, facts, config, compiled)


def command_line(iommu: IommuMode, nonce: str, append: str, modules: Sequence[str] = ()) -> str:
    """The kernel's parameters: all messages on the serial port, and a panic ends QEMU at once.

    ``modules``: what the guest's init loads besides the network and the driver.
    """
    words = (
        "console=ttyS0",
        "loglevel=7",
        "panic=-1",
        # On a busy host the kernel's own look at its timer sees no tick in time, and it panics
        # ("timer doesn't work through Interrupt-remapped IO-APIC", arch/x86/kernel/apic/io_apic.c).
        "no_timer_check",
        *iommu.command_line,
        f"xdnawatch.nonce={nonce}",
        f"xdnawatch.modules={','.join(modules)}" if modules else "",
        append,
    )
    return " ".join(word for word in words if word)


def guest_ssh_config(work: Path, port: int, keys: guest.GuestKeys) -> Path:
    """An ssh_config(5) file that leads to the guest, whoever logs in: the pinned host key, our own identity.

    The user's own ssh configuration stays out of it. The key exchange is one that is cheap for an emulated
    processor; nobody listens between us and a guest of our own.
    """
    known = work / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {keys.host_public}\n")
    config = work / "ssh_config"
    config.write_text(
        f"Host *\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {keys.identity}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {known}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n"
        "  KexAlgorithms curve25519-sha256\n"
    )
    return config


class Boot:
    """The wait for a guest: it looks at QEMU, the serial log and the port, and names what went wrong."""

    def __init__(
        self, process: LeashedProcess, logs: Mapping[str, Path], timeout: float, clock: Callable[[], float]
    ) -> None:
        self._process = process
        self._logs = logs
        self._clock = clock
        self._begin = clock()
        self._deadline = self._begin + timeout
        self._control: Qmp | None = None

    def control(self, path: Path) -> tuple[Qmp, int]:
        """QEMU's control connection and the port that leads to the guest's ssh server."""
        while not path.exists():
            self._check()
            time.sleep(0.02)
        try:
            self._control = Qmp(path, lambda: self._process.poll() is None)
            return self._control, self._control.forwarded_port()
        except LabError:
            self._process.wait(ENDING)  # a QEMU that refuses its command line closes the channel, then ends
            self._check()
            raise

    def _check(self) -> None:
        """Raise the right BootError when QEMU ended, the kernel panicked or the time is over."""
        status = self._process.poll()
        serial = self._logs["serial.log"].read_bytes().decode("utf-8", "replace")
        if status is None and panic_reason(serial) is None and self._clock() < self._deadline:
            return
        raise boot_failure(
            serial,
            status=status,
            events=self._control.events() if self._control is not None else (),
            said=self._logs["qemu.log"].read_bytes().decode("utf-8", "replace"),
            waited=self._clock() - self._begin,
        )

    def wait_banner(self, port: int) -> None:
        """Return when the guest's ssh server greets.

        The port is left alone until our init says that it has a network: QEMU's would take each early
        connection and deliver it to the guest much later.
        """
        while guest.NETWORK_UP not in self._logs["serial.log"].read_bytes():
            self._check()
            time.sleep(POLL)
        while not _banner(port):
            self._check()
            time.sleep(POLL)

    def wait_driver(self, shell: SshShell) -> bool:
        """Connect and wait until the guest loaded its modules; False when that takes too long."""
        while True:
            try:
                shell.connect()
                break
            except ShellLostError:
                self._check()
                time.sleep(POLL)
        until = self._clock() + DRIVER_TIMEOUT
        while guest.DRIVER_TRIED not in self._logs["serial.log"].read_bytes():
            self._check()
            if self._clock() > until:
                return False
            time.sleep(POLL)
        return True

    def leave(self, control: Qmp, timeout: float) -> None:
        """End QEMU by its own command, so that files are flushed; the leash does the rest."""
        with contextlib.suppress(LabError):
            control.command("quit")
        self._process.wait(timeout)


def _banner(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as channel:
            channel.settimeout(BANNER_TIMEOUT)
            return channel.recv(4) == b"SSH-"
    except OSError:
        return False


class VirtualSession:
    """A booted virtual machine; see lab.machine.Session."""

    nonce_expected = True

    def __init__(
        self,
        shell: SshShell,
        process: LeashedProcess,
        control: Qmp,
        logs: Mapping[str, Path],
        facts: dict[str, str],
        ssh_config: Path,
        compiled: Compile,
    ) -> None:
        self.shell: Shell = shell
        self.ssh_config = ssh_config  # leads to the guest as any of its users (lab.virtual.laptop)
        self.logs = logs
        self._process = process
        self._control = control
        self._facts = facts
        self._compiled = compiled

    def alive(self) -> bool:
        """Whether QEMU runs and the kernel has not panicked."""
        if self._process.poll() is not None:
            return False
        return panic_reason(self.logs["serial.log"].read_bytes().decode("utf-8", "replace")) is None

    def boot_facts(self) -> Mapping[str, str]:
        """Accelerator, IOMMU mode, command line, versions, seconds of preparation and boot, QEMU's events."""
        events = ", ".join(event.name for event in self._control.events())
        return MappingProxyType(self._facts | ({"events": events} if events else {}))

    def bytecode(self, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """By the guest's own Python, run on the host."""
        return self._compiled(files)
