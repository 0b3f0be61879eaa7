"""Who may do what: the node's mode, the one ioctl for root, the others for everybody with a descriptor."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.suite import contract, guard, uapi
from harness.suite.child import NOBODY, as_user, outcome
from harness.suite.device import Context, Device, anonymous
from harness.suite.tests.conftest import Carries, Expect, Record

SOME_GROUP = 4242  # nobody's, in a virtual machine


def _with(node: str, work: object) -> object:
    """Run ``work(device)`` as nobody on a node that was opened with the caller's rights."""
    opened: list[Device] = []

    def before() -> None:
        opened.append(Device(node))

    def run() -> object:
        assert callable(work)
        return work(opened[0])

    return as_user(NOBODY, run, before)


@pytest.mark.root
def test_open_as_nobody(node: str, record: Record) -> None:
    """Who is neither root nor in the node's group is refused, unless the mode says otherwise."""
    mode = stat.S_IMODE(Path(node).stat().st_mode)
    record("mode", oct(mode))

    def ask() -> object:
        with Device(node):
            return "ok"

    got = as_user(NOBODY, ask)
    record("result", got)
    assert got == ("ok" if mode & 0o006 == 0o006 else "EACCES")


@pytest.fixture
def group(node: str) -> Iterator[int]:
    """The node's group. In a virtual machine, where the node is root's alone, it gets one for the test."""
    found = Path(node).stat()
    if found.st_gid or not guard.virtual():
        if not found.st_gid:
            pytest.skip(contract.ENVIRONMENT_PREFIX + f"group: {node} belongs to no group of users")
        yield found.st_gid
        return
    os.chown(node, -1, SOME_GROUP)
    os.chmod(node, 0o660)  # noqa: PTH101 - beside chown, which Path lacks for numbers before 3.13
    try:
        yield SOME_GROUP
    finally:
        os.chown(node, -1, found.st_gid)
        os.chmod(node, stat.S_IMODE(found.st_mode))  # noqa: PTH101 - see above


@pytest.mark.root
def test_open_as_a_member_of_the_group(node: str, group: int, record: Record) -> None:
    """A user of the node's group (render) opens it and asks; SET_STATE stays root's. Others are refused."""

    def ask() -> object:
        with Device(node) as client:
            client.metadata()
            return ["opened", outcome(lambda: client.set_power_mode(uapi.PowerMode.DEFAULT))]

    got = as_user(NOBODY, ask, groups=[group])
    record("result", got)
    assert got == ["opened", "EACCES"]
    if stat.S_IMODE(Path(node).stat().st_mode) & 0o006 == 0:
        assert as_user(NOBODY, ask) == "EACCES"


@pytest.mark.root
@pytest.mark.negative
@pytest.mark.parametrize("param", [0, 3, 77], ids=["power-mode", "preempt", "unknown"])
def test_set_state_needs_root(node: str, param: int, record: Record) -> None:
    """SET_STATE without CAP_SYS_ADMIN is EACCES whatever it asks for."""

    def ask(device: Device) -> object:
        device.set_state(param, uapi.SetPowerMode())
        return "ok"

    got = _with(node, ask)
    record("result", got)
    assert got == "EACCES"


@pytest.mark.root
def test_power_mode_stays_when_refused(node: str, device: Device) -> None:
    """A refused change of the power mode changes nothing."""
    before = device.power_mode()

    def ask(client: Device) -> object:
        client.set_power_mode(uapi.PowerMode.HIGH)
        return "ok"

    assert _with(node, ask) == "EACCES"
    assert device.power_mode() == before


@pytest.mark.root
@pytest.mark.parametrize(
    "param", [uapi.Info.AIE_METADATA, uapi.Info.FIRMWARE_VERSION, uapi.Info.POWER_MODE], ids=["a", "f", "p"]
)
def test_queries_as_nobody(node: str, param: int) -> None:
    """Whoever has a descriptor may ask about the device."""

    def ask(device: Device) -> object:
        device.info(param, uapi.QueryAieMetadata())
        return "ok"

    assert _with(node, ask) == "ok"


@pytest.mark.root
def test_buffers_as_nobody(node: str) -> None:
    """Whoever has a descriptor may make buffers."""

    def ask(device: Device) -> object:
        device.free(device.buffer(uapi.Bo.SHARE, uapi.PAGE))
        return "ok"

    assert _with(node, ask) == "ok"


@pytest.mark.root
@pytest.mark.negative
@pytest.mark.parametrize(("limit", "error"), [(0, "EPERM"), (65536, "ENOMEM")], ids=["none", "too-little"])
def test_user_memory_needs_the_right_to_lock(node: str, limit: int, error: str, record: Record) -> None:
    """Memory of a process is pinned: without CAP_IPC_LOCK only within RLIMIT_MEMLOCK."""

    def ask(device: Device) -> object:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
        memory = anonymous(1 << 20)
        device.free(device.wrap(memory.address, memory.size))
        return "ok"

    got = _with(node, ask)
    record("result", got)
    assert got == error


@pytest.mark.root
def test_other_users_contexts_are_listed(
    node: str, bare_context: Context, expect: Expect, carries: Carries, record: Record
) -> None:
    """Whether another user sees our context: measured, as the main line shows all."""
    if expect("get-array") != "ok" or not carries("contexts-survive-fork"):
        pytest.skip("contexts cannot be listed on this kernel, or end with any child of their process")
    pid = os.getpid()

    def ask(device: Device) -> object:
        return [int(entry.context_id) for entry in device.contexts() if entry.pid == pid]

    seen = _with(node, ask)
    assert isinstance(seen, list)
    record("seen", bare_context.handle in seen)
    assert set(seen) <= {bare_context.handle}
