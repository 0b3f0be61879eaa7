"""What the reports read from the database, as plain frozen records.

Every rule of this room (verdicts, comparisons, histories) works on these, never on ORM rows, so each can
be tested on literals. The records keep the database's words; they decide nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from db.metrics import Metric, facts_in, metrics_in
from reports.answer_records import Answers
from reports.around_records import Around


@dataclass(frozen=True)
class MachineRecord:
    """A device under test. ``simulated``: a virtual NPU, which checks the driver and not silicon."""

    id: int
    name: str
    kind: str
    generation: str | None
    simulated: bool


@dataclass(frozen=True)
class KernelRecord:
    """A candidate; ``origin`` is "debian", "running" or "module:<id>" (a stock kernel, another driver)."""

    id: int
    release: str
    version: str
    window: str | None
    origin: str
    build_id: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stock(self) -> bool:
        """Whether the driver is the one this kernel was released with."""
        return not self.origin.startswith("module:")

    @property
    def label(self) -> str:
        """How pages name it: the version, with the driver's origin where that is not the kernel's own."""
        if self.stock:
            return self.version
        commit = str(self.detail.get("commit") or self.origin.removeprefix("module:"))
        return f"{self.version} + {commit[:12]}"


@dataclass(frozen=True)
class ResultRecord:
    """One test in one run. ``seconds`` is monotonic time on the machine.

    ``suspect`` names the candidate defect of the driver that the test is about: its failure is a finding
    that is known. ``expectations`` say what was expected of this kernel, and from where that is known.
    """

    test: str
    outcome: str
    seconds: float = 0.0
    message: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    suspect: str | None = None
    expectations: tuple[Mapping[str, Any], ...] = ()

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The measured numbers among its values."""
        return metrics_in(self.values)

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """The rest of its values."""
        return facts_in(self.values)


@dataclass(frozen=True)
class FindingRecord:
    """One classified event; ``line`` is 1-based in the file ``log`` of the run's folder."""

    line: int
    log: str
    signature: str
    klass: str
    severity: str
    text: str
    test: str | None = None
    environment_fault: bool = False


@dataclass(frozen=True)
class RunRecord:
    """One suite on one machine under one kernel. ``campaign`` names the bisection it was a step of."""

    id: str
    machine: MachineRecord
    kernel: KernelRecord | None
    environment: Mapping[str, Any]
    environment_digest: str | None
    suite: str
    suite_digest: str
    requested: str
    started_at: datetime
    ended_at: datetime | None
    state: str
    verdict: str | None
    reason: str
    boot_id: str | None
    seconds: Mapping[str, Any]
    faults: tuple[Any, ...]
    folder: str
    results: tuple[ResultRecord, ...] = ()
    findings: tuple[FindingRecord, ...] = ()
    campaign: str | None = None

    @property
    def comparable(self) -> bool:
        """Whether it may stand for its kernel: nothing injected, the whole suite, the kernel known."""
        return not self.faults and not self.partial and self.kernel is not None

    @cached_property
    def outcome_of(self) -> Mapping[str, str]:
        """Test -> its outcome."""
        return {result.test: result.outcome for result in self.results}

    @cached_property
    def outcomes(self) -> Mapping[str, int]:
        """How many tests ended how; failures that show a known candidate defect are "suspected"."""
        return Counter(
            "suspected" if r.suspect and r.outcome in ("failed", "error") else r.outcome for r in self.results
        )

    @property
    def partial(self) -> bool:
        """Whether a part of the suite was chosen: "ioctl[heap]", or a step of a bisection."""
        return self.campaign is not None or self.suite == "bisect" or "[" in self.suite

    @property
    def suite_family(self) -> str:
        """The suite without its extras: "ioctl" of "ioctl+pm"; runs of one family can be compared."""
        return self.suite.partition("+")[0]


@dataclass(frozen=True)
class MailRecord:
    """A mail of a thread; ``message_id`` is without angle brackets."""

    message_id: str
    date: datetime | None
    author_name: str
    author_email: str
    subject: str
    kind: str
    trailers: tuple[tuple[str, str], ...] = ()
    sample: bool = False
    corrupted: str | None = None


@dataclass(frozen=True)
class VersionRecord:
    """One posted version of a change: its mail, its place in a series, why it belongs to the change."""

    version: str
    number: int
    total: int
    title: str
    series_title: str
    mail: MailRecord
    link_rule: str | None
    link_score: float | None
    link_evidence: str | None
    replies: tuple[MailRecord, ...] = ()


@dataclass(frozen=True)
class LandingRecord:
    """The first tag of one tree that contains a commit; ``tag`` is None while untagged."""

    tree: str
    role: str
    tag: str | None
    window: str | None
    date: datetime | None
    sample: bool


@dataclass(frozen=True)
class RevertRecord:
    """A commit that takes another one out, with its own first tags (one a tree)."""

    sha: str
    title: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class CommitRecord:
    """A commit of the driver's paths. ``reverted_by`` lists commits that revert it, oldest first."""

    sha: str
    title: str
    author_name: str
    author_date: datetime
    commit_date: datetime
    landings: tuple[LandingRecord, ...]
    reverts: str | None
    upstream: str | None
    reverted_by: tuple[RevertRecord, ...] = ()


@dataclass(frozen=True)
class MatchRecord:
    """Change <-> commit, with the rule that tied them (``score`` 0..1)."""

    commit: CommitRecord
    rule: str
    score: float
    evidence: str


@dataclass(frozen=True)
class ChangeRecord:
    """One logical patch with the tracker's answer."""

    id: int
    key: str
    slug: str
    title: str
    author_name: str
    author_email: str
    first_posted: datetime | None
    last_posted: datetime | None
    state: str
    window: str | None
    first_tag: str | None
    rule: str
    probability: float
    evidence: tuple[Mapping[str, Any], ...]
    notes: Mapping[str, Any]
    sample: bool
    versions: tuple[VersionRecord, ...] = ()
    matches: tuple[MatchRecord, ...] = ()


@dataclass(frozen=True)
class TagRecord:
    """A tag of a followed tree."""

    tree: str
    role: str
    name: str
    date: datetime | None
    sample: bool


@dataclass(frozen=True)
class SourceRecord:
    """Where mail or commits came from; ``problem`` says why the last sync could not reach it."""

    kind: str
    name: str
    sample: bool
    synced_at: datetime | None
    problem: str | None


@dataclass(frozen=True)
class StepRecord:
    """One candidate a bisection judged: good, bad or skip."""

    number: int
    candidate: str
    verdict: str
    reason: str
    run_id: str | None
    seconds: Mapping[str, Any]


@dataclass(frozen=True)
class CampaignRecord:
    """One bisection; ``candidates`` are oldest first."""

    id: str
    kind: str
    machine: str
    test: str
    good: str
    bad: str
    base_kernel: str | None
    repository: str | None
    started_at: datetime
    ended_at: datetime | None
    state: str
    candidates: tuple[Mapping[str, Any], ...]
    culprit: str | None
    probability: float | None
    reason: str
    change_id: int | None
    detail: Mapping[str, Any]
    steps: tuple[StepRecord, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """Everything a site is made of, read in one transaction."""

    machines: tuple[MachineRecord, ...] = ()
    kernels: tuple[KernelRecord, ...] = ()
    runs: tuple[RunRecord, ...] = ()  # oldest first
    changes: tuple[ChangeRecord, ...] = ()  # by first posted, then id
    tags: tuple[TagRecord, ...] = ()
    sources: tuple[SourceRecord, ...] = ()
    campaigns: tuple[CampaignRecord, ...] = ()  # oldest first
    answers: Answers = field(default_factory=Answers)
    around: Around = field(default_factory=Around)
