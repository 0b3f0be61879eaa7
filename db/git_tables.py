"""Tables of the tracker's git half: trees, tags, commits, landings, and the match of change and commit."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.base import Base, JsonList, JsonObject
from db.mail_tables import Change


class Tree(Base):
    """One git tree that is followed."""

    __tablename__ = "tree"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)  # mainline, drm-misc-next, stable-7.1
    role: Mapped[str]  # mainline, next, maintainer, stable, twin, firmware, userspace
    source_id: Mapped[int] = mapped_column(ForeignKey("source.id"))
    head: Mapped[str | None]


class Tag(Base):
    """A tag of a tree, as the tree has it. ``date`` is the tagger's or the commit's date."""

    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    tree_id: Mapped[int] = mapped_column(ForeignKey("tree.id"), index=True)
    name: Mapped[str]
    commit_id: Mapped[str]
    date: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("tree_id", "name"),)


class Commit(Base):
    """One commit that touches the driver's paths."""

    __tablename__ = "commit"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str] = mapped_column(Text, index=True)
    message: Mapped[str] = mapped_column(Text, default="")
    author_name: Mapped[str]
    author_email: Mapped[str]
    author_date: Mapped[datetime]
    commit_date: Mapped[datetime]
    trailers: Mapped[JsonList] = mapped_column(default=list)
    files: Mapped[JsonList] = mapped_column(default=list)
    lines: Mapped[JsonList] = mapped_column(default=list, server_default="[]")  # crc32 of its changed lines
    diff_hash: Mapped[str | None] = mapped_column(index=True)
    patch_id: Mapped[str | None] = mapped_column(index=True)
    reverts: Mapped[str | None]  # commit id this one reverts
    upstream: Mapped[str | None]  # mainline id named by a stable backport or a cherry-pick
    # What its diff touches that others rely on (tracker.touches); None: not read yet.
    touches: Mapped[JsonObject | None] = mapped_column(JSON(none_as_null=True))

    landings: Mapped[list[Landing]] = relationship(back_populates="commit")


class Landing(Base):
    """The first tag of one tree that contains a commit; ``tag`` is None while untagged."""

    __tablename__ = "landing"

    id: Mapped[int] = mapped_column(primary_key=True)
    commit_id: Mapped[int] = mapped_column(ForeignKey("commit.id"), index=True)
    tree_id: Mapped[int] = mapped_column(ForeignKey("tree.id"), index=True)
    tag: Mapped[str | None]
    window: Mapped[str | None] = mapped_column(index=True)

    commit: Mapped[Commit] = relationship(back_populates="landings")
    tree: Mapped[Tree] = relationship()

    __table_args__ = (UniqueConstraint("commit_id", "tree_id"),)


class Match(Base):
    """Change <-> commit, with the rule that tied them."""

    __tablename__ = "match"

    id: Mapped[int] = mapped_column(primary_key=True)
    change_id: Mapped[int] = mapped_column(ForeignKey("change.id"), index=True)
    commit_id: Mapped[int] = mapped_column(ForeignKey("commit.id"), index=True)
    rule: Mapped[str]
    score: Mapped[float]
    evidence: Mapped[str] = mapped_column(Text)

    change: Mapped[Change] = relationship()
    commit: Mapped[Commit] = relationship()

    __table_args__ = (UniqueConstraint("change_id", "commit_id"),)
