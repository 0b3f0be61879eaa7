"""Tables of what surrounds the kernel: CVE records, firmware, user space, the driver's out-of-tree twin.

What a source says (`Cve`, `FirmwareStep`, `DriverRelease`, `UserspaceRelease`) is kept apart from what is
derived of it at the end of every sync (`CveCheck`, `FirmwareNeed`, `UserspaceFit`, `TwinPair`). Rows go with
their source, tree or change.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, JsonList, JsonObject


class Cve(Base):
    """One record of a CVE numbering authority, as far as it concerns the driver."""

    __tablename__ = "cve"

    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("source.id"), index=True)
    name: Mapped[str] = mapped_column(index=True)  # "CVE-2026-23280"
    state: Mapped[str]  # published, rejected
    title: Mapped[str] = mapped_column(Text)
    published: Mapped[datetime | None]
    severity: Mapped[str | None]  # "7.8 HIGH"
    files: Mapped[JsonList] = mapped_column(default=list)  # programFiles
    pairs: Mapped[JsonList] = mapped_column(default=list)  # [[cause id, fix id], ...]; the git ranges
    versions: Mapped[JsonList] = mapped_column(default=list)  # [[from, until, inclusive, affected], ...]
    affected_by_default: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (UniqueConstraint("source_id", "name"),)


class CveCheck(Base):
    """A CVE's statement about one line of kernels against what its commits say. Derived."""

    __tablename__ = "cve_check"

    id: Mapped[int] = mapped_column(primary_key=True)
    cve_id: Mapped[int] = mapped_column(ForeignKey("cve.id", ondelete="CASCADE"), index=True)
    change_id: Mapped[int | None] = mapped_column(ForeignKey("change.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]
    place: Mapped[str]  # "mainline", a branch's name, a release as "6.17", "cause"
    says: Mapped[str]  # the record, in a few words
    found: Mapped[str]  # the commits, in a few words
    verdict: Mapped[str]  # agree, differ, unknown
    why: Mapped[str] = mapped_column(Text)
    rule: Mapped[str | None]  # how the record was tied to the change
    score: Mapped[float | None]


class FirmwareStep(Base):
    """One name of a firmware file in the history of a firmware tree: added, changed or removed."""

    __tablename__ = "firmware_step"

    id: Mapped[int] = mapped_column(primary_key=True)
    tree_id: Mapped[int] = mapped_column(ForeignKey("tree.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]  # 0 for the oldest
    path: Mapped[str] = mapped_column(index=True)  # "amdnpu/17f0_10/npu.sbin"
    what: Mapped[str]  # added, changed, removed
    file: Mapped[str | None]  # what the name leads to: "amdnpu/17f0_10/npu.sbin.1.0.0.63"
    version: Mapped[str | None]
    tag: Mapped[str | None]  # first release with it
    tag_date: Mapped[datetime | None]
    commit_id: Mapped[str]
    date: Mapped[datetime]


class DriverRelease(Base):
    """What the driver's sources say in one tagged kernel: firmware asked for, version, user interface."""

    __tablename__ = "driver_release"

    id: Mapped[int] = mapped_column(primary_key=True)
    tree_id: Mapped[int] = mapped_column(ForeignKey("tree.id", ondelete="CASCADE"), index=True)
    tag: Mapped[str]
    commit_id: Mapped[str]
    date: Mapped[datetime | None]
    driver_version: Mapped[str | None]  # "0.10"
    firmware: Mapped[JsonList] = mapped_column(default=list)  # MODULE_FIRMWARE names
    loads: Mapped[JsonObject] = mapped_column(default=dict)  # generation -> names its code asks for
    uapi: Mapped[JsonList] = mapped_column(default=list)  # ioctls and parameters of the user header

    __table_args__ = (UniqueConstraint("tree_id", "tag"),)


class FirmwareNeed(Base):
    """A firmware name: which kernels ask for it, which firmware release has it, what fails. Derived."""

    __tablename__ = "firmware_need"

    id: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int]
    path: Mapped[str]
    device: Mapped[str | None]  # "0x17f0 revision 0x10"
    generations: Mapped[JsonList] = mapped_column(default=list)  # "npu4"
    first_kernel: Mapped[str | None]
    first_kernel_date: Mapped[datetime | None]
    last_kernel: Mapped[str | None]
    file: Mapped[str | None]  # now
    version: Mapped[str | None]
    since: Mapped[str | None]  # firmware release that first had the name
    since_date: Mapped[datetime | None]
    verdict: Mapped[str]  # fits, late, never, unasked, withdrawn, unknown
    why: Mapped[str] = mapped_column(Text)
    sample: Mapped[bool] = mapped_column(default=False)


class UserspaceRelease(Base):
    """A release of the user space: a tag, or a branch that is named by a version."""

    __tablename__ = "userspace_release"

    id: Mapped[int] = mapped_column(primary_key=True)
    tree_id: Mapped[int] = mapped_column(ForeignKey("tree.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    kind: Mapped[str]  # tag, branch
    commit_id: Mapped[str]
    date: Mapped[datetime | None]
    version: Mapped[str | None]  # what its build files say
    driver_version: Mapped[str | None]  # of the driver it ships
    uapi: Mapped[JsonList] = mapped_column(default=list)
    firmware: Mapped[JsonObject] = mapped_column(default=dict)  # name -> file, of its own WHENCE
    pins: Mapped[JsonList] = mapped_column(default=list)  # [{"path", "commit", "release"}] of submodules

    __table_args__ = (UniqueConstraint("tree_id", "kind", "name"),)


class UserspaceFit(Base):
    """How a release of the user space fits the kernels that are known. Derived."""

    __tablename__ = "userspace_fit"

    id: Mapped[int] = mapped_column(primary_key=True)
    release_id: Mapped[int] = mapped_column(
        ForeignKey("userspace_release.id", ondelete="CASCADE"), index=True
    )
    position: Mapped[int]
    kernel: Mapped[str]  # "7.2"
    verdict: Mapped[str]  # whole, lacks, unknown
    lacks: Mapped[JsonList] = mapped_column(default=list)  # names that this kernel does not offer
    why: Mapped[str] = mapped_column(Text)


class TwinPair(Base):
    """A commit of the out-of-tree driver and what it is upstream. ``change_id`` None: nothing. Derived."""

    __tablename__ = "twin_pair"

    id: Mapped[int] = mapped_column(primary_key=True)
    tree_id: Mapped[int] = mapped_column(ForeignKey("tree.id", ondelete="CASCADE"), index=True)
    commit_id: Mapped[int] = mapped_column(ForeignKey("commit.id"), index=True)
    change_id: Mapped[int | None] = mapped_column(ForeignKey("change.id", ondelete="CASCADE"), index=True)
    status: Mapped[str]  # upstream, applied, posted, undone, sync, twin-only
    upstream: Mapped[str | None]  # commit id
    rule: Mapped[str]
    score: Mapped[float]
    evidence: Mapped[str] = mapped_column(Text)
    first: Mapped[str | None]  # upstream, twin
    days: Mapped[float | None]  # from the first to the second
