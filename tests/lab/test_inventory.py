"""Names become machines; a wrong name or a wrong setting is one clear sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lab.inventory import UnknownMachineError, resolve
from lab.machine import BootRequest, Candidate, Fault, LabError
from lab.packages.store import PackageStore
from lab.settings import MachineSettings


@pytest.fixture
def store(tmp_path: Path) -> PackageStore:
    return PackageStore(tmp_path, "http://127.0.0.1:9/none")


@pytest.mark.parametrize("generation", ["npu1", "npu4", "npu5", "npu6"])
def test_every_virtual_generation_is_built_in(store: PackageStore, generation: str) -> None:
    machine = resolve(f"virtual-{generation}", (), store)
    assert (machine.kind, machine.generation, machine.simulated) == ("virtual", generation, True)
    assert machine.boots_candidates


@pytest.mark.parametrize("name", ["me@minipc", "root@127.0.0.1", "a.b@host.example"])
def test_a_destination_needs_no_entry(store: PackageStore, name: str) -> None:
    machine = resolve(name, (), store)
    assert (machine.kind, machine.name, machine.simulated) == ("ssh", name, False)
    assert not machine.boots_candidates


def test_a_listed_machine_goes_before_a_built_in_one(store: PackageStore) -> None:
    listed = [MachineSettings(name="virtual-npu4", virtual="npu5"), MachineSettings(name="lap", ssh="minipc")]
    assert resolve("virtual-npu4", listed, store).generation == "npu5"
    assert resolve("lap", listed, store).kind == "ssh"


@pytest.mark.parametrize("name", ["minipc", "-oProxyCommand=x@h", "a@-b", "a b@c", "", "@h"])
def test_another_name_lists_the_known_machines(store: PackageStore, name: str) -> None:
    with pytest.raises(UnknownMachineError, match="virtual-npu4") as caught:
        resolve(name, [MachineSettings(name="lap", ssh="minipc")], store)
    assert "lap" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"virtual": "npu4", "ssh": "me@h"}, "exactly one"),
        ({}, "exactly one"),
        ({"virtual": "npu9"}, "npu1, npu4"),
        ({"virtual": "npu4", "port": 22}, "for ssh"),
        ({"ssh": "me@h", "protocol": "6.24"}, "for virtual"),
        ({"ssh": "me@h", "watchdog": "i6300esb"}, "for virtual"),
        ({"virtual": "npu4", "watchdog": "dog"}, "there are i6300esb"),
        ({"virtual": "npu4", "protocol": "6"}, "protocol version"),
        ({"ssh": "-oProxyCommand=x"}, "no destination"),
        ({"ssh": "me@h", "identity": "keys/id"}, "absolute"),
        ({"ssh": "me@h", "port": 0}, "greater than"),
        ({"ssh": "me@h", "prot": 22}, "[Ee]xtra"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        MachineSettings(name="m", **entry)


def test_a_real_machine_takes_no_kernel_and_no_fault(store: PackageStore, tmp_path: Path) -> None:
    machine = resolve("me@minipc", (), store)
    candidate = Candidate("7.3.4+deb13-amd64", "7.3.4", "debian", tmp_path, tmp_path)
    with pytest.raises(LabError, match="--kernel"), machine.boot(BootRequest(candidate, "n", tmp_path)):
        pass
    request = BootRequest(None, "n", tmp_path, faults=(Fault("x"),))
    with pytest.raises(LabError, match="virtual NPU"), machine.boot(request):
        pass


def test_a_virtual_machine_needs_a_kernel_and_a_plain_nonce(store: PackageStore, tmp_path: Path) -> None:
    machine = resolve("virtual-npu4", (), store)
    with pytest.raises(LabError, match="name one"), machine.boot(BootRequest(None, "n", tmp_path)):
        pass
    candidate = Candidate("7.3.4+deb13-amd64", "7.3.4", "debian", tmp_path, tmp_path)
    with pytest.raises(LabError, match="nonce"), machine.boot(BootRequest(candidate, "n init=/x", tmp_path)):
        pass
