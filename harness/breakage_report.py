"""What doctor and run said of broken environments, as a table that stands in a page (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.breakage import HEALTHY, ROWS, Breakage, Release, Seen

BEGIN = "<!-- written by `xdnawatch matrix environments`: begin -->"
END = "<!-- end -->"


def key_of(row: Breakage, kernel: str) -> str:
    """Names a row on a kernel; another program or another expectation makes it a new one."""
    return f"{kernel} {row.name} {hashlib.sha256(repr(row).encode()).hexdigest()[:12]}"


def plain(seen: Seen) -> dict[str, Any]:
    """One look as plain data; ``seen_of`` reads it back."""
    facts = asdict(seen)
    facts["row"] = seen.row.name
    return {"key": key_of(seen.row, seen.kernel), **facts, "right": seen.right}


def seen_of(facts: Mapping[str, Any]) -> Seen:
    """The look that ``plain`` wrote. KeyError, TypeError or ValueError when it is none of today's rows."""
    row = next(row for row in (HEALTHY, *ROWS) if row.name == facts["row"])
    if key_of(row, str(facts["kernel"])) != facts["key"]:
        raise ValueError("the row has changed since")
    names = ("cause", "state", "said", "next_step", "verdict", "reason")
    doctor, of_run = facts["seconds"]
    first, second = facts["exit_codes"]
    return Seen(
        row, str(facts["kernel"]), **{name: facts[name] for name in names},
        exit_codes=(int(first), int(second)), seconds=(float(doctor), float(of_run)),
    )  # fmt: skip


def table(
    looks: Iterable[Seen], kernels: Mapping[str, Release], *, command: str, machine: str, date: str
) -> str:
    """The section as Markdown, between its marks: a row for each environment, a column for each kernel."""
    found = {(seen.row.name, seen.kernel): seen for seen in looks}
    right = sum(seen.right for seen in found.values())
    lines = [
        BEGIN,
        f"`{command}`",
        "",
        f"{machine}, {date}: {right} of {len(found)} looks named it rightly, doctor and run both.",
        "",
        "| environment | point | " + " | ".join(f"kernel {kernel}" for kernel in kernels) + " |",
        "| --- | --- |" + " --- |" * len(kernels),
    ]
    for row in ROWS:
        cells = [_cell(row, found.get((row.name, name)), release) for name, release in kernels.items()]
        lines.append(f"| {row.what} (`{row.name}`) | `{row.point}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, END])


def _cell(row: Breakage, seen: Seen | None, kernel: Release) -> str:
    if not row.exists_on(kernel):
        return "does not exist here"
    if seen is None:
        return "not tried"
    if seen.right:
        return f"{seen.state}; {seen.verdict}"
    wrong = []
    if not seen.doctor_right:
        wrong.append(f"doctor: {seen.cause or 'no cause'}, point {seen.state}")
    if not seen.run_right:
        wrong.append(f"run: {seen.verdict}")
    return f"**wrong** ({'; '.join(wrong)})".replace("|", "/")


def put_into(page: str, section: str) -> str:
    """The page with its section replaced. ValueError when it has no marks for one."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no line {BEGIN!r} with a line {END!r} behind it")
    return head + section + tail


def wrong(looks: Sequence[Seen]) -> list[str]:
    """A sentence for each look that went wrong: what was said and what should have been."""
    found = []
    for seen in looks:
        row = seen.row
        if not seen.doctor_right:
            found.append(
                f"{row.name} on {seen.kernel}: doctor's cause is {seen.cause}, the point {row.point} is "
                f"{seen.state} ({seen.said}); wanted {row.state} with {row.words!r}"
            )
        if not seen.run_right:
            found.append(
                f"{row.name} on {seen.kernel}: the run's verdict is {seen.verdict} ({seen.reason}); wanted "
                f"{row.verdict} with {row.reason!r}"
            )
    return found
