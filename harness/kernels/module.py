"""Build the driver's module alone, for a stock kernel, and make a candidate of the two.

Only drivers/accel/amdxdna is compiled, against the stock kernel's headers; the stock kernel boots it instead
of its own module. What a commit builds to depends on its files, the headers and the compiler, so results are
kept under a digest of those, failures too: a revert, or a commit that changes nothing, costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import HarnessError
from harness.kernels.build_id import ModuleFacts, ModuleFileError, read_module_facts
from harness.kernels.build_root import BuildRoot, Workspace
from harness.kernels.history import CONFIGURE, HEADERS, DriverHistory, Sources
from harness.untrusted import clean, clean_bytes
from lab.cache import build_folder, write_atomically
from lab.machine import Candidate

RECIPE = 2  # of the build below; a new number forgets earlier results
BUILD_TIMEOUT = 900.0  # seconds, one make
CONFIGURE_TIMEOUT = 900.0  # seconds, one run of the vendor's configure script (22 probes)
MODULE_LIMIT = 128 << 20  # bytes of a module; with -g0 it has 1 MB
LOG_LIMIT = 1 << 20  # bytes kept of a build's output
MODULE = "amdxdna.ko"

#: ``aie2_pci.c:12:3: error: 'x' undeclared`` - a compiler's, make's or modpost's complaint
COMPLAINT = re.compile(r"(?:\berror:|\*\*\*|^ERROR: modpost:|No rule to make target).*", re.M)

#: Stands before make in the vendor's configure script. Its probes are tiny modules whose answer depends on
#: their text and the headers alone, and most recur in every version of the script.
PROBE_SHIM = """#!/bin/sh
for word; do case $word in M=*) folder=${word#M=} ;; esac; done
key=$(cat "$folder/Makefile" "$folder"/*.c | sha256sum | cut -c1-64)
if [ -f "/$PROBES/$key" ]; then exit "$(cat "/$PROBES/$key")"; fi
/usr/bin/make "$@" CONFIG_DEBUG_INFO_BTF_MODULES= CFLAGS_MODULE=-g0
status=$?
[ "$status" -gt 2 ] || echo "$status" > "/$PROBES/$key"
exit "$status"
"""


class ModuleBuildError(HarnessError):
    """This commit gives no module; the reason is the compiler's. It says nothing about the test."""


@dataclass(frozen=True)
class BuiltModule:
    """A module on disk and the proof to ask for when it runs."""

    path: Path
    build_id: str
    digest: str  # of sources, headers and recipe
    cached: bool
    seconds: Mapping[str, float] = field(default_factory=dict)  # configure, make


class ModuleBuilder:
    """Builds commits of one repository for one stock kernel."""

    def __init__(self, root: BuildRoot, history: DriverHistory, base: Candidate) -> None:
        self.root = root
        self.history = history
        self.base = base
        self._folder = root.cache / "modules" / base.release

    def digest(self, sha: str) -> str:
        """What names the module of this commit. SourcesError when its sources cannot be had."""
        return self._digest(self.history.sources(sha))

    def candidate(self, sha: str, title: str, say: Callable[[str], None]) -> tuple[Candidate, BuiltModule]:
        """The stock kernel with this commit's module, built now or before.

        Raises ModuleBuildError or SourcesError when the commit cannot be built (skip it), BuildRootError or
        LabError when building as such does not work.
        """
        built = self.build(sha, say)
        detail = {**self.base.detail, "commit": sha, "title": title}
        candidate = replace(
            self.base,
            origin=f"module:{built.digest[:16]}",
            module=built.path,
            module_build_id=built.build_id,
            detail=detail,
        )
        return candidate, built

    def build(self, sha: str, say: Callable[[str], None] = lambda _text: None) -> BuiltModule:
        """The module of one commit; errors as ``candidate``."""
        sources = self.history.sources(sha)
        digest = self._digest(sources)
        target = self._folder / digest[:16]
        seconds: dict[str, float] = {}
        fresh = not target.is_dir()
        if fresh:
            build_folder(self.root.cache, target, lambda folder: self._fill(folder, sources, seconds, say))
        try:
            result = json.loads((target / "result.json").read_text())
        except (OSError, ValueError) as error:
            raise HarnessError(
                f"the cached build {target} is damaged ({error}); remove the folder"
            ) from error
        if "failed" in result:
            raise ModuleBuildError(f"does not build: {result['failed']}")
        return BuiltModule(target / MODULE, str(result["build_id"]), digest, not fresh, seconds)

    def _digest(self, sources: Sources) -> str:
        return hashlib.sha256(f"{RECIPE} {self.root.folder.name} {sources.digest}".encode()).hexdigest()

    def _fill(
        self, folder: Path, sources: Sources, seconds: dict[str, float], say: Callable[[str], None]
    ) -> None:
        """Build into ``folder``; a failure that is the commit's own becomes its result."""
        with self.root.workspace() as workspace:
            self.history.write(sources, workspace.folder)
            try:
                if sources.layout.name == "vendor":
                    say("asking what this kernel offers (configure_kernel.sh)")
                    with _timed(seconds, "configure"):
                        self._configure(workspace)
                say("building the module")
                with _timed(seconds, "make"):
                    log = self._make(workspace, sources)
                content = _taken(workspace.folder / sources.layout.driver / MODULE)
                facts = self._checked(content)
            except (ModuleBuildError, ModuleFileError) as error:
                write_atomically(folder / "result.json", json.dumps({"failed": str(error)}).encode())
                return
        write_atomically(folder / "build.log", log)
        write_atomically(folder / MODULE, content)
        write_atomically(folder / "result.json", json.dumps({"build_id": facts.build_id}).encode())

    def _checked(self, content: bytes) -> ModuleFacts:
        """What the module says of itself; it must be made for the base kernel (its vermagic is compared)."""
        facts = read_module_facts(content)
        if facts.release != self.base.release:
            raise ModuleFileError(f"made for {facts.release}, not for {self.base.release}")
        return facts

    def _make(self, workspace: Workspace, sources: Sources) -> bytes:
        driver = f"{workspace.inside}/{sources.layout.driver}".rstrip("/")
        words = [
            "make", f"-j{os.cpu_count() or 1}", "-C", self.root.headers, f"M={driver}",
            "CONFIG_DEBUG_INFO_BTF_MODULES=",  # the headers' vmlinux would serve, but BTF costs 3 s a build
            *_flags(sources, workspace.inside, self.root), "modules",
        ]  # fmt: skip
        result = self.root.run(workspace, words, timeout=BUILD_TIMEOUT)
        log = (result.stdout + result.stderr)[-LOG_LIMIT:]
        if result.status != 0:
            raise ModuleBuildError(_complaint(log, result.status))
        return log

    def _configure(self, workspace: Workspace) -> None:
        """Make config_kernel.h with the commit's own script, remembered by the script's content."""
        script = (workspace.folder / CONFIGURE).read_bytes()
        known = self._folder / f"config-{hashlib.sha256(script).hexdigest()[:16]}.h"
        target = workspace.folder / sources_folder(CONFIGURE) / "config_kernel.h"
        if not known.is_file():
            write_atomically(known, self._probe(workspace))
        shutil.copyfile(known, target)

    def _probe(self, workspace: Workspace) -> bytes:
        probes, shim = self._folder / "probes", workspace.folder / ".shim"
        probes.mkdir(parents=True, exist_ok=True)
        inner = workspace.folder / ".probes"
        shutil.copytree(probes, inner)
        shim.mkdir()
        (shim / "make").write_text(PROBE_SHIM)
        (shim / "make").chmod(0o755)
        result = self.root.run(
            workspace,
            ["bash", f"{workspace.inside}/{CONFIGURE}"],
            timeout=CONFIGURE_TIMEOUT,
            environment={
                "PATH": f"{workspace.inside}/.shim:/usr/local/bin:/usr/sbin:/usr/bin",
                "PROBES": f"{workspace.inside}/.probes".lstrip("/"),
                "KERNEL_VER": self.base.release,
                "KERNEL_SRC": self.root.headers,
                "OUT": f"{workspace.inside}/config_kernel.h",
            },
        )
        if result.status != 0:
            raise ModuleBuildError(f"configure_kernel.sh: {_complaint(result.stderr, result.status)}")
        for answer in inner.iterdir():
            if re.fullmatch(r"[0-9a-f]{64}", answer.name) and not (probes / answer.name).exists():
                write_atomically(probes / answer.name, _taken(answer, 4))
        return _taken(workspace.folder / "config_kernel.h", LOG_LIMIT)


def sources_folder(configure: str) -> str:
    """drivers/accel/tools/configure_kernel.sh -> drivers/accel/amdxdna, where its header is expected."""
    return str(Path(configure).parent.parent / "amdxdna")


def _flags(sources: Sources, inside: str, root: BuildRoot) -> list[str]:
    """What make is told besides, by layout (facts module-build.md sections 3c and 3d).

    CFLAGS_MODULE comes after the driver's own flags, so it can take back their -g and -Werror: a warning of
    this compiler is no reason to skip a commit.
    """
    if sources.layout.name == "vendor":
        defines = """-DAMDXDNA_DEVEL -DMODULE_VER_STR='"xdnawatch"' -g0 -Wno-error"""
        # Without PCI its Kbuild silently leaves out every file of the PCI devices.
        return ["OFT_CONFIG_AMDXDNA_PCI=y", "OFT_CONFIG_AMDXDNA_OF=n", f"CFLAGS_MODULE={defines}"]
    flags = ["CFLAGS_MODULE=-g0 -Wno-error"]
    if any(file.path in HEADERS for file in sources.files):
        # The commit's own uapi and trace headers come before those of the kernel's header package; what they
        # include beside them ("drm.h") is found there in the end.
        own = f"-I{inside}/include -I{inside}/include/uapi"
        flags.append(f"NOSTDINC_FLAGS=-nostdinc {own} -idirafter {root.common_headers}/include/uapi/drm")
    return flags


def _complaint(log: bytes, status: int) -> str:
    """The first complaint in a build's output, in one line."""
    text = clean_bytes(log, LOG_LIMIT // 4)
    match = COMPLAINT.search(text)
    if match is None:
        return f"make ended with status {status}"
    line = text[text.rfind("\n", 0, match.start()) + 1 : match.end()]
    return clean(line.replace("/build/", "").strip(), 300)


def _taken(path: Path, limit: int = MODULE_LIMIT) -> bytes:
    """A file that a build made: only a regular one, and not larger than it can be."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ModuleBuildError(f"the build made no {path.name}") from error
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
            raise ModuleBuildError(f"the build made a {path.name} that is no file of a sensible size")
        return file.read()


class _timed:  # noqa: N801 - reads as a verb at its use
    """Add the monotonic seconds of a block to ``seconds[name]``."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._begin = time.monotonic()

    def __exit__(self, *_what: object) -> None:
        self._seconds[self._name] = round(time.monotonic() - self._begin, 3)
