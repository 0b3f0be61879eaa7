"""Tables of the harness: machines, kernels, environments, runs, results, findings, campaigns."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.base import Base, JsonList, JsonObject


class Machine(Base):
    """A device under test; a ``simulated`` one carries the virtual NPU: it checks the driver, not silicon."""

    __tablename__ = "machine"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]  # virtual, ssh, ...
    generation: Mapped[str | None]  # npu1, npu4, ...
    simulated: Mapped[bool]


class Kernel(Base):
    """A candidate. Keyed by what ``uname -r`` says plus the origin of its driver module."""

    __tablename__ = "kernel"

    id: Mapped[int] = mapped_column(primary_key=True)
    release: Mapped[str]  # uname -r: "7.3.4+deb13-amd64"
    version: Mapped[str] = mapped_column(index=True)  # "7.3.4"
    window: Mapped[str | None] = mapped_column(index=True)  # "7.3"
    origin: Mapped[str]  # "debian", "running", "module:<git sha>"
    build_id: Mapped[str | None]  # GNU build id read from the booted kernel
    detail: Mapped[JsonObject] = mapped_column(default=dict)

    __table_args__ = (UniqueConstraint("release", "origin"),)


class Environment(Base):
    """Everything a result depends on besides the test; equal environments are one row."""

    __tablename__ = "environment"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)
    facts: Mapped[JsonObject]  # firmware, module origin, XRT, IOMMU mode, power, root ...


class Run(Base):
    """One suite on one machine under one kernel. The journal is the truth; this row is made from it."""

    __tablename__ = "run"

    id: Mapped[str] = mapped_column(primary_key=True)  # sortable: "20261123T143000-ab12cd"
    machine_id: Mapped[int] = mapped_column(ForeignKey("machine.id"), index=True)
    kernel_id: Mapped[int | None] = mapped_column(ForeignKey("kernel.id"), index=True)
    environment_id: Mapped[int | None] = mapped_column(ForeignKey("environment.id"))
    suite: Mapped[str]  # "ioctl"
    suite_digest: Mapped[str]  # of the test files: equal digest, comparable runs
    requested: Mapped[str]  # what the user asked for: "7.3.4", "running"
    started_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(index=True)  # running, finished, interrupted
    verdict: Mapped[str | None] = mapped_column(index=True)  # harness.verdict.RunVerdict
    reason: Mapped[str] = mapped_column(Text, default="")
    boot_id: Mapped[str | None]
    seconds: Mapped[JsonObject] = mapped_column(default=dict)  # phase -> seconds (monotonic)
    faults: Mapped[JsonList] = mapped_column(default=list)  # injected on purpose
    folder: Mapped[str]  # journal.jsonl, kernel.log, serial.log, device.jsonl

    machine: Mapped[Machine] = relationship()
    kernel: Mapped[Kernel | None] = relationship()
    environment: Mapped[Environment | None] = relationship()
    results: Mapped[list[Result]] = relationship(back_populates="run", order_by="Result.position")
    findings: Mapped[list[Finding]] = relationship(back_populates="run", order_by="Finding.line")


class Result(Base):
    """One test in one run."""

    __tablename__ = "result"

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("run.id"), index=True)
    position: Mapped[int]
    test: Mapped[str] = mapped_column(index=True)  # "test_query.py::test_aie_version"
    outcome: Mapped[str]  # passed, failed, skipped, error, incomplete (killed the machine), not-run
    seconds: Mapped[float]
    message: Mapped[str] = mapped_column(Text, default="")
    values: Mapped[JsonObject] = mapped_column(default=dict)  # what the test measured, by name

    run: Mapped[Run] = relationship(back_populates="results")

    __table_args__ = (UniqueConstraint("run_id", "test"),)


class Finding(Base):
    """A classified kernel-log or device event of a run."""

    __tablename__ = "finding"

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("run.id"), index=True)
    line: Mapped[int]  # 1-based line in ``log``
    log: Mapped[str]  # kernel.log, serial.log, device.jsonl
    signature: Mapped[str]  # "tdr", "fw-not-alive", "model-gap"
    klass: Mapped[str]  # hang, firmware, oops, iommu, environment, model-gap ...
    severity: Mapped[str]
    text: Mapped[str] = mapped_column(Text)
    test: Mapped[str | None]  # the test during which it was logged
    environment_fault: Mapped[bool] = mapped_column(default=False)  # never counts as a kernel regression

    run: Mapped[Run] = relationship(back_populates="findings")


class Campaign(Base):
    """One bisection."""

    __tablename__ = "campaign"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]  # kernels, driver-history
    machine: Mapped[str]
    test: Mapped[str]
    good: Mapped[str]
    bad: Mapped[str]
    base_kernel: Mapped[str | None]  # driver-history: the stock kernel the module is built for
    repository: Mapped[str | None]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    state: Mapped[str]  # running, finished, interrupted, failed
    candidates: Mapped[JsonList] = mapped_column(default=list)  # [{"id": ..., "title": ...}] oldest first
    culprit: Mapped[str | None]
    probability: Mapped[float | None]
    reason: Mapped[str] = mapped_column(Text, default="")
    change_id: Mapped[int | None] = mapped_column(ForeignKey("change.id"))
    detail: Mapped[JsonObject] = mapped_column(default=dict)

    steps: Mapped[list[CampaignStep]] = relationship(
        back_populates="campaign", order_by="CampaignStep.number"
    )


class CampaignStep(Base):
    """One candidate judged."""

    __tablename__ = "campaign_step"

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), index=True)
    number: Mapped[int]
    candidate: Mapped[str]
    verdict: Mapped[str]  # good, bad, skip
    reason: Mapped[str] = mapped_column(Text, default="")
    run_id: Mapped[str | None] = mapped_column(ForeignKey("run.id"))
    seconds: Mapped[JsonObject] = mapped_column(default=dict)

    campaign: Mapped[Campaign] = relationship(back_populates="steps")

    __table_args__ = (UniqueConstraint("campaign_id", "number"),)
