"""What a bisection can walk over: Debian's released kernels, and the commits of a driver's history.

Both give the subjects of a question, and a source that makes a bootable candidate of each.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from debian.debian_support import Version

from harness.bisect.judge import UnusableSubjectError
from harness.bisect.record import CampaignError, Subject
from harness.kernels.history import DriverHistory, SourcesError
from harness.kernels.module import ModuleBuilder, ModuleBuildError
from harness.suite import contract
from lab.machine import Candidate, LabError
from lab.packages.store import PackageStore
from lab.virtual.kernels import available, cached_kernels, kernel


@dataclass(frozen=True)
class Range:
    """Subjects from the older end to the newer one. ``mended``: the bad end is the older one."""

    subjects: tuple[Subject, ...]
    mended: bool


@dataclass(frozen=True)
class ReleasedKernels:
    """Debian's kernels by version, as sources of candidates."""

    store: PackageStore

    def candidate(
        self, subject: Subject, say: Callable[[str], None]
    ) -> tuple[Candidate, Mapping[str, float]]:
        """The stock kernel of this version; one that can no longer be had is unusable."""
        say(f"fetching kernel {subject.id}")
        try:
            return kernel(self.store, subject.id), {}
        except LabError as error:
            raise UnusableSubjectError(str(error)) from error


@dataclass(frozen=True)
class DriverCommits:
    """Commits of a driver's history as modules of one stock kernel."""

    builder: ModuleBuilder

    def candidate(
        self, subject: Subject, say: Callable[[str], None]
    ) -> tuple[Candidate, Mapping[str, float]]:
        """The stock kernel with this commit's module; a commit that does not build is unusable."""
        try:
            candidate, built = self.builder.candidate(subject.id, subject.title, say)
        except (ModuleBuildError, SourcesError) as error:
            raise UnusableSubjectError(str(error)) from error
        return candidate, built.seconds


def kernel_range(store: PackageStore, good: str, bad: str) -> Range:
    """Every kernel that can be had from one end to the other. CampaignError for an end that cannot."""
    versions = {found.version for found in cached_kernels(store.cache)}
    versions |= {found.version for found in available(store)}
    ordered = sorted(versions, key=Version)
    for end in (good, bad):
        if end not in versions:
            raise CampaignError(f"there is no kernel {end!r} to boot; there are {', '.join(ordered)}")
    older, newer = sorted((good, bad), key=Version)
    chosen = [version for version in ordered if Version(older) <= Version(version) <= Version(newer)]
    subjects = tuple(
        Subject(version, f"Linux {version} of Debian", parents=(chosen[place - 1],) if place else ())
        for place, version in enumerate(chosen)
    )
    return Range(subjects, mended=older == bad)


def commit_range(history: DriverHistory, good: str, bad: str) -> Range:
    """The commits of the module from one end to the other, whichever is older. HistoryError as it says."""
    first, second = history.resolve(good), history.resolve(bad)
    mended = not history.is_ancestor(first, second) and history.is_ancestor(second, first)
    commits = history.commits(bad, good) if mended else history.commits(good, bad)
    return Range(tuple(Subject(c.sha, c.title, c.author, c.parents) for c in commits), mended)


def check_test(test: str) -> None:
    """CampaignError when the suite has no such test; the text names the nearest ones.

    A test's id is as the results show it: ``test_query.py::test_aie_status``, with ``[...]`` behind it where
    the test has parameters.
    """
    known = known_tests()
    if test.split("[", 1)[0] not in known:
        near = difflib.get_close_matches(test, known, n=3, cutoff=0.3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise CampaignError(f"the suite has no test {test!r}{hint}")


def known_tests() -> list[str]:
    """The ids of the suite's tests without their parameters, from the sources."""
    found = []
    for path, content in contract.files().items():
        name = path.removeprefix(f"{contract.TESTS}/")
        if name == path or not name.rpartition("/")[2].startswith("test_"):
            continue
        functions = [node for node in ast.parse(content).body if isinstance(node, ast.FunctionDef)]
        found += [f"{name}::{node.name}" for node in functions if node.name.startswith("test_")]
    return sorted(found)
