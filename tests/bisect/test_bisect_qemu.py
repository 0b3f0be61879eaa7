"""A real bisection: our own tiny driver's history, built against real headers, booted on the virtual NPU.

The driver (tiny/amdxdna.c) only makes an accel node; one of its commits refuses every open. The compiler and
the headers must be in the cache already (`xdnawatch bisect fetch`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from db.database import Database
from harness.bisect.campaign import run_campaign
from harness.bisect.judge import RunJudge
from harness.bisect.record import Question, load_steps, open_campaign
from harness.bisect.search import Halving, Outcome, Verdict
from harness.bisect.subjects import DriverCommits, commit_range
from harness.kernels.build_root import (
    LAUNCHERS,
    BuildRoot,
    BuildRootError,
    Launcher,
    choose_launcher,
    open_build_root,
)
from harness.kernels.history import DriverHistory
from harness.kernels.module import ModuleBuilder
from lab.inventory import resolve
from lab.machine import Candidate, LabError
from lab.packages.store import PackageStore
from lab.virtual.kernels import cached_kernels

pytestmark = [pytest.mark.qemu, pytest.mark.slow, pytest.mark.timeout(900)]

Commit = Callable[[str, Mapping[str, str]], str]
KERNEL = "7.3.4"
TEST = "test_presence.py::test_node_opens"
TINY = Path(__file__).parent / "tiny" / "amdxdna.c"
OPENS = "return 0; /* anyone may open it */"


@pytest.fixture(scope="module")
def base(lab_cache: Path) -> Candidate:
    found = [kernel for kernel in cached_kernels(lab_cache) if kernel.version == KERNEL]
    if not found:
        pytest.skip(
            f"kernel {KERNEL} is not in the cache (`xdnawatch lab fetch --kernel {KERNEL}` brings it)"
        )
    return found[0]


@pytest.fixture
def root(lab_cache: Path, base: Candidate) -> BuildRoot:
    if not list((lab_cache / "build-roots").glob(f"{base.release}-*")):
        pytest.skip(f"no compiler for {base.release} in the cache (`xdnawatch bisect fetch` brings it)")
    store = PackageStore(lab_cache)
    try:
        return open_build_root(store, base.detail["package"].rpartition(" ")[2], base.release)
    except (BuildRootError, LabError) as error:
        pytest.skip(f"no module can be built here: {error}")


def test_a_culprit_among_modules_built_and_booted(
    root: BuildRoot, base: Candidate, repository: Path, commit: Commit, database: Database, tmp_path: Path
) -> None:
    source = TINY.read_text()
    assert OPENS in source
    broken = source.replace(OPENS, "return -EBUSY;")
    good = commit("tiny: start", {"Kbuild": "obj-m := amdxdna.o\n", "amdxdna.c": source})
    culprit = commit("tiny: count the clients", {"amdxdna.c": broken})
    bad = commit("tiny: say even more", {"amdxdna.c": broken.replace("a driver", "still a driver")})

    history = DriverHistory(repository)
    found = commit_range(history, good, bad)
    question = Question(
        "driver-history", "virtual-npu4", TEST, good, bad, found.subjects, KERNEL, str(repository)
    )
    machine = resolve("virtual-npu4", (), PackageStore(root.cache))
    judge = RunJudge(
        machine, TEST, DriverCommits(ModuleBuilder(root, history, base)), tmp_path / "runs", database
    )
    campaign_id, _ = open_campaign(database, question, Halving())
    answer = run_campaign(database, campaign_id, judge, Halving())
    steps = load_steps(database, campaign_id)
    told = [(step.subject.title, step.verdict, step.reason) for step in steps]
    assert answer.outcome is Outcome.CULPRIT, told
    assert found.subjects[answer.suspects[0]].id == culprit, told
    assert answer.probability == 1.0
    bad_reasons = {step.reason for step in steps if step.verdict is Verdict.BAD}
    assert all("EBUSY" in reason for reason in bad_reasons), bad_reasons


@pytest.mark.parametrize(
    "launcher", [each for each in LAUNCHERS if each.isolated], ids=lambda each: each.name
)
def test_a_build_sees_nothing_of_this_machine(root: BuildRoot, launcher: Launcher, tmp_path: Path) -> None:
    """What is built was written by others: no file of ours, no network, only its own folder to write in."""
    try:
        chosen = choose_launcher(root.folder, (launcher,))
    except BuildRootError as error:
        pytest.skip(str(error))
    secret = tmp_path / "secret"
    secret.write_text("secret")
    inside = BuildRoot(root.folder, root.release, chosen, root.cache)
    with inside.workspace() as workspace:

        def status(command: str) -> int:
            return inside.run(workspace, ["sh", "-c", command], timeout=60).status

        assert status("touch made && test -w .") == 0
        assert (workspace.folder / "made").exists()
        assert status(f"test -e {secret}") == 1
        assert status("test -e /etc/shadow") == 1
        assert status("touch /usr/bin/mine") != 0
        assert status("grep -q ':' /proc/net/route || test $(wc -l < /proc/net/dev) -le 3") == 0
        with pytest.raises(BuildRootError, match="ran past"):
            inside.run(workspace, ["sleep", "60"], timeout=1.0)
