"""A bisection: steps, what is left, the culprit with its probability, the change behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from shlex import quote

from markupsafe import Markup

from reports.catalogue import Catalogue, campaign_path, machine_path, path_of_test, run_path
from reports.charts import candidate_strip
from reports.marks import step_mark
from reports.page import Page
from reports.pages.parts import Data, campaign_data, change_data, mail_data, mark_data
from reports.records import CampaignRecord
from reports.values import flatten, shown

MAX_CANDIDATES = 2_000


def campaign_page(catalogue: Catalogue, campaign: CampaignRecord) -> Page:
    """campaigns/<id>.html."""
    change = catalogue.changes.get(campaign.change_id) if campaign.change_id is not None else None
    machine = next((m for m in catalogue.snapshot.machines if m.name == campaign.machine), None)
    titles = {str(c.get("id")): str(c.get("title") or "") for c in campaign.candidates}
    return Page(
        path=campaign_path(campaign.id),
        kind="campaign",
        title=f"Bisection of {campaign.test}",
        section="campaigns",
        data={
            **campaign_data(campaign),
            "ended": campaign.ended_at,
            "reason": campaign.reason,
            "base_kernel": campaign.base_kernel,
            "repository": campaign.repository,
            "machine_page": machine_path(campaign.machine) if machine else None,
            "test_page": path_of_test(campaign.test) if campaign.test in catalogue.known_tests else None,
            "reproduce": reproducer(campaign),
            "culprit_title": titles.get(campaign.culprit or "", ""),
            "change": change_data(change) if change else None,
            "change_mails": [{"version": v.version, **mail_data(v.mail)} for v in change.versions]
            if change
            else [],
            "mended": bool(campaign.detail.get("mended")),
            "suspects": [{"id": name, "title": titles.get(name, "")} for name in _suspects(campaign)],
            "detail": [
                {"name": k, "value": shown(v)}
                for k, v in flatten(campaign.detail).items()
                if k not in ("suspects", "void", "mended")
            ],
            "judged": [_step(catalogue, campaign, at, titles) for at in range(len(campaign.steps))],
            "mean_seconds": _mean_seconds(campaign),
            "candidate_list": [
                {"id": str(c.get("id")), "title": str(c.get("title") or "")}
                for c in campaign.candidates[:MAX_CANDIDATES]
            ],
        },
        charts=partial(_charts, campaign),
        sample=bool(change and change.sample),
        simulated=bool(machine and machine.simulated),
    )


def reproducer(campaign: CampaignRecord) -> str:
    """The command that does this bisection again, quoted for a shell."""
    words = ["xdnawatch", "bisect", "--machine", campaign.machine, "--test", campaign.test]
    words += ["--good", campaign.good, "--bad", campaign.bad]
    if campaign.repository:
        words += ["--history", campaign.repository]
    if campaign.base_kernel:
        words += ["--kernel", campaign.base_kernel]
    return " ".join(quote(word) for word in words)


def _step(catalogue: Catalogue, campaign: CampaignRecord, at: int, titles: Mapping[str, str]) -> Data:
    step = campaign.steps[at]
    numbers = [float(v) for v in step.seconds.values() if isinstance(v, int | float)]
    total = step.seconds.get("total")
    return {
        "number": step.number,
        "void": step.number in _void(campaign),
        "candidate": step.candidate,
        "title": titles.get(step.candidate, ""),
        "verdict": mark_data(step_mark(step.verdict)),
        "reason": step.reason,
        "run": run_path(step.run_id) if step.run_id in catalogue.runs and step.run_id else None,
        "seconds": float(total) if isinstance(total, int | float) else sum(numbers) if numbers else None,
    }


def _suspects(campaign: CampaignRecord) -> list[str]:
    """Candidates that the answer leaves: one for a culprit, several where they cannot be told apart."""
    found = campaign.detail.get("suspects")
    return [str(name) for name in found] if isinstance(found, list) else []


def _void(campaign: CampaignRecord) -> frozenset[int]:
    """Numbers of steps that were set aside and count no more."""
    found = campaign.detail.get("void")
    return frozenset(n for n in found if isinstance(n, int)) if isinstance(found, list) else frozenset()


def _mean_seconds(campaign: CampaignRecord) -> float | None:
    totals = []
    for step in campaign.steps:
        numbers = {k: float(v) for k, v in step.seconds.items() if isinstance(v, int | float)}
        if numbers:
            totals.append(numbers.get("total", sum(numbers.values())))
    return sum(totals) / len(totals) if totals else None


def _charts(campaign: CampaignRecord) -> Mapping[str, Markup]:
    positions = {str(c.get("id")): at for at, c in enumerate(campaign.candidates)}
    steps = [
        (
            positions[step.candidate],
            step_mark(step.verdict).tone,
            f"{step.candidate[:12]} {step.verdict}",
        )
        for step in campaign.steps
        if step.candidate in positions and step.number not in _void(campaign)
    ]
    if not positions:
        return {}
    left = [positions[name] for name in _suspects(campaign) if name in positions]
    if not left and all(len(c.get("parents") or ()) <= 1 for c in campaign.candidates):
        left = remaining(len(positions), steps, mended=bool(campaign.detail.get("mended")))
    culprit = positions.get(campaign.culprit) if campaign.culprit else None
    label = f"{len(positions)} candidates, {len(steps)} judged, {len(left)} left"
    return {"strip": candidate_strip(label, len(positions), steps, left, culprit)}


def remaining(total: int, steps: Sequence[tuple[int, str, str]], *, mended: bool) -> list[int]:
    """Positions in a line of ``total`` that may still be the culprit, by steps (position, tone, title).

    Without ``mended`` the older end is good: the culprit is after the last good one, up to the first bad.
    """
    older, newer = ("bad", "good") if mended else ("good", "bad")
    low = max((p for p, tone, _ in steps if tone == older), default=-1) + 1
    high = min((p for p, tone, _ in steps if tone == newer), default=total - 1)
    return list(range(low, high + 1))
