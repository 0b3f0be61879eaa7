"""Tables of what distributions ship: kernels they uploaded, and the stable titles their changelogs list."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, JsonList


class Upload(Base):
    """One kernel of a distribution, by its package version."""

    __tablename__ = "upload"

    id: Mapped[int] = mapped_column(primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("source.id"), index=True)
    package: Mapped[str]
    version: Mapped[str]  # "7.2.7-1"
    suite: Mapped[str]  # "unstable", "trixie-backports"
    date: Mapped[datetime | None]
    upstream: Mapped[str | None]  # the tag it is made from: "v7.2.7", "v7.3-rc7"
    position: Mapped[int]  # place in the changelog, 0 for the oldest

    __table_args__ = (UniqueConstraint("source_id", "package", "version"),)


class ListedTitle(Base):
    """A commit of the driver in a stable update, known by its title in a changelog only."""

    __tablename__ = "listed_title"

    id: Mapped[int] = mapped_column(primary_key=True)
    upload_id: Mapped[int] = mapped_column(ForeignKey("upload.id"), index=True)
    version: Mapped[str] = mapped_column(index=True)  # the stable update: "7.2.7"
    title: Mapped[str] = mapped_column(Text, index=True)
    cves: Mapped[JsonList] = mapped_column(default=list)
