"""The virtual machine's pure parts: IOMMU by release, command lines, faults, and what a dead boot means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.machine import Fault, LabError
from lab.virtual import qemu, watchdogs
from lab.virtual.device import fault_argument
from lab.virtual.iommu import SVA, iommu_mode
from lab.virtual.kernels import numbers_of
from lab.virtual.machine import command_line
from lab.virtual.outcome import boot_failure, panic_reason
from lab.virtual.qemu_install import Qemu
from lab.virtual.qmp import QmpEvent


@pytest.mark.parametrize(
    ("version", "mode"),
    [
        ("6.18.15", "sva"),
        ("6.19.14", "sva"),
        ("7.0.13", "sva"),
        ("7.1.3", "force_iova"),
        ("7.1~rc1", "force_iova"),
        ("7.3.4", "force_iova"),
        ("7.10", "force_iova"),
        ("10.0", "force_iova"),
    ],
)
def test_the_iommu_mode_follows_the_release(version: str, mode: str) -> None:
    chosen = iommu_mode(numbers_of(version))
    assert chosen.name == mode
    assert ("amdxdna.force_iova=1" in chosen.command_line) == (mode == "force_iova")
    assert ("caching-mode=on" in chosen.device) == (mode == "force_iova")


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(LabError, match=r"like 7\.3\.4"):
        numbers_of("mainline")


def test_qemu_gets_the_iommu_before_the_device_and_no_port_of_ours(tmp_path: Path) -> None:
    layout = qemu.VmLayout(
        Path("/vmlinuz"), Path("/initramfs"), "console=ttyS0", tmp_path / "a,b.log", tmp_path / "qmp",
        tmp_path / "npu.sock", iommu_mode((7, 0)),
    )  # fmt: skip
    words = qemu.command(Qemu(("qemu",)), qemu.TCG, layout)
    devices = [words[i + 1] for i, word in enumerate(words) if word == "-device"]
    assert devices[0].startswith("intel-iommu")
    assert json.loads(devices[1])["driver"] == "vfio-user-pci"
    cpu = words[words.index("-cpu") + 1].split(",")
    assert {"max", "-hypervisor", "-la57"} <= set(cpu)
    assert f"file:{tmp_path}/a,,b.log" in words
    assert any("hostfwd=tcp:127.0.0.1:0-:22" in word and "restrict=on" in word for word in words)


@pytest.mark.parametrize(
    ("shared", "memory"),
    [(True, "memory-backend-memfd,share=on"), (False, "memory-backend-ram,share=off")],
)
def test_the_guests_memory_has_a_file_or_none(shared: bool, memory: str) -> None:
    layout = qemu.VmLayout(Path("v"), Path("i"), "", Path("s"), Path("q"), None, None, (), shared)
    assert f"{memory},id=mem,size={qemu.MEMORY}" in qemu.command(Qemu(("qemu",)), qemu.TCG, layout)


@pytest.mark.parametrize("name", sorted(watchdogs.CARDS))
def test_a_watchdog_is_on_both_command_lines_and_absent_without(name: str) -> None:
    card = watchdogs.card(name)
    layout = qemu.VmLayout(Path("v"), Path("i"), "", Path("s"), Path("q"), None, None, card.arguments)
    words = qemu.command(Qemu(("qemu",)), qemu.TCG, layout)
    assert " ".join(card.arguments) in " ".join(words)
    assert f"xdnawatch.modules={','.join(card.modules)}" in command_line(SVA, "n", "", card.modules).split()
    assert "xdnawatch.modules" not in command_line(SVA, "n", "")
    with pytest.raises(LabError, match="there are i6300esb"):
        watchdogs.card("dog")


def test_the_command_line_carries_the_nonce_and_ends_panics() -> None:
    line = command_line(iommu_mode((7, 3)), "abc", "debug")
    assert {"xdnawatch.nonce=abc", "panic=-1", "no_timer_check", "console=ttyS0", "debug"} <= set(
        line.split()
    )


def test_faults_become_arguments_and_nothing_else() -> None:
    assert (
        fault_argument(Fault("drop-reply", {"opcode": "0x18", "count": "1"}))
        == "drop-reply:opcode=0x18,count=1"
    )
    assert fault_argument(Fault("dead")) == "dead"
    assert fault_argument(Fault("drop", {"message": "CHAIN_EXEC_*"})) == "drop:message=CHAIN_EXEC_*"
    for bad in (
        Fault("a b"),
        Fault("x", {"k": "1,j=2"}),
        Fault("x", {"": "1"}),
        Fault("--socket", {"k": "$(x)"}),
    ):
        with pytest.raises(LabError):
            fault_argument(bad)


PANIC = "[ 1.0] Linux version 7.3.4\n[ 2.0] Kernel panic - not syncing: Attempted to kill init! code=1\n"


@pytest.mark.parametrize(
    ("serial", "status", "kind", "words"),
    [
        (PANIC, None, "panic", "Attempted to kill init!"),
        (PANIC, 0, "panic", "Attempted to kill init!"),  # a panic ends QEMU: the panic is the cause
        ("[ 0.0] Linux version 7.3.4\nlast words\n\n", None, "hang", "last words"),
        ("SeaBIOS\r\n", None, "no-boot", "no line from the kernel"),
        ("", None, "no-boot", "no line from the kernel"),
        ("[ 0.0] Linux version 7.3.4\n", 137, "early-exit", "status 137"),
        ("", 1, "early-exit", "could not load kernel"),
    ],
)
def test_a_dead_boot_is_classified(serial: str, status: int | None, kind: str, words: str) -> None:
    said = "qemu: could not load kernel" if status == 1 else ""
    error = boot_failure(serial, status=status, events=[], said=said, waited=12.0)
    assert error.kind == kind
    assert words in str(error)


def test_an_early_exit_names_what_qemu_saw() -> None:
    events = [QmpEvent("RESET", {}), QmpEvent("SHUTDOWN", {"reason": "guest-reset"})]
    error = boot_failure("Linux version 7", status=0, events=events, said="", waited=1.0)
    assert "guest-reset" in str(error)


def test_a_panic_reason_is_bounded_and_needs_the_kernels_words() -> None:
    assert panic_reason("Kernel panic - not syncing: " + "x" * 5000) == "x" * 300
    assert panic_reason("Kernel panic - not syncing: \n") == "no reason given"
    assert panic_reason("I do not panic") is None
