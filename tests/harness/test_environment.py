"""Broken environments are named rightly, each with its next step, and never taken for the kernel's fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import environment, examine
from harness.environment import ExamineError, assess, collect, iommu_mode, module_origin
from lab.machine import Completed
from tests.harness.fakes import healthy_report


def report(**changes: dict[str, Any] | list[Any] | str | None) -> dict[str, Any]:
    """A healthy machine with some facts changed: a dict changes keys of its part, other values replace it."""
    made = healthy_report("n")
    for name, change in changes.items():
        made[name] = {**made[name], **change} if isinstance(change, dict) else change
    return made


def npu(**changes: Any) -> list[Any]:
    return [{**healthy_report("n")["npus"][0], **changes}]


def node(**changes: Any) -> list[Any]:
    return [{**healthy_report("n")["nodes"][0], **changes}]


BROKEN: list[tuple[str, bool, dict[str, Any]]] = [
    ("no-npu", True, report(npus=[], nodes=[])),
    ("no-driver", True, report(module={"loaded": False, "path": None}, npus=npu(driver=None), nodes=[])),
    ("driver-not-loaded", True, report(module={"loaded": False}, npus=npu(driver=None), nodes=[])),
    ("no-permission", True, report(nodes=node(allowed=False), user={"uid": 1000})),
    (
        "iommu-off",
        True,
        report(npus=npu(iommu_group=False, iommu_domain=None), module={"parameters": {}}, nodes=[]),
    ),
    ("firmware-missing", True, report(firmware=[], nodes=[])),
    (
        "firmware-missing",
        True,
        report(
            firmware=[{"path": "/lib/firmware/amdnpu/1502_00/npu.sbin", "size": 1, "sha256": ""}], nodes=[]
        ),
    ),
    (
        "firmware-missing",
        True,
        report(
            firmware=[{"path": "/lib/firmware/amdnpu/17f0_10/npu.sbin.zst.zst", "size": 1, "sha256": ""}],
            nodes=[],
        ),
    ),
    (
        "firmware-missing",
        True,
        report(
            kernel={"release": "6.19.14"},
            firmware=[{"path": "/lib/firmware/amdnpu/17f0_10/npu_7.sbin.xz", "size": 1, "sha256": ""}],
            nodes=[],
        ),
    ),
    ("other-driver", True, report(npus=npu(driver="vfio-pci"), nodes=[])),
    ("oops-before", True, report(kernel={"tainted": "4224"})),
    ("warning-before", False, report(kernel={"tainted": "512"})),
    ("xrt-mixed", False, report(xrt={"core": "2.25.0", "npu": "2.19.0"})),
    ("no-pytest", True, report(python={"pytest": None})),
    ("no-pytest", True, report(python={"pytest": "7.4.4"})),
    ("old-python", True, report(python={"version": "3.9.2"})),
    (
        "foreign-module",
        True,
        report(module={"taint": "OE", "path": "/lib/modules/x/updates/dkms/amdxdna.ko"}),
    ),
    ("memlock", False, report(user={"uid": 1000, "memlock_soft": 8 << 20})),
    ("memlock", True, report(user={"uid": 1000, "memlock_soft": 64 << 10})),
    ("kernel-log", False, report(kernel_log=None)),
    ("battery", False, report(power={"source": "battery"})),
]


@pytest.mark.parametrize(("name", "blocking", "facts"), BROKEN, ids=[row[0] for row in BROKEN])
def test_each_broken_environment_has_its_name_and_next_step(
    name: str, blocking: bool, facts: dict[str, Any]
) -> None:
    found = assess(facts, boot_facts={}, booted_by_us=False)
    problem = next(problem for problem in found.problems if problem.id == name)
    assert problem.blocking is blocking
    assert problem.cause
    assert problem.next_step
    assert bool(found.obstacles) is blocking


def test_a_healthy_machine_has_no_problem() -> None:
    assert assess(report(), boot_facts={}, booted_by_us=False).problems == ()


def test_a_driver_that_a_candidate_does_not_load_is_left_to_the_verdict() -> None:
    facts = report(module={"loaded": False}, npus=npu(driver=None), nodes=[])
    assert assess(facts, boot_facts={}, booted_by_us=True).obstacles == ()


def test_a_candidate_that_was_built_without_the_driver_is_no_subject() -> None:
    facts = report(module={"loaded": False, "path": None}, npus=npu(driver=None), nodes=[])
    obstacles = assess(facts, boot_facts={}, booted_by_us=True).obstacles
    assert [problem.id for problem in obstacles] == ["no-driver"]


def test_a_running_kernel_that_died_before_is_no_subject_and_one_we_booted_is() -> None:
    facts = report(kernel={"tainted": "128"})
    assert [p.id for p in assess(facts, boot_facts={}, booted_by_us=False).obstacles] == ["oops-before"]
    assert assess(facts, boot_facts={}, booted_by_us=True).problems == ()


def test_without_a_node_and_without_the_log_nobody_can_tell_why() -> None:
    facts = report(nodes=[], kernel_log=None, user={"uid": 1000})
    assert [p.id for p in assess(facts, boot_facts={}, booted_by_us=False).obstacles] == ["no-node"]
    readable = report(nodes=[])
    assert assess(readable, boot_facts={}, booted_by_us=False).obstacles == (), "the log decides"


def test_root_needs_no_memlock_limit() -> None:
    facts = report(user={"uid": 0, "memlock_soft": 8 << 20})
    assert assess(facts, boot_facts={}, booted_by_us=False).problems == ()


def test_the_digest_is_of_the_environment_not_of_the_boot() -> None:
    first = assess(report(), boot_facts={"seconds_boot": "8.1", "accelerator": "tcg"}, booted_by_us=True)
    other = report(kernel={"boot_id": "another", "uptime": 99.0, "release": "7.0.13"})
    second = assess(other, boot_facts={"seconds_boot": "9.9", "accelerator": "tcg"}, booted_by_us=True)
    assert first.digest == second.digest
    for changed in (
        report(firmware=[{"path": "/lib/firmware/amdnpu/17f0_10/npu_7.sbin", "sha256": "cd" * 32}]),
        report(npus=npu(firmware="1.0.0.63")),
        report(power={"profile": "performance"}),
        report(user={"uid": 1000}),
    ):
        assert assess(changed, boot_facts={"accelerator": "tcg"}, booted_by_us=True).digest != first.digest


@pytest.mark.parametrize(
    ("module", "origin"),
    [
        ({}, "in-tree"),
        ({"taint": "O"}, "out-of-tree"),
        ({"taint": "OE", "path": "/lib/modules/x/updates/dkms/amdxdna.ko.xz"}, "dkms"),
        ({"builtin": True}, "builtin"),
        ({"loaded": False}, "absent"),
    ],
)
def test_whose_module_it_is(module: dict[str, Any], origin: str) -> None:
    assert module_origin(report(module=module)) == origin


@pytest.mark.parametrize(
    ("parameters", "device", "mode"),
    [
        ({"force_iova": "Y"}, {"iommu_domain": "DMA-FQ"}, "force_iova"),
        ({"force_iova": "N"}, {"iommu_domain": "identity"}, "passthrough"),
        ({}, {"iommu_domain": "DMA"}, "translated"),
        ({}, {"iommu_group": False}, "off"),
        ({}, {"iommu_domain": None}, "unknown"),
    ],
)
def test_the_iommu_mode(parameters: dict[str, Any], device: dict[str, Any], mode: str) -> None:
    assert iommu_mode(report(module={"parameters": parameters}, npus=npu(**device))) == mode


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(report())), inner),
        max_leaves=20,
    )
)
def test_a_machine_may_say_anything_about_itself(said: Any) -> None:
    found = assess(said if isinstance(said, dict) else {}, boot_facts={}, booted_by_us=True)
    assert found.digest


class Answers:
    """A shell that gives one answer to everything."""

    def __init__(self, done: Completed) -> None:
        self.done = done

    def run(self, argv: Sequence[str], *, timeout: float, stdin: bytes | None = None) -> Completed:
        return self.done

    def stream(
        self, argv: Sequence[str], *, timeout: float, silence: float, on_line: Callable[[bytes], None]
    ) -> int:
        raise NotImplementedError

    put = read = stream  # type: ignore[assignment] - never called here


@pytest.mark.parametrize(
    ("done", "problem"),
    [
        (Completed(127, b"", b"sh: python3: not found"), "no-python"),
        (Completed(1, b"", b"Traceback: broken installation"), "examine-failed"),
        (Completed(0, b"no json at all", b""), "examine-failed"),
        (Completed(0, b"[1]", b""), "examine-failed"),
    ],
)
def test_a_machine_that_cannot_be_examined_is_a_named_problem(done: Completed, problem: str) -> None:
    with pytest.raises(ExamineError) as caught:
        collect(Answers(done), timeout=1.0)  # type: ignore[arg-type] - only run() is used
    assert caught.value.problem.id == problem


def test_the_examination_runs_as_text_on_a_bare_python_and_is_quick() -> None:
    program = Path(examine.__file__).read_bytes()
    done = subprocess.run(
        [sys.executable, "-I", "-"], input=program, capture_output=True, timeout=30, check=True
    )
    facts = json.loads(done.stdout)
    assert facts["errors"] == {}
    assert facts["kernel"]["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert facts["python"]["pytest"] == pytest.__version__
    assert {part.__name__ for part in examine.PARTS} <= set(facts)


def test_the_examination_spares_a_slow_machine_costly_imports() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", "-"],
        input=Path(examine.__file__).read_bytes(),
        capture_output=True,
        timeout=30,
        check=True,
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.decode().splitlines()}
    assert "json" in imported
    assert not imported & {"harness", "typing", "subprocess", "importlib.metadata", "email.message"}


@given(st.binary(max_size=64), st.binary(min_size=1, max_size=20))
def test_the_build_id_is_found_among_other_notes(noise: bytes, wanted: bytes) -> None:
    def note(name: bytes, kind: int, data: bytes) -> bytes:
        head = b"".join(n.to_bytes(4, "little") for n in (len(name), len(data), kind))
        return head + name.ljust((len(name) + 3) & ~3, b"\0") + data.ljust((len(data) + 3) & ~3, b"\0")

    data = note(b"Xen\0", 3, noise) + note(b"GNU\0", 5, noise) + note(b"GNU\0", 3, wanted)
    assert examine.build_id_of_notes(data) == wanted.hex()


@given(st.binary(max_size=200))
def test_broken_notes_give_no_build_id_but_no_error(data: bytes) -> None:
    examine.build_id_of_notes(data)


def test_the_module_is_found_where_modprobe_would_take_it(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text(
        "kernel/drivers/accel/ivpu/ivpu.ko.xz: x\nupdates/dkms/amdxdna.ko.zst: kernel/x.ko\n"
    )
    assert examine.module_path(tmp_path) == f"{tmp_path}/updates/dkms/amdxdna.ko.zst"
    assert examine.module_path(tmp_path / "none") is None


def test_every_unstartable_problem_exists() -> None:
    from harness.runner import UNSTARTABLE

    source = Path(environment.__file__).read_text()
    assert all(f'"{name}"' in source for name in UNSTARTABLE)
