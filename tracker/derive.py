"""What is stored -> the answers: series, changes, matches and windows, computed anew by pure rules.

Reads rows, calls the rules, hands the result to `tracker.answer_rows`. Running it twice changes nothing;
the ids and slugs of changes that exist already stay, because runs, campaigns and pages refer to them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from db.database import Database
from tracker.answer_rows import ChangeAnswer, write_answers
from tracker.around import derive_around
from tracker.changes import Lineage, group_changes
from tracker.derivation import DeriveReport, fingerprint, forget, remember
from tracker.git.commits import CommitFacts
from tracker.mail.body import reverted_title
from tracker.mail.series import Series, group_series
from tracker.mail.subject import normal_title
from tracker.matching import MatchFact, Matching, Notice, match_commits
from tracker.revisions import SeriesEdge, link_series
from tracker.settings import DriverProfile
from tracker.stored import Stored, load
from tracker.stored_answers import store_answers
from tracker.twin.answers import write_pairs
from tracker.twin.pairs import Pair, Upstream, pair_commits, upstream_commit, upstream_mail
from tracker.voices import Threads
from tracker.waiting import Dependencies, Git
from tracker.windows import Case, Landed, Reverted, judge

# The line by which a commit of the sample names the commit it stands for (tracker.sample).
_REAL_COMMIT = re.compile(r"^Real-commit: ([0-9a-f]{7,40})$", re.MULTILINE)
OWN_SHARE = 0.5  # a cover letter is the driver's when at least this share of its patches is


def derive_answers(database: Database, profile: DriverProfile, now: datetime) -> DeriveReport:
    """Recompute everything and store it: changes with their windows, then what follows from them."""
    with database.engine.begin() as connection:
        mark = fingerprint(connection, profile, now)
        record, sample = load(connection, profile)
    worlds = [_derive(stored, profile, now) for stored in (record, sample)]
    series = [one for world in worlds for one in world.series]
    answers = [one for world in worlds for one in world.answers]
    matches = [one for world in worlds for one in world.matches]
    kinds = {message_id: kind for world in worlds for message_id, kind in world.kinds.items()}
    twins = {tree: pairs for world in worlds for tree, pairs in world.twins.items()}
    commit_ids = {**record.commit_ids, **sample.commit_ids}
    with database.engine.begin() as connection:
        forget(connection)
        change_ids = write_answers(
            connection,
            series,
            answers,
            matches,
            {**record.message_ids, **sample.message_ids},
            commit_ids,
            kinds,
        )
        write_pairs(connection, twins, change_ids, commit_ids)
    store_answers(database, now)
    derive_around(database, now)
    commits = len(record.commits) + len(sample.commits)
    report = DeriveReport(len(series), len(answers), len(matches), commits)
    with database.engine.begin() as connection:
        remember(connection, mark, report, now)
    return report


@dataclass(frozen=True)
class Derived:
    """The rules' answers for the records, or for the sample: the two never explain one another."""

    series: list[Series]
    answers: list[ChangeAnswer]
    matches: tuple[MatchFact, ...]
    kinds: dict[str, str]
    twins: dict[str, list[Pair]]  # tree of an out-of-tree driver -> what its commits are


def _derive(stored: Stored, profile: DriverProfile, now: datetime) -> Derived:
    series = group_series(stored.patches)
    series = [one for one in series if _concerns(one, profile)]
    edges = link_series(series)
    lineages = [one for one in group_changes(series, edges) if any(patch.own for patch in one.patches)]
    threads = Threads(series, stored.letters)
    notices = [
        Notice(letter.message_id, letter.date, letter.parents, letter.notice)
        for letter in stored.letters
        if letter.notice is not None
    ]
    matching = match_commits(lineages, series, stored.commits, notices)
    answers = _answers(stored, series, edges, lineages, matching, threads, now)
    upstream = list(_upstream(stored, lineages, matching)) if stored.twins else []
    twins = {tree: pair_commits(commits, upstream) for tree, commits in stored.twins.items()}
    return Derived(series, answers, matching.matches, _kinds(series, stored.kinds, profile), twins)


def _upstream(stored: Stored, lineages: list[Lineage], matching: Matching) -> Iterator[Upstream]:
    """What commits of an out-of-tree driver may be: every commit and every patch mail of the changes."""
    change_of = {match.sha: match.change for match in matching.matches}
    change_of |= {commit.sha: group[0].sha for group in matching.unmatched for commit in group}
    for commit in stored.commits:
        roles = {role for _, role, _, _ in stored.landings.get(commit.sha, ())}
        if roles and commit.sha in change_of:
            ids = (commit.sha, *_real_commits(stored, [commit]))
            stage = "applied" if roles == {"maintainer"} else "upstream"
            yield upstream_commit(change_of[commit.sha], stage, commit, ids)
    for lineage in lineages:
        for patch in lineage.patches:
            yield upstream_mail(lineage.key, patch)


def _concerns(series: Series, profile: DriverProfile) -> bool:
    """Whether a series has a patch of the driver, or its cover names the driver."""
    return any(mail.own for mail in series.mails) or profile.named_in(series.title)


def _kinds(series: list[Series], now: dict[str, str], profile: DriverProfile) -> dict[str, str]:
    """message id -> kind, where a cover's or a companion's kind has to change."""
    changed: dict[str, str] = {}
    for one in series:
        own = sum(patch.own for patch in one.patches)
        for mail in one.mails:
            if mail.number == 0:
                theirs = own / one.total >= OWN_SHARE or profile.named_in(mail.subject.title)
                kind = "cover" if theirs else "context"
            else:
                kind = "patch" if mail.own else "context"
            if now.get(mail.message_id) != kind:
                changed[mail.message_id] = kind
    return changed


def _answers(
    stored: Stored,
    series: list[Series],
    edges: list[SeriesEdge],
    lineages: list[Lineage],
    matching: Matching,
    threads: Threads,
    now: datetime,
) -> list[ChangeAnswer]:
    by_sha = {commit.sha: commit for commit in stored.commits}
    dependencies = Dependencies(series, lineages, stored.letters, _git(stored, matching))
    matches: dict[str, list[MatchFact]] = defaultdict(list)
    for match in matching.matches:
        matches[match.change].append(match)
    reverts = _reverts(stored)
    newer = _newer_series(series, edges)
    series_of = {mail.message_id: one for one in series for mail in one.mails}
    answers = []
    for lineage in lineages:
        found = matches.get(lineage.key, [])
        commits = sorted(
            (by_sha[match.sha] for match in found), key=lambda c: (c.upstream is not None, c.commit_date)
        )
        newest = lineage.newest
        case = Case(
            landed=_landed(stored, found, by_sha),
            reverted=_reverted(stored, reverts, commits),
            voices=tuple(threads.about(newest, lineage)),
            posted=newest.date,
            message_id=newest.message_id,
            superseded_by=_left_out(series_of[newest.message_id], newer),
        )
        judgement = judge(case, stored.mainline, now)
        answers.append(
            ChangeAnswer(
                key=lineage.key,
                title=_mainline_title(stored, commits) or newest.subject.title,
                author=newest.author,
                judgement=judgement,
                lineage=lineage,
                commits=tuple(commit.sha for commit in commits),
                sample=stored.sample,
                real_commits=_real_commits(stored, commits),
                uapi=any("include/uapi/" in file for patch in lineage.patches for file in patch.files),
                waits=dependencies.of(lineage, judgement.state),
                base_commit=_base_commit(series_of[newest.message_id]),
            )
        )
    for group in matching.unmatched:
        copies = [
            MatchFact(
                group[0].sha, commit.sha, "commit" if commit is group[0] else "copy", 1.0, "no mail is known"
            )
            for commit in group
        ]
        case = Case(landed=_landed(stored, copies, by_sha), reverted=_reverted(stored, reverts, list(group)))
        answers.append(
            ChangeAnswer(
                key=group[0].sha,
                title=_mainline_title(stored, list(group)) or group[0].title,
                author=group[0].author,
                judgement=judge(case, stored.mainline, now),
                lineage=None,
                commits=tuple(commit.sha for commit in group),
                sample=stored.sample,
                real_commits=_real_commits(stored, list(group)),
                uapi=any("include/uapi/" in file for commit in group for file in commit.files),
            )
        )
    return answers


def _git(stored: Stored, matching: Matching) -> Git:
    commits: dict[str, list[str]] = defaultdict(list)
    for match in matching.matches:
        commits[match.change].append(match.sha)
    for group in matching.unmatched:
        commits[group[0].sha] += [commit.sha for commit in group]
    return Git(commits, stored.landings)


def _base_commit(series: Series) -> str | None:
    """The commit on which a series was made, as its mails say."""
    return next((mail.stated.base for mail in series.mails if mail.stated.base), None)


def _landed(stored: Stored, found: list[MatchFact], by_sha: dict[str, CommitFacts]) -> tuple[Landed, ...]:
    return tuple(
        Landed(
            match.sha,
            tree,
            role,
            tag,
            window,
            by_sha[match.sha].commit_date,
            match.rule,
            match.score,
            match.evidence,
        )
        for match in found
        for tree, role, tag, window in stored.landings.get(match.sha, ())
    )


def _mainline_title(stored: Stored, commits: list[CommitFacts]) -> str | None:
    """The title it has in mainline, else in any tree: a title may have been changed on apply."""
    for commit in commits:
        if any(role == "mainline" for _, role, _, _ in stored.landings.get(commit.sha, ())):
            return commit.title
    return commits[0].title if commits else None


def _reverts(stored: Stored) -> dict[str, list[CommitFacts]]:
    """Commit id (its first 12 digits) or title of what is undone -> the reverts of mainline."""
    found: dict[str, list[CommitFacts]] = defaultdict(list)
    for commit in stored.commits:
        title = reverted_title(commit.title)
        if title is None and commit.reverts is None:
            continue
        if not any(role == "mainline" for _, role, _, _ in stored.landings.get(commit.sha, ())):
            continue
        if commit.reverts is not None:
            found[commit.reverts[:12]].append(commit)
        if title is not None:
            found[normal_title(title)].append(commit)
    return found


def _reverted(
    stored: Stored, reverts: dict[str, list[CommitFacts]], commits: list[CommitFacts]
) -> tuple[Reverted, ...]:
    undone: dict[str, CommitFacts] = {}
    for commit in commits:
        for key in (commit.sha[:12], normal_title(commit.title)):
            for revert in reverts.get(key, ()):
                if revert.commit_date >= commit.commit_date and revert.sha != commit.sha:
                    undone[revert.sha] = revert
    answer = []
    for revert in undone.values():
        tag, window = next(
            (tag, window) for _, role, tag, window in stored.landings[revert.sha] if role == "mainline"
        )
        answer.append(Reverted(revert.sha, revert.title, tag, window, revert.commit_date))
    return tuple(answer)


def _newer_series(series: list[Series], edges: list[SeriesEdge]) -> dict[str, Series]:
    """Series key -> the newest later series that continues it."""
    by_key = {one.key: one for one in series}
    newer: dict[str, Series] = {}
    for edge in edges:
        if edge.score >= 0.8:
            newer[edge.older] = by_key[edge.newer]
    return newer


def _left_out(last: Series, newer: dict[str, Series]) -> str | None:
    """The series that follows a change's last one, and so leaves it out (if it is whole: else who knows)."""
    follower = newer.get(last.key)
    if follower is None or len(follower.patches) < follower.total:
        return None
    return follower.key


def _real_commits(stored: Stored, commits: list[CommitFacts]) -> tuple[str, ...]:
    """The real ids that commits of the sample name; a record needs none."""
    if not stored.sample:
        return ()
    return tuple(
        dict.fromkeys(found[1] for commit in commits if (found := _REAL_COMMIT.search(commit.message)))
    )
