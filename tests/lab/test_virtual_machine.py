"""Real kernels on the virtual NPU: a shell, or the right error, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.machine import BootError, BootRequest, Candidate, Fault, LabError, ShellLostError, Timeouts
from lab.packages.store import PackageStore
from lab.virtual.kernels import cached_kernels
from lab.virtual.machine import VirtualMachine

pytestmark = pytest.mark.qemu


@pytest.fixture(scope="session")
def store(lab_cache: Path) -> PackageStore:
    return PackageStore(lab_cache, "http://127.0.0.1:9/the-cache-must-do")


@pytest.fixture(scope="session")
def newest(lab_cache: Path) -> Candidate:
    kernels = cached_kernels(lab_cache)
    if not kernels:
        pytest.skip(f"no kernel to boot: none is unpacked in {lab_cache} (`xdnawatch lab fetch`)")
    return kernels[-1]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Sockets have room below it, which pytest's folders do not leave."""
    with tempfile.TemporaryDirectory(prefix="xw-") as folder:
        yield Path(folder)


def processes(mark: Path) -> list[int]:
    """QEMU, device and leashes of a boot: their command lines name its folder."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if os.fsencode(mark) in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def wait_gone(mark: Path, seconds: float = 10.0) -> list[int]:
    deadline = time.monotonic() + seconds
    while (left := processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def qemu_pid(mark: Path) -> int:
    """QEMU itself, not the leash that holds it."""
    for pid in processes(mark):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"-serial" in words and not any(word.endswith(b"leash.py") for word in words):
            return pid
    raise AssertionError("no QEMU runs")


def test_a_stock_kernel_boots_to_a_shell_with_the_device(
    store: PackageStore, newest: Candidate, tmp_path: Path
) -> None:
    folder = tmp_path / "boot"
    machine = VirtualMachine("virtual-npu4", "npu4", store)
    with machine.boot(BootRequest(newest, "nonce-1", folder)) as session:
        shell = session.shell
        assert shell.run(["uname", "-r"], timeout=20).text.strip() == newest.release
        assert "xdnawatch.nonce=nonce-1" in shell.read("/proc/cmdline").decode().split()
        # the driver bound to the device, and the node has a real system's owner and mode
        assert (
            shell.run(["stat", "-c", "%a %U %G", "/dev/accel/accel0"], timeout=20).text == "660 root render\n"
        )
        assert shell.run(["cat", "/sys/class/accel/accel0/device/device"], timeout=20).text == "0x17f0\n"
        opening = ": <>/dev/accel/accel0"
        assert shell.run(["su", "user", "-c", opening], timeout=20).status == 0
        denied = shell.run(["su", "outsider", "-c", opening], timeout=20)
        assert b"Permission denied" in denied.stderr
        # what the suite and the checks need
        assert shell.run(["python3", "-m", "pytest", "--version"], timeout=60).status == 0
        assert shell.run(["sh", "-c", "dmesg | grep -c amdxdna"], timeout=20).status == 0
        assert shell.run(["modprobe", "-n", "amdxdna"], timeout=20).status == 0
        assert shell.run(["test", "-d", "/sys/kernel/debug/accel"], timeout=20).status == 0
        # an untouched Debian module: not even a signature warning
        assert shell.read("/proc/sys/kernel/tainted") == b"0\n"
        facts = session.boot_facts()
        assert facts["accelerator"] in ("tcg", "kvm")
        assert facts["npu"] == "npu4"
        assert session.alive()
        # the serial log starts with the kernel's first line and ends with its last
        serial = session.logs["serial.log"].read_text(errors="replace")
        assert f"Linux version {newest.release}" in serial
        assert "Initialized amdxdna_accel_driver" in serial
        assert session.logs["device.jsonl"].stat().st_size > 0
        # a crash of the running kernel is a lost shell and a panic in the log, not a hang
        crash = "(sleep 0.3; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 </dev/null &"
        shell.run(["sh", "-c", crash], timeout=20)
        begin = time.monotonic()
        with pytest.raises(ShellLostError):
            shell.stream(["sleep", "100"], timeout=60, silence=60, on_line=lambda _line: None)
        assert time.monotonic() - begin < 30
        assert not session.alive()
        assert "Kernel panic" in session.logs["serial.log"].read_text(errors="replace")
    assert wait_gone(folder) == []


@pytest.mark.parametrize(
    ("append", "kind", "words", "limit"),
    [
        ("rdinit=/nope", "panic", "root fs", 90.0),
        ("rdinit=/usr/bin/sleep -- 1000", "hang", "no shell within", 20.0),
    ],
)
def test_a_kernel_that_gives_no_shell_is_classified(
    store: PackageStore, newest: Candidate, tmp_path: Path, append: str, kind: str, words: str, limit: float
) -> None:
    folder = tmp_path / "boot"
    machine = VirtualMachine("v", "npu4", store, append=append)
    request = BootRequest(newest, "n", folder, timeouts=Timeouts(boot=limit))
    with pytest.raises(BootError, match=words) as caught, machine.boot(request):
        pass
    assert caught.value.kind == kind
    assert wait_gone(folder) == []


def test_a_file_that_is_no_kernel_ends_early(store: PackageStore, newest: Candidate, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(b"not a kernel" * 1000)
    request = BootRequest(replace(newest, vmlinuz=tmp_path / "vmlinuz"), "n", tmp_path / "boot")
    with pytest.raises(BootError) as caught, VirtualMachine("v", "npu1", store).boot(request):
        pass
    assert caught.value.kind == "early-exit"
    assert wait_gone(tmp_path / "boot") == []


def test_qemu_killed_while_booting_is_an_early_exit(
    store: PackageStore, newest: Candidate, tmp_path: Path
) -> None:
    folder = tmp_path / "boot"

    def kill_when_the_kernel_speaks() -> None:
        deadline = time.monotonic() + 60
        serial = folder / "serial.log"
        while time.monotonic() < deadline:
            if serial.exists() and b"Linux version" in serial.read_bytes():
                os.kill(qemu_pid(folder), signal.SIGKILL)
                return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_when_the_kernel_speaks)
    killer.start()
    begin = time.monotonic()
    request = BootRequest(newest, "n", folder)
    with pytest.raises(BootError) as caught, VirtualMachine("v", "npu4", store).boot(request):
        pass
    killer.join()
    assert caught.value.kind == "early-exit"
    assert time.monotonic() - begin < 60
    assert wait_gone(folder) == []


@pytest.mark.parametrize("moment", ["booting", "booted"])
def test_kill_9_of_the_user_leaves_no_process_and_no_big_file(
    store: PackageStore, newest: Candidate, tmp_path: Path, short_folder: Path, moment: str
) -> None:
    folder = tmp_path / "boot"
    temporary = short_folder
    code = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from lab.machine import BootRequest
        from lab.packages.store import PackageStore
        from lab.virtual.kernels import cached_kernels
        from lab.virtual.machine import VirtualMachine
        cache, folder = Path(sys.argv[1]), Path(sys.stdin.readline().strip())
        machine = VirtualMachine("v", "npu4", PackageStore(cache))
        with machine.boot(BootRequest(cached_kernels(cache)[-1], "n", folder)):
            print("booted", flush=True)
            time.sleep(600)
        """
    )
    user = subprocess.Popen(
        [sys.executable, "-c", code, str(store.cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    try:
        assert user.stdin is not None
        assert user.stdout is not None
        user.stdin.write(f"{folder}\n".encode())
        user.stdin.flush()
        if moment == "booted":
            assert user.stdout.readline() == b"booted\n"
        else:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                serial = folder / "serial.log"
                if serial.exists() and b"Linux version" in serial.read_bytes():
                    break
                time.sleep(0.05)
        assert len(processes(folder)) >= 4  # QEMU, the device, and a leash for each
    finally:
        user.kill()
        user.communicate()
    assert wait_gone(folder) == []
    assert sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file()) < 1 << 20


def test_a_device_that_cannot_start_is_the_labs_fault(
    store: PackageStore, newest: Candidate, tmp_path: Path
) -> None:
    request = BootRequest(newest, "n", tmp_path / "boot", faults=(Fault("no-such-fault"),))
    with (
        pytest.raises(LabError, match="no-such-fault") as caught,
        VirtualMachine("v", "npu4", store).boot(request),
    ):
        pass
    assert not isinstance(caught.value, BootError)
    assert wait_gone(tmp_path / "boot") == []
