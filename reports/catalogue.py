"""A snapshot with the look-ups that pages share: who ran where, which run speaks for what, where pages are.

Built once a publication; everything in it is derived, nothing is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import combinations, pairwise, product

from reports.answer_records import BackportRecord, KnownKernelRecord, Milestone
from reports.around_records import TwinRecord
from reports.compare import Side
from reports.marks import NO_RUN, Mark, verdict_mark
from reports.records import CampaignRecord, ChangeRecord, KernelRecord, MachineRecord, RunRecord, Snapshot
from reports.slugs import slug, slug_of_test
from reports.verdicts import (
    Judgement,
    Latest,
    baseline_of,
    conclusive,
    first_kernel_carrying,
    flaky_tests,
    judge,
    kernel_order,
    latest,
)
from reports.versions import sort_key

_LATE = datetime.max.replace(tzinfo=UTC)
MAIN_SUITE = "ioctl"  # what speaks for a kernel where several suites ran


class Catalogue:
    """Look-ups over one snapshot. Page paths are relative to the site's root."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.runs: Mapping[str, RunRecord] = {run.id: run for run in snapshot.runs}
        self.changes: Mapping[int, ChangeRecord] = {change.id: change for change in snapshot.changes}
        self.answers = snapshot.answers
        self.around = snapshot.around
        self._first_kernels: dict[tuple[int, int], KernelRecord | None] = {}

    # -- runs ---------------------------------------------------------------------------------------

    @cached_property
    def runs_by_cell(self) -> Mapping[tuple[int, int], Sequence[RunRecord]]:
        """(kernel id, machine id) -> its comparable runs, oldest first."""
        found: dict[tuple[int, int], list[RunRecord]] = defaultdict(list)
        for run in self.snapshot.runs:
            if run.comparable and run.kernel is not None:
                found[run.kernel.id, run.machine.id].append(run)
        return found

    @cached_property
    def runs_by_machine(self) -> Mapping[int, Sequence[RunRecord]]:
        """Machine id -> all its runs, oldest first."""
        found: dict[int, list[RunRecord]] = defaultdict(list)
        for run in self.snapshot.runs:
            found[run.machine.id].append(run)
        return found

    @cached_property
    def latest_by_suite(self) -> Mapping[tuple[int, int], Mapping[str, Latest]]:
        """(kernel id, machine id) -> family of suites -> the run that speaks for it, the main suite first."""
        found: dict[tuple[int, int], dict[str, Latest]] = {}
        for cell, runs in self.runs_by_cell.items():
            families = sorted({run.suite_family for run in runs}, key=lambda name: (name != MAIN_SUITE, name))
            found[cell] = {
                family: one
                for family in families
                if (one := latest(run for run in runs if run.suite_family == family))
            }
        return found

    @cached_property
    def latest_by_cell(self) -> Mapping[tuple[int, int], Latest]:
        """(kernel id, machine id) -> the run that speaks for it: the main suite's where that ran."""
        return {cell: next(iter(found.values())) for cell, found in self.latest_by_suite.items() if found}

    @cached_property
    def suites(self) -> Sequence[str]:
        """Families of suites that have a comparable run, the main one first."""
        return list(dict.fromkeys(name for found in self.latest_by_suite.values() for name in found))

    @cached_property
    def kernels(self) -> Sequence[KernelRecord]:
        """Kernels that have a comparable run, newest version first."""
        ran = {kernel for kernel, _machine in self.runs_by_cell}
        return sorted((k for k in self.snapshot.kernels if k.id in ran), key=kernel_order, reverse=True)

    @cached_property
    def machines(self) -> Sequence[MachineRecord]:
        """Machines that ran anything, real ones first, then by name."""
        return sorted(
            (m for m in self.snapshot.machines if m.id in self.runs_by_machine),
            key=lambda m: (m.simulated, m.name),
        )

    def cell(self, kernel: KernelRecord, machine: MachineRecord, suite: str | None = None) -> Latest | None:
        """The run that speaks for a kernel on a machine, of one family of suites or of the main one."""
        if suite is None:
            return self.latest_by_cell.get((kernel.id, machine.id))
        return self.latest_by_suite.get((kernel.id, machine.id), {}).get(suite)

    def mark(self, found: Latest | None) -> Mark:
        """The mark of a cell of the matrix."""
        return verdict_mark(found.run.verdict, found.run.state) if found else NO_RUN

    def side(self, run: RunRecord) -> Side:
        """A run with the other clean runs of its kernel, machine, suite and environment."""
        if run.kernel is None:
            return Side(run)
        siblings = tuple(
            other
            for other in self.runs_by_cell.get((run.kernel.id, run.machine.id), ())
            if other.suite_digest == run.suite_digest
            and other.environment_digest == run.environment_digest
            and conclusive(other)
        )
        return Side(run, siblings if run in siblings else (run,))

    @cached_property
    def judgements(self) -> Mapping[str, Judgement]:
        """Run id -> the run against its baseline."""
        found = {}
        for runs in self.runs_by_machine.values():
            for run in runs:
                baseline = baseline_of(run, runs) if run.campaign is None else None
                found[run.id] = judge(run, baseline)
        return found

    def flaky(self, run: RunRecord) -> frozenset[str]:
        """Tests that both passed and failed under this run's kernel in this run's environment."""
        return flaky_tests(self.side(run).all)

    @cached_property
    def chains(self) -> Mapping[int, Sequence[Sequence[RunRecord]]]:
        """Machine id -> for each family of suites the latest conclusive run of each stock kernel, oldest
        kernel first."""
        return {
            machine.id: [
                [
                    cell.run
                    for kernel in reversed(self.kernels)
                    if kernel.stock and (cell := self.cell(kernel, machine, suite)) and conclusive(cell.run)
                ]
                for suite in self.suites
            ]
            for machine in self.machines
        }

    @cached_property
    def neighbours(self) -> Sequence[tuple[RunRecord, RunRecord]]:
        """Consecutive stock kernels on each machine, by suite; latest conclusive runs: (older, newer)."""
        return [
            pair for machine in self.machines for chain in self.chains[machine.id] for pair in pairwise(chain)
        ]

    @cached_property
    def machine_pairs(self) -> Sequence[tuple[RunRecord, RunRecord]]:
        """One kernel on two machines, latest conclusive run of each; only for each machine pair's newest."""
        found = []
        for suite, (left, right) in product(self.suites, combinations(self.machines, 2)):
            for kernel in self.kernels:
                a, b = self.cell(kernel, left, suite), self.cell(kernel, right, suite)
                if a and b and kernel.stock and conclusive(a.run) and conclusive(b.run):
                    found.append((a.run, b.run))
                    break
        return found

    @cached_property
    def tests(self) -> Sequence[str]:
        """Every test id that has a result, by file and then by name."""
        return sorted(self.known_tests)

    @cached_property
    def known_tests(self) -> frozenset[str]:
        """The same, to ask whether a test has a page."""
        return frozenset(result.test for run in self.snapshot.runs for result in run.results)

    # -- windows and changes ------------------------------------------------------------------------

    @cached_property
    def windows(self) -> Sequence[str]:
        """Windows that a change or a run belongs to, and those that come; newest first."""
        found = {c.window for c in self.snapshot.changes if c.window}
        found |= {kernel.window for kernel in self.kernels if kernel.window}
        if self.answers.dates is not None and (found or self.snapshot.changes):
            found |= {s.name.removeprefix("v") for s in self.answers.dates.following if "-rc" not in s.name}
        return sorted(found, key=sort_key, reverse=True)

    @cached_property
    def changes_by_window(self) -> Mapping[str, Sequence[ChangeRecord]]:
        """Window -> its changes, by first tag and then by first posted."""
        found: dict[str, list[ChangeRecord]] = defaultdict(list)
        for change in self.snapshot.changes:
            if change.window:
                found[change.window].append(change)
        for changes in found.values():
            changes.sort(
                key=lambda c: (
                    sort_key(c.first_tag or "v9999.0"),
                    c.matches[0].commit.commit_date if c.matches else _LATE,
                    c.title,
                )
            )
        return found

    @cached_property
    def _tag_dates(self) -> Mapping[str, datetime]:
        return {tag.name: tag.date for tag in self.snapshot.tags if tag.role == "mainline" and tag.date}

    def tag_date(self, tag: str) -> datetime | None:
        """When mainline was tagged so, as the followed tree has it."""
        return self._tag_dates.get(tag)

    def first_kernel(self, change: ChangeRecord, machine: MachineRecord) -> KernelRecord | None:
        """The oldest kernel with a run on this machine that carries the change."""
        asked = (change.id, machine.id)
        if asked not in self._first_kernels:
            ran = [k for k in self.kernels if (k.id, machine.id) in self.latest_by_cell]
            self._first_kernels[asked] = first_kernel_carrying(change, ran)
        return self._first_kernels[asked]

    @cached_property
    def branches(self) -> frozenset[str]:
        """Names of stable branches, which have a page."""
        return frozenset(branch.name for branch in self.answers.branches)

    @cached_property
    def twins_by_change(self) -> Mapping[int, Sequence[TwinRecord]]:
        """Change id -> the commits of out-of-tree drivers that are this change."""
        found: dict[int, list[TwinRecord]] = defaultdict(list)
        for twin in self.around.twins:
            if twin.change is not None:
                found[twin.change].append(twin)
        return found

    @cached_property
    def backports_by_change(self) -> Mapping[int, Sequence[BackportRecord]]:
        """Change id -> its answer in each stable branch."""
        found: dict[int, list[BackportRecord]] = defaultdict(list)
        for port in self.answers.backports:
            found[port.change].append(port)
        return found

    @cached_property
    def kernel_lines(self) -> Mapping[str, Sequence[KnownKernelRecord]]:
        """Line of kernels -> its versions, oldest first."""
        found: dict[str, list[KnownKernelRecord]] = defaultdict(list)
        for kernel in self.answers.kernels:
            found[kernel.line].append(kernel)
        return found

    @cached_property
    def coming_tags(self) -> Mapping[str, Milestone]:
        """Name of a coming tag -> its forecast."""
        dates = self.answers.dates
        return {stone.name: stone for stone in dates.following} if dates is not None else {}

    @cached_property
    def campaigns_by_change(self) -> Mapping[int, Sequence[CampaignRecord]]:
        """Change id -> bisections that found it."""
        found: dict[int, list[CampaignRecord]] = defaultdict(list)
        for campaign in self.snapshot.campaigns:
            if campaign.change_id is not None:
                found[campaign.change_id].append(campaign)
        return found

    @cached_property
    def has_sample(self) -> bool:
        """Whether any change or source is a generated sample."""
        return any(c.sample for c in self.snapshot.changes) or any(s.sample for s in self.snapshot.sources)


def run_path(run: str) -> str:
    """The page of a run, by its id."""
    return f"runs/{slug(run)}.html"


def log_path(run: str, name: str) -> str:
    """The page of a log of a run; ``name`` is one of logs.LOG_NAMES."""
    return f"runs/{slug(run)}/{name.replace('.', '-').replace('/', '-')}.html"


def window_path(window: str) -> str:
    """The page of a release window."""
    return f"windows/{slug(window)}.html"


def change_path(change: ChangeRecord) -> str:
    """The page of a change."""
    return f"changes/{slug(change.slug)}.html"


def branch_path(branch: str) -> str:
    """The page of a stable branch, by its tree's name."""
    return f"stable/{slug(branch)}.html"


def line_path(line: str) -> str:
    """The page of a line of kernels."""
    return f"kernels/{slug(line)}.html"


def machine_path(machine: str) -> str:
    """The page of a machine, by its name."""
    return f"machines/{slug(machine)}.html"


def path_of_test(test: str) -> str:
    """The page of a test's history."""
    return f"tests/{slug_of_test(test)}.html"


def campaign_path(campaign: str) -> str:
    """The page of a bisection, by its id."""
    return f"campaigns/{slug(campaign)}.html"


def kernel_slug(kernel: KernelRecord) -> str:
    """A page name for a kernel: its release ("7.3.4.deb13-amd64"), with the origin where not Debian's."""
    if kernel.origin == "debian":
        return slug(kernel.release.replace("+", "."))
    return slug(f"{kernel.release}-{kernel.origin}")


def compare_path(before: RunRecord, after: RunRecord) -> str:
    """The page that compares the latest runs of two kernels on a machine, or of two machines."""
    a, b = before.kernel, after.kernel
    if a is None or b is None:
        return f"compare/runs/{slug(before.id)}..{slug(after.id)}.html"
    suite = "" if after.suite_family == MAIN_SUITE else f".{slug(after.suite_family)}"
    if before.machine.id == after.machine.id:
        return f"compare/{slug(before.machine.name)}/{kernel_slug(a)}..{kernel_slug(b)}{suite}.html"
    names = f"{slug(before.machine.name)}..{slug(after.machine.name)}{suite}"
    return f"compare/machines/{kernel_slug(b)}/{names}.html"
