"""`xdnawatch track truth|versions`: measure the tracker's own rules on a mail archive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from tracker.archive_study import read_archive
from tracker.changes import group_changes
from tracker.errors import SourceError
from tracker.link_study import (
    Rescore,
    first_links,
    link_json,
    link_share,
    read_judgements,
    rescore,
    sample_links,
)
from tracker.mail.series import group_series
from tracker.revisions import link_series
from tracker.truth import Score, pairs_of, read_pairs, score
from xdnawatch.cli.context import AppContext, JsonFlag, current
from xdnawatch.cli.progress import shown_progress

Archive = Annotated[Path, typer.Argument(help="An mbox file (also .gz) or a public-inbox v2 archive.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `xdnawatch track`."""
    app.command("truth")(truth_command)
    app.command("versions")(versions_command)


def truth_command(
    context: typer.Context,
    archive: Archive,
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs",
            help="JSON lines with commit, title, patch_mail, patch_from, patch_date, applied_date. "
            "Without it: what the archive's own applied mails say.",
        ),
    ] = None,
    write: Annotated[Path | None, typer.Option("--write", help="Keep the pairs in this file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure recall and precision of "this mail became this commit" on pairs that are known.

    Every patch of the archive takes part, of whatever driver. Three ways are measured: by applied mails; by
    title and author, without any applied mail; by the changed lines alone, under another title and author.
    Each miss is listed with its cause.

    [bold]Example[/bold]: xdnawatch track truth pdx86-2025q4.mbox.gz --pairs truth_pairs.jsonl
    """
    here = current(context)
    known = read_pairs(_read(pairs)) if pairs is not None else None
    with shown_progress(here) as progress:
        study = read_archive(archive, progress)
        if known is None:
            known = pairs_of(study.patches, study.notices)
        progress.start("changes and matches")
        series = group_series(study.patches)
        lineages = group_changes(series, link_series(series))
        scores = score(known, lineages, series, study.notices, study.kinds)
        progress.finish(f"{len(known)} pairs, {len(lineages)} changes")
    if not known:
        raise SourceError(f"{archive} has no applied mail that names a commit; give pairs with --pairs")
    if write is not None:
        write.write_text(
            "".join(json.dumps(one.to_json(), ensure_ascii=False) + "\n" for one in known), "utf-8"
        )
    if as_json:
        here.emit([one.to_json() for one in scores])
        return
    _print_scores(here, scores)


def versions_command(
    context: typer.Context,
    archive: Archive,
    judged: Annotated[
        Path | None, typer.Option("--judged", help="JSON lines of judged links: score them again.")
    ] = None,
    sample: Annotated[int, typer.Option(min=0, help="Also list so many links at random.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Measure how many series of version 2 or more are tied to an earlier version, and how rightly.

    With --judged (links that somebody read) it says which of them the rules still give, which are lost, and
    the precision. Links named with --sample are for judging.

    [bold]Example[/bold]: xdnawatch track versions archive.git --judged benchmarks/judged/pdx86-links.jsonl
    """
    here = current(context)
    judgements = read_judgements(_read(judged)) if judged is not None else None
    with shown_progress(here) as progress:
        study = read_archive(archive, progress)
        progress.start("linking versions")
        series = group_series(study.patches)
        links = first_links(series, link_series(series))
        progress.finish(f"{len(series)} series")
    share = link_share(series, links)
    drawn = sample_links(links, sample, seed) if sample else []
    again = rescore(links, judgements) if judgements is not None else None
    if as_json:
        answer: dict[str, Any] = {
            "series": len(series), "later": share.later, "linked": share.linked,
            "share": round(share.share, 4), "rules": dict(share.rules),
            "sample": [link_json(link) for link in drawn],
        }  # fmt: skip
        if again is not None:
            answer["judged"] = _rescore_json(again)
        here.emit(answer)
        return
    here.out.print(f"{share.linked} of {share.later} series with v >= 2 are linked: {share.share:.1%}")
    for rule, count in share.rules:
        here.out.print(Text(f"  {count:6}  {rule}"))
    if again is not None:
        _print_rescore(here, again)
    for link in drawn:
        here.out.print(Text(f"{link.newer}  <-  {link.older}  {link.rule} {link.score:.2f}"), soft_wrap=True)


def _print_scores(here: AppContext, scores: list[Score]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("way", "pairs", "right", "recall", "precision"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for one in scores:
        table.add_row(one.way, str(one.pairs), str(one.right), f"{one.recall:.2%}", f"{one.precision:.2%}")
    here.out.print(table)
    for one in scores:
        for miss in one.misses:
            here.out.print(
                Text(f"{one.way}: {miss.commit[:12]} {miss.title}: {miss.cause}  <{miss.patch_mail}>"),
                soft_wrap=True,
            )


def _print_rescore(here: AppContext, again: Rescore) -> None:
    here.out.print(
        f"of the judged links {again.kept} are still given: {again.right} right, {len(again.wrong)} wrong, "
        f"{len(again.unsure)} unsure; precision {again.precision:.2%}"
    )
    for name, rows in (("wrong", again.wrong), ("unsure", again.unsure), ("lost", again.lost)):
        for one in rows:
            here.out.print(
                Text(f"{name}: {one.newer} <- {one.older} ({one.rule}) {one.reason}"), soft_wrap=True
            )
    for one, link in again.changed:
        here.out.print(
            Text(
                f"changed: {one.newer} <- {link.older} ({link.rule}), judged was {one.older}: {one.judgement}"
            ),
            soft_wrap=True,
        )


def _rescore_json(again: Rescore) -> dict[str, Any]:
    return {
        "kept": again.kept,
        "right": again.right,
        "precision": round(again.precision, 4),
        "wrong": [one.__dict__ for one in again.wrong],
        "unsure": [one.__dict__ for one in again.unsure],
        "lost": [one.__dict__ for one in again.lost],
        "changed": [{**one.__dict__, "now": link_json(link)} for one, link in again.changed],
    }


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read {file}: {error}") from error
