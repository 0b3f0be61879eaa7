"""Tables of the tracker's further answers: stable branches, which kernel has what, ABI, forecasts.

They are made anew at the end of every sync, from the other tables, so that whoever reads the database (the
site, another host) needs neither clone nor rule. Rows go with their change or tree.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, JsonList, JsonObject


class StableBranch(Base):
    """A tree of role ``stable`` as it was judged. ``ended``: no update for long, none is expected."""

    __tablename__ = "stable_branch"

    id: Mapped[int] = mapped_column(primary_key=True)
    tree_id: Mapped[int] = mapped_column(ForeignKey("tree.id", ondelete="CASCADE"), unique=True)
    base: Mapped[str]  # "6.18"
    newest: Mapped[str | None]  # "v6.18.17"
    newest_date: Mapped[datetime | None]
    ended: Mapped[bool] = mapped_column(default=False)


class Backport(Base):
    """One change of mainline in one stable branch."""

    __tablename__ = "backport"

    id: Mapped[int] = mapped_column(primary_key=True)
    change_id: Mapped[int] = mapped_column(ForeignKey("change.id", ondelete="CASCADE"), index=True)
    tree_id: Mapped[int] = mapped_column(ForeignKey("tree.id", ondelete="CASCADE"), index=True)
    state: Mapped[str]  # present, queued, missing, failed, reverted, not-needed, unknown
    version: Mapped[str | None]  # the update that has it: "6.18.17"
    rule: Mapped[str]
    score: Mapped[float]
    evidence: Mapped[JsonList] = mapped_column(default=list)  # sentences
    inherited: Mapped[bool] = mapped_column(default=False)  # the branch began with it


class BackportBug(Base):
    """A bug that no mainline release had: a backport brought it to a branch. ``fix_id``: what mends it."""

    __tablename__ = "backport_bug"

    id: Mapped[int] = mapped_column(primary_key=True)
    tree_id: Mapped[int] = mapped_column(ForeignKey("tree.id", ondelete="CASCADE"), index=True)
    fix_id: Mapped[int] = mapped_column(ForeignKey("change.id", ondelete="CASCADE"), index=True)
    cause: Mapped[str] = mapped_column(Text)  # title
    since: Mapped[str | None]  # first update with the bug
    fixed: Mapped[str | None]  # first update without it


class Carrier(Base):
    """Whether one kernel line has a change. ``kind``: mainline, tree, stable or distribution."""

    __tablename__ = "carrier"

    id: Mapped[int] = mapped_column(primary_key=True)
    change_id: Mapped[int] = mapped_column(ForeignKey("change.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]
    kind: Mapped[str]
    name: Mapped[str]
    carries: Mapped[str]  # yes, no, queued, forecast, unknown
    since: Mapped[str | None]  # first version there with the change
    date: Mapped[datetime | None]
    why: Mapped[str] = mapped_column(Text)


class KnownKernel(Base):
    """One version of a line of kernels (mainline, a stable branch, a distribution's suite)."""

    __tablename__ = "known_kernel"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]  # mainline, stable, distribution
    line: Mapped[str] = mapped_column(index=True)  # "mainline", "linux-6.18.y", "debian unstable"
    position: Mapped[int]  # within the line, 0 for the oldest
    version: Mapped[str]  # "v7.1-rc2", "v6.18.17", "7.2.7-1"
    upstream: Mapped[str]  # the tag it is made from
    date: Mapped[datetime | None]
    carried: Mapped[int]  # changes that it has
    unknown: Mapped[int]  # changes of which that is not known
    sample: Mapped[bool] = mapped_column(default=False)


class KernelChange(Base):
    """A change that a kernel has and its predecessor in the line has not ("added"), or the reverse."""

    __tablename__ = "kernel_change"

    id: Mapped[int] = mapped_column(primary_key=True)
    kernel_id: Mapped[int] = mapped_column(ForeignKey("known_kernel.id", ondelete="CASCADE"), index=True)
    change_id: Mapped[int] = mapped_column(ForeignKey("change.id", ondelete="CASCADE"), index=True)
    what: Mapped[str]  # added, removed


class Touched(Base):
    """What a change touches that others rely on, from the diff of a commit or of its newest mail."""

    __tablename__ = "touched"

    id: Mapped[int] = mapped_column(primary_key=True)
    change_id: Mapped[int] = mapped_column(ForeignKey("change.id", ondelete="CASCADE"), unique=True)
    source: Mapped[str]  # "commit 91f4da826c08", "mail <id>"
    verdict: Mapped[str]  # about the user interface: none, compatible, check, breaking
    uapi: Mapped[JsonList] = mapped_column(default=list)  # [{"file", "kind", "name", "what", "verdict", ...}]
    named: Mapped[JsonList] = mapped_column(default=list)  # [{"kind", "name", "what", "file"}]


class Coming(Base):
    """When a change that no release has yet is expected: milestones as {"name", "earliest", ...}."""

    __tablename__ = "coming"

    id: Mapped[int] = mapped_column(primary_key=True)
    change_id: Mapped[int] = mapped_column(ForeignKey("change.id", ondelete="CASCADE"), unique=True)
    first: Mapped[JsonObject | None] = mapped_column(JSON(none_as_null=True))  # the tag it comes in
    release: Mapped[JsonObject | None] = mapped_column(JSON(none_as_null=True))


class Outlook(Base):
    """A whole answer by name.

    "dates" (the coming tags), "backtest" (how good such forecasts were), "derived" (the fingerprint of what
    all answers follow from, while they are whole).
    """

    __tablename__ = "outlook"

    name: Mapped[str] = mapped_column(primary_key=True)
    made_at: Mapped[datetime]
    value: Mapped[JsonObject] = mapped_column(default=dict)
