"""Module builds with a build root made of rules: what is kept, what is skipped, what is never trusted."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.kernels.build_id import ModuleFileError, read_module_facts
from harness.kernels.build_root import (
    LAUNCHERS,
    BuildRoot,
    BuildRootError,
    Launcher,
    Workspace,
    choose_launcher,
)
from harness.kernels.history import DriverHistory
from harness.kernels.module import ModuleBuilder, ModuleBuildError
from lab.machine import Candidate, Completed

Commit = Callable[[str, Mapping[str, str]], str]
DRIVER = "drivers/accel/amdxdna"
CONFIGURE = "drivers/accel/tools/configure_kernel.sh"
RELEASE = "7.3.4+deb13-amd64"


def module_file(build_id: bytes = b"\x12" * 20, release: str = RELEASE) -> bytes:
    """A kernel module as far as its facts go: section names, .modinfo and a build id note."""
    names = b"\0.modinfo\0.note.gnu.build-id\0.shstrtab\0"
    info = b"license=GPL\0vermagic=" + release.encode() + b" SMP preempt mod_unload \0"
    note = struct.pack("<III", 4, len(build_id), 3) + b"GNU\0" + build_id
    parts = (names, info, note)
    offsets, body = [], b""
    for part in parts:
        offsets.append(64 + len(body))
        body += part + b"\0" * (-len(part) % 8)
    rows = [
        (0, 0, 0, 0),
        (27, 3, offsets[0], len(names)),
        (1, 1, offsets[1], len(info)),
        (10, 7, offsets[2], len(note)),
    ]
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0)
        for name, kind, offset, size in rows
    )
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, 4, 1
    )
    return head + body + table


class FakeRoot(BuildRoot):
    """A build root whose commands are a Python function; it counts them."""

    commands: list[tuple[str, ...]]
    act: Callable[[Workspace, Sequence[str]], Completed]

    def run(
        self,
        workspace: Workspace,
        argv: Sequence[str],
        *,
        timeout: float,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        self.commands.append(tuple(argv))
        return self.act(workspace, argv)


@dataclass
class Bench:
    """One repository and one builder whose compiler obeys the sources: a file `fail` makes it fail."""

    builder: ModuleBuilder
    root: FakeRoot
    product: bytes = field(default_factory=module_file)

    def compile(self, workspace: Workspace, argv: Sequence[str]) -> Completed:
        folder = workspace.folder / DRIVER
        if argv[0] == "bash":
            (workspace.folder / "config_kernel.h").write_text("#define HAVE_X 1\n")
            (workspace.folder / ".probes" / ("0" * 64)).write_text("0\n")
            return Completed(0, b"", b"")
        if (folder / "fail").exists():
            noise = b"  CC [M]  x.o\n/build/%s/x.c:7:2: error: 'y' undeclared\nmake: *** stop\n"
            noise %= DRIVER.encode()
            return Completed(2, b"", noise)
        if not (folder / "none").exists():
            (folder / "amdxdna.ko").write_bytes(self.product)
        return Completed(0, b"LD [M] amdxdna.ko\n", b"")


@pytest.fixture
def bench(repository: Path, tmp_path: Path, commit: Commit) -> Iterator[Bench]:
    commit("start", {f"{DRIVER}/Makefile": "obj-m := amdxdna.o\n"})
    root = FakeRoot(tmp_path / "root", RELEASE, LAUNCHERS[0], tmp_path / "cache")
    object.__setattr__(root, "commands", [])
    base = Candidate(RELEASE, "7.3.4", "debian", tmp_path / "vmlinuz", tmp_path / "modules")
    made = Bench(ModuleBuilder(root, DriverHistory(repository), base), root)
    object.__setattr__(root, "act", made.compile)
    yield made
    assert not list((tmp_path / "cache" / "build-work").glob("*")), "a work folder was left behind"


def test_a_commit_becomes_a_candidate_with_its_proof(bench: Bench, commit: Commit) -> None:
    sha = commit("change", {f"{DRIVER}/x.c": "1\n"})
    candidate, built = bench.builder.candidate(sha, "change", lambda _text: None)
    assert candidate.module == built.path
    assert built.path.read_bytes() == bench.product
    assert candidate.module_build_id == "12" * 20
    assert (candidate.release, candidate.version) == (RELEASE, "7.3.4")
    assert candidate.origin == f"module:{built.digest[:16]}"
    assert candidate.detail["commit"] == sha
    assert "make" in built.seconds
    assert f"M=/build/{DRIVER}" in bench.root.commands[0]


def test_equal_sources_are_built_once(bench: Bench, commit: Commit) -> None:
    first = commit("change", {f"{DRIVER}/x.c": "1\n"})
    second = commit("elsewhere", {"mm/slab.c": "1\n"})
    assert not bench.builder.build(first).cached
    assert bench.builder.build(second).cached
    assert bench.builder.digest(first) == bench.builder.digest(second)
    assert len(bench.root.commands) == 1


def test_a_commit_that_does_not_compile_is_remembered_with_the_compilers_words(
    bench: Bench, commit: Commit
) -> None:
    sha = commit("broken", {f"{DRIVER}/fail": ""})
    for _turn in range(2):
        with pytest.raises(
            ModuleBuildError, match=r"does not build: drivers/accel/.*x\.c:7:2: error: 'y' undecl"
        ):
            bench.builder.build(sha)
    assert len(bench.root.commands) == 1


@pytest.mark.parametrize(
    ("product", "reason"),
    [
        (module_file(release="7.2.12+deb13-amd64"), r"made for 7\.2\.12"),
        (module_file(build_id=b""), "no GNU build id"),
        (b"\x7fELF\x02\x01 and then nothing", "damaged"),
        (b"MZ", "not a 64-bit"),
    ],
)
def test_a_product_that_proves_nothing_is_no_candidate(
    bench: Bench, commit: Commit, product: bytes, reason: str
) -> None:
    bench.product = product
    with pytest.raises(ModuleBuildError, match=reason):
        bench.builder.build(commit("change", {f"{DRIVER}/x.c": "1\n"}))


def test_a_link_in_place_of_the_module_is_not_followed(bench: Bench, commit: Commit, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(module_file())

    def link(workspace: Workspace, _argv: Sequence[str]) -> Completed:
        (workspace.folder / DRIVER / "amdxdna.ko").symlink_to(secret)
        return Completed(0, b"", b"")

    object.__setattr__(bench.root, "act", link)
    with pytest.raises(ModuleBuildError, match=r"made no amdxdna\.ko"):
        bench.builder.build(commit("change", {f"{DRIVER}/x.c": "1\n"}))


def test_a_broken_build_root_is_no_verdict_on_the_commit(bench: Bench, commit: Commit) -> None:
    """Nothing is remembered: the next try builds again."""
    sha = commit("change", {f"{DRIVER}/x.c": "1\n"})

    def broken(_workspace: Workspace, _argv: Sequence[str]) -> Completed:
        raise BuildRootError("make ran past 900 s")

    object.__setattr__(bench.root, "act", broken)
    with pytest.raises(BuildRootError):
        bench.builder.build(sha)
    object.__setattr__(bench.root, "act", bench.compile)
    assert not bench.builder.build(sha).cached


def test_the_vendors_script_runs_once_per_text(bench: Bench, commit: Commit, tmp_path: Path) -> None:
    """Its answers are kept by its content, each probe's by the probe's own."""
    files = {f"{DRIVER}/Kbuild": "", CONFIGURE: "#!/bin/sh\n# 1\n"}
    commits = [commit("start", files)]
    commits.append(commit("change", {f"{DRIVER}/x.c": "1\n"}))
    commits.append(commit("script", {CONFIGURE: "#!/bin/sh\n# 2\n"}))
    for sha in commits:
        bench.builder.build(sha)
    assert [words[0] for words in bench.root.commands] == ["bash", "make", "make", "bash", "make"]
    makes = [words for words in bench.root.commands if words[0] == "make"]
    assert all("OFT_CONFIG_AMDXDNA_PCI=y" in words for words in makes), "else no PCI device is compiled in"
    assert (tmp_path / "cache/modules" / RELEASE / "probes" / ("0" * 64)).read_text() == "0\n"


def test_own_headers_come_before_the_kernels(bench: Bench, commit: Commit) -> None:
    bench.builder.build(commit("uapi", {"include/uapi/drm/amdxdna_accel.h": "#define X 1\n"}))
    words = " ".join(bench.root.commands[0])
    assert "NOSTDINC_FLAGS=-nostdinc -I/build/include -I/build/include/uapi" in words


@given(st.binary(max_size=400), st.integers(0, 400))
def test_any_bytes_are_read_or_refused(noise: bytes, place: int) -> None:
    whole = bytearray(module_file())
    whole[place : place + len(noise)] = noise
    for data in (noise, bytes(whole)):
        try:
            facts = read_module_facts(data)
        except ModuleFileError:
            continue
        assert facts.build_id


def test_a_machine_without_a_way_in_is_told_in_one_line(tmp_path: Path) -> None:
    """Each way is named with its own reason, then what would help."""
    broken = Launcher("user namespace", needs_root=False, unshare=("--no-such-flag",))
    with pytest.raises(BuildRootError) as caught:
        choose_launcher(tmp_path, (broken,))
    text = str(caught.value)
    assert text.startswith("no way to enter the build root")
    assert "user namespace: " in text
    assert text.endswith("allow unprivileged user namespaces, or run as root")
    assert "\n" not in text
