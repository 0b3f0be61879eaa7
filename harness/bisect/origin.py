"""The culprit's place in the tracker: which Change does this commit belong to?

Driver histories live in several trees (mainline, the vendor's out-of-tree repository), where one patch has
several commit ids and often another subject prefix. The answer carries the rule that found it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.git_tables import Commit, Match
from db.mail_tables import Change


@dataclass(frozen=True)
class FoundChange:
    """A Change and why it is this one."""

    change_id: int
    rule: str


def find_change(session: Session, sha: str, title: str, author: str) -> FoundChange | None:
    """The Change of a commit: by commit id, else by whole title, else by bare title and author's name.

    ``title`` is the commit's subject line, ``author`` its author's name. An ambiguous answer is none.
    """
    commit_id = session.scalar(select(Commit.id).where(Commit.sha == sha))
    if commit_id is not None:
        matches = session.scalars(
            select(Match).where(Match.commit_id == commit_id).order_by(Match.score.desc())
        ).all()
        if matches:
            return FoundChange(matches[0].change_id, f"the commit is matched by {matches[0].rule}")
    same_title = (
        session.scalars(select(Match.change_id).join(Commit).where(Commit.title == title).distinct()).all()
        or session.scalars(select(Change.id).where(Change.title == title)).all()
    )
    if len(same_title) == 1:
        return FoundChange(same_title[0], "the same title")
    bare = bare_title(title)
    if not bare or not author:
        return None
    named = session.execute(select(Change.id, Change.title).where(Change.author_name == author)).all()
    same_bare = [change_id for change_id, other in named if bare_title(other) == bare]
    if len(same_bare) == 1:
        return FoundChange(same_bare[0], "the same title without its subsystem prefix, by the same author")
    return None


def bare_title(title: str) -> str:
    """A title without its leading ``subsystem: `` parts, in one case: "accel/amdxdna: Fix X" -> "fix x"."""
    parts = title.split(": ")
    while len(parts) > 1 and " " not in parts[0]:
        parts = parts[1:]
    return ": ".join(parts).strip().casefold()
