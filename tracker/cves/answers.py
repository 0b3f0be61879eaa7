"""CVE records and changes: tied by commit ids, checked against the branches, stored, and read again.

The edge of `tracker.cves.check`: rows in, rows out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from db.around_tables import Cve, CveCheck
from db.database import Database
from db.git_tables import Commit, Landing, Match, Tree
from db.mail_tables import Change, Source
from tracker.calendar import parse_tag
from tracker.cves.check import BranchSide, Check, MainlineSide, check_record
from tracker.cves.record import CveRecord, Range
from tracker.mail.subject import normal_title
from tracker.stable import StableAnswer, stable


@dataclass(frozen=True)
class CveAnswer:
    """One record with the change it is tied to (None: no commit of it is known here) and its checks."""

    name: str
    state: str
    title: str
    published: datetime | None
    severity: str | None
    affected: str  # the ranges of releases, in words
    fixes: tuple[str, ...]
    change: str | None  # slug
    change_title: str | None
    rule: str | None
    score: float | None
    checks: tuple[Check, ...]
    sample: bool

    @property
    def verdict(self) -> str:
        """differ when one check differs, else agree when one agrees, else unknown."""
        verdicts = {one.verdict for one in self.checks}
        return next((one for one in ("differ", "agree") if one in verdicts), "unknown")

    def to_json(self) -> dict[str, Any]:
        """Plain values; dates in ISO 8601."""
        return {
            **asdict(self),
            "published": self.published.isoformat() if self.published else None,
            "fixes": list(self.fixes),
            "verdict": self.verdict,
            "checks": [asdict(one) for one in self.checks],
        }


@dataclass(frozen=True)
class _Tie:
    change_id: int
    slug: str
    rule: str
    score: float


def derive_checks(database: Database, now: datetime) -> int:
    """Compute the checks of every stored record and replace those of before. Returns their number."""
    with database.engine.connect() as connection:
        records = _records(connection)
    rows: list[dict[str, Any]] = []
    if records:
        ports = stable(database, now=now)
        with database.engine.connect() as connection:
            for sample in (False, True):
                ties = _Ties(connection, sample=sample)
                for row_id, record, in_sample in records:
                    if in_sample == sample:
                        rows += _check_rows(row_id, record, ties, ports)
    with database.engine.begin() as connection:
        connection.execute(delete(CveCheck))
        if rows:
            connection.execute(insert(CveCheck), rows)
    return len(rows)


def cve_answers(
    database: Database, *, change: str | None = None, name: str | None = None, verdict: str | None = None
) -> list[CveAnswer]:
    """The records, the latest first. ``change``: a slug; ``name``: part of a CVE's name."""
    with database.engine.connect() as connection:
        records = _records(connection)
        checks: dict[int, list[Any]] = defaultdict(list)
        for row in connection.execute(
            select(*CveCheck.__table__.c, Change.slug, Change.title)
            .outerjoin(Change, Change.id == CveCheck.change_id)
            .order_by(CveCheck.cve_id, CveCheck.position)
        ):
            checks[row.cve_id].append(row)
    found = []
    for row_id, record, sample in records:
        own = checks[row_id]
        tied = next((row for row in own if row.slug is not None), None)
        answer = CveAnswer(
            record.name,
            record.state,
            record.title,
            record.published,
            record.severity,
            affected_words(record),
            record.fixes,
            tied.slug if tied else None,
            tied.title if tied else None,
            tied.rule if tied else None,
            tied.score if tied else None,
            tuple(Check(row.place, row.says, row.found, row.verdict, row.why) for row in own),
            sample,
        )
        if (
            (change is None or answer.change == change)
            and (name is None or name.upper() in answer.name)
            and (verdict is None or answer.verdict == verdict)
        ):
            found.append(answer)
    found.sort(key=lambda one: (one.published is not None, one.published, one.name), reverse=True)
    return found


def affected_words(record: CveRecord) -> str:
    """The affected releases in one line: "6.14 and later; fixed in 6.18.17, 6.19.7, 7.0"."""
    if record.state == "rejected":
        return "rejected"
    first = record.introduced
    if first is None:
        return "no release is named"
    fixed = [claim.fixed for base in record.named_bases() if (claim := record.claim(base)).fixed]
    if not fixed:  # records with closed ranges name the ends directly
        fixed = [one.until for one in record.versions if one.affected and one.until and not one.inclusive]
    ends = [*filter(None, fixed), *filter(None, (record.mainline_fix,))]
    return f"from {first}; " + (f"fixed in {', '.join(ends)}" if ends else "no fix is named")


def _records(connection: Connection) -> list[tuple[int, CveRecord, bool]]:
    """(row id, record, of the sample) of everything stored; of one name the first source's."""
    found: dict[tuple[str, bool], tuple[int, CveRecord, bool]] = {}
    rows = connection.execute(
        select(*Cve.__table__.c, Source.sample)
        .join(Source, Source.id == Cve.source_id)
        .order_by(Cve.name, Cve.source_id)
    )
    for row in rows:
        record = CveRecord(
            name=row.name,
            state=row.state,
            title=row.title,
            published=row.published,
            severity=row.severity,
            files=tuple(row.files),
            pairs=tuple((str(cause), str(fix)) for cause, fix in row.pairs),
            versions=tuple(Range(*one) for one in row.versions),
            affected_by_default=row.affected_by_default,
        )
        found.setdefault((row.name, row.sample), (row.id, record, row.sample))
    return list(found.values())


class _Ties:
    """What ties a record to a change: the ids of its commits, else its title."""

    def __init__(self, connection: Connection, *, sample: bool) -> None:
        self._by_sha: dict[str, _Tie] = {}
        self._by_title: dict[str, list[_Tie]] = defaultdict(list)
        self.changes: dict[int, tuple[str, str | None, str]] = {}  # id -> (state, window, slug)
        self.windows: dict[str, str | None] = {}
        self._landed: set[int] = set()
        for row in connection.execute(
            select(Change.id, Change.slug, Change.title, Change.state, Change.window).where(
                Change.sample == sample
            )
        ):
            self.changes[row.id] = (row.state, row.window, row.slug)
            self._by_title[normal_title(row.title)].append(_Tie(row.id, row.slug, "title", 0.8))
        for sha, change_id in connection.execute(
            select(Commit.sha, Match.change_id).join(Match, Match.commit_id == Commit.id)
        ):
            if change_id in self.changes:
                self._by_sha[sha] = _Tie(change_id, self.changes[change_id][2], "commit id", 1.0)
        for sha, window in connection.execute(
            select(Commit.sha, Landing.window)
            .join(Landing, Landing.commit_id == Commit.id)
            .join(Tree, Tree.id == Landing.tree_id)
            .join(Source, Source.id == Tree.source_id)
            .where(Tree.role == "mainline", Source.sample == sample)
        ):
            self.windows[sha] = window
            if sha in self._by_sha:
                self._landed.add(self._by_sha[sha].change_id)

    def tie(self, record: CveRecord) -> _Tie | None:
        """The change that ends the bug, by the id of a commit, else by a title that only it has."""
        for fix in record.fixes:
            if fix in self._by_sha:
                return self._by_sha[fix]
        same = self._by_title.get(normal_title(record.title), []) if record.title else []
        return same[0] if len(same) == 1 else None

    def mainline(self, tie: _Tie) -> MainlineSide:
        """What is known of the change in mainline."""
        state, window, _ = self.changes[tie.change_id]
        return MainlineSide(state, window, tie.change_id in self._landed, self.windows)


def _check_rows(row_id: int, record: CveRecord, ties: _Ties, ports: StableAnswer) -> Iterable[dict[str, Any]]:
    tie = ties.tie(record)
    sides = branch_sides(ports, tie.slug) if tie is not None else []
    checks = check_record(record, ties.mainline(tie) if tie else None, sides)
    for position, one in enumerate(checks):
        yield {
            "cve_id": row_id,
            "change_id": tie.change_id if tie else None,
            "position": position,
            "place": one.place,
            "says": one.says,
            "found": one.found,
            "verdict": one.verdict,
            "why": one.why,
            "rule": tie.rule if tie else None,
            "score": tie.score if tie else None,
        }


def branch_sides(ports: StableAnswer, slug: str) -> list[BranchSide]:
    """The branches' answers for one change, as `check_record` takes them."""
    newest = {
        one.name: version.patch if one.newest and (version := parse_tag(one.newest)) else 0
        for one in ports.branches
    }
    since = {one.branch: one.since for one in ports.only_here if one.fix == slug}
    return [
        BranchSide(
            one.branch,
            one.base,
            newest.get(one.branch, 0),
            one.state,
            one.version,
            one.rule,
            one.inherited,
            since.get(one.branch),
        )
        for one in ports.backports
        if one.change == slug
    ]
